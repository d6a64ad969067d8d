"""SSE and NDJSON bodies, read back the way clients read them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import Event
from gateway.wire.framing import ENDS, GOING_AWAY, KEY_REVOKED, End
from gateway.wire.http_body import LAST_CHUNK, NDJSON, NDJSON_PLAIN, SSE, SSE_PLAIN, chunk

MakeEvent = Callable[..., Event]
EPOCH = "k3f9xq7m2p"

HOSTILE = [
    "\r", "\n", "\r\n", "\u2028", "\u2029", "\x85", "\ufeff", "\x00", "", "id: 7",
    "\n\ndata: x\n\n", "event: end\n", ":", "retry: 1", "\N{GRINNING FACE}", "a" * 100_000,
    "\x0b\x0c", "\\", '"',
]  # fmt: skip


def cursor(offset: int) -> str:
    return f"{EPOCH}-{offset:020d}"


class Message(NamedTuple):
    kind: str
    data: str
    last_id: str


class Received(NamedTuple):
    messages: list[Message]
    last_id: str
    retry: int | None
    comments: int


def received(body: bytes) -> Received:
    """The body as WHATWG HTML, section 9.2.6, has clients interpret it."""
    messages: list[Message] = []
    data: list[str] = []
    kind, last_id, retry, comments = "", "", None, 0
    for line in re.split("\r\n|\n|\r", body.decode("utf-8-sig"))[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                messages.append(Message(kind or "message", "\n".join(data), last_id))
            kind, data = "", []
        elif field == "":
            comments += 1
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\x00" not in value:
            last_id = value
        elif field == "retry" and value.isdigit():
            retry = int(value)
    return Received(messages, last_id, retry, comments)


def dechunked(body: bytes) -> tuple[list[bytes], bool]:
    """The chunks of a chunked body (RFC 9112, section 7.1), and whether the last one came."""
    chunks: list[bytes] = []
    while body:
        head, _, rest = body.partition(b"\r\n")
        size = int(head, 16)
        assert rest[size : size + 2] == b"\r\n"
        if size == 0:
            assert rest == b"\r\n"
            return chunks, True
        chunks.append(rest[:size])
        body = rest[size + 2 :]
    return chunks, False


@pytest.fixture(scope="module")
def made(event: MakeEvent) -> Callable[..., list[Event]]:
    """Events that hold the given texts."""

    def make(texts: Sequence[str], first: int = 1) -> list[Event]:
        members = [
            {"cursor": cursor(offset), "data": {"x": text, text: 1}}
            for offset, text in enumerate(texts, first)
        ]
        return [event(offset, json=orjson.dumps(one)) for offset, one in enumerate(members, first)]

    return make


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5)


@given(texts | st.just(HOSTILE))
def test_ordinary_events_are_messages_with_their_cursor_as_id(
    made: Callable[..., list[Event]], texts: list[str]
) -> None:
    events = made(texts)
    got = received(SSE_PLAIN.events(events))
    assert got.messages == [
        Message("message", event.json.decode(), cursor(event.offset)) for event in events
    ]
    assert got.last_id == cursor(len(events))


@given(texts | st.just(HOSTILE))
def test_each_event_is_one_ndjson_line(made: Callable[..., list[Event]], texts: list[str]) -> None:
    events = made(texts)
    body = NDJSON_PLAIN.events(events)
    assert body.endswith(b"\n")
    # Readers that split at every line break that Unicode knows are theirs to blame.
    assert body.split(b"\n")[:-1] == [event.json for event in events]


def test_encoded_lines_and_events_are_the_same(made: Callable[..., list[Event]]) -> None:
    events = made(HOSTILE)
    for wire in (SSE, SSE_PLAIN, NDJSON, NDJSON_PLAIN):
        assert wire.lines([event.json for event in events]) == wire.events(events)


def test_the_opening_fixes_the_position_before_the_first_event() -> None:
    got = received(SSE_PLAIN.opening(cursor(7), 2345))
    assert got == Received([], cursor(7), 2345, 1)
    assert NDJSON.opening(cursor(7), 2345) == b""


def test_a_heartbeat_moves_the_cursor_without_an_event() -> None:
    for body in (
        SSE_PLAIN.heartbeat(cursor(9)),
        SSE_PLAIN.control("bookmark", {"cursor": cursor(9)}),
    ):
        assert body == f"id: {cursor(9)}\n\n".encode()
        assert received(body) == Received([], cursor(9), None, 0)


def test_a_heartbeat_between_events_keeps_their_ids(made: Callable[..., list[Event]]) -> None:
    body = (
        SSE_PLAIN.events(made(["a"]))
        + SSE_PLAIN.heartbeat(cursor(5))
        + SSE_PLAIN.events(made(["b"], 6))
    )
    assert [message.last_id for message in received(body).messages] == [cursor(1), cursor(6)]


@pytest.mark.parametrize("kind", ["gap", "caught-up", "notice"])
def test_control_messages_are_named_events_with_json(kind: str) -> None:
    members = {"cursor": cursor(3), "reason": "\r\n\u2028data: x"}
    [message] = received(SSE_PLAIN.control(kind, members)).messages
    assert (message.kind, message.last_id) == (kind, cursor(3))
    assert json.loads(message.data) == members
    [message] = received(SSE_PLAIN.control(kind, {"without": "position"})).messages
    assert message.last_id == ""


@pytest.mark.parametrize(
    ("kind", "said"), [("gap", True), ("notice", True), ("bookmark", True), ("caught-up", False)]
)
def test_control_messages_of_ndjson_are_lines_with_a_type(kind: str, said: bool) -> None:
    body = NDJSON_PLAIN.control(kind, {"cursor": cursor(3), "x": "\n"})
    if said:
        assert body.count(b"\n") == 1
        assert json.loads(body) == {"type": kind, "cursor": cursor(3), "x": "\n"}
    else:
        assert body == b""
    assert json.loads(NDJSON_PLAIN.heartbeat(cursor(4))) == {
        "type": "bookmark",
        "cursor": cursor(4),
    }


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.reason)
def test_the_end_names_code_reason_cursor_and_whether_to_come_back(end: End) -> None:
    expected = {
        "code": end.code, "reason": end.reason, "cursor": cursor(8), "reconnect": end.reconnect,
    }  # fmt: skip
    [message] = received(SSE_PLAIN.end(end, cursor(8))).messages
    assert (message.kind, json.loads(message.data), message.last_id) == ("end", expected, cursor(8))
    line = NDJSON_PLAIN.end(end, cursor(8))
    assert json.loads(line) == {"type": "end", **expected}
    assert line.endswith(b"}\n")


def test_codes_of_ends_say_whether_to_come_back() -> None:
    assert len({end.reason for end in ENDS}) == len(ENDS)
    shared = {
        code: {end.reason for end in ENDS if end.code == code}
        for code, count in Counter(end.code for end in ENDS).items()
        if count > 1
    }
    # A stream that has come to its end, and reasons to come back, or not, that clients need not
    # tell apart.
    assert shared == {
        1000: {"complete", "client_closed"},
        1012: {"restart", "consumer_rewound"},
        1013: {"overload", "ack_timeout"},
        4001: {"throttled", "quota_exhausted"},
        4505: {"consumer_taken_over", "consumer_deleted", "viewer_taken_over"},
    }
    for end in ENDS:
        if end.code >= 4000:
            assert end.reconnect is (end.code < 4500)
    assert (GOING_AWAY.code, GOING_AWAY.reconnect) == (1001, True)
    assert (KEY_REVOKED.code, KEY_REVOKED.reason) == (4501, "key_revoked")
    codes = {end.code: end.reason for end in ENDS}
    assert (codes[4502], codes[4504]) == ("key_expired", "key_suspended")
    assert {1012, 1013, 4002, 4503} <= set(codes)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_chunks_come_back_as_they_went(parts: list[bytes]) -> None:
    assert dechunked(b"".join(map(chunk, parts)) + LAST_CHUNK) == (parts, True)


def test_an_empty_payload_is_no_chunk_as_that_would_end_the_body() -> None:
    assert chunk(b"") == b""
    assert SSE.ping() == NDJSON.ping() == b""


@pytest.mark.parametrize(("chunked", "bare"), [(SSE, SSE_PLAIN), (NDJSON, NDJSON_PLAIN)])
def test_chunked_and_bare_bodies_say_the_same(
    chunked: Any, bare: Any, made: Callable[..., list[Event]]
) -> None:
    events = made(HOSTILE)
    said = [
        (wire.opening(cursor(0), 1000), wire.events(events), wire.heartbeat(cursor(99)),
         wire.control("gap", {"cursor": cursor(99)}), wire.control("caught-up", {}),
         wire.end(GOING_AWAY, cursor(99)))
        for wire in (chunked, bare)
    ]  # fmt: skip
    chunks, ended = dechunked(b"".join(said[0]))
    assert ended
    assert chunks == [part for part in said[1] if part], "one flush is one chunk"
    assert chunked.name != bare.name, "they are different groups"
    assert chunked.content_type == bare.content_type
