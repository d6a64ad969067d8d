"""The events of one question, chosen in slices and charged to the key that asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gateway.event import Event
from gateway.live.interest import Question
from gateway.live.work import LoopWork
from gateway.match.expression import FilterCost, Undecided

# Events that are neither decoded nor masked cost so little that some hundreds go together.
_PLAIN_AT_ONCE = 200


class Choosing:
    """Chooses events for one key; `cost` is what its filter has taken so far.

    `most_steps`: what the filter may take at all, beyond what is free.
    """

    def __init__(self, question: Question, work: LoopWork, key_id: str, most_steps: int) -> None:
        self.question = question
        self.cost = FilterCost()
        self._settled = FilterCost()
        self._work = work
        self._key_id = key_id
        self._most = most_steps
        self._look = question.matcher(self.cost, work.filters.loop_steps)
        # One evaluation has taken so long that the next ones are not for the event loop, either.
        self._long = False
        self._counted = question.filter is not None and question.filter.counted
        self._plain = question.filter is None and not question.view.limits
        self._slices = work.slices(key_id)

    @property
    def exhausted(self) -> bool:
        """Whether the filter has taken all that it may, or its key has."""
        if not self._counted:
            return False
        free = self.cost.events * self._work.filters.free_steps
        return self.cost.steps - free >= self._most or self._work.wait(self._key_id) > 0

    async def of(self, events: Sequence[Event]) -> tuple[list[Event], int]:
        """The chosen ones as they are seen, and how many of the events were looked at: all, or
        at least one until it was `exhausted`."""
        if self._counted:
            return await self._counted_ones(events)
        slices, look = self._slices, self._look
        await slices.begin()
        if self._plain:
            return await self._plain_ones(events), len(events)
        chosen: list[Event] = []
        for event in events:
            await slices.rest()
            seen = look(event)
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
                found, count = await slices.in_thread(partial(self._some, left))
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
        look, timer = self._look, self._work.timer
        ends = timer() + self._work.budget.slice_seconds
        most = self.cost.steps + self._most
        chosen: list[Event] = []
        for number, event in enumerate(events, 1):
            try:
                seen = look(event)
            except Undecided:
                self._long = True
                self._look = self.question.matcher(self.cost)
                return chosen, number - 1
            if seen is not None:
                chosen.append(seen)
            if timer() >= ends or self.cost.steps >= most:
                return chosen, number
        return chosen, len(events)

    async def _plain_ones(self, events: Sequence[Event]) -> list[Event]:
        slices, look = self._slices, self._look
        chosen: list[Event] = []
        for begin in range(0, len(events), _PLAIN_AT_ONCE):
            part = events[begin : begin + _PLAIN_AT_ONCE]
            chosen += [seen for event in part if (seen := look(event)) is not None]
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
