"""What a destination `otlp` sends comes back, record by record, as the events that they were."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.delivery.outlets.otlp import OTLP
from gateway.delivery.outlets.otlp_encoding import json_encoding, protobuf_encoding
from gateway.delivery.outlets.outlet import OutboundEvent
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.formats.format import FormatOptions
from gateway.formats.registry import make_formats
from gateway.http.receivers.log_mapping import LogMapping
from gateway.ingest.otlp.json_encoding import JSON
from gateway.ingest.otlp.protobuf import PROTOBUF
from gateway.ingest.sources.catalog import Sources
from gateway.ingest.sources.source import ANYBODY, Mapped, NotMapped
from gateway.scheduling.loop_work import LoopWork
from tests.support.event_strategies import generated, shown_events
from tests.support.format_examples import EXAMPLES
from tests.support.outlets import new_outlet
from tests.support.stored_events import RECORDED_AT

ENCODINGS = {"protobuf": (protobuf_encoding, PROTOBUF), "json": (json_encoding, JSON)}
DECLARED = ("masked", "pseudonymized", "reduced")
OUTLETS: dict[tuple[str, str, str], Any] = {}


def came_back(native: bytes, encoding: str, format: str = "native", body: str = "text") -> Any:
    """What one event becomes that a destination has sent."""
    make, received = ENCODINGS[encoding]
    name = (encoding, format, body)
    if name not in OUTLETS:
        settings = {"url": "https://otel.example.org", "encoding": encoding, "body": body}
        made = make_formats(FormatOptions())[format]
        plan = {"format": NativeFormat()} if format == "native" else {"format": made}
        OUTLETS[name] = new_outlet(OTLP, settings, transport=object(), **plan)
    record = OUTLETS[name].encode(OutboundEvent(native))
    request = make().request("audit-gateway", [record])
    [sent] = [one for one in received.split(request, 10) if one is not None]
    clock = SystemClock()
    mapping = LogMapping(Sources({}), ANYBODY, 10)
    [found] = asyncio.run(mapping.map(sent, received, LoopWork(clock).slices("k")))
    return found


def example(name: str) -> bytes:
    """An event of the examples, with a cursor as stores have it."""
    return EXAMPLES[name].replace(b"abc-", b"k3f9xq7m2p-", 1)


def spelled(event: bytes) -> Any:
    """An event whose numbers are as they were written, without its place in a log."""
    decoded = json.loads(event, parse_int=str, parse_float=str)
    return {name: value for name, value in decoded.items() if name != "cursor"}


@pytest.mark.parametrize("format", ["native", "cloudevents"])
@given(native=shown_events(), encoding=st.sampled_from(["protobuf", "json"]))
@generated(100, share=4)
def test_every_event_of_ours_comes_back_as_it_was(
    native: bytes, encoding: str, format: str
) -> None:
    found = came_back(native, encoding, format)
    assert isinstance(found, Mapped), found
    if not any(b'"%b"' % name.encode() in native for name in DECLARED):
        assert spelled(b"{" + found.draft.stored(RECORDED_AT.encode())) == spelled(native)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_events_as_lists_of_members_come_back(encoding: str) -> None:
    for name in ("failed login", "denied delete"):
        native = example(name)
        found = came_back(native, encoding, body="kvlist")
        assert isinstance(found, Mapped)
        event = json.loads(native)
        assert json.loads(b"{" + found.draft.tail).items() <= event.items()


def test_in_other_formats_an_event_keeps_what_its_attributes_say() -> None:
    found = came_back(example("denied delete"), "protobuf", "cef")
    assert isinstance(found, Mapped)
    draft = found.draft
    assert (draft.tenant, draft.category, draft.action, draft.outcome, draft.severity) == (
        "acme", "k8s.audit", "pods.delete", "denied", 4,
    )  # fmt: skip


def test_the_gateways_own_records_are_refused() -> None:
    found = came_back(example("gateway's own"), "protobuf")
    assert isinstance(found, NotMapped)
    assert "reserved" in found.reason
