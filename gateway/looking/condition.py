"""Conditions on the content of events: a filter, a text, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from gateway.filters.cel.values import BUDGET
from gateway.filters.expression import Filter, FilterCost
from gateway.looking.text import TextQuery


class Condition(Protocol):
    """Condition on an event as a key sees it. Equal conditions hold for the same events."""

    @property
    def equalities(self) -> Mapping[str, frozenset[str]]:
        """For some paths, the only strings with which the condition can be true."""

    @property
    def counted(self) -> bool:
        """Whether its cost depends on the event."""

    @property
    def needles(self) -> tuple[str, ...]:
        """Texts as of `TextQuery.needles`, for events of which nothing is hidden."""

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether it is true of a decoded event. Never raises."""

    def matches_at_cost(
        self, event: Mapping[str, Any], cost: FilterCost, most: int = BUDGET
    ) -> bool:
        """Whether it is true of a decoded event; adds the steps that it took to `cost`. Raises
        `Undecided` as `Filter.matches_at_cost` does."""


@dataclass(frozen=True, slots=True)
class TextCondition:
    """A text, and a filter beside it, if there is one. What it costs is counted as for filters."""

    text: TextQuery
    filter: Filter | None = None

    @property
    def equalities(self) -> Mapping[str, frozenset[str]]:
        return MappingProxyType({}) if self.filter is None else self.filter.equalities

    @property
    def counted(self) -> bool:
        return True

    @property
    def needles(self) -> tuple[str, ...]:
        return self.text.needles

    def matches(self, event: Mapping[str, Any]) -> bool:
        if self.filter is not None and not self.filter.matches(event):
            return False
        return self.text.matches(event)

    def matches_at_cost(
        self, event: Mapping[str, Any], cost: FilterCost, most: int = BUDGET
    ) -> bool:
        if self.filter is not None:
            counted = self.filter.counted
            if not (
                self.filter.matches_at_cost(event, cost, most)
                if counted
                else self.filter.matches(event)
            ):
                cost.events += not counted
                return False
            # One event is counted once.
            cost.events -= counted
        found, steps = self.text.matches_at_cost(event, most if most < BUDGET else None)
        cost.events += 1
        cost.steps += steps
        return found


def condition_of(filter: Filter | None, text: TextQuery | None) -> Condition | None:
    """The condition of a query with these parts; None if it has neither."""
    return filter if text is None else TextCondition(text, filter)
