"""How far back a view reaches, as offsets of the log."""

from __future__ import annotations

from gateway.access.policy.decision import View
from gateway.log.ports import Log


async def find_lookback_bounds(log: Log, view: View, now: float) -> tuple[int, ...]:
    """The offsets that the scopes of a view do not reach back to; empty if all reach everything."""
    if all(rule.lookback is None for rule in view.rules):
        return ()
    return tuple(
        [
            0
            if rule.lookback is None
            else await log.last_before(int((now - rule.lookback) * 1_000_000))
            for rule in view.rules
        ]
    )
