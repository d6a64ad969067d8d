"""Wires of other formats: framed like native ones, encoded once for all wires of a format."""

from __future__ import annotations

import orjson
import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.cursor import IN_JSON
from gateway.event import Event
from gateway.filters.scope import Scope
from gateway.formats.format import Format
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from gateway.streaming.live.group import EventBatch
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.wire.formatted import CLOUDEVENTS, Formatted, Wires
from gateway.wire.framing import Wire
from gateway.wire.http_body import NDJSON, NDJSON_PLAIN, SSE, SSE_PLAIN
from gateway.wire.websocket_writer import PLAIN, SUBPROTOCOLS
from tests.support.format_examples import EXAMPLES

FORMATS = make_formats()
WIRES = Wires(FORMATS)
# With the cursor of a log.
NATIVE = [native.replace(b"abc-", b"k3f9xq7m2p-", 1) for native in EXAMPLES.values()]
CURSORS = [native[IN_JSON].decode() for native in NATIVE]
OTHERS = FORMAT_NAMES[1:]


def wires_of(name: str) -> list[Wire]:
    """All wires of a format."""
    over_http = [
        make(name, chunked=chunked)
        for make in (WIRES.sse, WIRES.lines)
        for chunked in (True, False)
    ]
    sockets = [WIRES.websocket(name, protocol) for protocol in (None, *SUBPROTOCOLS, CLOUDEVENTS)]
    return [*over_http, *(wire for wire in sockets if wire is not None)]


def texts(frames: bytes) -> list[bytes]:
    """Payloads of a server's text frames."""
    found = []
    while frames:
        assert frames[0] == 0x81
        size, head = frames[1], 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, head = int.from_bytes(frames[2 : 2 + width], "big"), 2 + width
        found.append(frames[head : head + size])
        frames = frames[head + size :]
    return found


def test_the_wires_of_the_native_format_are_the_native_wires() -> None:
    sockets = [PLAIN, *SUBPROTOCOLS.values()]
    assert wires_of("native") == [SSE, SSE_PLAIN, NDJSON, NDJSON_PLAIN, *sockets]
    assert not any(isinstance(wire, Formatted) for wire in wires_of("native"))


def test_each_wire_has_a_name_of_its_own_and_a_known_transport() -> None:
    every = [wire for name in FORMAT_NAMES for wire in wires_of(name)]
    assert len({wire.name for wire in every}) == len(every) == 6 * 8 + 1
    native = {wire.transport for wire in wires_of("native")}
    assert {wire.transport for wire in every} == native


@pytest.mark.parametrize("name", OTHERS)
def test_sse_has_the_cursor_as_id_and_the_event_as_data(name: str) -> None:
    expected = b"".join(
        b"id: %b\ndata: %b\n\n" % (cursor.encode(), FORMATS[name].encode(native))
        for cursor, native in zip(CURSORS, NATIVE, strict=True)
    )
    assert WIRES.sse(name, chunked=False).lines(NATIVE) == expected
    assert WIRES.sse(name, chunked=False).text(b"\n".join(NATIVE)) == expected


@pytest.mark.parametrize("name", OTHERS)
def test_lines_are_an_event_each(name: str) -> None:
    wire = WIRES.lines(name, chunked=False)
    assert wire.lines(NATIVE).split(b"\n") == [*map(FORMATS[name].encode, NATIVE), b""]
    assert wire.text(b"\n".join(NATIVE)) == wire.lines(NATIVE)
    kind = "application/x-ndjson" if FORMATS[name].json else "text/plain; charset=utf-8"
    assert wire.content_type == kind


@pytest.mark.parametrize("name", OTHERS)
def test_plain_frames_are_an_event_each(name: str) -> None:
    wire = WIRES.websocket(name, None)
    assert wire is not None
    assert texts(wire.lines(NATIVE)) == [*map(FORMATS[name].encode, NATIVE)]


@pytest.mark.parametrize("name", OTHERS)
def test_typed_frames_have_the_cursor_beside_the_event(name: str) -> None:
    format = FORMATS[name]
    shown = [
        orjson.loads(one) if format.json else one.decode() for one in map(format.encode, NATIVE)
    ]
    single, batch = WIRES.websocket(name, "audit.v1"), WIRES.websocket(name, "audit.v1.batch")
    assert single is not None
    assert batch is not None
    assert [*map(orjson.loads, texts(single.lines(NATIVE)))] == [
        {"type": "event", "cursor": cursor, "event": one}
        for cursor, one in zip(CURSORS, shown, strict=True)
    ]
    [whole] = map(orjson.loads, texts(batch.lines(NATIVE)))
    assert whole == {"type": "events", "cursor": CURSORS[-1], "events": shown}
    lines = WIRES.websocket(name, "audit.v1.lines")
    assert lines is not None
    [text] = texts(lines.lines(NATIVE))
    assert [*map(orjson.loads, text.splitlines())] == [
        {"cursor": cursor, "event": one} for cursor, one in zip(CURSORS, shown, strict=True)
    ]


def test_a_batch_of_large_events_is_several_frames_each_with_its_cursor() -> None:
    wire = WIRES.websocket("ecs", "audit.v1.batch")
    assert isinstance(wire, Formatted)
    large = [b'"%b"' % (b"x" * 100_000)] * 5
    cursors = [b"c-%d" % number for number in range(5)]
    frames = [*map(orjson.loads, texts(wire.framed(cursors, large)))]
    assert [(one["cursor"], len(one["events"])) for one in frames] == [
        ("c-1", 2), ("c-3", 2), ("c-4", 1),
    ]  # fmt: skip


def test_only_cloudevents_have_the_subprotocol_of_cloudevents() -> None:
    wire = WIRES.websocket("cloudevents", CLOUDEVENTS)
    assert wire is not None
    assert wire.subprotocol == CLOUDEVENTS
    assert [orjson.loads(one)["specversion"] for one in texts(wire.lines(NATIVE))] == ["1.0"] * 5
    for name in FORMAT_NAMES:
        assert (WIRES.websocket(name, CLOUDEVENTS) is None) == (name != "cloudevents")


def test_control_messages_are_those_of_native_wires() -> None:
    for name in OTHERS:
        for wire, native in zip(wires_of(name), wires_of("native"), strict=False):
            members = {"cursor": CURSORS[0]}
            assert wire.control("bookmark", members) == native.control("bookmark", members)
            assert wire.heartbeat("c") == native.heartbeat("c")
            assert wire.opening("c", 1, {"cursor": "c"}) == native.opening("c", 1, {"cursor": "c"})


def test_events_are_formatted_once_for_all_wires_of_a_format() -> None:
    calls: list[bytes] = []

    def encode(native: bytes) -> bytes:
        calls.append(native)
        return FORMATS["ocsf"].encode(native)

    counted = Wires({**FORMATS, "ocsf": Format("ocsf", True, encode)})
    events = [
        Event(number, "acme", "auth", "a", "success", 1, "", "", cursor.encode(), native)
        for number, (cursor, native) in enumerate(zip(CURSORS, NATIVE, strict=True), 1)
    ]
    batch = EventBatch(events, 0.0)
    for _ in range(2):
        for name in ("ocsf", "ecs", "native"):
            for chunked in (True, False):
                made = batch.encoded(counted.sse(name, chunked=chunked))
                assert made == WIRES.sse(name, chunked=chunked).lines(NATIVE)
                made = batch.encoded(counted.lines(name, chunked=chunked))
                assert made == WIRES.lines(name, chunked=chunked).lines(NATIVE)
    assert calls == NATIVE


def test_streams_of_one_query_and_another_format_are_another_group() -> None:
    decision = decide_grants(
        (parse_grant({"actions": ["stream"], "categories": ["**"]}),), "stream"
    )
    assert isinstance(decision, Allowed)
    query = StreamQuery(Scope(), decision.view)
    interests = {Interest(query, wire) for name in FORMAT_NAMES for wire in wires_of(name)}
    assert len(interests) == 6 * 8 + 1
