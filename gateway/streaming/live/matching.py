"""Matching of a page of events with the live groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from gateway.access.grants.mask import Hiding, hiding_of
from gateway.access.grants.mask_templates import (
    MaskTemplates,
    Run,
    TemplatedVersions,
    Version,
)
from gateway.event import Event
from gateway.filters.expression import FilterCost
from gateway.filters.index import Index
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.group import Group, GroupProjection, ProjectedEvent
from gateway.streaming.live.subscription import Subscription

Matches = dict[Group, list[Event | Version]]

_COLUMNS = attrgetter(
    "tenant", "category", "action", "outcome", "severity", "actor", "resources"
)  # fmt: skip
# Groups tried between two checks of the time; big events and costly evaluations count as more.
_AT_ONCE = 64
_BIG_EVENT_BITS = 13
_COSTLY_STEPS = 500
# A page that takes more slices is cut, and what is matched goes out.
_MOST_SLICES = 20


class Matching:
    """One page of events, matched with all groups of an index.

    `found` are the events of each group, in order, as the group sees them, up to the offset
    `cut_at` where matching takes too long. `costs` is what counted filters took. A `costly` group,
    whose filter takes more than live groups may, gets nothing.
    """

    def __init__(
        self,
        index: Index[Group],
        events: Sequence[Event],
        work: LoopWork,
        templates: MaskTemplates,
    ) -> None:
        self.found: Matches = defaultdict(list)
        self.costs: dict[Group, FilterCost] = {}
        self.costly: dict[Group, None] = {}
        # Groups for which an event could not be matched; they get nothing.
        self.failed: dict[Group, None] = {}
        self.cut_at: int | None = None
        self._index = index
        self._events = events
        self._templates = templates
        self._timer = work.timer
        self._seconds = work.budget.slice_seconds
        self._free, self._most = work.filters.free_steps, work.filters.live_steps

    def parts(self) -> Iterator[None]:
        """Match the page; yields after each slice of time. One function, as matching spends its
        time in this loop."""
        found, costly, index, templates = self.found, self.costly, self._index, self._templates
        timer, ends, slices, left = self._timer, self._timer() + self._seconds, 1, _AT_ONCE
        # Many events of a page differ only in members that no group examines.
        known: dict[Any, list[tuple[Hiding | None, list[Group]]]] = {}
        events, at = self._events, 0
        while at < len(events):
            event = events[at]
            columns = _COLUMNS(event)
            versions: TemplatedVersions | None = None
            chosen = known.get(columns)
            if chosen is None:
                versions = TemplatedVersions(event, templates)
                original = ProjectedEvent(versions, None)
                seen_under: dict[Hiding | None, ProjectedEvent] = {None: original}
                answers: dict[GroupProjection, ProjectedEvent | None] = {}
                certain = not index.looks_inside
                last: ProjectedEvent | None = None
                members: dict[str, Any] = {}
                for group in self._candidates(event, original):
                    left -= 1
                    if left <= 0:
                        left = _AT_ONCE
                        if timer() >= ends:
                            yield
                            slices += 1
                            ends = timer() + self._seconds
                    try:
                        projection = group.projection
                        if projection in answers:
                            projected = answers[projection]
                        else:
                            projected = None
                            masks = projection.masks_for(event)
                            if masks is not None:
                                hiding = hiding_of(masks) if masks else None
                                projected = seen_under.get(hiding)
                                if projected is None:
                                    projected = ProjectedEvent(versions, hiding)
                                    seen_under[hiding] = projected
                            answers[projection] = projected
                            if projection.timed:
                                certain = False
                        if projected is None:
                            continue
                        matches = group.filter
                        if matches is not None:
                            certain = False
                            if projected is not last:
                                last, members = projected, projected.members()
                                left -= len(event.json) >> _BIG_EVENT_BITS
                            if group.counted:
                                steps, matched = (
                                    (0, False) if group in costly else self._at_cost(group, members)
                                )
                                left -= steps // _COSTLY_STEPS
                                if not matched:
                                    continue
                            elif not matches(members):
                                continue
                        projected.groups.append(group)
                    except Exception:
                        # A failure for one group must not keep events from the others.
                        self.failed[group] = None
                chosen = [(hiding, seen.groups) for hiding, seen in seen_under.items()]
                if certain:
                    known[columns] = chosen
            begin, effort = at, 0
            while True:
                effort += 1 + (len(events[at].json) >> _BIG_EVENT_BITS)
                at += 1
                if at == len(events) or effort >= _AT_ONCE:
                    break
                if known.get(_COLUMNS(events[at])) is not chosen:
                    break
            run = Run(events[begin:at], templates, versions)
            for hiding, groups in chosen:
                if hiding is not None:
                    left -= effort
                    if left <= 0:
                        left = _AT_ONCE
                        if timer() >= ends:
                            yield
                            slices += 1
                            ends = timer() + self._seconds
                try:
                    shown = run.under(hiding)
                except Exception:
                    self.failed.update(dict.fromkeys(groups))
                    continue
                for group in groups:
                    found[group] += shown
            if slices > _MOST_SLICES:
                self.cut_at = events[at - 1].offset
                break
        for group in (*costly, *self.failed):
            found.pop(group, None)

    def failed_members(self) -> list[Subscription]:
        """Streams of the groups for which an event could not be matched."""
        return [one for group in self.failed for shard in group.shards for one in shard.members()]

    def _candidates(self, event: Event, original: ProjectedEvent) -> Iterable[Group]:
        try:
            return self._index.candidates(event, original.members)
        except Exception:
            # It cannot be decoded, so groups that depend on more than its columns have failed.
            self.failed.update(dict.fromkeys(self._index.looking_inside()))
            return self._index.candidates(event, dict)

    def _at_cost(self, group: Group, members: dict[str, Any]) -> tuple[int, bool]:
        """Steps of one evaluation of a counted filter, and whether it matches."""
        cost = self.costs.get(group)
        if cost is None:
            cost = self.costs[group] = FilterCost()
        before = cost.steps
        chosen = group.interest.query.filter
        assert chosen is not None
        matched = chosen.matches_at_cost(members, cost)
        if cost.exceeded or cost.steps > self._most + self._free * cost.events:
            self.costly[group] = None
        return cost.steps - before, matched
