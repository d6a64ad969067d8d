"""Counts of the events that one key sees, from the newest backwards, within bounds.

Blocks of the log are counted by the store where it can decide alone, else by the view of the key in
slices. No event is rendered but for a filter under masks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.access.grants.mask import Masks, hiding_of
from gateway.access.policy.reader import Reader
from gateway.cursor import advance, distance, earlier, later
from gateway.event import Event
from gateway.filters.pattern import ANY
from gateway.filters.scope import EVERYTHING, Scope
from gateway.log.counts import (
    BLOCK_OFFSETS,
    BucketCount,
    Counts,
    EventCounter,
    Grouping,
    OffsetBlock,
    newest_block,
)
from gateway.log.ports import Log, RetentionExceeded, ScanHint
from gateway.looking.buckets import buckets_between
from gateway.looking.count_cache import CountCache, KeptCounts
from gateway.looking.looks import PlacedLook
from gateway.looking.tally import MOST_VALUES, Tally
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.interest import StreamQuery

_READ_EVENTS = 1000
# Events that are neither decoded nor masked cost so little that some go together.
_PLAIN_AT_ONCE = 50
_ALIVE_SECONDS = 0.25
# All events, by a pattern that the gateway's own are known to match, too.
_ALL = Scope(category=(ANY,))


class _Part(NamedTuple):
    """Counts of the newest part of a block, the offset down to which they are, and how many events
    were read for them."""

    counts: Counts
    reached: int
    read: int = 0


class CountRange(msgspec.Struct, frozen=True):
    """Range to count in: events with `after < offset <= until`, all of which were recorded at
    `since` or later and before `ends` (microseconds since 1970)."""

    after: int
    until: int
    since: int
    ends: int


class Counted(msgspec.Struct):
    """What was counted: the events of a range behind the offset `reached`. If that is not all, they
    were recorded at `since` or later."""

    tally: Tally
    reached: int
    since: int
    complete: bool


class Counting:
    """One count for a key. `alive` is called now and then, and raises when it must not go on."""

    def __init__(
        self,
        log: Log,
        query: StreamQuery,
        grouping: Grouping,
        work: LoopWork,
        key_id: str,
        alive: Callable[[], Awaitable[None]],
        most_values: int = MOST_VALUES,
    ) -> None:
        self._log = log
        self._query = query
        self._grouping = grouping
        self._alive = alive
        self._most_values = most_values
        self._timer = work.timer
        self._slices = work.slices(key_id)
        self._selector = EventSelector(query, work, key_id, work.filters.request_steps)
        self._masks_for = query.masks_for()
        # Place of the actor, the one member counted by that masks may hide.
        named = "actor" in grouping.members
        self._actor = (grouping.members.index("actor"),) if named else ()
        self._shows: dict[Masks, bool] = {}

    async def count(self, between: CountRange, look: PlacedLook, cache: CountCache) -> Counted:
        """Count a range, or as much of its newest part as a look may."""
        if self._counts_everything(between.after):
            return await self._by_time(between)
        hint = self._hint(between.after)
        kept = self._kept(cache)
        tally = Tally(self._grouping.members, self._most_values)
        at, longest, checked = between.until, BLOCK_OFFSETS, self._timer()
        while True:
            lowest = later(between.after, self._log.floor)
            if at <= lowest:
                return Counted(tally, between.after, between.since, True)
            if self._timer() - checked >= _ALIVE_SECONDS:
                await self._alive()
                checked = self._timer()
            block = newest_block(lowest, at, longest)
            counts = kept.get(block)
            reached = block.after
            if counts is None:
                ends = not await look.go_on() or self._selector.exhausted
                if ends and at != between.until:
                    return await self._ended(tally, between, at)
                counts, reached, block = await self._count_block(block, hint, look)
                kept.put(block, reached, counts)
            full = await self._slices.run(tally.add(counts))
            if full is None:
                at = reached
                continue
            ended = await self._ended_at_bucket(tally, between, at, full)
            if ended is not None:
                return ended
            longest = max(1, distance(block.after, block.until) // 2)

    def _counts_everything(self, first: int) -> bool:
        """Whether all events behind an offset count, and nothing but when they were recorded."""
        query = self._query
        return (
            query.wanted == EVERYTHING
            and query.filter is None
            and not self._grouping.members
            and Reader(query.view).sees_all(_ALL, (), first)
        )

    async def _by_time(self, between: CountRange) -> Counted:
        """Count all events by the offsets at the edges of the buckets."""
        micros = self._grouping.micros
        buckets = buckets_between(between.since, between.ends, micros)
        edges = [max(between.since, bucket * micros) for bucket in buckets]
        offsets = await self._log.last_before_each([*edges, between.ends])
        counts: Counts = {}
        for place, bucket in enumerate(buckets):
            first, last = [
                later(between.after, earlier(offset, between.until))
                for offset in offsets[place : place + 2]
            ]
            if number := distance(first, last):
                counts[bucket] = BucketCount(number, [], [])
        tally = Tally(())
        await self._slices.run(tally.add(counts))
        return Counted(tally, between.after, between.since, True)

    def _kept(self, cache: CountCache) -> _Lasting:
        view = self._query.view
        # Where look-backs reach to changes, and the secret of a pseudonym may go.
        lasting_from = max((rule.after for rule in view.rules), default=0)
        if view.pseudonymizes:
            return _Lasting(None, lasting_from)
        query = (self._log.epoch, self._query.live(), self._grouping)
        return _Lasting(cache.of(query), lasting_from)

    def _hint(self, first: int) -> ScanHint:
        """Hint for the store. It is complete also under masks of members that are not looked at."""
        query, wanted, rules = self._query, self._query.wanted, self._query.view.rules
        looked_at: tuple[str, ...] = ("actor.id",) if wanted.actor or self._actor else ()
        looked_at += ("targets.urn",) if wanted.resource else ()
        complete = (
            query.filter is None
            and not query.view.denied
            and all(rule.after <= first and not rule.masks.hides(*looked_at) for rule in rules)
        )
        return msgspec.structs.replace(query.scan_hint(), complete=complete)

    async def _count_block(
        self, block: OffsetBlock, hint: ScanHint, look: PlacedLook
    ) -> tuple[Counts, int, OffsetBlock]:
        """Counts of the newest part of a block, down to an offset, of as many as may be looked at;
        and the block of these."""
        by_store = self._log.can_read_raw(hint)
        renders = not by_store and self._query.filter is not None
        most = look.events(look.room, viewed=not by_store, rendered=renders)
        block = newest_block(block.after, block.until, most)
        if by_store:
            part = await self._by_store(block, hint)
        elif renders:
            part = await self._by_filter(block, hint)
        else:
            part = await self._by_view(block, hint)
        offsets = distance(part.reached, block.until)
        look.spend(offsets, viewed=part.read, rendered=part.read if renders else 0)
        return part.counts, part.reached, block

    async def _by_store(self, block: OffsetBlock, hint: ScanHint) -> _Part:
        count = self._log.count
        counts = await count(block.after, block.until, hint=hint, grouping=self._grouping)
        return _Part(counts, block.after)

    async def _by_view(self, block: OffsetBlock, hint: ScanHint) -> _Part:
        counter, masks_for, slices = EventCounter(self._grouping), self._masks_for, self._slices
        read = 0
        async for events in self._pages(block, hint):
            read += len(events)
            for part in _parts(events):
                await slices.rest()
                for event in part:
                    masks = masks_for(event)
                    if masks is not None:
                        self._count(counter, event, masks)
        return _Part(counter.counts, block.after, read)

    async def _by_filter(self, block: OffsetBlock, hint: ScanHint) -> _Part:
        counter, selector = EventCounter(self._grouping), self._selector
        hides = bool(self._actor) and self._query.view.hides
        read = 0
        async for events in self._pages(block, hint):
            left = events
            while left:
                chosen, looked = await selector.select(left)
                read += looked
                found = {event.offset for event in chosen}
                for part in _parts([one for one in left[:looked] if one.offset in found]):
                    await self._slices.rest()
                    for event in part:
                        masks = self._masks_for(event) if hides else None
                        self._count(counter, event, masks)
                if selector.exhausted:
                    return _Part(counter.counts, advance(left[looked - 1].offset, -1), read)
                left = left[looked:]
        return _Part(counter.counts, block.after, read)

    async def _pages(self, block: OffsetBlock, hint: ScanHint) -> AsyncIterator[Sequence[Event]]:
        """Events of a block, newest first."""
        at = block.until
        while at > block.after:
            try:
                page = await self._log.read_back(block.after, at, limit=_READ_EVENTS, hint=hint)
            except RetentionExceeded:
                return
            yield page.events
            at = page.reached

    def _count(self, counter: EventCounter, event: Event, masks: Masks | None) -> None:
        """Count an event with its actor as the key sees it."""
        if not masks or not self._actor:
            counter.add(event)
            return
        shows = self._shows.get(masks)
        if shows is None:
            shows = self._shows[masks] = not masks.hides("actor.id")
        if shows:
            counter.add(event)
            return
        seen = hiding_of(masks).columns(event)
        # Where it is masked, or there is no secret for a pseudonym, nobody learns if it has one.
        hidden = masks.conceals("actor.id") or (seen.actor == "" and event.actor != "")
        counter.add(seen, self._actor if hidden else ())

    async def _ended(self, tally: Tally, between: CountRange, at: int) -> Counted:
        """End the count before the events up to an offset: at the edge of a bucket or, if there is
        none behind it, there."""
        event = await event_at(self._log, at)
        if event is None:
            # Retention has deleted the rest.
            return Counted(tally, between.after, between.since, True)
        bucket = event.recorded_at() // self._grouping.micros
        ended = await self._ended_at_bucket(tally, between, at, bucket)
        assert ended is not None
        return ended

    async def _ended_at_bucket(
        self, tally: Tally, between: CountRange, at: int, bucket: int
    ) -> Counted | None:
        """End the count before a bucket; where nothing was counted behind it, before the events up
        to an offset. None if nothing was counted at all."""
        edge = (bucket + 1) * self._grouping.micros
        reached = await self._log.last_before(edge)
        if reached < between.until:
            await self._slices.run(tally.take_out(bucket))
            return Counted(tally, reached, edge, False)
        if at >= between.until:
            return None
        oldest = await event_at(self._log, advance(at, 1))
        since = between.since if oldest is None else oldest.recorded_at()
        return Counted(tally, at, since, False)


async def event_at(log: Log, place: int) -> Event | None:
    """Event at an offset; None if there is none, or retention has deleted it."""
    try:
        page = await log.read_back(advance(place, -1), place, limit=1)
    except RetentionExceeded:
        return None
    return page.events[0] if page.events else None


class _Lasting(NamedTuple):
    """Kept counts of the query, and the offset behind which they last."""

    kept: KeptCounts | None
    lasting_from: int

    def get(self, block: OffsetBlock) -> Counts | None:
        if self.kept is None or block.number is None or block.after < self.lasting_from:
            return None
        return self.kept.get(block.number)

    def put(self, block: OffsetBlock, reached: int, counts: Counts) -> None:
        whole = block.number is not None and reached == block.after
        if self.kept is not None and whole and block.after >= self.lasting_from:
            assert block.number is not None
            self.kept.put(block.number, counts)


def _parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    for begin in range(0, len(events), _PLAIN_AT_ONCE):
        yield events[begin : begin + _PLAIN_AT_ONCE]
