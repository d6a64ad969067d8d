"""The writing process's end of the Unix socket: appends for the followers of its log."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gateway.adapters.sqlite.writer_link import (
    BUFFER_BYTES,
    REQUESTS,
    Answer,
    Append,
    Moved,
    Request,
    Stored,
    Trimmed,
    WriteRefused,
    decode_batches,
    frame,
    read_frame,
    socket_address,
)
from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft
from gateway.log.ports import Appended, Log

# A follower that does not read its hints gets no more of them.
_MOST_UNREAD = 64 * 1024
_LOGGER = logging.getLogger(__name__)

AppendTogether = Callable[[Sequence[Sequence[Draft]]], Awaitable[list[Appended]]]


class WriterServer:
    """Serves requests of followers in order per connection, and announces head and floor to all.

    `append` stores batches, all or none of them. The socket is private to its user.
    """

    def __init__(self, path: Path, log: Log, append: AppendTogether) -> None:
        self._path = path
        self._log = log
        self._append = append
        self._server: asyncio.Server
        self._followers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._ended = False

    async def start(self) -> None:
        """Listen. Raises `GatewayError` if the folder cannot hold a socket."""
        # A killed process may leave its socket; whoever holds the log's lock is the only writer.
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_address(self._path) as address:
                listening.bind(address)
            # Nobody can connect before this, as it does not listen yet.
            os.chmod(self._path, 0o600)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, limit=BUFFER_BYTES
            )
        except OSError as error:
            listening.close()
            raise GatewayError(
                f"cannot listen on {self._path}: {error.strerror or error}; choose another "
                "folder with --data",
                code="folder_unusable",
            ) from None
        self._log.on_append(self._tell_all)

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for followers with accepted events to hand over; then close."""
        self._server.close()
        if self._followers:
            await asyncio.wait(list(self._followers), timeout=seconds)
        self._ended = True
        for task in list(self._followers):
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._ended:
            writer.close()
            return
        self._followers[task] = writer
        try:
            self._tell(writer)
            while True:
                request = REQUESTS.decode(await read_frame(reader))
                answer = await self._answer(request)
                # Before the answer, so that its follower can read what it has appended.
                self._tell(writer)
                writer.write(frame(answer))
                await writer.drain()
        except (OSError, EOFError):
            pass
        except asyncio.CancelledError:
            # The server ends; asyncio would report a cancelled handler as a failure.
            pass
        except Exception:
            _LOGGER.exception("a request of a follower has failed")
        finally:
            del self._followers[task]
            writer.close()

    async def _answer(self, request: Request) -> Answer:
        try:
            if isinstance(request, Append):
                results = await self._append(await decode_batches(request))
                return Stored(request.number, results)
            deleted = await self._log.trim(request.before_micros, request.max_bytes)
            return Trimmed(request.number, deleted)
        except Unavailable as error:
            return WriteRefused(request.number, error.detail, error.code, error.retry_after)

    def _tell_all(self) -> None:
        for writer in self._followers.values():
            if writer.transport.get_write_buffer_size() < _MOST_UNREAD:
                self._tell(writer)

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Moved(self._log.head, self._log.floor)))
