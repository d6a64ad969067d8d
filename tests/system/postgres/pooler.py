"""A pooler as PgBouncer is one: gives each client a session for as long as its mode says.

It knows as much of the protocol (version 3) as that takes, and answers the
greeting of a client itself, so that the process it tells is not the server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_CANCEL = b"\x04\xd2\x16\x2e"
_OK = b"R\0\0\0\x08\0\0\0\0"
_OWN_KEY = b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01"
_READY = b"Z\0\0\0\x05I"


class _Client:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.session: Streams | None = None
        self.answering: asyncio.Task[None] | None = None


class Pooler:
    """`transaction`: a session goes back after each transaction; else when the client goes."""

    def __init__(self, url: str, *, transaction: bool) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._port, self._database = parts.port, parts.path[1:]
        self._transaction = transaction
        self._idle: list[Streams] = []
        # All that were ever opened, whoever has them.
        self._opened: list[asyncio.StreamWriter] = []
        self._told = b""
        self._clients: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The URL to connect to."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://gateway@127.0.0.1:{port}/{self._database}"
        finally:
            server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            for writer in self._opened:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = _Client(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while b"user\0" not in (greeting := await _greeting(reader)):
                if greeting[:4] == _CANCEL:
                    # There is nothing that would take long.
                    raise ConnectionAbortedError
                writer.write(b"N")
            self._idle.append(await self._session())
            writer.write(_OK + self._told + _OWN_KEY + _READY)
            while (message := await _message(reader))[:1] != b"X":
                if client.session is None:
                    client.session = await self._session()
                    client.answering = asyncio.create_task(self._answer(client, client.session))
                client.session[1].write(message)
        writer.close()
        if client.answering is not None:
            client.answering.cancel()
        if client.session is not None:
            client.session[1].close()

    async def _answer(self, client: _Client, session: Streams) -> None:
        """Pass on what the server says, until the session is given back."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while client.session is not None:
                message = await _message(session[0])
                if self._transaction and message == _READY:
                    client.session = None
                    self._idle.append(session)
                client.writer.write(message)
            return
        client.writer.close()

    async def _session(self) -> Streams:
        if self._idle:
            return self._idle.pop()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._opened.append(writer)
        names = b"user\0gateway\0database\0" + self._database.encode() + b"\0\0"
        writer.write((len(names) + 8).to_bytes(4, "big") + b"\0\x03\0\0" + names)
        told = b""
        while (message := await _message(reader))[:1] != b"Z":
            told += message if message[:1] == b"S" else b""
        self._told = told
        return reader, writer


async def _greeting(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(size - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
