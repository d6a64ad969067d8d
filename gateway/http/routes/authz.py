"""`/v1/authz`: why a key may or may not do something, and what other grants would change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.access.administration.known_roles import grants_by_role, grants_together
from gateway.access.grants.grant import Grant, parse_grants
from gateway.access.grants.role import parse_role_names
from gateway.access.keys.change import key_urn
from gateway.access.keys.key import Key
from gateway.access.keys.known_key import known_key
from gateway.access.keys.rotation_chain import ended_maker
from gateway.access.policy.attributed_grant import AttributedGrant, grants_of_key
from gateway.clock import format_rfc3339, parse_duration
from gateway.errors import InvalidRequest
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT
from gateway.http.request.named_key import presence_of, reader_of
from gateway.http.response.problem import json_response
from gateway.oversight.review.access_query import MEMBERS, parse_access_query, parse_moment
from gateway.oversight.review.explain import explain
from gateway.oversight.review.key_review import Patience, Review
from gateway.oversight.review.key_review import simulate as look_back
from gateway.oversight.review.own_record import hidden_of_uses
from gateway.oversight.review.simulation import Simulation

_EXPLAIN = ("key", *MEMBERS)
_SIMULATE = ("key", "grants", "roles", "since", "max_events")
_MOST_EVENTS = 100_000
_SECONDS = 5.0
_CLOCKS_APART_SECONDS = 60


async def explain_access(request: web.Request) -> web.Response:
    """`POST /v1/authz/explain`: for whoever administers keys or reads their usage."""
    context = request.app[CONTEXT]
    admission = await context.admission.admit(request, "keys.admin", "usage.read")
    body = _object(await json_body(request), _EXPLAIN)
    key = await _key(request, body)
    query = parse_access_query(body, context.clock.now())
    ended = await ended_maker(context.keyring, key, query.now)
    found = explain(key, grants_of_key(key, await grants_by_role(context.key_store)), query, ended)
    await admission.recheck()
    shown = {"key": key.id, "action": query.action, "at": _time(query.now), **found.public()}
    return json_response(shown)


async def simulate(request: web.Request) -> web.Response:
    """`POST /v1/authz/simulate`: what a key's uses and events would be under other grants.

    For whoever administers keys. Only events that the asking key may pull itself are looked
    at, and the record of uses only with `usage.read`: a proposal is no way to look further.
    """
    context = request.app[CONTEXT]
    admission = await context.admission.admit(request, "keys.admin")
    body = _object(await json_body(request), _SIMULATE)
    # It tells of events, if it sends none: what the key has been sent must leave room for some.
    admission.most_events()
    key = await _key(request, body)
    now = context.clock.now()
    since = _since(body, now)
    known = await grants_by_role(context.key_store)
    slices = context.work.slices(admission.key.id)
    before, after = grants_of_key(key, known), _proposed(body, key, known)
    hidden = hidden_of_uses(admission.grants, key.id)
    await slices.begin()
    simulation = Simulation(before, after, hidden)
    review = Review(context.log, context.clock, Patience(_SECONDS, _most_events(body)), slices)
    with_uses = admission.view_of("usage.read") is not None
    reader = await reader_of(context, admission)
    found = await look_back(
        simulation, review, key.id, since, presence=await presence_of(context, key.id),
        reader=reader, with_uses=with_uses,
    )  # fmt: skip
    await admission.recheck()
    window = {"since": _time(since), "until": _time(now), "complete": review.complete}
    return json_response({"key": key.id, "window": window, **found})


def _proposed(
    body: dict[str, Any], key: Key, known: Mapping[str, tuple[Grant, ...]]
) -> tuple[AttributedGrant, ...]:
    """The grants of the key as proposed; what is left out stays."""
    if "grants" not in body and "roles" not in body:
        raise InvalidRequest("send the `grants` or the `roles` that the key shall have, or both")
    grants = parse_grants(body["grants"]) if "grants" in body else key.grants
    roles = parse_role_names(body["roles"]) if "roles" in body else key.roles
    return grants_together(grants, roles, known)


async def _key(request: web.Request, body: dict[str, Any]) -> Key:
    context = request.app[CONTEXT]
    key_id = _text(body, "key")
    if key_id is None:
        raise InvalidRequest("key: the id of a key is needed")
    key = await known_key(context.key_store, key_id)
    request[CURRENT_ACCESS].about = key_urn(key.id)
    return key


def _object(body: Any, members: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    for member in body:
        if member not in members:
            raise InvalidRequest(f"unknown member {member[:64]!r}; there are {', '.join(members)}")
    return body


def _text(body: dict[str, Any], member: str) -> str | None:
    text = body.get(member)
    if text is not None and not isinstance(text, str):
        raise InvalidRequest(f"{member}: a string is needed")
    return text


def _since(body: dict[str, Any], now: float) -> float:
    text = body.get("since", "7d")
    if not isinstance(text, str):
        raise InvalidRequest("since: a string is needed")
    if text[:1].isdigit() and text[-1:] in "smhd":
        try:
            # No log is older; a moment before the year 1 could not be shown.
            return max(0.0, now - parse_duration(text))
        except InvalidRequest as error:
            raise InvalidRequest(f"since: {error.detail}") from None
    since = parse_moment({"since": text}, "since")
    if since > now + _CLOCKS_APART_SECONDS:
        # Nothing would be looked at, as if nothing would change.
        raise InvalidRequest("since: this time is still to come")
    return since


def _most_events(body: dict[str, Any]) -> int:
    most = body.get("max_events", 10_000)
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= _MOST_EVENTS:
        raise InvalidRequest(f"max_events: a whole number from 0 to {_MOST_EVENTS}")
    return most


def _time(seconds: float) -> str:
    return format_rfc3339(round(seconds * 1_000_000))
