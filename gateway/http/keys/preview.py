"""`POST /v1/authz/preview`: what a key with proposed grants would see of what the caller sees."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.access.administration.role_lookup import combined_grants, grants_by_role
from gateway.access.grants.grant import Grant, parse_grants
from gateway.access.grants.mask import masked
from gateway.access.grants.role import parse_role_names
from gateway.access.policy.attributed_grant import AttributedGrant
from gateway.access.policy.subsumption import uncovered_grant
from gateway.clock import format_rfc3339, parse_duration
from gateway.cursor import distance, format_cursor
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.http.query.bodies import NewPreviewBody
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import Context
from gateway.http.request.named_key import reader_of
from gateway.http.response.answers import (
    CountedBucket,
    CountedFacet,
    CountedValue,
    LookedAt,
    PreviewAnswer,
)
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body
from gateway.log.counts import EventCounter, Grouping
from gateway.looking.buckets import AUTO, buckets_between, choose_step, micros_of
from gateway.looking.tally import Tally
from gateway.oversight.review.key_review import Review, ReviewBudget, masks_of_grants
from gateway.oversight.review.sentences import can_sentences, denial_sentences, limits_of
from gateway.scheduling.loop_work import Slices

_BUDGET = ReviewBudget(seconds=2.0, events=20_000)
_SAMPLES = 10
_TOP = 20
_BY = ("tenant", "category", "outcome")


async def preview(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """Counts and samples of the proposed view within the caller's own, under the masks of both;
    what is decided of an event depends on nothing that the caller does not see."""
    proposal = parse_body(await json_body(request), NewPreviewBody)
    most = admission.most_events(request)
    grants = await _proposed(context, proposal)
    now = context.clock.now()
    since, until = _since(proposal.since, now), int(now * 1_000_000)
    slices = context.work.slices(admission.key.id)
    await slices.begin()
    review = Review(context.log, context.clock, _BUDGET, slices)
    step = choose_step(AUTO, since, until)
    counter = EventCounter(Grouping(micros_of(step), _BY))
    samples: list[bytes] = []
    async with aclosing(_seen(context, admission, review, grants, since / 1_000_000)) as events:
        async for event in events:
            counter.add(event)
            if len(samples) < min(_SAMPLES, most):
                samples.append(event.json)
    tally = Tally(_BY)
    await slices.run(tally.add(counter.counts))
    since = await _ended(review, tally, slices, since, micros_of(step))
    facets = await slices.run(tally.facets(_TOP))
    own = [one.grant for one in grants]
    exceeds = await _exceeding(admission, own, slices)
    admission.holding(request).take(sum(map(len, samples)))
    await admission.recheck()
    samples = samples[: admission.charge([len(one) for one in samples])]
    log = context.log
    looked = LookedAt(
        format_cursor(log.epoch, review.first), format_cursor(log.epoch, log.head),
        distance(review.first, log.head),
    )  # fmt: skip
    return json_response(
        PreviewAnswer(
            since=format_rfc3339(since), until=format_rfc3339(until), step=step,
            total=tally.total, complete=review.complete,
            buckets=_buckets(tally, since, until, micros_of(step)),
            facets={
                name: CountedFacet(
                    [CountedValue(value, number) for value, number in facet.top],
                    facet.distinct, facet.others, facet.hidden,
                )
                for name, facet in facets.items()
            },
            looked=looked, next=None, samples=list(map(msgspec.Raw, samples)),
            can=can_sentences(own), cannot=[*denial_sentences(own), *limits_of(own)],
            exceeds=exceeds,
        )
    )  # fmt: skip


async def _proposed(context: Context, proposal: NewPreviewBody) -> tuple[AttributedGrant, ...]:
    if proposal.grants is UNSET and proposal.roles is UNSET:
        raise InvalidRequest("send the `grants` or the `roles` that a key shall have, or both")
    grants = () if proposal.grants is UNSET else parse_grants(proposal.grants)
    roles = () if proposal.roles is UNSET else parse_role_names(proposal.roles)
    return combined_grants(grants, roles, await grants_by_role(context.key_store))


def _since(text: str, now: float) -> int:
    """Begin of the range, in microseconds since 1970."""
    try:
        return int(max(0.0, now - parse_duration(text)) * 1_000_000)
    except InvalidRequest as error:
        raise InvalidRequest(f"since: {error.detail}") from None


async def _seen(
    context: Context,
    admission: Admission,
    review: Review,
    grants: tuple[AttributedGrant, ...],
    since: float,
) -> AsyncGenerator[Event]:
    """Events as a key with the grants and the caller would both see them, newest first."""
    reader = await reader_of(context, admission)
    masks_for = await masks_of_grants(context.log, grants, context.clock.now())
    async with aclosing(review.events(since)) as events:
        async for event in events:
            masks = reader.masks_for(event)
            if masks is None:
                continue
            also = masks_for(masked(event, masks))
            if also is not None:
                yield masked(event, masks.joined(also))


async def _ended(review: Review, tally: Tally, slices: Slices, since: int, micros: int) -> int:
    """From when on it is counted: of a review that has ended early, without its oldest bucket,
    unless that is the only one."""
    if review.complete or review.oldest is None:
        return since
    oldest = review.oldest.recorded_at()
    bucket = oldest // micros
    if any(one > bucket for one in tally.buckets):
        await slices.run(tally.take_out(bucket))
        return (bucket + 1) * micros
    return oldest


def _buckets(tally: Tally, since: int, ends: int, micros: int) -> list[CountedBucket]:
    # An event may have been recorded by a clock that is a little ahead.
    ends = max(ends, *((bucket + 1) * micros for bucket in tally.buckets), since)
    counted = []
    for bucket in buckets_between(since, ends, micros):
        number, outcomes = tally.buckets.get(bucket, (0, {}))
        counted.append(CountedBucket(format_rfc3339(bucket * micros), number, outcomes))
    return counted


async def _exceeding(admission: Admission, wanted: list[Grant], slices: Slices) -> list[Grant]:
    """Proposed grants that the caller does not have itself, and so cannot give."""
    denials = tuple(one for one in wanted if one.effect == "deny")
    found = []
    for grant in wanted:
        if grant.effect == "allow":
            more = await slices.run(uncovered_grant(admission.grants, (grant, *denials)))
            if more is not None:
                found.append(grant.shown())
    return found
