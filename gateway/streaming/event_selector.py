"""Choice of the events of one query, in slices that are charged to the key."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from gateway.access.policy.decision import Projection
from gateway.event import Event
from gateway.filters.expression import FilterCost, Undecided
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.interest import StreamQuery

# Of costly evaluations, a slice is over after some; what goes to another process is copied.
_APART_EVENTS = 64
_APART_BYTES = 64 * 1024
# Events that are neither decoded nor masked cost so little that some hundreds go together.
_PLAIN_AT_ONCE = 200


class Choosing:
    """Chooses events for one key; `cost` is what its filter has taken so far.

    `most_steps`: what the filter may take at all, beyond what is free.
    """

    def __init__(self, query: StreamQuery, work: LoopWork, key_id: str, most_steps: int) -> None:
        self.query = query
        self.cost = FilterCost()
        self._settled = FilterCost()
        self._work = work
        self._key_id = key_id
        self._most = most_steps
        self._project = query.matcher(self.cost, work.filters.loop_steps)
        # One evaluation has taken so long that the next ones are not for the event loop, either.
        self._long = False
        self._counted = query.filter is not None and query.filter.counted
        self._plain = query.filter is None and not query.view.limited
        self._slices = work.slices(key_id)

    @property
    def exhausted(self) -> bool:
        """Whether the filter, or all filters of its key, have taken the steps that they may."""
        if not self._counted:
            return False
        free = self.cost.events * self._work.filters.free_steps
        return self.cost.steps - free >= self._most or self._work.wait(self._key_id) > 0

    async def of(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """The chosen ones as they are seen, and how many of the events were looked at: all, or
        at least one until it was `exhausted`."""
        if self._counted:
            return await self._counted_ones(events)
        slices, project = self._slices, self._project
        await slices.begin()
        if self._plain:
            return await self._plain_ones(events), len(events)
        chosen: list[Event] = []
        for event in events:
            await slices.rest()
            seen = project(event)
            if seen is not None:
                chosen.append(seen)
        return chosen, len(events)

    async def _counted_ones(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        slices = self._slices
        chosen: list[Event] = []
        looked = 0
        while looked < len(events):
            left = events[looked:]
            if self._long:
                found, count = await self._some_apart(left)
            else:
                await slices.begin()
                found, count = self._some(left)
            chosen += found
            looked += count
            self._settle()
            # What is begun is decided, once: without that, nothing would ever get on.
            if count and self.exhausted:
                break
        return chosen, looked

    def _some(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """The chosen ones of the first events, as many as fit into a slice, and their number."""
        work = self._work
        ends = work.timer() + work.budget.slice_seconds
        most = self.cost.steps + self._most
        found = _choose(self._project, self.cost, events, most, lambda: work.timer() >= ends)
        self._long = found.undecided
        return found.chosen, found.looked

    async def _some_apart(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """Choose as `_some` does, in another process."""
        size = count = 0
        for event in events[:_APART_EVENTS]:
            if count and size + len(event.json) > _APART_BYTES:
                break
            count, size = count + 1, size + len(event.json)
        seconds = self._work.budget.slice_seconds
        work = partial(choose_apart, self.query, events[:count], self._most, seconds)
        chosen, looked, cost = await self._slices.apart(work)
        self.cost.add(cost)
        return chosen, looked

    async def _plain_ones(self, events: Sequence[Event]) -> list[Event]:
        slices, project = self._slices, self._project
        chosen: list[Event] = []
        for begin in range(0, len(events), _PLAIN_AT_ONCE):
            part = events[begin : begin + _PLAIN_AT_ONCE]
            chosen += [seen for event in part if (seen := project(event)) is not None]
            if slices.over():
                await slices.next()
        return chosen

    def _settle(self) -> None:
        cost, settled = self.cost, self._settled
        new = FilterCost(
            cost.events - settled.events,
            cost.steps - settled.steps,
            cost.exceeded - settled.exceeded,
        )
        settled.add(new)
        self._work.charge(self._key_id, new)
        self._work.count(new)


class _Found(NamedTuple):
    """The chosen ones of the events that were looked at; whether the next is left undecided."""

    chosen: list[Event]
    looked: int
    undecided: bool = False


def _choose(
    project: Projection,
    cost: FilterCost,
    events: Sequence[Event],
    most_steps: int,
    over: Callable[[], bool],
) -> _Found:
    """Look at events until it is `over` or has cost so much, at one at least."""
    chosen: list[Event] = []
    for number, event in enumerate(events, 1):
        try:
            seen = project(event)
        except Undecided:
            return _Found(chosen, number - 1, True)
        if seen is not None:
            chosen.append(seen)
        if cost.steps >= most_steps or over():
            return _Found(chosen, number)
    return _Found(chosen, len(events))


def choose_apart(
    query: StreamQuery, events: Sequence[Event], most_steps: int, seconds: float
) -> tuple[list[Event], int, FilterCost]:
    """Choose from events within so many seconds and steps: the chosen ones, how many were looked
    at, and what that took."""
    project, cost = _matcher(query)
    cost.events = cost.steps = cost.exceeded = 0
    ends = time.perf_counter() + seconds
    found = _choose(project, cost, events, most_steps, lambda: time.perf_counter() >= ends)
    return found.chosen, found.looked, cost


@lru_cache(16)
def _matcher(query: StreamQuery) -> tuple[Projection, FilterCost]:
    """Projection of a query, cached: events of one query come in many parts."""
    cost = FilterCost()
    return query.matcher(cost), cost
