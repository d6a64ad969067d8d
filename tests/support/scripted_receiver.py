"""HTTP receiver that behaves as badly as a script says, and otherwise as its type prescribes.

Every connection of the script's answers is real: bytes are written, held back, or cut off.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple


class Received(NamedTuple):
    """Request that arrived whole. `body` is decompressed; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """Answer with a length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}

    def encoded(self) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Any\r\n{lines}\r\n".encode() + self.body


class Exchange(NamedTuple):
    """One request and the way back. `whole` reads the rest of the request."""

    target: str
    headers: Mapping[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    whole: Callable[[], Awaitable[Received]]


Step = Reply | Callable[[Exchange], Awaitable[None]]
CUT = ConnectionAbortedError


class ScriptedReceiver:
    """Receiver on a port of the loopback interface. `script` has what it does next; without one it
    answers by `good`. `received` are the requests that it read whole, in order."""

    def __init__(self, good: Callable[[Received], Reply]) -> None:
        self.good = good
        self.script: deque[Step] = deque()
        self.received: list[Received] = []
        self.connections = 0
        self.port = 0
        # Released when the receiver ends, so that nothing it holds back outlives the test.
        self.closing = asyncio.Event()
        self._awaited: list[asyncio.Event] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.received]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with suppress(OSError, asyncio.IncompleteReadError, CUT):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            del self._open[task]

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        step = self.script.popleft() if self.script else None

        async def whole() -> Received:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received = Received(method, target, headers, body)
            self.received.append(received)
            return received

        if step is None or isinstance(step, Reply):
            received = await whole()
            reply = self.good(received) if step is None else step
            writer.write(reply.encoded())
        else:
            await step(Exchange(target, headers, reader, writer, whole))
        await writer.drain()
        return True

    async def close(self) -> None:
        for event in (self.closing, *self._awaited):
            event.set()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    # What it can be scripted to do, beside any `Reply`.

    async def hang(self, exchange: Exchange) -> None:
        """Read the request and never answer."""
        await exchange.whole()
        await self.closing.wait()

    def late(self, reply: Reply, until: asyncio.Event) -> Step:
        """Answer when the client has long stopped waiting."""
        self._awaited.append(until)

        async def answer(exchange: Exchange) -> None:
            await exchange.whole()
            await until.wait()
            exchange.writer.write(reply.encoded())

        return answer

    def held(self, until: asyncio.Event) -> Step:
        """Answer as usual, but later."""
        self._awaited.append(until)

        async def answer(exchange: Exchange) -> None:
            received = await exchange.whole()
            await until.wait()
            exchange.writer.write(self.good(received).encoded())

        return answer

    def trickle(self, reply: Reply) -> Step:
        """Begin the answer and send a byte of it now and then, for ever."""

        async def answer(exchange: Exchange) -> None:
            await exchange.whole()
            data = reply.encoded()
            while not self.closing.is_set():
                exchange.writer.write(data[:1])
                data = data[1:] or b" "
                await exchange.writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.closing.wait(), 0.05)

        return answer


async def cut_in_request(exchange: Exchange) -> None:
    """Close the connection in the middle of the batch."""
    await exchange.reader.read(10)
    exchange.writer.transport.abort()
    raise CUT


async def cut_before_answer(exchange: Exchange) -> None:
    """Take the whole batch and close the connection."""
    await exchange.whole()
    exchange.writer.transport.abort()
    raise CUT


def cut_in_answer(reply: Reply) -> Step:
    """Close the connection in the middle of the answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.whole()
        data = reply.encoded()
        exchange.writer.write(data[: len(data) - max(1, len(reply.body) // 2)])
        await exchange.writer.drain()
        raise CUT

    return answer


async def gibberish(exchange: Exchange) -> None:
    """Answer with something else than HTTP."""
    await exchange.whole()
    exchange.writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    await exchange.writer.drain()
    raise CUT


def endless(status: int = 200, size: int = 1 << 30) -> Step:
    """Answer with a gibibyte, as far as somebody reads it."""

    async def answer(exchange: Exchange) -> None:
        await exchange.whole()
        head = f"HTTP/1.1 {status} Any\r\nContent-Length: {size}\r\n\r\n"
        exchange.writer.write(head.encode())
        for _ in range(size // 65536):
            exchange.writer.write(b"x" * 65536)
            await exchange.writer.drain()

    return answer


def gzip_bomb(status: int = 200, size: int = 256 << 20) -> Reply:
    """Answer of a few kilobytes that unpacks to very much."""
    packing = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    zeros = bytes(1 << 20)
    body = b"".join(packing.compress(zeros) for _ in range(size >> 20)) + packing.flush()
    return Reply(status, body, {"Content-Encoding": "gzip"})


HTML = Reply(200, b"<html><body>Welcome to the portal</body></html>", {"Content-Type": "text/html"})
EMPTY = Reply(200)
TO_METADATA = Reply(307, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
SLOW_DOWN = Reply(429, b"slow down", {"Retry-After": "7"})


@asynccontextmanager
async def scripted_receiver(
    good: Callable[[Received], Reply] = lambda _: Reply(), tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedReceiver]:
    """Receiver that runs meanwhile."""
    receiver = ScriptedReceiver(good)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()
        await server.wait_closed()
