"""deploy/traces.md: its commands and settings, run as printed but for the addresses."""

from __future__ import annotations

import re
import time
from pathlib import Path

import test_readme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from test_readme import ROOT, commands, refused, session

from tests.support.http_sink import HttpSink, http_sink
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "traces.md").read_text()


def names_of(sink: HttpSink, trace: str) -> set[str]:
    """Names of the spans of one trace that arrived."""
    return {
        span.name
        for request in sink.received
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == trace
    }


def test_the_commands_of_the_page_bring_a_span_of_the_trace_of_the_caller(
    clean_copy: Path,
) -> None:
    [settings] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [trace] = re.findall(r"traceparent: 00-(\w{32})-", PAGE)
    port = free_port()
    with http_sink() as sink, session(clean_copy) as user:
        settings = settings.replace("http://127.0.0.1:4318", sink.url)
        (clean_copy / "traces.toml").write_text(f"{settings}\n[server]\nport = {port}\n")
        for command in commands(PAGE.replace("8089", str(port))):
            told = user.run(command)
            assert not refused(told), f"{command}\n{told}"
        deadline = time.monotonic() + patience(20)
        while "GET /healthz" not in names_of(sink, trace):
            assert time.monotonic() < deadline, sink.received
            time.sleep(0.05)
