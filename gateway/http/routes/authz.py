"""`/v1/authz` and `/v1/pseudonyms`: why a key may or may not do something, what other grants would
change, and what the pseudonyms of a key stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from msgspec import UNSET, structs

from gateway.access.administration.role_lookup import combined_grants, grants_by_role
from gateway.access.grants.grant import Grant, parse_grants
from gateway.access.grants.pseudonym import pseudonym_domain, version_of
from gateway.access.grants.role import parse_role_names
from gateway.access.keys.change import key_urn, other_change
from gateway.access.keys.key import Key
from gateway.access.keys.key_lookup import known_key
from gateway.access.keys.lifecycle import check_reason
from gateway.access.keys.rotation_chain import ended_issuer
from gateway.access.policy.attributed_grant import AttributedGrant, grants_of_key
from gateway.clock import format_time, parse_duration
from gateway.cursor import distance, format_cursor, later, parse_cursor
from gateway.errors import Conflict, Forbidden, InvalidRequest, NotFound
from gateway.filters.scope import Scope
from gateway.http.keys.precondition import etag
from gateway.http.query.bodies import ProposalBody, PseudonymBody, QuestionBody
from gateway.http.query.position import find_begin
from gateway.http.query.query import Query
from gateway.http.query.values import Position
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import Context
from gateway.http.request.named_key import presence_of, reader_of
from gateway.http.response.answers import (
    ExplanationAnswer,
    ResolvedPseudonym,
)
from gateway.http.response.problem import json_response
from gateway.http.response.simulation import ProposedPatch, SimulationAnswer, Window
from gateway.json_members import parse_body
from gateway.log.bound_view import bound_view
from gateway.oversight.review.access_query import parse_access_query, parse_moment
from gateway.oversight.review.explain import explain
from gateway.oversight.review.key_review import Review, ReviewBudget
from gateway.oversight.review.key_review import simulate as look_back
from gateway.oversight.review.pseudonym_search import Sought, search
from gateway.oversight.review.record_masks import access_log_masks
from gateway.oversight.review.simulation import Simulation

_SECONDS = 5.0
_SEARCH_SECONDS = 2.0
_CLOCKS_APART_SECONDS = 60


async def explain_access(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`POST /v1/authz/explain`: for keys that administer keys or read their usage."""
    question = parse_body(await json_body(request), QuestionBody)
    key = await _key(context, admission, question.key)
    query = parse_access_query(question.given(), context.clock.now())
    ended = await ended_issuer(context.keyring, key, query.now)
    found = explain(key, grants_of_key(key, await grants_by_role(context.key_store)), query, ended)
    await admission.recheck()
    shown, at = structs.asdict(found.public()), format_time(query.now)
    return json_response(ExplanationAnswer(key=key.id, action=query.action, at=at, **shown))


async def simulate(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/authz/simulate`: a key's recorded uses, and events, under other grants.

    For administrators of keys. It reads only events that the caller may pull itself, and records of
    uses only with `usage.read`: a proposal reveals nothing more.
    """
    proposal = parse_body(await json_body(request), ProposalBody)
    # It reveals events, if not their content: the delivery limits of the key apply.
    admission.most_events(request)
    key = await _key(context, admission, proposal.key)
    now = context.clock.now()
    since = _since(proposal.since, now)
    known = await grants_by_role(context.key_store)
    slices = context.work.slices(admission.key.id)
    before, after = grants_of_key(key, known), _proposed(proposal, key, known)
    hidden = access_log_masks(admission.grants, key.id)
    await slices.begin()
    simulation = Simulation(before, after, hidden)
    review = Review(context.log, context.clock, ReviewBudget(_SECONDS, proposal.max_events), slices)
    with_uses = admission.view_of("usage.read") is not None
    reader = await reader_of(context, admission)
    found = await look_back(
        simulation, review, key.id, since, presence=await presence_of(context, key.id),
        reader=reader, with_uses=with_uses,
    )  # fmt: skip
    await admission.recheck()
    window = Window(format_time(since), format_time(now), review.complete)
    apply = ProposedPatch(etag(key), _patch(proposal))
    return json_response(SimulationAnswer(key=key.id, window=window, apply=apply, **found))


async def resolve(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/pseudonyms/resolve`: searches the log, as there is no table of pseudonyms.

    It finds what the caller may pull itself and sees without pseudonyms and masks. Each search is
    recorded, without what it found.
    """
    asked = parse_body(await json_body(request), PseudonymBody)
    reason = check_reason(asked.reason)
    view = admission.view_of("pull")
    if view is None:
        raise Forbidden(
            "it is found in events that this key may pull, and no grant allows `pull`",
            code="action_not_granted",
            action="pull",
        )
    admission.most_events(request)
    key, log = await _key(context, admission, asked.key), context.log
    sought = await _sought(context, key, asked)
    bound = await bound_view(log, view, context.clock.now())
    found = await search(
        log, context.clock, bound.projection(), sought,
        seconds=_SEARCH_SECONDS, slices=context.work.slices(admission.key.id),
        hold=admission.holding(request).grow,
    )  # fmt: skip
    await admission.recheck()
    scanned_to = format_cursor(log.epoch, found.reached)
    data = {"key": key.id, "pseudonym": asked.pseudonym, "values": len(found.values),
            "scanned_to": scanned_to}  # fmt: skip
    await context.key_store.record_later(
        other_change(
            "pseudonyms.resolved", [key_urn(key.id)], by=admission.key.id,
            at=context.clock.now(), reason=reason, data=data,
        )
    )  # fmt: skip
    complete = not distance(found.reached, sought.until)
    return json_response(ResolvedPseudonym(found.values, scanned_to, complete))


async def _sought(context: Context, key: Key, asked: PseudonymBody) -> Sought:
    """The pseudonym of a key that is asked for, in the part of the log that can have it."""
    log, held = context.log, context.keyring.pseudonyms
    number = version_of(asked.pseudonym)
    if number is None:
        raise InvalidRequest("pseudonym: it is none; they look like ps1_ and 26 characters")
    versions = () if held is None else held.versions
    if held is None or number > len(versions):
        raise NotFound(f"there is no version {number} of pseudonyms", code="unknown_version")
    pseudonyms = pseudonym_domain(key.domain, held).at(versions[number - 1].begins)
    if pseudonyms is None:
        raise Conflict(
            f"the secret of version {number} is not here, so nobody can resolve its pseudonyms",
            code="version_forgotten",
        )
    await log.catch_up()
    begins = [versions[number - 1].begins]
    ends = [one.begins for one in versions[number : number + 1]]
    if asked.since is not UNSET:
        begins.append(int(_since(asked.since, context.clock.now()) * 1_000_000))
    if asked.until is not UNSET:
        ends.append(int(parse_moment({"until": asked.until}, "until") * 1_000_000))
    after = await log.last_before(max(begins))
    if asked.after is not UNSET:
        position = Position(after=parse_cursor(asked.after))
        query = Query(position, Scope(), None, skip_gaps=False, follow=False, limit=None, wait=0)
        after = later(after, (await find_begin(log, query)).offset)
    until = await log.last_before(min(ends)) if ends else log.head
    return Sought(asked.pseudonym, pseudonyms, after, later(after, until))


def _proposed(
    proposal: ProposalBody, key: Key, known: Mapping[str, tuple[Grant, ...]]
) -> tuple[AttributedGrant, ...]:
    """Proposed grants of the key; an omitted member stays as it is."""
    if proposal.grants is UNSET and proposal.roles is UNSET:
        raise InvalidRequest("send the `grants` or the `roles` that the key shall have, or both")
    grants = key.grants if proposal.grants is UNSET else parse_grants(proposal.grants)
    roles = key.roles if proposal.roles is UNSET else parse_role_names(proposal.roles)
    return combined_grants(grants, roles, known)


def _patch(proposal: ProposalBody) -> dict[str, Any]:
    """Merge patch that gives the key what was proposed."""
    members = {"grants": proposal.grants, "roles": proposal.roles}
    return {name: value for name, value in members.items() if value is not UNSET}


async def _key(context: Context, admission: Admission, key_id: str) -> Key:
    key = await known_key(context.key_store, key_id)
    admission.access.about = key_urn(key.id)
    return key


def _since(text: str, now: float) -> float:
    if text[:1].isdigit() and text[-1:] in "smhd":
        try:
            # No log is older; a time before the year 1 could not be shown.
            return max(0.0, now - parse_duration(text))
        except InvalidRequest as error:
            raise InvalidRequest(f"since: {error.detail}") from None
    since = parse_moment({"since": text}, "since")
    if since > now + _CLOCKS_APART_SECONDS:
        # It would examine nothing, as if the proposal changed nothing.
        raise InvalidRequest("since: this time is still to come")
    return since
