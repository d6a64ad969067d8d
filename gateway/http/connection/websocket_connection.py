"""Connection of one WebSocket stream: answers pings and closes; messages are for consumers."""

from __future__ import annotations

import asyncio

from gateway.http.connection.stream_connection import LAST_SECONDS, StreamConnection
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.wire.framing import ENDS, End
from gateway.wire.websocket_parser import ClientFrames, ProtocolFailure
from gateway.wire.websocket_writer import CLOSE, PING, PONG, close_frame, frame, frame_end

# Bytes received at a time: a frame may have as few as six.
RECEIVED_BYTES = 4 << 10


class WebSocketConnection(StreamConnection):
    """Connection of a WebSocket stream.

    While frames are queued, only the newest ping is answered (RFC 6455, section 5.5.3), ahead of
    them: so a slow reader does not fail its own keepalive check, and one that never reads cannot
    fill the buffer with pongs. A client that sends more than `RECEIVED_BYTES` waits for a turn.
    """

    __slots__ = ("_frames", "_parse_scheduler", "_pong")

    def __init__(
        self,
        transport: asyncio.Transport,
        buffer_bytes: int,
        scheduler: WriteScheduler,
        parse_scheduler: WriteScheduler,
    ) -> None:
        super().__init__(transport, buffer_bytes, scheduler)
        self._frames = ClientFrames()
        self._parse_scheduler = parse_scheduler
        if hasattr(transport, "max_size"):
            transport.max_size = RECEIVED_BYTES
        # Pong that waits for the transport, or in the queue.
        self._pong: memoryview | None = None

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except ProtocolFailure as failure:
            self._end(failure)
            return
        pongs = []
        for opcode, payload in messages:
            if opcode == PING:
                pongs.append(frame(PONG, payload))
            elif opcode == CLOSE:
                self._answer_last(frame(CLOSE, payload[:2]))
                return
            elif self._subscription is not None and self._subscription.consumer is not None:
                self._subscription.consumer.received(opcode, payload)
        if pongs:
            # Pings received together are answered with one write.
            self._answer(b"".join(pongs) if self.clear else pongs[-1])
        if len(data) >= RECEIVED_BYTES:
            self._transport.pause_reading()
            self._parse_scheduler.schedule(self._receive_more)

    def _receive_more(self) -> None:
        # Also after the end: the client's close frame is still to come.
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        # RFC 6455 has no half-closed connections.
        self.finish(b"", LAST_SECONDS)
        return False

    def _answer(self, pong: bytes) -> None:
        waiting = self._waiting
        if self.clear:
            self.write(pong)
            return
        earlier, self._pong = self._pong, memoryview(pong)
        if waiting is None:
            self._wait(self._pong)
            return
        for place in range(min(2, len(waiting))):
            if waiting[place] is earlier:
                waiting[place] = self._pong
                return
        # Part of the first frame may be sent; the pong goes after the rest of that frame.
        first = waiting.popleft()
        whole = first.obj
        assert isinstance(whole, bytes)
        gone = len(whole) - len(first)
        rest = frame_end(whole, gone) - gone
        waiting.extendleft(part for part in (first[rest:], self._pong, first[:rest]) if part)

    def _end(self, failure: ProtocolFailure) -> None:
        """End a stream because of a protocol failure."""
        if self._hub is None or self._subscription is None:
            self._answer_last(close_frame(failure.code))
            return
        end = next(one for one in ENDS if one.code == failure.code)
        wire = self._subscription.interest.wire
        self._answer_last(wire.end(end, self._hub.cursor_of(self._subscription)), end)

    def _answer_last(self, data: bytes, end: End | None = None) -> None:
        """Send the last frame, unless a close frame was sent, and close: no frame may follow."""
        if self._hub is not None and self._subscription is not None:
            self._hub.forget(self._subscription, end)
        self.finish(data, LAST_SECONDS)
        self._transport.close()

    def _close(self) -> None:
        """Wait for the client's close frame (RFC 6455, section 7.1.1); `finish` bounds the wait."""
