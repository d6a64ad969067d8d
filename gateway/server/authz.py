"""`/v1/authz`: why a key may or may not do something, and what other grants would change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway.clock import format_rfc3339, parse_duration, parse_rfc3339
from gateway.errors import InvalidRequest, NotFound
from gateway.event import SET_BY_GATEWAY, Draft
from gateway.ingest.decode import Refused, decode_event
from gateway.ingest.ids import new_ids
from gateway.keys.explain import NOT_ABOUT_EVENTS, Asked, explain
from gateway.keys.grant import ACTIONS, Grant, parse_grants
from gateway.keys.key import Key
from gateway.keys.named_grant import grants_of_key, named_grants
from gateway.keys.policy import Allowed
from gateway.keys.role import parse_role_names
from gateway.keys.simulation import Simulation
from gateway.keys.token import is_key_id
from gateway.live.key_review import Patience, Review
from gateway.live.key_review import simulate as look_back
from gateway.server.address import client_address
from gateway.server.body import json_body
from gateway.server.context import CONTEXT, Context
from gateway.server.document import authorize_any, reader_of
from gateway.server.keys import all_roles
from gateway.server.problem import json_response

_DESCRIBING = ("tenant", "category", "severity", "resource")
_EXPLAIN = ("key", "action", "event", *_DESCRIBING, "recorded_at", "address", "at")
_SIMULATE = ("key", "grants", "roles", "since", "max_events")
_MOST_EVENTS = 100_000
_SECONDS = 5.0


async def explain_access(request: web.Request) -> web.Response:
    """`POST /v1/authz/explain`: for whoever administers keys or reads their usage."""
    context = request.app[CONTEXT]
    await authorize_any(request, ("keys.admin", "usage.read"))
    body = _object(await json_body(request), _EXPLAIN)
    key = await _key(context, body)
    action = body.get("action")
    if action not in ACTIONS:
        raise InvalidRequest(f"action: one of {', '.join(ACTIONS)} is needed")
    now = context.clock.now() if "at" not in body else _moment(body, "at")
    event = _event(body, context)
    recorded_at = _moment(body, "recorded_at") if "recorded_at" in body else None
    asked = Asked(
        action=action,
        now=now,
        address=_text(body, "address"),
        event=None if action in NOT_ABOUT_EVENTS else event,
        age=None if recorded_at is None else now - recorded_at,
    )
    found = explain(key, grants_of_key(key, await all_roles(context)), asked)
    shown = {"key": key.id, "action": action, "at": _time(now), **found.public()}
    return json_response(shown)


async def simulate(request: web.Request) -> web.Response:
    """`POST /v1/authz/simulate`: what a key's uses and events would be under other grants.

    For whoever administers keys. Only events that the asking key may pull itself are looked
    at, and the record of uses only with `usage.read`: a proposal is no way to look further.
    """
    context = request.app[CONTEXT]
    asking, _ = await context.authenticator.authorize(request, "keys.admin")
    body = _object(await json_body(request), _SIMULATE)
    key = await _key(context, body)
    now = context.clock.now()
    since = _since(body, now)
    known = await all_roles(context)
    before, after = grants_of_key(key, known), _proposed(body, key, known)
    simulation = Simulation(before, named_grants(*after, known))
    review = Review(context.log, context.clock, Patience(_SECONDS, _most_events(body)))
    address = client_address(request)
    with_uses = isinstance(context.keyring.decide(asking, "usage.read", address), Allowed)
    reader = await reader_of(request, asking)
    await look_back(simulation, review, key.id, since, reader=reader, with_uses=with_uses)
    window = {"since": _time(since), "until": _time(now), "complete": review.complete}
    found = simulation.public(with_uses=with_uses)
    return json_response({"key": key.id, "window": window, **found})


def _proposed(
    body: dict[str, Any], key: Key, known: Mapping[str, tuple[Grant, ...]]
) -> tuple[tuple[Grant, ...], tuple[str, ...]]:
    """The key's own grants and roles as proposed; what is left out stays."""
    if "grants" not in body and "roles" not in body:
        raise InvalidRequest("send the `grants` or the `roles` that the key shall have, or both")
    grants = parse_grants(body["grants"]) if "grants" in body else key.grants
    roles = parse_role_names(body["roles"]) if "roles" in body else key.roles
    for name in roles:
        if name not in known:
            raise InvalidRequest(f"there is no role {name!r}", code="unknown_role")
    return grants, roles


async def _key(context: Context, body: dict[str, Any]) -> Key:
    key_id = _text(body, "key")
    if key_id is None:
        raise InvalidRequest("key: the id of a key is needed")
    key = await context.key_store.get(key_id) if is_key_id(key_id) else None
    if key is None:
        raise NotFound("there is no key with this id", code="unknown_key")
    return key


def _event(body: dict[str, Any], context: Context) -> Draft | None:
    """The event that is asked about: as such, or by what grants look at."""
    given = [name for name in _DESCRIBING if name in body]
    if "event" in body:
        if given:
            raise InvalidRequest(f"send either `event` or `{given[0]}`")
        if not isinstance(body["event"], dict):
            raise InvalidRequest("event: an event as a JSON object is needed")
        # As it was read from the log: with what the gateway has added to it.
        event = {
            name: value
            for name, value in body["event"].items()
            if name not in (*SET_BY_GATEWAY, "masked")
        }
        body.setdefault("recorded_at", body["event"].get("recorded_at"))
        if body["recorded_at"] is None:
            del body["recorded_at"]
        return _draft(event, "event.", context)
    if not given:
        return None
    resources = body.get("resource", [])
    if not isinstance(resources, list):
        resources = [resources]
    event = {name: body[name] for name in given if name != "resource"}
    targets = [{"urn": urn} for urn in resources]
    return _draft({**event, "action": "any", "targets": targets}, "", context)


def _draft(event: dict[str, Any], where: str, context: Context) -> Draft:
    ids = new_ids(context.clock.now)
    try:
        return decode_event(msgspec.json.encode(event), ids, own=True)
    except Refused as refused:
        path = f"{where}{refused.path}" if refused.path else where.rstrip(".") or "event"
        raise InvalidRequest(f"{path}: {refused.reason}") from None


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
    text = _text(body, "since") or "7d"
    if text[:1].isdigit() and text[-1:] in "smhd":
        try:
            return now - parse_duration(text)
        except InvalidRequest as error:
            raise InvalidRequest(f"since: {error.detail}") from None
    return _moment({"since": text}, "since")


def _moment(body: dict[str, Any], member: str) -> float:
    text = _text(body, member)
    try:
        return parse_rfc3339(text or "") / 1_000_000
    except ValueError as error:
        raise InvalidRequest(f"{member}: {error}") from None


def _most_events(body: dict[str, Any]) -> int:
    most = body.get("max_events", 10_000)
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= _MOST_EVENTS:
        raise InvalidRequest(f"max_events: a whole number from 0 to {_MOST_EVENTS}")
    return most


def _time(seconds: float) -> str:
    return format_rfc3339(round(seconds * 1_000_000))
