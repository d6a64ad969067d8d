"""A TCP proxy that fails as networks do, at the byte that the test names.

    client  <->  FaultProxy  <->  server

The first connection meets the first fault, and so on; later ones are passed on as they are.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_READ_BYTES = 65536
_NO_LINGER = struct.pack("ii", 1, 0)
_HEAD_BYTES = 8192

Kind = Literal["reset", "half-close", "black hole"]


@dataclass(frozen=True)
class Fault:
    """What happens to one connection on the way from the server to the client.

    `after`: how many bytes get through, or the text behind which it happens; None: never.
    `kind`: "reset" resets the connection; "half-close" sends the client an end of
    stream and goes on taking what it sends; "black hole" keeps the connection open
    and passes nothing on any more, in either direction.
    `hold`: connections made from then on wait until `FaultProxy.let_in`.
    `delay`: seconds that each piece of `piece` bytes waits.
    """

    kind: Kind = "reset"
    after: int | bytes | None = None
    hold: bool = False
    delay: float = 0.0
    piece: int = _READ_BYTES


class FaultProxy:
    """Listens on a free port of the loopback while it is entered."""

    def __init__(self, host: str, port: int, faults: Iterable[Fault] = ()) -> None:
        self._target = host, port
        self._faults = list(faults)
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []
        """What each connection's client sent first, up to 8 KiB."""
        self.struck = 0
        """How many faults have happened."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def connected(self, count: int) -> None:
        """Return when so many connections have been made, since the beginning."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.heads) >= count)

    async def faults_struck(self, count: int) -> None:
        """Return when so many faults have happened."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.struck >= count)

    def let_in(self) -> None:
        """Let the connections in that were held, and those to come."""
        self._open.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        number = len(self.heads)
        fault = self._faults[number] if number < len(self._faults) else Fault()
        self.heads.append(b"")
        try:
            async with self._changed:
                self._changed.notify_all()
            await self._connection(number, fault, reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _connection(
        self, number: int, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._open.wait()
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        hole = asyncio.Event()
        up = asyncio.create_task(self._up(number, reader, server_writer, hole))
        down = asyncio.create_task(self._down(fault, server_reader, writer, hole))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server_writer.transport.abort()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hole: asyncio.Event,
    ) -> None:
        """Until the client closes, whatever happens to the other direction."""
        while data := await reader.read(_READ_BYTES):
            self.heads[number] = (self.heads[number] + data)[:_HEAD_BYTES]
            if not hole.is_set():
                writer.write(data)
                await writer.drain()

    async def _down(
        self,
        fault: Fault,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hole: asyncio.Event,
    ) -> None:
        """Until the server closes or the connection is reset."""
        meter = _Meter(fault.after)
        while data := await reader.read(fault.piece):
            if fault.delay:
                await asyncio.sleep(fault.delay)
            passed = meter.take(data)
            writer.write(data[:passed])
            await writer.drain()
            if meter.reached:
                await self._strike(fault, writer, hole)
                return
        writer.close()
        await writer.wait_closed()

    async def _strike(
        self, fault: Fault, writer: asyncio.StreamWriter, hole: asyncio.Event
    ) -> None:
        if fault.hold:
            self._open.clear()
        self.struck += 1
        async with self._changed:
            self._changed.notify_all()
        if fault.kind == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()
            return
        if fault.kind == "half-close":
            writer.write_eof()
        else:
            hole.set()
        # The client decides when this connection is over.
        await asyncio.Event().wait()


class _Meter:
    """Counts the bytes that may still pass; `reached` when those were all."""

    def __init__(self, after: int | bytes | None) -> None:
        self._left = after if isinstance(after, int) else 0
        self._text = after if isinstance(after, bytes) else None
        self._counts = isinstance(after, int)
        self._seen = b""
        self.reached = False

    def take(self, data: bytes) -> int:
        """How many bytes of `data` pass."""
        if self._counts:
            passed = min(self._left, len(data))
            self._left -= passed
            self.reached = self._left == 0
            return passed
        if self._text is None:
            return len(data)
        # The text may have begun in earlier data.
        kept = self._seen[-(len(self._text) - 1) :] if len(self._text) > 1 else b""
        at = (kept + data).find(self._text)
        self._seen = (kept + data)[-len(self._text) :]
        if at < 0:
            return len(data)
        self.reached = True
        return at + len(self._text) - len(kept)
