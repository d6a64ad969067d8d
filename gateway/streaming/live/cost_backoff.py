"""Backoff of a stream whose filter costs too much to be live. Pure."""

from __future__ import annotations

from gateway.budgets import FilterBudget
from gateway.filters.expression import FilterCost

_NOTHING = FilterCost()


class CostBackoff:
    """Whether a stream stays out of the live group for the cost of its filter, and until when.

    It may return after a period in which the filter cost at most half of what live ones may. The
    period doubles each time it has to leave, or cannot return.
    """

    __slots__ = ("_away", "_cost", "_told_at", "_until", "untold")

    def __init__(self) -> None:
        self._away = 0.0
        self._until: float | None = None
        self._cost = _NOTHING
        self._told_at: float | None = None
        # Events on which the budget ran out since the stream was told.
        self.untold = 0

    def __bool__(self) -> bool:
        return self._until is not None

    def begin(self, now: float, budget: FilterBudget) -> None:
        """Let the stream leave the live group, or stay away from it."""
        self._away = min(max(2 * self._away, budget.least_away_seconds), budget.most_away_seconds)
        self._until = now + self._away
        self._cost = FilterCost()

    def add(self, cost: FilterCost, now: float, budget: FilterBudget) -> None:
        """Add the cost of the filter in one chunk of a replay."""
        self.untold += cost.exceeded
        if self._until is None:
            return
        self._cost.add(cost)
        if now < self._until:
            return
        whole = self._cost
        if whole.exceeded or 2 * whole.steps > whole.events * budget.free_steps:
            self.begin(now, budget)
        else:
            self._until = None

    def tell(self, now: float, budget: FilterBudget) -> int:
        """Number of events on which the budget ran out, if the client is to be told now; else 0."""
        told = self._told_at
        if not self.untold or (told is not None and now - told < budget.notice_seconds):
            return 0
        count, self.untold, self._told_at = self.untold, 0, now
        return count
