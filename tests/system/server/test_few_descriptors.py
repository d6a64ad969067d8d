"""A gateway that may open few descriptors, and more connections than that."""

from __future__ import annotations

import http.client
import resource
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import gateway_process
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience

_DESCRIPTORS = 180
_IDLE = 400


class Live:
    """A stream, and a producer whose connection is open, too."""

    def __init__(self, gateway: GatewayProcess, stack: ExitStack) -> None:
        key = gateway.make_key({"actions": ["stream", "ingest"], "categories": ["live"]})
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
        stream, self._producer = (
            http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(10))
            for _ in range(2)
        )
        for connection in (stream, self._producer):
            stack.callback(connection.close)
        stream.request("GET", "/v1/stream?category=live", headers=self._headers)
        self._answer = stream.getresponse()
        self._producer.request("GET", "/healthz")
        self._producer.getresponse().read()

    def deliver(self) -> None:
        """Send an event, and wait for it."""
        self._producer.request(
            "POST", "/v1/events", b'{"category":"live","action":"x"}',
            {**self._headers, "Content-Type": "application/json"},
        )  # fmt: skip
        written = self._producer.getresponse()
        body = written.read()
        assert written.status == 201, body
        while (line := self._answer.readline()) and b'"category":"live"' not in line:
            pass
        assert line, "the stream has ended"


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="there is no prlimit")
def test_more_idle_connections_than_descriptors_stop_neither_health_checks_nor_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = ("prlimit", f"--nofile={_DESCRIPTORS}:{_DESCRIPTORS}", *gateway_process.PROGRAM)
    monkeypatch.setattr(gateway_process, "PROGRAM", limited)
    with GatewayProcess(tmp_path / "data", executed=True) as gateway, ExitStack() as stack:
        live = Live(gateway, stack)
        for _ in range(_IDLE):
            idle = stack.enter_context(socket.socket())
            idle.settimeout(patience(10))
            idle.connect((gateway.host, gateway.port))
        opened = len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))
        assert opened < _DESCRIPTORS - 20, "some have to be left for files"
        for path in ("/healthz", "/readyz"):
            probe = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(10))
            stack.callback(probe.close)
            probe.request("GET", path)
            assert probe.getresponse().status == 200
        live.deliver()
        assert gateway.errors == ""


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="there is no prlimit")
def test_descriptors_that_run_out_are_told_once_and_streams_go_on(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data", executed=True) as gateway, ExitStack() as stack:
        live = Live(gateway, stack)
        # As if something else had taken what was left for connections.
        opened = len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))
        hard = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (opened + 3, hard))
        for _ in range(20):
            idle = stack.enter_context(socket.socket())
            idle.connect((gateway.host, gateway.port))
        for _ in range(3):
            live.deliver()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert gateway.errors.count("ulimit -n") == 1, gateway.errors
        assert gateway.errors.count("\n") == 1, gateway.errors
