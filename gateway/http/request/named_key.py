"""The key that a path names, and its use as visible to the caller."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.access.keys.key import Key
from gateway.access.keys.key_lookup import known_key
from gateway.access.policy.reader import Reader
from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT, Context
from gateway.log.bound_view import bound_view
from gateway.oversight.access_log.past_access import Presence
from gateway.oversight.review.record_masks import masked_last_use


async def named_key(request: web.Request) -> Key:
    return await known_key(request.app[CONTEXT].key_store, request.match_info["id"])


async def last_use(context: Context, caller: Admission, key_id: str) -> dict[str, Any] | None:
    """Time and origin of a key's last use, unless the caller's grants hide them."""
    use = (await context.detector.profiles.of(key_id)).last_use()
    return use and masked_last_use(caller.grants, key_id, use)


async def presence_of(context: Context, key_id: str) -> Presence:
    hub, profile = context.hub, await context.detector.profiles.of(key_id)
    streams = [
        (one.opened, hub.offset_of(one)) for one in hub.streams_of(key_id) if one.opened is not None
    ]
    return Presence(tuple(streams), profile.used_at, profile.address)


async def reader_of(context: Context, caller: Admission) -> Reader:
    """Reader with the view of the log that the caller may pull."""
    view = caller.view_of("pull")
    if view is None:
        return Reader(None)
    return Reader(await bound_view(context.log, view, context.clock.now()))
