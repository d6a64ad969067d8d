"""Stream of a destination: a subscription of the hub whose peer is in this process.

It is opened, narrowed, ended, paced, counted and recorded as any stream of its key. It never goes
live, but follows the log at the pace of its receiver.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cursor import JSON_PREFIX
from gateway.notifier import Notifier
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import End, Wire, control_json

# Lines that wait beside the batches that are sent and prepared: as many as are sent while the next
# page is read.
_ROOM = 1500
_LONGEST_WAIT = 3600.0
# Events that are few enough to wait for others, and for how much of the wait for a batch they do,
# at most so many seconds. Each destination waits for another share: many that begin with the same
# event are not to read in one moment for ever.
_FEW = 100
_SHARES = (0.7, 0.9)
_LONGEST_PAUSE = 1.0
# How long what has time waits for a moment without other work.
_PATIENCE_SECONDS = 0.02


class OutboundWire(Wire):
    """Lines of native JSON, and gaps; nothing keeps a quiet destination awake."""

    name = transport = "destination"

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        return b"" if gap is None else self.control("gap", gap)

    def lines(self, lines: Sequence[bytes]) -> bytes:
        return b"\n".join(lines)

    def text(self, text: bytes) -> bytes:
        return text

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        return control_json(kind, members) + b"\n" if kind == "gap" else b""

    def heartbeat(self, cursor: str) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def end(self, end: End, cursor: str) -> bytes:
        return b""


OUTBOUND = OutboundWire()


class Inbox:
    """What the cursor loop has read and the receiver was not sent. Implements
    `gateway.streaming.live.subscription.StreamSink`."""

    descriptor = -1
    vanished = False
    waited = 0

    def __init__(
        self,
        on_gap: Callable[[bytes], None],
        wake: Callable[[], None],
        behind: Callable[[], int],
        max_wait: float,
        now: Callable[[], float],
    ) -> None:
        """`behind` is how many events of the log are not read, `max_wait` how many seconds an
        event may wait for its batch, and `now` the time that goes on evenly."""
        self.lines: deque[bytes] = deque()
        # Since when the first of them may have been there to be read.
        self.since = 0.0
        self._behind = behind
        self._now = now
        # As each reading costs the same, however much it finds: one for each batch.
        self._pause = min(_LONGEST_PAUSE, max_wait * random.uniform(*_SHARES))
        # Begin of the pause before the next reading, if that may find what came meanwhile.
        self._paused_at: float | None = None
        self.closed = False
        self.subscription: DeliveryStream | None = None
        self.hub: Hub | None = None
        self._on_gap = on_gap
        self._wake = wake
        self._taken, self._ended = Notifier(), Notifier()

    @property
    def clear(self) -> bool:
        return not self.lines

    @property
    def unsent(self) -> int:
        return sum(map(len, self.lines))

    def write(self, data: bytes | memoryview) -> bool:
        if self.closed:
            return True
        # Either events or a gap, whole.
        lines = bytes(data).split(b"\n")
        if data[: len(JSON_PREFIX)] == JSON_PREFIX:
            if not self.lines:
                self.since = self._now() if self._paused_at is None else self._paused_at
            self.lines += lines
        elif lines[0]:
            self._on_gap(lines[0])
        self._wake()
        return True

    def taken(self) -> None:
        """Note that some of the first `lines` were taken."""
        if len(self.lines) < _ROOM:
            self._taken.notify()

    async def drained(self) -> None:
        self._paused_at = None
        while not self.closed and len(self.lines) >= _ROOM:
            await self._taken.until(lambda: self.closed or len(self.lines) < _ROOM, _LONGEST_WAIT)
        # In front of a batch that is not full.
        if self.lines and not self.closed and self._behind() < _FEW:
            began = self._now()
            await self._ended.until(lambda: self.closed, self._pause)
            if self._behind():
                self._paused_at = began
                await self.lull()

    async def lull(self) -> None:
        """Wait for a moment without other work, if there soon is one."""
        if self.hub is not None:
            await self.hub.work.lull(_PATIENCE_SECONDS)

    def finish(self, last: bytes, within: float) -> None:
        self.abort()

    def abort(self) -> None:
        """Close at once; what waits is read again from the log."""
        self.closed = True
        self.lines.clear()
        self._taken.notify()
        self._ended.notify()
        stream = self.subscription
        if self.hub is not None and stream is not None:
            self.hub.forget(stream)
            if stream.ended_by is not None and not stream.ended_by.reconnect:
                stream.interrupt()
        self._wake()


class DeliveryStream(Subscription):
    """Subscription of one destination. `confirmed` is the offset up to which nothing is left to
    deliver; while it is `idle` there is nothing that was read and not delivered."""

    __slots__ = ("_interest", "confirmed", "confirmed_events", "ended_by", "idle", "inbox",
        "interrupt",
    )  # fmt: skip

    def __init__(
        self,
        interest: Interest,
        inbox: Inbox,
        key_id: str,
        cursor: int,
        interrupt: Callable[[], None],
    ) -> None:
        self._interest: Interest | None = None
        # Breaks off the request that is under way.
        self.interrupt = interrupt
        super().__init__(interest, inbox, key_id, cursor)
        self.inbox = inbox
        self.confirmed = cursor
        self.confirmed_events = 0
        self.idle = False
        self.ended_by: End | None = None
        inbox.subscription = self

    @property
    def interest(self) -> Interest:
        assert self._interest is not None
        return self._interest

    @interest.setter
    def interest(self, interest: Interest) -> None:
        """What was read so far is not sent: its masks may be others now."""
        if self._interest is not None and interest != self._interest:
            self.interrupt()
        self._interest = interest

    @property
    def position(self) -> int:
        """Offset up to which nothing is left to deliver, also of what is not for this key."""
        if self.idle and not self.inbox.lines and not self.inbox.closed:
            self.confirmed = self.cursor
        return self.confirmed

    @property
    def delivered(self) -> int:
        return self.confirmed_events

    @property
    def bounded(self) -> bool:
        return True


def end_at_confirmed(subscription: Subscription, end: End | None) -> None:
    """Have the record of the end of a stream tell what was delivered, not what was read."""
    if isinstance(subscription, DeliveryStream):
        subscription.cursor = subscription.position
        subscription.ended_by = end
