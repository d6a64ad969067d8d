"""Stream of one durable consumer: what it was sent, what its peer acknowledges, and its life."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.clock import Clock
from gateway.cursor import count_behind, distance, format_cursor, parse_cursor
from gateway.errors import InvalidRequest
from gateway.notifier import Notifier
from gateway.streaming.consumers.claims import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    is_asked,
    reader_of,
    reader_text,
)
from gateway.streaming.consumers.options import EXPLICIT, PONG, ConsumerOptions
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move
from gateway.streaming.consumers.window import AckWindow
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import ACK_TIMEOUT, CONSUMER_DELETED, REWOUND, TAKEN_OVER, End
from gateway.wire.websocket_writer import PONG as PONG_FRAME
from gateway.wire.websocket_writer import ping_frame

_PING_SECONDS = 5.0
_PING_BYTES = 8
# Pings whose pongs are still waited for, and acknowledgements that wait to be answered.
_MOST_PINGS = 32
_MOST_ANSWERS = 1000
_OTHER_LOG = "this cursor is of another log; acknowledge what was received on this stream"


class _Message(msgspec.Struct):
    """Message of a peer: only acknowledgements mean anything."""

    type: str = ""
    cursor: str = ""


_DECODE = msgspec.json.Decoder(_Message).decode


class ConsumerReader:
    """Reader that holds a consumer in this process. Implements
    `gateway.streaming.live.subscription.PeerListener`.

    `hurry` is called when something is to be stored soon.
    """

    def __init__(
        self, row: ConsumerRow, mode: str, options: ConsumerOptions, clock: Clock,
        hurry: Callable[[], None],
    ) -> None:  # fmt: skip
        self.row = row
        self.mode = mode
        self._options = options
        self._clock = clock
        self._hurry = hurry
        self._epoch, begin = parse_cursor(row.cursor)
        _, self._sent_before = parse_cursor(row.sent)
        self.window = AckWindow(begin, options.max_unacked, timed=mode == PONG)
        self.redelivered = row.redelivered
        self.pacer = WindowedPacer(self.window)
        self.closed = False
        # Called with the members of each `gap`.
        self.gaps: list[dict[str, Any]] = []
        self._hub: Hub | None = None
        self._subscription: Subscription | None = None
        # Room for more to send, an answer, or the end.
        self._changed = Notifier()
        self._stored = (0, row.redelivered, 0.0)
        self._renewed_at = clock.monotonic()
        self._pings: dict[bytes, int] = {}
        self._pinged_at = clock.monotonic()
        self._timeout = options.ack_timeout
        if mode == PONG:
            # What was sent just behind a ping is acknowledged by one of the next two after the
            # delay, which the peer has time to answer.
            least = options.ack_delay + 3 * _PING_SECONDS
            self._timeout = max(options.ack_timeout, least)
        # The question if it is alive that others ask, and their ping; when it was last answered.
        self._question = 0.0
        self._answered = reader_of(row).answered_at
        self._life_ping = b""
        self._lives = 0
        # Cursors of acknowledgements that are answered when they are durable.
        self._answers: list[str] = []
        # Number of messages that were written since the peer had taken all.
        self._untaken = 0

    @property
    def key(self) -> ConsumerKey:
        return self.row.key

    @property
    def answers(self) -> bool:
        """Whether the peer can be asked if it is alive."""
        return reader_of(self.row).answers

    def attach(self, hub: Hub, subscription: Subscription) -> None:
        """Begin, with the stream that reads."""
        self._hub, self._subscription = hub, subscription

    def end(self, end: End) -> None:
        """End the stream."""
        if self._hub is not None and self._subscription is not None:
            self._hub.end(self._subscription, end)

    def tell(self, kind: str, members: dict[str, Any]) -> None:
        """Send a control message, where the transport has any."""
        if self._hub is not None and self._subscription is not None:
            self._hub.send_control(self._subscription, kind, members)

    def close(self) -> None:
        """Note that the stream has ended."""
        self.closed = True
        self._changed.notify()

    # PeerListener

    @property
    def has_room(self) -> bool:
        return self.window.room > 0

    async def await_room(self, seconds: float) -> bool:
        return await self._changed.until(lambda: self.has_room or self.closed, seconds)

    def delivered(self, reached: int, offsets: Sequence[int], size: int) -> None:
        self.window.sent(self._clock.monotonic(), reached, offsets, size)
        self.redelivered += len(offsets) - count_behind(offsets, self._sent_before)

    def skipped(self, gap: dict[str, Any]) -> None:
        self.gaps.append(gap)
        self._hurry()

    def received(self, opcode: int, payload: bytes) -> None:
        if opcode == PONG_FRAME:
            self._ponged(payload)
        elif self.mode == EXPLICIT:
            self._messaged(payload)

    def _ponged(self, payload: bytes) -> None:
        if payload and payload == self._life_ping:
            self._life_ping = b""
            self._lives += 1
            self._answered = self._question or self._answered
            self._changed.notify()
            self._hurry()
        elif payload in self._pings:
            # Those before it were answered late, or never.
            for earlier_ping in list(self._pings):
                position = self._pings.pop(earlier_ping)
                if earlier_ping == payload:
                    break
            self.acknowledge(position)

    def _messaged(self, payload: bytes) -> None:
        try:
            message = _DECODE(payload)
        except msgspec.MsgspecError:
            return
        if message.type != "ack":
            return
        try:
            epoch, position = parse_cursor(message.cursor)
        except InvalidRequest as error:
            self._refuse({"code": error.code, "detail": error.detail})
            return
        if epoch != self._epoch:
            self._refuse({"code": "cursor_unknown", "cursor": message.cursor, "detail": _OTHER_LOG})
            return
        if self.is_ahead(position):
            self._refuse(ack_ahead(message.cursor, self.sent_cursor))
            return
        self.acknowledge(position)
        if len(self._answers) < _MOST_ANSWERS:
            self._answers.append(message.cursor)
        else:
            self._answers[-1] = message.cursor
        self._hurry()

    def _refuse(self, notice: dict[str, Any]) -> None:
        if self._may_answer():
            self.tell("notice", notice)

    def _may_answer(self) -> bool:
        """Whether one more answer may be written: a peer that reads none cannot fill the memory."""
        if self._subscription is not None and self._subscription.sink.clear:
            self._untaken = 0
        self._untaken += 1
        return self._untaken <= _MOST_ANSWERS

    # Acknowledgements

    @property
    def sent_cursor(self) -> str:
        return format_cursor(self._epoch, self.window.reached)

    def is_ahead(self, position: int) -> bool:
        """Whether a position is ahead of what was sent, now or to a reader before."""
        newest = self.window.reached
        return distance(newest, position) > 0 and distance(self._sent_before, position) > 0

    def acknowledge(self, position: int) -> None:
        """Take everything up to a position that was sent as delivered."""
        if self.window.acknowledge(self._clock.monotonic(), position):
            self._changed.notify()

    # Store

    def move(self) -> Move | None:
        """What is to be stored now; None if nothing has moved and the claim needs no renewal."""
        mono = self._clock.monotonic()
        state = (self.window.changes, self.redelivered, self._answered)
        renew = mono - self._renewed_at >= RENEW_SECONDS
        if state == self._stored and not renew:
            return None
        return self._move(state, mono, LEASE_SECONDS)

    def last_move(self) -> Move:
        """What is to be stored when the reader has left."""
        state = (self.window.changes, self.redelivered, self._answered)
        return self._move(state, self._clock.monotonic(), None)

    def _move(self, state: tuple[int, int, float], mono: float, lease: float | None) -> Move:
        now = self._clock.now()
        self._stored, self._renewed_at = state, mono
        reader = reader_of(self.row)
        answered = None
        if reader.answered_at != self._answered:
            answered = reader_text(msgspec.structs.replace(reader, answered_at=self._answered))
        return Move(
            at=now,
            generation=self.row.generation,
            cursor=format_cursor(self._epoch, self.window.position),
            sent=self.sent_cursor,
            reader=answered,
            lease_until=0.0 if lease is None else now + lease,
            unacknowledged=self.window.unacknowledged,
            redelivered=self.redelivered,
        )

    def stored(self, row: ConsumerRow | None) -> None:
        """Act on the row as it is now; None: it was deleted."""
        if self.closed:
            return
        if row is None:
            self.end(CONSUMER_DELETED)
            return
        if row.generation != self.row.generation:
            since = reader_of(self.row).since
            self.end(REWOUND if reader_of(row).rewound_at > since else TAKEN_OVER)
            return
        self.row = row
        epoch, position = parse_cursor(row.cursor)
        if epoch == self._epoch and not self.is_ahead(position):
            # By a call that came to another process.
            self.acknowledge(position)
        reader = reader_of(row)
        if is_asked(reader) and reader.asked_at not in (self._question, self._answered):
            self._question = reader.asked_at
            self._ask()

    def take_answers(self) -> list[str]:
        """Cursors of the acknowledgements that are answered once they are durable."""
        cursors, self._answers = self._answers, []
        return cursors

    def answer(self, cursors: list[str], row: ConsumerRow | None) -> None:
        """Answer acknowledgements that are durable, by the row after that; None if it was as it
        is known."""
        if row is None or row.generation == self.row.generation:
            for place, cursor in enumerate(cursors):
                if not self._may_answer():
                    self._answers = [*cursors[place:], *self._answers][-_MOST_ANSWERS:]
                    return
                self.tell("acked", {"cursor": cursor})

    def not_stored(self, cursors: list[str]) -> None:
        """Note that the last move could not be stored, so that nothing is answered yet."""
        self._stored = (-1, 0, 0.0)
        self._answers = cursors + self._answers

    # Time

    def tick(self) -> None:
        """Ping, and end a stream whose peer acknowledges nothing. Call about once a second."""
        now, waits_since = self._clock.monotonic(), self.window.waits_since
        if waits_since is not None and now - waits_since >= self._timeout:
            self.end(ACK_TIMEOUT)
            return
        if self.mode == PONG and now - self._pinged_at >= _PING_SECONDS:
            self._pinged_at = now
            position = self.window.sent_before(now - self._options.ack_delay)
            if position is not None:
                self._ping(position)

    def _ping(self, position: int) -> None:
        if len(self._pings) >= _MOST_PINGS:
            del self._pings[next(iter(self._pings))]
        payload = os.urandom(_PING_BYTES)
        self._pings[payload] = position
        self._write(ping_frame(payload))

    async def is_alive(self, seconds: float) -> bool:
        """Ask the peer; whether it answers within so many seconds, and still reads."""
        before = self._lives
        self._ask()
        await self._changed.until(lambda: self._lives > before or self.closed, seconds)
        return self._lives > before and not self.closed

    def _ask(self) -> None:
        if not self._life_ping:
            self._life_ping = os.urandom(_PING_BYTES)
        self._write(ping_frame(self._life_ping))

    def _write(self, data: bytes) -> None:
        if self._subscription is not None and not self.closed:
            self._subscription.sink.write(data)


def ack_ahead(cursor: str, sent: str) -> dict[str, Any]:
    """Members that tell of an acknowledgement of what was not sent."""
    return {
        "code": "ack_ahead",
        "cursor": cursor,
        "sent": sent,
        "detail": "this cursor was not sent yet; acknowledge what was received",
    }


class WindowedPacer:
    """Pacer of a consumer's stream: within what may be out unacknowledged, and within the delivery
    limits of its key. Implements `gateway.streaming.live.delivery_pacer.Pacer`."""

    def __init__(self, window: AckWindow) -> None:
        self._window = window
        self._limits: DeliveryPacer | None = None

    def limited_by(self, limits: DeliveryPacer | None) -> WindowedPacer:
        """Apply the delivery limits of the key, too."""
        self._limits = limits
        return self

    @property
    def waits(self) -> bool:
        return not self._window.room or (self._limits is not None and self._limits.waits)

    @property
    def given_up(self) -> bool:
        return self._limits is not None and self._limits.given_up

    def wait(self) -> float:
        return 0.0 if self._limits is None else self._limits.wait()

    def most(self, left: int | None, streams: int) -> int:
        room = max(1, self._window.room)
        most = room if left is None else min(room, left)
        return most if self._limits is None else self._limits.most(most, streams)

    def sent(self, events: int, size: int) -> None:
        if self._limits is not None:
            self._limits.sent(events, size)
