"""Bounds of one look: how many offsets a request looks at, how many of their events are decided in
Python, and for how long. Pure.

Counts bound the work, and the time guards: on a busy machine the same work takes longer. A request
that reaches a bound ends where it is, and says so; it goes on from there with the next one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# What looks: pages, pages with `text`, counts, exports.
LookKind = Literal["page", "text", "count", "export"]
KINDS: tuple[LookKind, ...] = ("page", "text", "count", "export")


class LookBounds(msgspec.Struct, frozen=True):
    """Bounds of each look, and of looks at once; the settings `[look]`."""

    # Offsets looked at; events among them that the view decides in Python, and that are rendered.
    offsets: int = 2_000_000
    viewed: int = 200_000
    rendered: int = 20_000
    seconds: float = 2.0
    answer_bytes: int = 4 << 20
    of_key: int = 2
    at_once: int = 4
    wait_seconds: float = 5.0


class Look:
    """What one request has looked at. `begin` starts its time, `end` stops it: what it waits for in
    between costs nothing."""

    __slots__ = ("_began", "_bounds", "_seconds", "cut", "kind", "offsets", "rendered", "viewed")

    def __init__(self, kind: LookKind, bounds: LookBounds) -> None:
        self.kind = kind
        self.offsets = self.viewed = self.rendered = 0
        # Whether a bound has ended it.
        self.cut = False
        self._bounds = bounds
        self._began: float | None = None
        self._seconds = 0.0

    def begin(self, now: float) -> None:
        """Look from now on (seconds of the monotonic clock)."""
        self._began = now

    def end(self, now: float) -> None:
        """Look no more for now."""
        if self._began is not None:
            self._seconds += now - self._began
            self._began = None

    def spend(self, offsets: int, *, viewed: int = 0, rendered: int = 0) -> None:
        """Count offsets that were looked at, whoever decided about them, and those of their events
        that the view decided in Python or that were rendered."""
        self.offsets += offsets
        self.viewed += viewed
        self.rendered += rendered

    def is_over(self, now: float) -> bool:
        """Whether a bound is reached, which cuts the look."""
        bounds = self._bounds
        seconds = self._seconds + (0.0 if self._began is None else now - self._began)
        self.cut = self.cut or (
            self.offsets >= bounds.offsets
            or self.viewed >= bounds.viewed
            or self.rendered >= bounds.rendered
            or seconds >= bounds.seconds
        )
        return self.cut

    @property
    def room(self) -> int:
        """Offsets that may still be looked at, at least one."""
        return max(1, self._bounds.offsets - self.offsets)

    def events(self, wanted: int, *, viewed: bool = False, rendered: bool = False) -> int:
        """How many of the events that are wanted may still be decided by the view in Python, or be
        rendered, at least one."""
        if viewed:
            wanted = min(wanted, self._bounds.viewed - self.viewed)
        if rendered:
            wanted = min(wanted, self._bounds.rendered - self.rendered)
        return max(1, wanted)
