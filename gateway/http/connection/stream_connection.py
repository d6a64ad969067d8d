"""Connection of one stream: an asyncio protocol and a `StreamSink`.

While the kernel accepts them, bytes go straight to the socket, or are encrypted for it. The rest,
and large parts, are queued here and written in turns; `write` tells when too many are queued.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from gateway.http.connection.vanished import has_vanished
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import Subscription

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), 30),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), 10),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 0), 4),
)

# Most bytes and parts written in one turn, which takes less than a tenth of a millisecond.
_PIECE_BYTES = 128 << 10
_PIECE_PARTS = 64
# Enough for the transport to notice, and report, when there is room again.
_FEELER_BYTES = 512
# How long the last bytes may take if the client ends the stream.
LAST_SECONDS = 1.0


class StreamConnection(asyncio.Protocol):
    """Endless HTTP response body. Implements `gateway.streaming.live.subscription.StreamSink`."""

    __slots__ = (
        "_blocked", "_buffer_bytes", "_closing", "_deadline", "_descriptor", "_drained",
        "_half_closed", "_hub", "_scheduler", "_subscription", "_transport", "_waiting", "on_lost",
        "waited",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, buffer_bytes: int, scheduler: WriteScheduler
    ) -> None:
        self._transport = transport
        self._buffer_bytes = buffer_bytes
        self._scheduler = scheduler
        # Whether the transport holds bytes back; parts queued after those.
        self._blocked = False
        self._waiting: deque[memoryview] | None = None
        self.waited = 0
        self._closing = False
        self._half_closed = False
        self._hub: Hub | None = None
        self._subscription: Subscription | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._descriptor = -1
        # Frees the place of the connection.
        self.on_lost: Callable[[], object] | None = None
        sock = transport.get_extra_info("socket")
        if sock is not None:
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)
            # The kernel doubles it. By default it buffers megabytes for a stalled peer.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            if _writes_at_once(transport):
                self._descriptor = sock.fileno()
        # `pause_writing` as soon as anything is buffered, `resume_writing` when nothing is.
        transport.set_write_buffer_limits(high=0)
        transport.set_protocol(self)
        # The earlier protocol may have paused reading, which would hide a disconnect.
        transport.resume_reading()

    def serve(self, hub: Hub, subscription: Subscription) -> None:
        """Serve a subscription, and tell the hub when the connection stalls or is lost."""
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
        return not self._blocked and self._waiting is None

    @property
    def unsent(self) -> int:
        waiting = sum(map(len, self._waiting)) if self._waiting is not None else 0
        return waiting + self._transport.get_write_buffer_size()

    @property
    def vanished(self) -> bool:
        return has_vanished(self._transport.get_extra_info("socket"))

    def write(self, data: bytes | memoryview) -> bool:
        if self._closing:
            return True
        sent = 0
        if self.clear and len(data) <= _PIECE_BYTES:
            sent = self._send([memoryview(data)])
            if self._closing:
                return True
            if self._blocked:
                self.waited += self._transport.get_write_buffer_size()
        if sent < len(data):
            self._wait(memoryview(data)[sent:])
        return self.clear or self.unsent <= self._buffer_bytes

    async def drained(self) -> None:
        while not self.clear and not self._closing:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            # Not shielded: a stream has one replay, so there is one waiter.
            await self._drained

    def finish(self, last: bytes, within: float) -> None:
        if self._closing:
            return
        self._hand_over()
        self.write(last)
        self._hand_over()
        self._closing = True
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(within, self._transport.abort)
        self._close()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def _close(self) -> None:
        """Close once everything is sent."""
        self._transport.close()

    # Queue

    def _send(self, parts: Sequence[memoryview]) -> int:
        """Write to the socket what it accepts; return the number of bytes.

        A transport that encrypts accepts everything, and pauses writing if it holds bytes back.
        """
        if self._descriptor < 0:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._transport.write(data)
            return len(data)
        try:
            return os.writev(self._descriptor, parts)
        except BlockingIOError:
            return 0
        except OSError:
            self.abort()
            return 0

    def _wait(self, data: memoryview) -> None:
        if self._waiting is None:
            self._waiting = deque()
            if not self._blocked:
                self._tell_hub()
                self._scheduler.schedule(self._write_piece)
        self._waiting.append(data)
        self.waited += len(data)

    def _write_piece(self) -> None:
        """Write one piece of the queue, in a turn of this connection."""
        waiting = self._waiting
        if waiting is None or self._blocked:
            return
        piece = _piece(waiting)
        sent = self._send(piece)
        if self._closing:
            return
        full = sent < sum(map(len, piece))
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.popleft())
        if not waiting:
            self._waiting = None
            self._wake()
            return
        waiting[0] = waiting[0][sent:]
        if full:
            self._transport.write(waiting[0][:_FEELER_BYTES])
            waiting[0] = waiting[0][_FEELER_BYTES:]
        if not self._blocked:
            self._scheduler.schedule(self._write_piece)

    def _hand_over(self) -> None:
        """Pass the whole queue to the transport."""
        if self._waiting is not None:
            for part in self._waiting:
                self._transport.write(part)
            self._waiting = None

    def _tell_hub(self) -> None:
        if self._hub is not None and self._subscription is not None:
            self._hub.blocked(self._subscription)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Ignore what an HTTP client sends after its request."""

    def eof_received(self) -> bool:
        # A client that closed its side may still read (RFC 9112, section 9.6), or has left: it gets
        # the events there are, and the end of the stream.
        if self._closing or self._hub is None or self._subscription is None:
            return False
        self._half_closed = True
        if self._blocked:
            self._bound_stall()
        self._hub.complete_at_head(self._subscription)
        return True

    def pause_writing(self) -> None:
        self._blocked = True
        if self._half_closed:
            self._bound_stall()
        self._tell_hub()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._deadline is not None and not self._closing:
            self._deadline.cancel()
            self._deadline = None
        if self._waiting is not None:
            self._scheduler.schedule(self._write_piece)
        else:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None
        self._wake()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._hub is not None and self._subscription is not None:
            self._hub.forget(self._subscription)
            self._hub = self._subscription = None
        # The descriptor of a closed socket is reused: nothing may write to it now.
        self._descriptor = -1
        self._waiting = None

    def _bound_stall(self) -> None:
        """Bound the stall of a client that closed its side: one that does not read has left."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(LAST_SECONDS, self._transport.abort)

    def _wake(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None


def _piece(waiting: deque[memoryview]) -> list[memoryview]:
    """Parts to write in one turn."""
    parts = []
    room = _PIECE_BYTES
    for part in islice(waiting, _PIECE_PARTS):
        parts.append(part[:room])
        room -= len(parts[-1])
        if not room:
            break
    return parts


def _writes_at_once(transport: Any) -> bool:
    """Whether writing past the transport keeps the order: only if it holds no bytes back."""
    return type(transport).__name__ == "_SelectorSocketTransport"
