"""Connection over TCP or TLS that knows how much of what was sent the peer's system has."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress
from typing import Any, cast

from gateway.delivery.connect.transport import NoAnswer

# Given to the connection at once. What TLS holds back unseen is at most this and the bytes at which
# asyncio pauses, both with what TLS adds.
_PIECE = 64 << 10
_UNSEEN = 3 * _PIECE
_CLOSE_SECONDS = 2.0
# Bytes that a peer may say although nobody listens; one that says more is another kind of server.
_MOST_HEARD = 1 << 20


class PeerReader(asyncio.StreamReader):
    """Reader that sees the end of a peer, whatever that has said before."""

    ended = False
    _heard = 0
    _ignored: asyncio.WriteTransport | None = None

    def ignore(self, transport: asyncio.Transport) -> None:
        """Drop what the peer says from now on, and leave a peer that says very much. What is not
        read would hide its end."""
        self._ignored = transport
        transport.resume_reading()

    def feed_data(self, data: Any) -> None:
        if self._ignored is None:
            super().feed_data(data)
            return
        self._heard += len(data)
        if self._heard > _MOST_HEARD:
            self._ignored.abort()

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


class CountedStream:
    """Implements `gateway.delivery.connect.byte_stream.ByteStream`. `patience` is how many seconds
    the peer may take nothing."""

    def __init__(self, reader: PeerReader, writer: asyncio.StreamWriter, patience: float) -> None:
        self.sent = 0
        self.patience = patience
        self._reader, self._writer = reader, writer
        reader.ignore(cast(asyncio.Transport, writer.transport))
        self._encrypted = writer.get_extra_info("ssl_object") is not None
        self._acknowledged = 0
        # Bytes sent when nothing was seen to wait, where that has to be seen twice.
        self._quiet = 0

    @property
    def lost(self) -> bool:
        return self._writer.transport.is_closing() or self._reader.ended

    async def send(self, data: bytes) -> None:
        if self.lost:
            raise NoAnswer("disconnected", "the receiver has closed the connection")
        try:
            for at in range(0, len(data), _PIECE):
                piece = data[at : at + _PIECE]
                self._writer.write(piece)
                self.sent += len(piece)
                async with asyncio.timeout(self.patience):
                    await self._writer.drain()
        except TimeoutError:
            self.abort()
            raise NoAnswer("timeout", "the receiver takes nothing") from None
        except OSError:
            self.abort()
            raise NoAnswer("disconnected", "the connection broke") from None
        except BaseException:
            self.abort()
            raise

    def acknowledged(self) -> int:
        if self.lost:
            return self._acknowledged
        waiting = self._writer.transport.get_write_buffer_size() + self._queued()
        known = self.sent - waiting
        if self._encrypted:
            # What waits is counted as it is encrypted, which is longer, and some of it is not seen:
            # but not for as long as nothing is seen to wait.
            known = self._quiet if not waiting else known - _UNSEEN
            self._quiet = self.sent if not waiting else 0
        self._acknowledged = max(self._acknowledged, known)
        return self._acknowledged

    def _queued(self) -> int:
        """Number of bytes that the peer's system has not acknowledged."""
        try:
            found = fcntl.ioctl(
                self._writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4)
            )
        except OSError:
            return 0
        return int(struct.unpack("i", found)[0])

    def abort(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        bound = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self.abort)
        try:
            with suppress(OSError):
                await self._writer.wait_closed()
        finally:
            bound.cancel()
