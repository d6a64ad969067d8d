"""Port of connections without answers: bytes are sent, and the peer's system acknowledges them."""

from __future__ import annotations

from typing import Protocol


class ByteStream(Protocol):
    """Connection to an outside system that only takes bytes, in the order of the calls."""

    @property
    def patience(self) -> float:
        """Seconds for which the peer may take nothing."""

    @property
    def sent(self) -> int:
        """Number of bytes that were ever given to `send`."""

    @property
    def lost(self) -> bool:
        """Whether the peer has closed it, or it is broken."""

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when most have left this process. Raises `NoAnswer` when the
        connection breaks, or its peer takes nothing for too long. When it is cancelled, the
        connection is closed, as nobody knows how much is on its way."""

    def acknowledged(self) -> int:
        """Number of bytes that the peer's system has at least. What it says now counts the sooner,
        the more often it is asked."""

    def abort(self) -> None:
        """Close at once."""

    async def close(self) -> None:
        """Close when all is sent; at once if that takes long."""


class Dialer(Protocol):
    """Opens the connections of one destination."""

    async def open(self, url: str, port: int) -> ByteStream:
        """Connection to a `tls://` or `tcp://` URL, at that port if it names none. Raises
        `NoAnswer`, and nothing else."""
