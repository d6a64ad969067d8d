"""What a WebSocket client sends: answered, ignored, or the end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from typing import Any

import pytest
from gateway_client import GatewayClient, event
from gateways import Gateway, StartProgram
from open_streams import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Refused,
    WebSocketStream,
    masked,
    open_stream,
    open_with,
    upgrade_headers,
)

from gateway.wire.websocket_parser import ClientFrames
from tests.support.machine_time import patience

BINARY, CONTINUATION = 2, 0
UNFINISHED = 0x00
MOST = 64 * 1024


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


async def websocket(gateway: GatewayClient, **params: Any) -> WebSocketStream:
    stream: WebSocketStream = await open_stream(gateway, "websocket", **params)
    return stream


async def still_delivers(gateway: GatewayClient, stream: WebSocketStream) -> None:
    sent = (await gateway.send_many(1))[0]
    assert (await stream.event())["id"] == sent


async def closed_with(stream: WebSocketStream) -> int:
    """The code of the close frame, behind which the connection ends."""
    code = None
    async with asyncio.timeout(patience(3)):
        while (said := await stream.say()) is not None:
            if said.kind in ("close", "end"):
                code = said.content["code"]
    assert code is not None, "the connection ended without a close frame"
    assert isinstance(code, int)
    return code


# Answered


@pytest.mark.parametrize("payload", [b"", b"x", os.urandom(125)], ids=len)
async def test_a_ping_is_answered_with_its_payload(gateway: Gateway, payload: bytes) -> None:
    stream = await websocket(gateway)
    stream.write(masked(PING, payload))
    assert (await stream.next("pong")).content == payload


async def test_pings_between_fragments_and_byte_by_byte_are_answered(gateway: Gateway) -> None:
    stream = await websocket(gateway)
    frames = (
        masked(TEXT, b"one", first=UNFINISHED) + masked(PING, b"p1")
        + masked(CONTINUATION, b"two", first=UNFINISHED) + masked(PING, b"p2")
        + masked(CONTINUATION, b"three")
    )  # fmt: skip
    for byte in frames:
        stream.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert [(await stream.next("pong")).content for _ in range(2)] == [b"p1", b"p2"]
    await still_delivers(gateway, stream)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 0), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)],
)
async def test_a_close_frame_is_echoed_and_the_stream_is_freed(
    gateway: Gateway, payload: bytes, code: int
) -> None:
    stream = await websocket(gateway)
    stream.write(masked(CLOSE, payload))
    assert await closed_with(stream) == code
    await gateway.streams_become(0)


# Ignored


@pytest.mark.parametrize(
    "frames",
    [
        masked(TEXT, b'{"type":"ack","cursor":"x"}'),
        masked(TEXT, b'{"subscribe":"everything"}'),
        masked(TEXT, "ä☂".encode()),
        masked(TEXT, b""),
        masked(TEXT, b"x" * MOST),
        masked(BINARY, os.urandom(MOST)),
        masked(PONG, b"unasked"),
        masked(TEXT, b"\xc3", first=UNFINISHED) + masked(CONTINUATION, b"\xa4"),
    ],
    ids=lambda frames: f"{frames[0]}-{len(frames)}",
)
async def test_what_a_client_says_is_ignored(gateway: Gateway, frames: bytes) -> None:
    stream = await websocket(gateway)
    stream.write(frames)
    stream.write(masked(PING, b"seen"))
    assert (await stream.next("pong")).content == b"seen"
    await still_delivers(gateway, stream)


async def test_endless_empty_fragments_are_harmless(gateway: Gateway) -> None:
    stream = await websocket(gateway)
    stream.write(masked(TEXT, b"", first=UNFINISHED))
    for _ in range(100):
        stream.write(masked(CONTINUATION, b"", first=UNFINISHED) * 100)
    stream.write(masked(PING, b"seen"))
    assert (await stream.next("pong")).content == b"seen"
    await still_delivers(gateway, stream)


# Refused


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\x89\x00", 1002),
        (b"\x88\x02\x03\xe8", 1002),
        (masked(TEXT, b"x", first=0xC0), 1002),
        (masked(TEXT, b"x", first=0x90), 1002),
        (masked(3, b"x"), 1002),
        (masked(11, b""), 1002),
        (masked(CONTINUATION, b"x"), 1002),
        (masked(TEXT, b"x", first=UNFINISHED) + masked(TEXT, b"y"), 1002),
        (masked(PING, b"", first=UNFINISHED), 1002),
        (masked(PING, b"x" * 126), 1002),
        (masked(CLOSE, b"\x03"), 1002),
        (masked(CLOSE, struct.pack("!H", 1006)), 1002),
        (masked(CLOSE, struct.pack("!H", 1005)), 1002),
        (masked(CLOSE, struct.pack("!H", 999)), 1002),
        (masked(CLOSE, struct.pack("!H", 65535)), 1002),
        (masked(CLOSE, b"\x03\xe8\xff"), 1007),
        (masked(TEXT, b"\xff"), 1007),
        (masked(TEXT, b"\xed\xa0\x80"), 1007),
        (masked(TEXT, b"x" * (MOST + 1)), 1009),
        (masked(BINARY, b"x" * 1_000_000), 1009),
        (b"\x81\xff" + struct.pack("!Q", 2**63 - 1) + b"mask", 1009),
        (b"\x81\xff" + struct.pack("!Q", 2**64 - 1) + b"mask", 1009),
        ((masked(TEXT, b"x" * MOST, first=UNFINISHED)) + masked(CONTINUATION, b"y"), 1009),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
    ids=lambda value: (
        value[:2].hex() + f"-{len(value)}" if isinstance(value, bytes) else str(value)
    ),
)
async def test_a_breach_of_the_protocol_closes_with_its_code(
    gateway: Gateway, frames: bytes, code: int
) -> None:
    stream = await websocket(gateway)
    stream.write(frames)
    assert await closed_with(stream) == code
    await gateway.streams_become(0)


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        (b"\x81\x05hello", 1002, "protocol_error"),
        (masked(TEXT, b"\xff"), 1007, "invalid_text"),
        (masked(TEXT, b"x" * (MOST + 1)), 1009, "message_too_big"),
    ],
    ids=["unmasked", "no text", "too big"],
)
async def test_such_an_end_names_the_last_cursor_as_every_other_does(
    gateway: Gateway, frames: bytes, code: int, reason: str
) -> None:
    stream = await open_stream(gateway, "audit.v1")
    await gateway.send(event())
    last = (await stream.event())["cursor"]
    stream.write(frames)
    end = (await stream.next("end")).content
    assert end.pop("cursor") >= last
    assert end == {"type": "end", "code": code, "reason": reason, "reconnect": False}
    assert await closed_with(stream) == code


async def test_a_close_frame_reaches_a_client_that_goes_on_sending(gateway: Gateway) -> None:
    """A connection closed over unread bytes is reset, which would take the close frame along."""
    for _ in range(10):
        stream = await websocket(gateway)
        stream.write(masked(BINARY, b"x" * 1_000_000))
        stream.write(masked(BINARY, b"x" * 1_000_000))
        assert await closed_with(stream) == 1009


# Held


async def test_a_flood_of_pings_that_nobody_reads_the_answers_of_takes_no_memory(
    start_program: StartProgram,
) -> None:
    gateway = await start_program()
    stream = await open_stream(gateway, "websocket", receive_buffer=4096)
    await gateway.send(event())
    before = gateway.rss
    pings = masked(PING, b"x" * 125) * 8000
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience(8)):
            for _ in range(50):
                stream.write(pings)
                await stream.drain()
    assert gateway.rss - before < 20 << 20
    assert (await gateway.get("/healthz", key=None)).status == 200


@pytest.mark.parametrize(
    "frames",
    [
        masked(PING, b"") * 40_000,
        masked(TEXT, b"") * 40_000,
        masked(TEXT, b"", first=UNFINISHED) + masked(CONTINUATION, b"", first=UNFINISHED) * 40_000,
    ],
    ids=["pings", "messages", "fragments"],
)
async def test_a_flood_of_small_frames_is_taken_in_small_parts(
    gateway: Gateway, frames: bytes
) -> None:
    stream = await websocket(gateway)
    largest = 0
    feed = ClientFrames.feed

    def fed(self: ClientFrames, data: bytes) -> list[tuple[int, bytes]]:
        nonlocal largest
        largest = max(largest, len(data))
        return feed(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientFrames, "feed", fed)
        stream.write(frames + masked(PING, b"last"))
        async with asyncio.timeout(patience(10)):
            while (await stream.next("pong")).content != b"last":
                pass
    assert 0 < largest <= 4096
    stream.write(masked(CLOSE, b"\x03\xe8"))
    assert await closed_with(stream) == 1000


async def test_frames_sent_behind_the_handshake_are_heard(gateway: Gateway) -> None:
    headers = {**upgrade_headers(), "Authorization": f"Bearer {gateway.user}", "Host": "gateway"}
    head = "GET /v1/stream HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
    request = head.encode() + b"\r\n"
    stream = await open_with(gateway, request + masked(PING, b"early"))
    assert (await stream.next("pong")).content == b"early"
    with pytest.raises(Refused) as refused:
        await open_with(gateway, request + masked(PING, b"") * 1000)
    refused.value.answer.problem(400, "bad_handshake")
