"""How far back a view reaches, as offsets of the log."""

from __future__ import annotations

from gateway.access.policy.decision import View
from gateway.log.ports import Log


async def find_floors(log: Log, view: View, now: float) -> tuple[int, ...]:
    """The offsets that the scopes of a view do not reach back to; empty if all reach everything."""
    if all(limits.lookback is None for limits in view.limits):
        return ()
    return tuple(
        [
            0
            if limits.lookback is None
            else await log.last_before(int((now - limits.lookback) * 1_000_000))
            for limits in view.limits
        ]
    )
