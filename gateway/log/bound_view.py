"""Views bound to a log, whose look-backs are offsets."""

from __future__ import annotations

from gateway.access.policy.decision import View
from gateway.log.ports import Log


async def bound_view(log: Log, view: View, now: float) -> View:
    """The view in this log at `now` (seconds since 1970)."""
    offsets: dict[int | None, int] = {
        seconds: await log.last_before(int((now - seconds) * 1_000_000))
        for seconds in {rule.lookback for rule in view.rules}
        if seconds is not None
    }
    return view.bound(offsets) if offsets else view
