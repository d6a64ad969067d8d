"""`/v1/me`: what the credentials of a request are, and may do."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.access.administration.role_lookup import grants_by_role
from gateway.access.credentials.session import csrf_token
from gateway.access.credentials.ticket import PREFIX, Ticket
from gateway.access.credentials.viewer import LIVE, Viewer
from gateway.access.grants.grant import ACTIONS
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import AttributedGrant, grants_of_key
from gateway.access.policy.decision import Allowed
from gateway.access.policy.narrowing import narrowed
from gateway.access.usage.access import Access
from gateway.clock import format_time
from gateway.filters.scope import Scope
from gateway.http.credentials.cookie import session_secret
from gateway.http.query.query import parse_stream, refuse_unknown
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.admission import both_sent
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.stream_access import read_ticket_of
from gateway.http.response.answer import Answer
from gateway.http.response.answers import MeAnswer, TicketParameters
from gateway.http.response.problem import json_response
from gateway.oversight.review.document import Facts, as_json

_OF_TICKETS, _OF_VIEWERS = "stream", "pull"
# Whoever may do one of these is told of keys for emergencies, as is who has such a key.
_TOLD = ("keys.read", "ops.read")
_TICKET = re.compile(rf"bearer\s+({PREFIX}\S+)\s*", re.IGNORECASE | re.ASCII)


async def me(request: web.Request) -> Answer:
    """`GET /v1/me`: for any credential that counts. It tells no more than the key's document."""
    context = request.app[CONTEXT]
    viewer = await context.admission.viewer_of(request, "identify")
    held: Ticket | Viewer | None = viewer or await _ticket_of(request, context)
    if held is None:
        key, session = await context.admission.identify(request)
    else:
        request[CURRENT_ACCESS].subject = held.subject
        key, session = await context.admission.identify_ticket(request, held), None
    refuse_unknown(request.query, ())
    if held is None:
        made = await _about(context, key, request[CURRENT_ACCESS], None)
    else:
        action = _OF_TICKETS if viewer is None else _OF_VIEWERS
        wanted = parse_stream(held.parameters, None, context.clock.now()).wanted
        made = await _about(context, key, request[CURRENT_ACCESS], (action, wanted))
    if session is not None:
        made.csrf = csrf_token(session_secret(request) or "")
    if held is not None:
        may = (_OF_TICKETS,) if viewer is None else _actions_of(viewer)
        made.kind = "ticket" if viewer is None else "viewer"
        made.expires_at = format_time(held.expires_at)
        made.actions = [one for one in made.actions if one in may]
        # A browser of somebody else may hold it: nothing of the key but what its stream reaches.
        made.name = made.purpose = made.owner = ""
        made.limits, made.streams, made.break_glass_until = {}, 0, ""
        made.parameters = [TicketParameters(*pair) for pair in held.parameters]
    return json_response(made)


def _actions_of(viewer: Viewer) -> tuple[str, ...]:
    return (_OF_VIEWERS, _OF_TICKETS) if LIVE in viewer.may else (_OF_VIEWERS,)


async def _ticket_of(request: web.Request, context: Context) -> Ticket | None:
    """Ticket that is sent in place of a key; asking does not spend it. A wrong one counts like a
    wrong key."""
    found = _TICKET.fullmatch(request.headers.get("Authorization", ""))
    if found is None:
        return None
    await context.admission.arrive(request, "identify")
    if session_secret(request) is not None:
        raise both_sent()
    ticket = read_ticket_of(found[1], context)
    over = ticket is None or ticket.expires_at <= context.clock.now()
    if ticket is None or over or ticket in context.used_tickets:
        await context.admission.refuse_ticket(request)
    return ticket


async def _about(
    context: Context, key: Key, access: Access, reach: tuple[str, Scope] | None
) -> MeAnswer:
    """What is told of a key; of what its ticket reaches alone, an action on a scope, if given."""
    now = context.clock.now()
    grants = grants_of_key(key, await grants_by_role(context.key_store))
    if reach is not None:
        reached = [narrowed(one.grant, *reach) for one in grants]
        found = [one for one in reached if one is not None]
        grants = tuple(AttributedGrant(one, "", number) for number, one in enumerate(found, 1))
    document = as_json(Facts(key=key, grants=grants, now=now))
    decide = context.admission.decide
    actions = [one for one in ACTIONS if isinstance(decide(key, one, access), Allowed)]
    until = key.ends_at if key.break_glass else None
    if any(one in actions for one in _TOLD):
        until = context.detector.stored_defects.break_glass_until(now) or until
    return MeAnswer(
        kind="key" if key.person is None else "person", id=key.id, name=key.name,
        purpose=key.purpose, owner=key.owner,
        state=key.state(now), expires_at=format_time(key.ends_at),
        can=document.can, cannot=document.cannot,
        actions=actions,
        grants=document.grants,
        masks=sorted({*document.masks, *document.drops, *document.pseudonymizes}),
        limits=await context.limits.standing(key),
        streams=len(context.hub.streams_of(key.id)),
        address_seen=access.address,
        break_glass_until="" if until is None else format_time(until),
    )  # fmt: skip
