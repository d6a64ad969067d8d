"""What clients say on WebSocket: RFC 6455 word by word, and beside another implementation."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

from gateway.wire.websocket_parser import CONTINUATION, MAX_MESSAGE, ClientFrames, ProtocolFailure
from gateway.wire.websocket_writer import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.examples import examples

Message = tuple[int, bytes]
# What a run of bytes comes to: the messages, and the code of the failure behind them, or 0.
Outcome = tuple[list[Message], int]


def client(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes | None = b"\x12\x34\xab\xcd",
    rsv: int = 0,
    width: int | None = None,
) -> bytes:
    """A frame as clients send it, or nearly; written down from section 5.2."""
    size = len(payload)
    width = (0 if size < 126 else 2 if size < 1 << 16 else 8) if width is None else width
    length = {0: size, 2: 126, 8: 127}[width]
    extended = {0: b"", 2: struct.pack("!H", size & 0xFFFF), 8: struct.pack("!Q", size)}[width]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | length]) + extended
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def outcome(pieces: list[bytes]) -> Outcome:
    frames = ClientFrames()
    messages: list[Message] = []
    try:
        for piece in pieces:
            messages += frames.feed(piece)
    except ProtocolFailure as failure:
        return messages, failure.code
    return messages, 0


def fed(data: bytes) -> Outcome:
    """All at once, and byte by byte, which is the same."""
    once = outcome([data])
    singly = outcome([data[at : at + 1] for at in range(len(data))])
    if once[1] == 0:
        assert once == singly
    else:
        # What stood before the failure in the same piece is dropped with the connection.
        assert once[1] == singly[1]
    return singly


def test_the_examples_of_the_rfc() -> None:
    # Section 5.7: a masked "Hello", a masked pong, and a text in two fragments.
    hello = bytes.fromhex("818537fa213d7f9f4d5158")
    assert fed(hello) == ([(TEXT, b"Hello")], 0)
    assert fed(bytes.fromhex("8a8537fa213d7f9f4d5158")) == ([(PONG, b"Hello")], 0)
    assert fed(client(TEXT, b"Hel", fin=False) + client(CONTINUATION, b"lo")) == (
        [(TEXT, b"Hello")], 0,
    )  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 128, 65_535, 65_536])
@pytest.mark.parametrize("mask", [b"\x00" * 4, b"\xff" * 4, b"\x01\x80\x7f\xfe"])
def test_payloads_of_any_size_are_unmasked(size: int, mask: bytes) -> None:
    payload = bytes(index % 251 for index in range(size))
    data = client(BINARY, payload, mask=mask)
    assert outcome([data]) == ([(BINARY, payload)], 0)
    assert outcome([data[:3], data[3:9], data[9:]]) == ([(BINARY, payload)], 0)


def test_control_frames_may_come_between_fragments() -> None:
    data = (
        client(TEXT, b"a", fin=False) + client(PING, b"1") + client(CONTINUATION, b"", fin=False)
        + client(PONG, b"2") + client(CONTINUATION, b"b", fin=False) + client(CONTINUATION)
        + client(BINARY, b"\xff")
    )  # fmt: skip
    assert fed(data) == ([(PING, b"1"), (PONG, b"2"), (TEXT, b"ab"), (BINARY, b"\xff")], 0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client(CONTINUATION, b"x"), 1002),
        (client(CONTINUATION, b"x", fin=False), 1002),
        (client(TEXT, b"x", fin=False) + client(TEXT, b"x"), 1002),
        (client(TEXT, b"x", fin=False) + client(BINARY, b"x"), 1002),
        (client(PING, b"x", fin=False), 1002),
        (client(CLOSE, b"", fin=False), 1002),
        (client(PING, b"x" * 126), 1002),
        (client(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
        (client(TEXT, b"x", mask=None), 1002),
        (client(PING, b"", mask=None), 1002),
        (client(CLOSE, b"", mask=None), 1002),
        *[(client(TEXT, b"x", rsv=rsv), 1002) for rsv in range(1, 8)],
        *[(client(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        (client(CLOSE, b"\x03"), 1002),
        (client(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (client(CLOSE, struct.pack("!H", 1000) + "é".encode()[:1]), 1007),
        (client(TEXT, b"\xff"), 1007),
        (client(TEXT, b"\xed\xa0\x80"), 1007),
        (client(TEXT, b"\xc0\xaf"), 1007),
        (client(TEXT, b"\xf4\x90\x80\x80"), 1007),
        (client(TEXT, "é".encode()[:1]), 1007),
        (client(TEXT, "é".encode()[:1], fin=False) + client(CONTINUATION, b"x"), 1007),
        (client(BINARY, b"x" * (MAX_MESSAGE + 1)), 1009),
        (client(TEXT, b"\x00", width=8)[:2] + struct.pack("!Q", 1 << 63), 1009),
        (client(TEXT, b"\x00", width=8)[:2] + struct.pack("!Q", 1 << 62), 1009),
    ],
)
def test_what_breaks_the_protocol_fails_with_the_code_to_answer(data: bytes, code: int) -> None:
    before = [(TEXT, b"before")]
    assert outcome([client(*before[0]), data]) == (before, code)
    if len(data) < 1000:
        assert fed(client(*before[0]) + data) == (before, code)


def test_a_whole_message_is_not_continued() -> None:
    data = client(TEXT, b"x") + client(CONTINUATION, b"x")
    assert fed(data) == ([(TEXT, b"x")], 1002)


def test_text_may_be_split_within_a_character() -> None:
    euro = "€".encode()
    data = client(TEXT, euro[:1], fin=False) + client(CONTINUATION, euro[1:])
    assert fed(data) == ([(TEXT, euro)], 0)
    assert fed(client(BINARY, euro[:1])) == ([(BINARY, euro[:1])], 0)


def test_a_message_in_fragments_has_the_same_limit() -> None:
    half = client(TEXT, b"x" * (MAX_MESSAGE // 2), fin=False)
    rest = client(CONTINUATION, b"x" * (MAX_MESSAGE // 2), fin=False)
    assert outcome([half, rest, client(CONTINUATION)]) == ([(TEXT, b"x" * MAX_MESSAGE)], 0)
    assert outcome([half, rest, client(CONTINUATION, b"x")]) == ([], 1009)
    assert outcome([half, rest, rest])[1] == 1009


def test_a_frame_that_is_too_large_is_refused_by_its_header() -> None:
    data = client(BINARY, b"x" * (MAX_MESSAGE + 1))
    assert outcome([data[:10]]) == ([], 1009)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
                                  1014, 3000, 3999, 4000, 4999])  # fmt: skip
def test_a_close_frame_may_carry_a_registered_or_private_code(code: int) -> None:
    payload = struct.pack("!H", code) + "Grüße".encode()
    assert fed(client(CLOSE, payload)) == ([(CLOSE, payload)], 0)
    Close(code, "").check()


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_no_other_code_may_stand_in_a_close_frame(code: int) -> None:
    assert fed(client(CLOSE, struct.pack("!H", code))) == ([], 1002)


@pytest.mark.parametrize(
    "behind", [b"", b"\x00" * 50, b"\xff" * 50, client(TEXT, b"x"), client(CLOSE), client(PING)[:3]]
)
def test_whatever_comes_behind_a_close_frame_is_discarded(behind: bytes) -> None:
    frames = ClientFrames()
    assert frames.feed(client(TEXT, b"x") + client(CLOSE) + behind) == [(TEXT, b"x"), (CLOSE, b"")]
    assert frames.feed(b"\x00\x00 junk") == []
    assert frames.feed(client(PING)) == []
    assert fed(client(CLOSE) + behind) == ([(CLOSE, b"")], 0)


def test_a_large_message_byte_by_byte_is_no_burden() -> None:
    data = client(BINARY, b"x" * MAX_MESSAGE)
    frames = ClientFrames()
    began = time.process_time()
    for at in range(len(data) - 1):
        assert frames.feed(data[at : at + 1]) == []
    assert frames.feed(data[-1:]) == [(BINARY, b"x" * MAX_MESSAGE)]
    assert time.process_time() - began < 5


# Beside another implementation

payloads = st.binary(max_size=130) | st.sampled_from([b"x" * 125, b"y" * 126, b"z" * 70_000])
TEXTS = st.text(max_size=40).map(str.encode)


def sender() -> tuple[Protocol, Callable[[], bytes]]:
    protocol = Protocol(Side.CLIENT)
    return protocol, lambda: b"".join(protocol.data_to_send())


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("text"), st.lists(TEXTS, min_size=1, max_size=3)),
            st.tuples(st.just("binary"), st.lists(st.binary(max_size=300), min_size=1, max_size=3)),
            st.tuples(
                st.sampled_from(["ping", "pong"]), st.binary(max_size=125).map(lambda b: [b])
            ),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_what_another_implementation_sends_is_understood(
    said: list[tuple[str, list[bytes]]], cuts: list[int]
) -> None:
    protocol, sent = sender()
    expected: list[Message] = []
    for kind, parts in said:
        if kind in ("ping", "pong"):
            (protocol.send_ping if kind == "ping" else protocol.send_pong)(parts[0])
            expected.append((PING if kind == "ping" else PONG, parts[0]))
            continue
        first, *rest = parts
        (protocol.send_text if kind == "text" else protocol.send_binary)(first, fin=not rest)
        for number, part in enumerate(rest, 1):
            protocol.send_continuation(part, fin=number == len(rest))
        expected.append((TEXT if kind == "text" else BINARY, b"".join(parts)))
    protocol.send_close(1001, "bye")
    expected.append((CLOSE, struct.pack("!H", 1001) + b"bye"))
    data = sent()
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [data[one:other] for one, other in pairwise(bounds)]
    assert outcome(pieces) == (expected, 0)


FAULTY = st.builds(
    client,
    st.sampled_from([CONTINUATION, TEXT, BINARY, PING, PONG, CLOSE, CONTINUATION, TEXT, 3, 11, 15]),
    st.one_of(
        st.binary(max_size=20).map(lambda tail: b"ascii" + bytes(byte & 0x7F for byte in tail)),
        st.integers(990, 1020).map(lambda code: struct.pack("!H", code)),
        st.sampled_from([b"", b"\x03", b"x" * 125, b"x" * 126, struct.pack("!H", 4000) + b"x"]),
    ),
    fin=st.sampled_from([True, True, False]),
    mask=st.sampled_from([b"abcd", b"\x00\xff\x80\x01", b"wxyz", None]),
    rsv=st.sampled_from([0] * 9 + [1, 4]),
)


@settings(max_examples=examples(300))
@given(st.lists(FAULTY, max_size=6))
def test_both_implementations_judge_a_client_alike(frames: list[bytes]) -> None:
    data = b"".join(frames)
    server = Protocol(Side.SERVER, max_size=MAX_MESSAGE)
    server.receive_data(data)
    theirs: list[Message] = []
    opcode, parts = 0, b""
    for event in server.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            theirs.append((int(event.opcode), bytes(event.data)))
            continue
        if event.opcode is not Opcode.CONT:
            opcode, parts = int(event.opcode), b""
        parts += bytes(event.data)
        if event.fin:
            theirs.append((opcode, parts))
    code = 0
    if server.parser_exc is not None:
        assert server.close_sent is not None
        code = server.close_sent.code
        if "incomplete fragmented message" in str(server.parser_exc):
            # The RFC lets control frames come between fragments, and a close frame is one.
            ours, own = fed(data)
            assert (ours[:-1], ours[-1][0], own) == (theirs, CLOSE, 0)
            return
    ours, own = fed(data)
    if own == 1007:
        # The other library checks texts later, and goes on.
        assert ours == theirs[: len(ours)]
        return
    assert (ours, own) == (theirs, code)
