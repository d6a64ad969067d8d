"""Connection over TCP or TLS that knows how much of what was sent the peer's system has."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress

from gateway.delivery.connect.transport import NoAnswer

# Given to the connection at once. What TLS holds back unseen is at most this and the bytes at which
# asyncio pauses, both with what TLS adds.
_PIECE = 64 << 10
_UNSEEN = 3 * _PIECE
_CLOSE_SECONDS = 2.0


class CountedStream:
    """Implements `gateway.delivery.connect.byte_stream.ByteStream`. `patience` is how many seconds
    the peer may take nothing."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        self.sent = 0
        self._reader, self._writer, self._patience = reader, writer, patience
        self._encrypted = writer.get_extra_info("ssl_object") is not None
        self._acknowledged = 0
        # Bytes sent when nothing was seen to wait, where that has to be seen twice.
        self._quiet = 0

    @property
    def lost(self) -> bool:
        return self._writer.transport.is_closing() or self._reader.at_eof()

    async def send(self, data: bytes) -> None:
        if self.lost:
            raise NoAnswer("disconnected", "the receiver has closed the connection")
        try:
            for at in range(0, len(data), _PIECE):
                piece = data[at : at + _PIECE]
                self._writer.write(piece)
                self.sent += len(piece)
                async with asyncio.timeout(self._patience):
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
