"""The connection of one stream: an asyncio protocol below, a `Sink` above.

While the kernel takes what is written, bytes go straight to the socket; what it
does not take waits in the transport, and `write` says when that is too much.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from gateway.encode.websocket import CLOSE, PING, PONG, close_frame, frame
from gateway.encode.websocket_input import ClientFrames, ProtocolFailure
from gateway.live.hub import Hub
from gateway.live.subscription import Subscription

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), 30),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), 10),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 0), 4),
)


# How long the last bytes may take when it is the client who ends.
_LAST_SECONDS = 1.0


class StreamConnection(asyncio.Protocol):
    """An HTTP response body that never ends by itself. Implements `gateway.live.Sink`."""

    __slots__ = (
        "_blocked", "_buffer_bytes", "_closing", "_deadline", "_descriptor", "_drained",
        "_hub", "_subscription", "_transport",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, buffer_bytes: int) -> None:
        self._transport = transport
        self._buffer_bytes = buffer_bytes
        self._blocked = False
        self._closing = False
        self._hub: Hub | None = None
        self._subscription: Subscription | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._descriptor = -1
        sock = transport.get_extra_info("socket")
        if sock is not None:
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)
            # The kernel doubles it. Without a bound it holds megabytes for a stalled peer.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            if _writes_at_once(transport):
                self._descriptor = sock.fileno()
        # `pause_writing` as soon as anything waits, `resume_writing` when nothing does.
        transport.set_write_buffer_limits(high=0)
        transport.set_protocol(self)
        # Whoever read before may have paused it, and then no disconnect would be heard.
        transport.resume_reading()

    def serve(self, hub: Hub, subscription: Subscription) -> None:
        """Carry that subscription, and tell the hub when the connection stalls or is lost."""
        self._hub = hub
        self._subscription = subscription
        hub.open(subscription)
        if self._transport.is_closing():
            hub.forget(subscription)

    # Sink

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def clear(self) -> bool:
        return not self._blocked

    def write(self, data: bytes) -> bool:
        if self._closing:
            return True
        if not self._blocked and self._descriptor >= 0:
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._transport.abort()
                return True
            if sent == len(data):
                return True
            data = data[sent:]
        self._transport.write(data)
        return self._transport.get_write_buffer_size() <= self._buffer_bytes

    async def drained(self) -> None:
        while self._blocked and not self._closing:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            # Shielded by nobody: one stream has one replay, so there is one waiter.
            await self._drained

    def finish(self, last: bytes, within: float) -> None:
        if self._closing:
            return
        self.write(last)
        self._closing = True
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(within, self._transport.abort)
        self._close()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def _close(self) -> None:
        """Close once everything has gone out."""
        self._transport.close()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Whatever an HTTP client sends behind its request is ignored."""

    def eof_received(self) -> bool:
        # A client that closed its side only may still read; one that does not is not waited for.
        self.finish(b"", _LAST_SECONDS)
        return False

    def pause_writing(self) -> None:
        self._blocked = True
        if self._hub is not None and self._subscription is not None:
            self._hub.blocked(self._subscription)

    def resume_writing(self) -> None:
        self._blocked = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._wake()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._hub is not None and self._subscription is not None:
            self._hub.forget(self._subscription)
            self._hub = self._subscription = None
        # The number of a closed socket is given to the next one: nobody may write to it now.
        self._descriptor = -1

    def _wake(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None


class WebSocketConnection(StreamConnection):
    """The same for WebSocket: answers pings and closes, ignores messages."""

    __slots__ = ("_frames",)

    def __init__(self, transport: asyncio.Transport, buffer_bytes: int) -> None:
        super().__init__(transport, buffer_bytes)
        self._frames = ClientFrames()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except ProtocolFailure as failure:
            self._answer_last(close_frame(failure.code, failure.reason.encode()))
            return
        for opcode, payload in messages:
            # A client that does not read has no use for pongs, and would fill the buffer with them.
            if opcode == PING and not self._blocked:
                self.write(frame(PONG, payload))
            elif opcode == CLOSE:
                self._answer_last(frame(CLOSE, payload[:2]))
                return

    def _answer_last(self, data: bytes) -> None:
        """Say that, unless our own close frame is out, and close: no frame may follow."""
        if self._hub is not None and self._subscription is not None:
            self._hub.forget(self._subscription)
        self.finish(data, _LAST_SECONDS)
        self._transport.close()

    def _close(self) -> None:
        """RFC 6455, section 7.1.1: the server closes after the client's close frame; the
        deadline of `finish` bounds how long it is waited for."""


def _writes_at_once(transport: Any) -> bool:
    """Whether bytes written past the transport keep their order: only where it holds none back."""
    return type(transport).__name__ == "_SelectorSocketTransport"
