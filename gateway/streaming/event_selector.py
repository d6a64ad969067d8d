"""Selection of the events that match one query, in slices that are charged to the key."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from gateway.access.grants.copies import DeclaredCopies, declare_copies, declared_copies
from gateway.access.policy.decision import Projection
from gateway.event import Event
from gateway.filters.expression import FilterCost, Undecided
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.interest import StreamQuery

# Bounds of what is copied to another process at once.
_PROCESS_EVENTS = 64
_PROCESS_BYTES = 64 * 1024
# Events that are neither decoded nor masked cost so little that some hundreds go together.
_PLAIN_AT_ONCE = 200


class EventSelector:
    """Selects the events of a query for one key. `cost` is what its filter has taken so far,
    `most_steps` what it may take beyond what is free."""

    def __init__(self, query: StreamQuery, work: LoopWork, key_id: str, most_steps: int) -> None:
        self.query = query
        self.cost = FilterCost()
        self._settled = FilterCost()
        self._work = work
        self._key_id = key_id
        self._most = most_steps
        self._project = query.matcher(self.cost, work.filters.loop_steps)
        # Whether evaluations take too long for the event loop, as the last one did.
        self._long = False
        self._counted = query.filter is not None and query.filter.counted
        self._plain = query.filter is None and not query.view.limited
        self._slices = work.slices(key_id)

    @property
    def exhausted(self) -> bool:
        """Whether the filter, or the filters of its key together, have used up their steps."""
        if not self._counted:
            return False
        free = self.cost.events * self._work.filters.free_steps
        return self.cost.steps - free >= self._most or self._work.wait(self._key_id) > 0

    async def select(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """Selected events as the key sees them, and how many of the events were examined: all,
        or at least one until it was `exhausted`."""
        if self._counted:
            return await self._counted_ones(events)
        slices, project = self._slices, self._project
        await slices.begin()
        if self._plain:
            return await self._plain_ones(events), len(events)
        selected: list[Event] = []
        for event in events:
            await slices.rest()
            seen = project(event)
            if seen is not None:
                selected.append(seen)
        return selected, len(events)

    async def _counted_ones(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        slices = self._slices
        selected: list[Event] = []
        examined = 0
        while examined < len(events):
            left = events[examined:]
            if self._long:
                found, count = await self._some_in_process(left)
            else:
                await slices.begin()
                found, count = self._some_on_loop(left)
            selected += found
            examined += count
            self._settle()
            # At least one event is examined each time, so that every query makes progress.
            if count and self.exhausted:
                break
        return selected, examined

    def _some_on_loop(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """Selected ones of the first events, and how many of them one slice could examine."""
        work = self._work
        ends = work.timer() + work.budget.slice_seconds
        most = self.cost.steps + self._most
        found = _select(self._project, self.cost, events, most, lambda: work.timer() >= ends)
        self._long = found.undecided
        return found.selected, found.examined

    async def _some_in_process(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """Selected ones of the first events, and how many another process could examine."""
        size = count = 0
        for event in events[:_PROCESS_EVENTS]:
            if count and size + len(event.json) > _PROCESS_BYTES:
                break
            count, size = count + 1, size + len(event.json)
        seconds = self._work.budget.slice_seconds
        work = partial(
            select_in_process, self.query, events[:count], self._most, seconds, declared_copies()
        )
        selected, examined, cost = await self._slices.in_process(work)
        self.cost.add(cost)
        return selected, examined

    async def _plain_ones(self, events: Sequence[Event]) -> list[Event]:
        slices, project = self._slices, self._project
        selected: list[Event] = []
        for begin in range(0, len(events), _PLAIN_AT_ONCE):
            part = events[begin : begin + _PLAIN_AT_ONCE]
            selected += [seen for event in part if (seen := project(event)) is not None]
            if slices.over():
                await slices.next()
        return selected

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


class _Selection(NamedTuple):
    """Selected events, the number of examined ones, and whether the next is left undecided."""

    selected: list[Event]
    examined: int
    undecided: bool = False


def _select(
    project: Projection,
    cost: FilterCost,
    events: Sequence[Event],
    most_steps: int,
    over: Callable[[], bool],
) -> _Selection:
    """Select from the first events, until `over` or `most_steps`; examine one at least."""
    selected: list[Event] = []
    for number, event in enumerate(events, 1):
        try:
            seen = project(event)
        except Undecided:
            return _Selection(selected, number - 1, True)
        if seen is not None:
            selected.append(seen)
        if cost.steps >= most_steps or over():
            return _Selection(selected, number)
    return _Selection(selected, len(events))


def select_in_process(
    query: StreamQuery,
    events: Sequence[Event],
    most_steps: int,
    seconds: float,
    copies: DeclaredCopies,
) -> tuple[list[Event], int, FilterCost]:
    """Select from the first events within some seconds and steps; return the selected ones, how
    many were examined, and the cost. Masks hide `copies` there as they do here."""
    if copies != declared_copies():
        declare_copies(copies)
    project, cost = _matcher(query)
    cost.events = cost.steps = cost.exceeded = 0
    ends = time.perf_counter() + seconds
    found = _select(project, cost, events, most_steps, lambda: time.perf_counter() >= ends)
    return found.selected, found.examined, cost


@lru_cache(16)
def _matcher(query: StreamQuery) -> tuple[Projection, FilterCost]:
    """Projection of a query, cached because its events come in many parts."""
    cost = FilterCost()
    return query.matcher(cost), cost
