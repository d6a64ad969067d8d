"""`/v1/keys`: making and looking at keys, and what changes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from heapq import merge
from itertools import islice
from typing import Any

import msgspec
import orjson
from aiohttp import web

from gateway.access.grants.grant import check_patterns_together
from gateway.access.keys import lifecycle
from gateway.access.keys.descent import Descent, can_mint, revoke_with_descendants
from gateway.access.keys.issuance import key_from_request, within_maker
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import inherited
from gateway.access.keys.key_store import PART_KEYS
from gateway.access.policy.decision import effective_grants
from gateway.errors import InvalidRequest
from gateway.http.request.admission import recheck
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.delegation import all_roles, refuse_to_hand_on
from gateway.http.request.in_flight import Holding
from gateway.http.request.listing import listing
from gateway.http.request.named_key import last_use, named_id, named_key, unknown_key
from gateway.http.response.problem import json_response

# What is kept of each key to list them by their age.
_AGE_BYTES = 160


async def create(request: web.Request) -> web.Response:
    """`POST /v1/keys`: 201 with the key itself, here and never again."""
    context = request.app[CONTEXT]
    issuer, _ = await context.authenticator.authorize(request, "keys.admin")
    settings = context.settings.keys
    now = context.clock.now()
    body = await json_body(request)
    key, token = key_from_request(
        body,
        now=now,
        default_life=settings.default_life,
        max_life=settings.max_life,
        pepper=context.keyring.peppers.current.secret,
    )
    roles = await all_roles(context)
    for name in key.roles:
        if name not in roles:
            raise InvalidRequest(f"there is no role {name!r}", code="unknown_role")
    limits = inherited(issuer.limits, key.limits)
    key = msgspec.structs.replace(key, limits=limits, changed_by=issuer.id, created_by=issuer.id)
    check_patterns_together(effective_grants(key, roles))
    await refuse_to_hand_on(context, issuer, key)
    asked = "expires_in" in body or "expires_at" in body
    mints = can_mint(effective_grants(key, roles))
    key, cut = within_maker(key, issuer, asked=asked, mints=mints)
    await context.key_store.create(key)
    await context.enforcement.poll_keys()
    return _shown_once(key, token, now, cut)


async def list_all(request: web.Request) -> web.StreamResponse:
    """`GET /v1/keys`: oldest first."""
    context = request.app[CONTEXT]
    caller, _ = await context.authenticator.authorize(request, "keys.admin")
    holding = context.in_flight.of(request, caller.id)
    return await listing(request, "keys", _shown(context, caller.id, holding), holding)


async def _shown(context: Context, asking_id: str, holding: Holding) -> AsyncGenerator[bytes]:
    store, now, slices = context.key_store, context.clock.now(), context.work.slices(asking_id)
    # Of all keys only this much at once: they may be very many.
    ages: list[list[tuple[float, str]]] = []
    async for part in store.parts():
        holding.take(len(part) * _AGE_BYTES)
        await slices.rest()
        ages.append(sorted((key.created_at, key.id) for key in part))
    ordered = merge(*ages)
    while ids := [key_id for _, key_id in islice(ordered, PART_KEYS)]:
        found = {key.id: key for key in await store.some(ids)}
        await slices.rest()
        async for key in slices.each(found[one] for one in ids if one in found):
            yield orjson.dumps(key.public(now))


async def show(request: web.Request) -> web.Response:
    """`GET /v1/keys/{id}`."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    key = await named_key(request)
    shown = {
        **key.public(context.clock.now()),
        "streams": len(context.hub.streams_of(key.id)),
        "last_used": await last_use(request, key.id),
    }
    await recheck(request)
    return json_response(shown)


async def revoke(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/revoke`: the key's streams have ended when this returns, and with
    `with_descendants` those of all that came of it. Else the answer names what of that lives on.
    """
    context = request.app[CONTEXT]
    caller, _ = await context.authenticator.authorize(request, "keys.admin")
    body = await json_body(request) if request.can_read_body else {}
    reason, now = _reason(body, ("with_descendants",)), context.clock.now()
    with_descendants = body.get("with_descendants", False)
    if not isinstance(with_descendants, bool):
        raise InvalidRequest("with_descendants: true or false")
    key_id = named_id(request)
    if with_descendants:
        changed = await context.key_store.change_many(
            lambda keys: revoke_with_descendants(keys, key_id, now, reason, caller.id)
        )
        key, shown = changed[0], {"revoked_descendants": [one.id for one in changed[1:]]}
        if left := await _living_descendants(context, caller, key_id):
            # Those that cannot be read, or that were made at the same moment.
            shown["living_descendants"] = left
    else:
        found = await context.key_store.change(
            key_id, lambda key: lifecycle.revoke(key, now, reason, caller.id)
        )
        if found is None:
            raise unknown_key()
        left = await _living_descendants(context, caller, key_id)
        key, shown = found, {"living_descendants": left}
    await context.enforcement.poll_keys()
    return json_response({**key.public(context.clock.now()), **shown})


async def _living_descendants(context: Context, caller: Key, key_id: str) -> list[str]:
    descent, now, slices = Descent(), context.clock.now(), context.work.slices(caller.id)
    async for part in context.key_store.parts():
        async for key in slices.each(part):
            descent.add(key, now)
    return await slices.run(descent.living(key_id))


async def suspend(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/suspend`: likewise, until it is resumed."""
    reason, now, caller = await _authorized_reason(request)
    return await _change(request, lambda key: lifecycle.suspend(key, now, reason, by=caller.id))


async def resume(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/resume`: for whoever could have made the key."""
    context = request.app[CONTEXT]
    _, now, issuer = await _authorized_reason(request)
    key = await named_key(request)
    resumed = lifecycle.resume(key, now, issuer.id)
    await refuse_to_hand_on(context, issuer, key)
    return await _change(request, lifecycle.unless_changed(key, resumed))


async def rotate(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/rotate`: 201 with the successor; the old key drains."""
    context = request.app[CONTEXT]
    issuer, _ = await context.authenticator.authorize(request, "keys.admin")
    body = await json_body(request) if request.can_read_body else {}
    overlap = _overlap(body, context.settings.keys.max_overlap)
    key = await named_key(request)
    await refuse_to_hand_on(context, issuer, key)
    now = context.clock.now()
    settings = context.settings.keys
    old, successor, token = lifecycle.rotate(
        key, now, overlap=overlap, max_life=settings.max_life,
        pepper=context.keyring.peppers.current.secret, by=issuer.id,
    )  # fmt: skip
    successor = msgspec.structs.replace(successor, created_by=issuer.id)
    mints = can_mint(effective_grants(key, await all_roles(context)))
    successor, cut = within_maker(successor, issuer, asked=False, mints=mints)
    await context.key_store.change(key.id, lifecycle.unless_changed(key, old), create=successor)
    await context.enforcement.poll_keys()
    return _shown_once(successor, token, now, cut)


async def _change(request: web.Request, change: Callable[[Key], Key]) -> web.Response:
    context = request.app[CONTEXT]
    changed = await context.key_store.change(named_id(request), change)
    if changed is None:
        raise unknown_key()
    await context.enforcement.poll_keys()
    return json_response(changed.public(context.clock.now()))


async def _authorized_reason(request: web.Request) -> tuple[str, float, Key]:
    """The reason that was given, the time, and the key that asks."""
    context = request.app[CONTEXT]
    caller, _ = await context.authenticator.authorize(request, "keys.admin")
    body = await json_body(request) if request.can_read_body else {}
    return _reason(body), context.clock.now(), caller


def _reason(body: Any, others: tuple[str, ...] = ()) -> str:
    if not isinstance(body, dict) or set(body) - {"reason", *others}:
        shown = "".join(f', "{name}": true' for name in others)
        raise InvalidRequest('the body may be {"reason": ".."' + shown + "}")
    return lifecycle.check_reason(body.get("reason", ""))


def _overlap(body: Any, most: int) -> int:
    if not isinstance(body, dict) or set(body) - {"overlap"}:
        raise InvalidRequest('the body may be {"overlap": "1h"}')
    return lifecycle.check_overlap(body.get("overlap", "1h"), most)


def _shown_once(key: Key, token: str, now: float, cut: bool) -> web.Response:
    shown = {"id": key.id, "key": token, **key.public(now)}
    if cut:
        # It would have lived longer, could it not make keys.
        shown["expires_with"] = key.created_by
    return json_response(shown, status=201, headers={"Location": f"/v1/keys/{key.id}"})
