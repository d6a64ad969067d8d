"""`/v1/views`: saved views, which are queries with a range that their owner opens again.

They belong to the lineage of a key, so that they survive its rotation, and hold no event. All of
one owner are one note, which bounds their number and size in one change.
"""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from gateway.access.keys.key_store import Notes
from gateway.access.keys.rotation_chain import lineage_of
from gateway.clock import format_time
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.http.query.bodies import NewViewBody
from gateway.http.query.query import SELECTORS, pairs_of_body, parse_page, refuse_unknown
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import Context
from gateway.http.response.console_answers import SavedView, SavedViewList
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body

# Kind of the notes.
KIND = "views"
MOST_VIEWS = 50
MOST_BYTES = 4 * 1024
_NAME = re.compile(r"[^\W_](?:[\w .:+-]{0,62}[\w.:+-])?")
_QUERY = (*SELECTORS, "min_severity", "filter", "text", "text_in")
_RANGE = ("since", "until")
_DECODER = msgspec.json.Decoder(dict[str, SavedView])


async def list_all(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/views`: by name."""
    found = await _views_of(context.key_store, await _owner(context, admission))
    await admission.recheck()
    return json_response(SavedViewList([found[name] for name in sorted(found)]))


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/views/{name}`."""
    found = await _views_of(context.key_store, await _owner(context, admission))
    await admission.recheck()
    view = found.get(request.match_info["name"])
    if view is None:
        raise _unknown()
    return json_response(view)


async def put(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PUT /v1/views/{name}`: 201 if it is new, else 200."""
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "the name of a view has at most 64 letters, digits, spaces and `_.:+-`, and begins "
            "with a letter or digit",
            code="invalid_name",
        )
    body = parse_body(await json_body(request), NewViewBody)
    now = context.clock.now()
    view = SavedView(
        name, _checked(body, now), format_time(now), body.since or None, body.until or None
    )
    if len(msgspec.json.encode(view)) > MOST_BYTES:
        raise InvalidRequest(f"a view has at most {MOST_BYTES} bytes; shorten the filter")
    new = False

    def kept(note: bytes | None) -> bytes:
        nonlocal new
        views = _decoded(note)
        new = name not in views
        if new and len(views) >= MOST_VIEWS:
            raise Conflict(
                f"there are {MOST_VIEWS} saved views, which is all there can be; delete one",
                code="too_many_views",
            )
        return msgspec.json.encode({**views, name: view})

    owner = await _owner(context, admission)
    await admission.recheck()
    await context.key_store.update_notes(KIND, {owner: kept})
    return json_response(view, status=201 if new else 200)


async def delete(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`DELETE /v1/views/{name}`."""
    name, known = request.match_info["name"], False

    def without(note: bytes | None) -> bytes | None:
        nonlocal known
        views = _decoded(note)
        known = views.pop(name, None) is not None
        return msgspec.json.encode(views) if views else None

    owner = await _owner(context, admission)
    await admission.recheck()
    await context.key_store.update_notes(KIND, {owner: without})
    if not known:
        raise _unknown()
    return web.Response(status=204)


async def _owner(context: Context, admission: Admission) -> str:
    return await lineage_of(context.keyring, admission.key)


async def _views_of(store: Notes, owner: str) -> dict[str, SavedView]:
    return _decoded(await store.note(KIND, owner))


def _decoded(note: bytes | None) -> dict[str, SavedView]:
    return {} if note is None else _DECODER.decode(note)


def _checked(body: NewViewBody, now: float) -> dict[str, str | list[str]]:
    """The query of a view as text. Raises `InvalidRequest` for one that no page would take."""
    pairs = pairs_of_body(body.query)
    refuse_unknown([name for name, _ in pairs], _QUERY)
    in_range = [(name, text) for name in _RANGE if (text := getattr(body, name))]
    parse_page([*pairs, *in_range], now)
    query: dict[str, str | list[str]] = {}
    for name in dict.fromkeys(name for name, _ in pairs):
        values = [value for other, value in pairs if other == name]
        query[name] = values if len(values) > 1 else values[0]
    return query


def _unknown() -> NotFound:
    return NotFound(
        "there is no saved view of this name; GET /v1/views lists yours", code="unknown_view"
    )
