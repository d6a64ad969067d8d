"""What stands before the gateway in a company: one origin for the page and the streams.

    GET /          a page
    GET /v1/...    passed on to the gateway, with the key added where the request has none

It reads one request per connection, without a body, and then passes bytes on.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_PAGE = b"<!doctype html><title>events</title>"
_ANSWER = (
    b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
)


class FrontProxy:
    """Listens on a free port of the loopback while it is entered. `key`: "" adds none."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._target = host, port
        self._key = key
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
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

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/v1/"):
                await self._pass_on(head, reader, writer)
            else:
                status, page = (b"200 OK", _PAGE) if path == b"/" else (b"404 Not Found", b"")
                writer.write(_ANSWER % (status, len(page)) + page)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gateway_reader, gateway_writer = await asyncio.open_connection(*self._target)
        if self._key:
            head = head[:-2] + f"Authorization: Bearer {self._key}\r\n\r\n".encode()
        gateway_writer.write(head)
        both = [
            asyncio.create_task(_copy(reader, gateway_writer)),
            asyncio.create_task(_copy(gateway_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            # What the gateway said last still has to go out.
            writer.close()
            await writer.wait_closed()
        finally:
            gateway_writer.transport.abort()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
