"""What one connection was sent and has not acknowledged. Pure.

Positions are offsets of the log; times are seconds of a clock that never goes back.
"""

from __future__ import annotations

from collections import deque

from gateway.cursor import distance, later

MOST_BYTES = 16 << 20
_STEP_SECONDS = 0.1
_FIRST_GUESS = 600


class _Sent:
    """Events that were sent together: when, where the last one is, how many, their bytes."""

    __slots__ = ("at", "count", "last", "size")

    def __init__(self, at: float, last: int, count: int, size: int) -> None:
        self.at, self.last, self.count, self.size = at, last, count, size


class AckWindow:
    """Events that are out unacknowledged, bounded in number and bytes."""

    def __init__(
        self, begin: int, most: int, most_bytes: int = MOST_BYTES, *, timed: bool = False
    ) -> None:
        """`timed`: keep what `sent_before` tells."""
        self._most, self._most_bytes = most, most_bytes
        self._timed = timed
        # Number of changes: of events that were sent, and of acknowledgements.
        self.changes = 0
        self._out: deque[_Sent] = deque()
        self._acknowledged = self.reached = begin
        self.unacknowledged = self._bytes = 0
        # Approximate bytes of an event.
        self._each = _FIRST_GUESS
        # Since when something is out without progress.
        self.waits_since: float | None = None
        # Newest positions by the time they were sent, in steps.
        self._moves: deque[tuple[float, int]] = deque([(0.0, begin)])

    @property
    def position(self) -> int:
        """Everything up to here needs no further delivery: what was acknowledged, and, where
        nothing is out, all that was looked at."""
        if self.unacknowledged:
            return self._acknowledged
        return later(self._acknowledged, self.reached)

    @property
    def room(self) -> int:
        """Number of events that may be sent now."""
        left = self._most_bytes - self._bytes
        if left <= 0:
            return 0
        return max(0, min(self._most - self.unacknowledged, max(1, left // self._each)))

    def sent(self, at: float, reached: int, count: int, size: int, last: int | None = None) -> None:
        """Count what was sent, up to the position `reached`; there may be no event. Of events that
        do not match, some may lie behind the `last` one that was sent."""
        last = reached if last is None else last
        if count:
            self._each = max(1, size // count)
            if not self.unacknowledged:
                self._acknowledged = later(self._acknowledged, self.reached)
        # What was acknowledged by an earlier reader's cursor is not out again.
        if out := min(count, distance(self._acknowledged, last)):
            self.changes += 1
            self._out.append(_Sent(at, last, out, size))
            self.unacknowledged += out
            self._bytes += size
            if self.waits_since is None:
                self.waits_since = at
        self.reached = reached
        if self._timed:
            if at // _STEP_SECONDS == self._moves[-1][0] // _STEP_SECONDS:
                self._moves.pop()
            self._moves.append((at, reached))

    def acknowledge(self, at: float, position: int) -> bool:
        """Take everything up to a position as delivered; False if that changes nothing. One ahead
        of what was sent here is of an earlier reader, to whom it was sent."""
        if not distance(self._acknowledged, position):
            return False
        while self._out and not distance(position, self._out[0].last):
            self._take(self._out.popleft())
        if self._out:
            # Part of what was sent together: no more than the positions behind it can be out.
            first = self._out[0]
            left = min(first.count, distance(position, first.last))
            self._take(_Sent(at, position, first.count - left, 0))
            first.count = left
        self._acknowledged = position
        self.changes += 1
        self.waits_since = at if self.unacknowledged else None
        return True

    def sent_before(self, at: float) -> int | None:
        """Newest position that had been sent by then; None if that is not known any more."""
        found: int | None = None
        while self._moves and self._moves[0][0] <= at:
            found = self._moves.popleft()[1]
        if found is not None:
            self._moves.appendleft((at, found))
        return found

    def _take(self, sent: _Sent) -> None:
        self.unacknowledged -= sent.count
        self._bytes -= sent.size
