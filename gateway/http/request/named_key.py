"""The key that a path names, and what whoever asks for it may see of its use."""

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
    """The key that the path names."""
    return await known_key(request.app[CONTEXT].key_store, request.match_info["id"])


async def last_use(context: Context, caller: Admission, key_id: str) -> dict[str, Any] | None:
    """When and from where a key was used last, as far as nothing hides it from the asking key."""
    use = (await context.detector.profiles.of(key_id)).last_use()
    return use and masked_last_use(caller.grants, key_id, use)


async def presence_of(context: Context, key_id: str) -> Presence:
    """How the key is used at this moment."""
    hub, profile = context.hub, await context.detector.profiles.of(key_id)
    streams = [
        (one.opened, hub.offset_of(one)) for one in hub.streams_of(key_id) if one.opened is not None
    ]
    return Presence(tuple(streams), profile.used_at, profile.address)


async def reader_of(context: Context, caller: Admission) -> Reader:
    """What the key of a request may see of the log itself."""
    view = caller.view_of("pull")
    if view is None:
        return Reader(None)
    return Reader(await bound_view(context.log, view, context.clock.now()))
