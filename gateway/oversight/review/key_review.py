"""Review of one key over the log: what it was used for, and what it sees of the events.

Newest first and in small parts, so that live streams do not wait for it; it ends early when it
takes too long, and says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from gateway.access.grants.grant import Grant, When
from gateway.access.grants.mask import masked
from gateway.access.keys.change import key_urn
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import AttributedGrant
from gateway.access.policy.decision import Allowed, MasksFor, decide_grants
from gateway.access.policy.reader import Reader
from gateway.clock import Clock
from gateway.cursor import advance, distance, later
from gateway.event import Event
from gateway.filters.scope import RESERVED, Scope
from gateway.ingest.gateway_event import ACCESS
from gateway.log.bound_view import bound_view
from gateway.log.ports import Log, RetentionExceeded, ScanHint
from gateway.oversight.access_log.past_access import (
    READING,
    PastAccess,
    Presence,
    past_accesses,
    present_accesses,
)
from gateway.oversight.review.document import SAMPLES, UNUSED_DAYS, Facts
from gateway.oversight.review.grant_use import GrantUse, evaluate_use
from gateway.oversight.review.simulation import Simulation
from gateway.scheduling.loop_work import Slices

_AT_ONCE = 200
_READ_OFFSETS = 2000
_READ_RECORDS = 20_000


class ReviewBudget(msgspec.Struct, frozen=True):
    """Budget of a review: seconds, and number of events."""

    seconds: float = 3.0
    events: int = 10_000


class Review:
    """Review over one log. `complete` is false as soon as a scan ended early; `oldest` is the last
    examined event, if any."""

    def __init__(self, log: Log, clock: Clock, patience: ReviewBudget, slices: Slices) -> None:
        self.complete = True
        self.oldest: Event | None = None
        self._log = log
        self._clock = clock
        self._patience = patience
        self.slices = slices

    @property
    def first(self) -> int:
        """Offset behind which all events were examined."""
        return self._log.head if self.oldest is None else advance(self.oldest.offset, -1)

    async def accesses(self, key_id: str, since: float, presence: Presence) -> list[PastAccess]:
        """Accesses of a key from the access log, newest first, and its open streams."""
        wanted = Scope(tenant=(RESERVED,), category=(ACCESS,), resource=(key_urn(key_id),))
        meant = wanted.compile()
        found: list[PastAccess] = []
        hint = ScanHint(msgspec.structs.replace(wanted, resource=()), (Scope(),))
        async for events in self._newest_first(since, _READ_RECORDS, hint):
            async for event in self.slices.each(events):
                if meant(event):
                    found += past_accesses(event, key_id, since)
        return found + present_accesses(presence, found, since, self._clock.now())

    async def records(self, since: float, categories: tuple[str, ...]) -> AsyncGenerator[Event]:
        """Records of the gateway of these categories, newest first, within the budget."""
        wanted = Scope(tenant=(RESERVED,), category=categories)
        meant, left = wanted.compile(), self._patience.events
        async for events in self._newest_first(since, _READ_RECORDS, ScanHint(wanted, (Scope(),))):
            async for event in self.slices.each(events):
                if not meant(event):
                    continue
                if not left:
                    self.complete = False
                    return
                left -= 1
                self.oldest = event
                yield event

    async def events(self, since: float) -> AsyncGenerator[Event]:
        """Events of the log, newest first, within the budget."""
        left = self._patience.events
        async for events in self._newest_first(since, _READ_OFFSETS, None):
            async for event in self.slices.each(events):
                if not left:
                    self.complete = False
                    return
                left -= 1
                self.oldest = event
                yield event

    async def _newest_first(
        self, since: float, offsets: int, hint: ScanHint | None
    ) -> AsyncIterator[list[Event]]:
        log, deadline = self._log, self._clock.monotonic() + self._patience.seconds
        await log.catch_up()
        first = await log.last_before(int(since * 1_000_000))
        until = log.head
        while until > first:
            after = later(later(first, log.floor), advance(until, -offsets))
            try:
                events = await self._read(after, until, hint)
            except RetentionExceeded:
                return
            for end in range(len(events), 0, -_AT_ONCE):
                yield events[max(0, end - _AT_ONCE) : end][::-1]
                if self._clock.monotonic() > deadline:
                    self.complete = False
                    return
            if after <= log.floor:
                return
            until = after

    async def _read(self, after: int, until: int, hint: ScanHint | None) -> list[Event]:
        events: list[Event] = []
        while after < until:
            limit = distance(after, until)
            # Reading a page takes no less than examining it.
            await self.slices.rest()
            page = await self._log.read(after, until, limit=limit, hint=hint)
            events += page.events
            after = page.reached
        return events


async def key_facts(
    log: Log,
    clock: Clock,
    key: Key,
    grants: tuple[AttributedGrant, ...],
    *,
    rotation_chain: tuple[Key, ...],
    ended_issuer: tuple[str, str] | None,
    last_use: dict[str, Any] | None,
    presence: Presence,
    reader: Reader,
    patience: ReviewBudget,
    slices: Slices,
) -> Facts:
    """Facts about a key for its document, as far as the `reader` may see the events behind them."""
    now = clock.now()
    begin = now - UNUSED_DAYS * 86400
    since = max(key.created_at, begin)
    review = Review(log, clock, patience, slices)
    counts = [GrantUse(one) async for one in slices.each(grants)]
    accesses = await review.accesses(key.id, since, presence)
    async for access in slices.each(accesses):
        for one in counts:
            one.count_access(access)
    masks_for = await masks_of_grants(log, grants, now)
    by_resources = any(one.grant.resources for one in grants)
    before = await log.last_before(int(begin * 1_000_000))
    samples: list[bytes] = []
    async with aclosing(review.events(0.0)) as events:
        async for event in events:
            if event.offset <= before and len(samples) == SAMPLES:
                break
            masks = reader.masks_for(event)
            if masks is None:
                continue
            seen = masked(event, masks)
            for one in counts:
                one.count_event(seen)
            if len(samples) == SAMPLES or (by_resources and masks.hides("targets.urn")):
                # Whether it is a sample would tell the reader about resources that are hidden.
                continue
            also = masks_for(event)
            if also is not None:
                samples.append(masked(event, masks.joined(also)).json)
    oldest = review.oldest
    if not review.complete and oldest is not None and oldest.offset > before:
        since = max(since, oldest.recorded_at() / 1_000_000)
    found = await slices.run(
        evaluate_use(counts, accesses, since=since, reader=reader, first=review.first)
    )
    return Facts(
        key=key,
        grants=grants,
        now=now,
        rotation_chain=rotation_chain,
        ended_issuer=ended_issuer,
        last_use=last_use,
        unused=found.unused,
        not_known=found.not_known,
        looked_since=since,
        samples=tuple(samples),
        samples_note=_note(key, now, samples),
    )


async def masks_of_grants(log: Log, grants: tuple[AttributedGrant, ...], now: float) -> MasksFor:
    """Masks for what grants show when their conditions hold, by the first reading action."""
    for action in READING:
        standing = tuple(_always(one.grant) for one in grants)
        decision = decide_grants(standing, action)
        if isinstance(decision, Allowed):
            return (await bound_view(log, decision.view, now)).masks_for()
    return lambda event: None


def _always(grant: Grant) -> Grant:
    """The grant without its hours and networks."""
    if grant.when is None:
        return grant
    when = When(max_lookback=grant.when.max_lookback)
    return msgspec.structs.replace(grant, when=when)


def _note(key: Key, now: float, samples: list[bytes]) -> str:
    state = key.state(now)
    if not samples:
        return "There is none among the newest events that both this key and the reader may see."
    if state in ("active", "draining"):
        return "The newest ones."
    return f"The key is {state} and sees nothing now; these it would see otherwise."


async def simulate(
    simulation: Simulation,
    review: Review,
    key_id: str,
    since: float,
    *,
    presence: Presence,
    reader: Reader,
    with_uses: bool,
) -> dict[str, Any]:
    """Simulation over past accesses and events, as far as the `reader` may see them."""
    if with_uses:
        async for access in review.slices.each(await review.accesses(key_id, since, presence)):
            simulation.add_access(access)
    async for event in review.events(since):
        masks = reader.masks_for(event)
        if masks is not None:
            simulation.add_event(masked(event, masks))
    return await review.slices.run(
        simulation.summarize(with_uses=with_uses, reader=reader, since=since, first=review.first)
    )
