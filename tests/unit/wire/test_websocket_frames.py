"""What the gateway says on WebSocket, read by another implementation of RFC 6455."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

from gateway.event import Event
from gateway.wire.framing import ENDS, End
from gateway.wire.websocket_writer import (
    BINARY,
    PING_FRAME,
    PLAIN,
    PONG,
    SUBPROTOCOLS,
    TEXT,
    PlainWebSocket,
    close_frame,
    frame,
    frame_end,
)

MakeEvent = Callable[..., Event]
V1, BATCH = SUBPROTOCOLS["audit.v1"], SUBPROTOCOLS["audit.v1.batch"]
CURSOR = "k3f9xq7m2p-00000000000000000008"
SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000]


def read(data: bytes) -> list[Frame]:
    """The frames of a server, as the `websockets` library takes them."""
    client = Protocol(Side.CLIENT, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    events = client.events_received()
    assert all(isinstance(event, Frame) and event.fin for event in events)
    return [event for event in events if isinstance(event, Frame)]


def texts(data: bytes) -> list[Any]:
    frames = read(data)
    assert {got.opcode for got in frames} <= {Opcode.TEXT}
    return [json.loads(bytes(got.data)) for got in frames]


def sized(event: MakeEvent, *sizes: int) -> list[Event]:
    return [
        event(offset, json=orjson.dumps({"cursor": CURSOR, "x": "é\r\n\u2028", "y": "z" * size}))
        for offset, size in enumerate(sizes, 1)
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_of_any_size_is_read_back(opcode: int, size: int) -> None:
    payload = bytes(index % 128 for index in range(size))
    [got] = read(frame(opcode, payload))
    assert (got.opcode, bytes(got.data)) == (opcode, payload)


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_is_the_one_that_the_other_implementation_makes(size: int) -> None:
    payload = b"x" * size
    assert frame(TEXT, payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_the_ping_is_an_empty_ping() -> None:
    [got] = read(PING_FRAME)
    assert (got.opcode, bytes(got.data)) == (Opcode.PING, b"")
    [pong] = read(frame(PONG, b"abc"))
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"abc")


@given(st.sampled_from([1000, 1002, 1007, 1009, 1011, 1013, 3000, 4501, 4999]), st.text())
def test_a_close_reason_is_cut_between_characters(code: int, reason: str) -> None:
    [got] = read(close_frame(code, reason.encode()))
    close = Close.parse(bytes(got.data))
    assert close.code == code
    assert reason.startswith(close.reason)
    assert len(reason.encode()) <= 123 or 120 <= len(close.reason.encode()) <= 123
    if len(reason.encode()) <= 123:
        assert close.reason == reason


@pytest.mark.parametrize("reason", ["é" * 62, "x" + "é" * 61, "\N{GRINNING FACE}" * 31, "€" * 42])
def test_a_long_reason_in_any_script_stays_utf_8(reason: str) -> None:
    [got] = read(close_frame(1008, reason.encode()))
    assert reason.startswith(Close.parse(bytes(got.data)).reason)


def test_without_a_subprotocol_a_text_frame_is_one_event(event: MakeEvent) -> None:
    events = sized(event, 0, 200, 70_000)
    frames = read(PLAIN.events(events))
    assert [bytes(got.data) for got in frames] == [one.json for one in events]
    assert {got.opcode for got in frames} == {Opcode.TEXT}


def test_without_a_subprotocol_nothing_else_is_said_but_a_gap() -> None:
    assert PLAIN.subprotocol is None
    assert PLAIN.opening(CURSOR, 1000) == PLAIN.heartbeat(CURSOR) == b""
    for kind in ("bookmark", "caught-up", "notice"):
        assert PLAIN.control(kind, {"cursor": CURSOR}) == b""
    assert texts(PLAIN.control("gap", {"cursor": CURSOR})) == [{"type": "gap", "cursor": CURSOR}]


def test_audit_v1_wraps_each_event(event: MakeEvent) -> None:
    events = sized(event, 0, 200, 70_000)
    assert texts(V1.events(events)) == [{"type": "event", "event": one.members()} for one in events]


def test_audit_v1_batch_wraps_all_events_of_a_flush_in_one_frame(event: MakeEvent) -> None:
    events = sized(event, *range(100))
    assert texts(BATCH.events(events)) == [
        {"type": "events", "events": [one.members() for one in events]}
    ]
    assert texts(BATCH.events(events[:1])) == [{"type": "events", "events": [events[0].members()]}]


@given(st.lists(st.integers(0, 270_000), min_size=1, max_size=12))
def test_batches_are_cut_below_what_common_clients_take(event: MakeEvent, sizes: list[int]) -> None:
    events = sized(event, *sizes)
    frames = read(BATCH.events(events))
    assert all(len(got.data) < 1 << 19 for got in frames)
    got = [one for part in frames for one in json.loads(bytes(part.data))["events"]]
    assert got == [one.members() for one in events]
    # No more frames than needed: two neighbours would not fit into one.
    pairs = pairwise(frames)
    assert all(len(one.data) + len(other.data) > 256 * 1024 for one, other in pairs)


@pytest.mark.parametrize("wire", [V1, BATCH], ids=lambda wire: wire.name)
def test_the_subprotocols_say_where_they_stand(wire: PlainWebSocket) -> None:
    assert wire.name == wire.subprotocol
    bookmark = {"type": "bookmark", "cursor": CURSOR}
    assert texts(wire.opening(CURSOR, 1000)) == [bookmark]
    gap = {"reason": "cursor_expired", "cursor": CURSOR}
    assert texts(wire.opening(CURSOR, 1000, gap)) == [{"type": "gap", **gap}]
    assert texts(wire.heartbeat(CURSOR)) == [bookmark]
    for kind in ("bookmark", "caught-up", "gap", "notice"):
        assert texts(wire.control(kind, {"cursor": CURSOR, "x": "\n"})) == [
            {"type": kind, "cursor": CURSOR, "x": "\n"}
        ]


@pytest.mark.parametrize("wire", [PLAIN, V1, BATCH], ids=lambda wire: wire.name)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.reason)
def test_every_end_closes_with_its_code_and_names_the_cursor(
    wire: PlainWebSocket, end: End
) -> None:
    *said, last = read(wire.end(end, CURSOR))
    close = Close.parse(bytes(last.data))
    assert (last.opcode, close.code) == (Opcode.CLOSE, end.code)
    assert json.loads(close.reason) == {"reason": end.reason, "cursor": CURSOR}
    messages = [json.loads(bytes(got.data)) for got in said]
    assert messages == ([] if wire is PLAIN else [{"type": "end", **end.message(CURSOR)}])


def test_audit_v1_lines_has_the_events_of_a_flush_as_lines_of_bounded_frames() -> None:
    lines = [b'{"cursor":"c-%d","x":"%b"}' % (n, b"x" * 100_000) for n in range(5)]
    sent = [bytes(got.data) for got in read(SUBPROTOCOLS["audit.v1.lines"].lines(lines))]
    assert [one.count(b"\n") + 1 for one in sent] == [2, 2, 1]
    assert b"\n".join(sent) == b"\n".join(lines)


def test_every_wire_has_a_name_of_its_own() -> None:
    assert len({wire.name for wire in (PLAIN, *SUBPROTOCOLS.values())}) == 4
    assert set(SUBPROTOCOLS) == {"audit.v1", "audit.v1.batch", "audit.v1.lines"}


@given(st.lists(st.sampled_from(SIZES), min_size=1, max_size=5), st.data())
def test_the_end_of_a_frame_is_found_from_within_it(sizes: list[int], data: st.DataObject) -> None:
    frames = [frame(TEXT, bytes(size)) for size in sizes]
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    at = data.draw(st.integers(0, ends[-1]))
    assert frame_end(b"".join(frames), at) == min(end for end in ends if end >= at)
