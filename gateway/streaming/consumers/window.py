"""What one connection was sent and has not acknowledged. Pure.

Positions are offsets of the log; times are seconds of a clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.cursor import count_behind, distance, later

MOST_BYTES = 16 << 20
_STEP_SECONDS = 0.1
_FIRST_GUESS = 600


class _Sent:
    """Events that were sent together: their offsets, how many of them are out, and the bytes of
    these."""

    __slots__ = ("count", "offsets", "size")

    def __init__(self, offsets: Sequence[int], count: int, size: int) -> None:
        self.offsets, self.count, self.size = offsets, count, size


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

    def sent(self, at: float, reached: int, offsets: Sequence[int], size: int) -> None:
        """Count what was sent: events with these offsets, which may be none. All up to `reached`
        was looked at, and does not match otherwise."""
        if offsets:
            self._each = max(1, size // len(offsets))
            if not self.unacknowledged:
                self._acknowledged = later(self._acknowledged, self.reached)
        # What was acknowledged by an earlier reader's cursor is not out again.
        if out := count_behind(offsets, self._acknowledged):
            self.changes += 1
            sent = _Sent(offsets, out, size * out // len(offsets))
            self._out.append(sent)
            self.unacknowledged += out
            self._bytes += sent.size
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
        while self._out:
            first = self._out[0]
            left = count_behind(first.offsets, position)
            if left:
                size = first.size * left // first.count
                self._take(first.count - left, first.size - size)
                first.count, first.size = left, size
                break
            self._take(first.count, first.size)
            self._out.popleft()
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

    def _take(self, count: int, size: int) -> None:
        self.unacknowledged -= count
        self._bytes -= size
