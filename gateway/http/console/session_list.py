"""`/v1/sessions`: the sessions of the console that there are, and the end of one."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.session import Session, is_session_id
from gateway.access.grants.mask import Masks, copies_of, masked_data
from gateway.access.keys.change import key_urn
from gateway.access.keys.key import Key
from gateway.access.policy.decision import Allowed
from gateway.access.usage.access import SIGNED_OUT
from gateway.clock import format_time
from gateway.errors import Forbidden, NotFound
from gateway.http.query.query import refuse_unknown
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.context import CONTEXT, Context
from gateway.http.response.answer import Answer
from gateway.http.response.console_answers import ListedSession, SessionList
from gateway.http.response.problem import json_response
from gateway.oversight.review.record_masks import access_log_masks

# In one answer; the most recently used come first.
_MOST_LISTED = 1000


async def list_all(request: web.Request) -> Answer:
    """`GET /v1/sessions`: those of the asking key; with `keys.read` all.

    Addresses and clients have the masks of the caller on the access log.
    """
    context = request.app[CONTEXT]
    key, current = await context.admission.identify(request)
    refuse_unknown(request.query, ())
    found = await context.admission.sessions.all()
    if not _may(request, context, key, "keys.read"):
        found = [one for one in found if one.key_id == key.id]
    found.sort(key=lambda one: (-one.used_at, one.id))
    shown = found[:_MOST_LISTED]
    grants = context.keyring.grants_of(key)
    masks = {one: access_log_masks(grants, one) for one in {one.key_id for one in shown}}
    names = {one.id: one.name for one in await context.key_store.some(list(masks))}
    own = "" if current is None else current.id
    listed = [_listed(one, names.get(one.key_id, ""), own, masks[one.key_id]) for one in shown]
    return json_response(SessionList(listed, len(found)))


async def end(request: web.Request) -> web.Response:
    """`DELETE /v1/sessions/{id}`: one of the asking key; with `keys.admin` any.

    Its streams have ended in this process when this returns, and within a second in others.
    """
    context = request.app[CONTEXT]
    key, _ = await context.admission.identify(request)
    refuse_unknown(request.query, ())
    wanted = request.match_info["id"]
    found = await context.admission.sessions.get(wanted) if is_session_id(wanted) else None
    own = found is not None and found.key_id == key.id
    if not own and not _may(request, context, key, "keys.admin"):
        # Whether there is such a session is told to those who may list it.
        if found is not None and _may(request, context, key, "keys.read"):
            raise Forbidden(
                "sessions of other keys are ended by keys with a grant of keys.admin",
                code="action_not_granted",
                action="keys.admin",
            )
        found = None
    if found is None:
        raise NotFound(
            "there is no such session, or it is over; GET /v1/sessions lists them",
            code="unknown_session",
        )
    await context.admission.sessions.end([found.id])
    access = request[CURRENT_ACCESS]
    access.action, access.about = SIGNED_OUT, key_urn(found.key_id)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def _may(request: web.Request, context: Context, key: Key, action: str) -> bool:
    decision = context.admission.decide(key, action, request[CURRENT_ACCESS])
    return isinstance(decision, Allowed)


def _listed(session: Session, name: str, own: str, masks: Masks) -> ListedSession:
    seen = masked_data({"address": session.address, "client": session.client}, copies_of(masks))
    return ListedSession(
        session.id, session.key_id, name, format_time(session.created_at),
        format_time(session.used_at), format_time(session.ends_at()),
        seen.get("address"), seen.get("client"), session.id == own,
    )  # fmt: skip
