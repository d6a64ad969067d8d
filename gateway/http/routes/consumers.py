"""`/v1/consumers`: positions of durable consumers, acknowledgements, and changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web
from msgspec import UNSET, structs

from gateway.access.keys.change import key_urn
from gateway.access.keys.key_lookup import known_key
from gateway.access.keys.rotation_chain import lineage_of, rotation_chain_of
from gateway.clock import format_time, parse_duration
from gateway.cursor import distance, format_cursor, parse_cursor
from gateway.errors import Conflict, CursorGone, Forbidden, InvalidRequest, NotFound
from gateway.http.query.bodies import AckBody, NewConsumerBody, RewindBody
from gateway.http.query.consumers import (
    parse_consumer_begin,
    parse_owner,
    parse_rewind,
    parse_selection,
)
from gateway.http.query.position import find_begin
from gateway.http.query.query import check_consumer_name
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body, optional_body
from gateway.http.request.context import Context
from gateway.http.request.delegation import check_delegation
from gateway.http.request.listing import listed
from gateway.http.response.answer import ALWAYS
from gateway.http.response.answers import (
    Acknowledged,
    ConsumerAnswer,
    ConsumerLag,
    ConsumerReaderAnswer,
)
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body
from gateway.log.bound_view import bound_view
from gateway.streaming.consumers.claims import new_row, reader_of, rewound
from gateway.streaming.consumers.options import (
    ACK_MODES,
    EXPLICIT,
    ConsumerOptions,
    options_text,
    read_options,
)
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move
from gateway.streaming.consumers.selection import UNCHOSEN, selection_members, selection_text

# Seconds. What was sent is remembered for the delay, and nobody waits for ever.
_BOUNDS = {"ack_delay": (0, 3600), "ack_timeout": (1, 86400)}
READING, CHANGING = "usage.read", "keys.admin"


@listed("consumers")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[ConsumerAnswer]:
    """`GET /v1/consumers`: those of the key and its predecessors; with `usage.read` all."""
    owner = None
    if parse_owner(request.query.items()) is not None or admission.view_of(READING) is None:
        owner = await _owner(request, context, admission, READING)
    for row in await context.consumer_store.all(owner):
        if not row.of_key:
            continue
        yield await _shown(context, row)


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/consumers/{name}`."""
    key = await _named(request, context, admission, READING)
    row = await context.consumer_store.get(*key)
    shown = await _shown(context, _there(row))
    await admission.recheck()
    return json_response(shown)


async def put(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PUT /v1/consumers/{name}`: 201 if it is made, 200 if it is changed. Options hold from the
    next connection on, and a selection that is not sent is that of the first reader."""
    key = await _named(request, context, admission, CHANGING)
    body = await optional_body(request, NewConsumerBody)
    now = context.clock.now()
    if body.mode not in (UNSET, *ACK_MODES):
        raise InvalidRequest(f"mode: one of {', '.join(ACK_MODES)}", parameter="mode")
    selection = None
    if body.selection is not UNSET:
        selection = selection_text(*parse_selection(body.selection))
    query = parse_consumer_begin("now" if body.begin is UNSET else body.begin, now)
    begin = await find_begin(context.log, query, await _lookback(context, admission, key))
    cursor = format_cursor(context.log.epoch, begin.offset)
    most = context.settings.limits.consumers
    made: list[bool] = []

    def change(row: ConsumerRow | None, others: int) -> ConsumerRow:
        made.append(row is None)
        known = row or new_row(key, cursor, selection or UNCHOSEN, others, now, most)
        if selection not in (None, known.selection) and known.selection != UNCHOSEN:
            # What is read with the former one acknowledges nothing of this one.
            known = rewound(known, known.cursor, now)
        return structs.replace(
            known,
            mode=known.mode if body.mode is UNSET else body.mode,
            options=options_text(_changed(read_options(known.options), body)),
            selection=known.selection if selection is None else selection,
            updated_at=now,
        )

    await admission.recheck()
    row = await context.consumers.change(key, change)
    context.consumer_watch.note(
        "consumer.created" if made[0] else "consumer.changed", _there(row), {},
        by=admission.key.id,
    )  # fmt: skip
    return json_response(await _shown(context, _there(row)), status=201 if made[0] else 200)


async def acknowledge(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/consumers/{name}/ack`: 200 when it is durable."""
    key = await _named(request, context, admission, CHANGING)
    body = parse_body(await json_body(request), AckBody)
    row = _there(await context.consumer_store.get(*key))
    if (body.cursor is UNSET) == (body.lease is UNSET):
        raise InvalidRequest("send either cursor or lease")
    generation: int | None = None
    cursor = body.cursor
    if cursor is UNSET:
        assert body.lease is not UNSET
        number, _, cursor = body.lease.partition(".")
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise InvalidRequest("lease: send it back as the page has it", parameter="lease")
        generation = int(number)
    epoch, offset = parse_cursor(cursor)
    if epoch != context.log.epoch or epoch != parse_cursor(row.cursor)[0]:
        raise CursorGone(
            "the cursor, or the position of the consumer, is of another log, or of one that was "
            "recreated or restored; rewind the consumer",
            code="cursor_unknown",
            earliest=format_cursor(context.log.epoch, context.log.floor),
            latest=format_cursor(context.log.epoch, context.log.head),
        )
    await admission.recheck()
    if generation is None:
        row = await context.consumers.acknowledge(key, cursor)
    else:
        await context.log.catch_up()
        if distance(context.log.head, offset):
            raise Conflict("the lease is of a page that was never given", code="ack_ahead")
        move = Move(at=context.clock.now(), generation=generation, cursor=cursor, sent=cursor)
        row = _there(await context.consumers.move(key, move))
        if row.generation != generation:
            raise Conflict(
                "another reader has taken over since that page, or the consumer was rewound; what "
                "the page had is given again",
                code="consumer_taken_over",
            )
    return json_response(Acknowledged(row.cursor, await _lag(context, row)))


async def rewind(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/consumers/{name}/rewind`: its reader is ended with 1012, and comes back there."""
    key = await _named(request, context, admission, CHANGING)
    body = parse_body(await json_body(request), RewindBody)
    _there(await context.consumer_store.get(*key))
    begin = await find_begin(context.log, parse_rewind(body.to, context.clock.now()))
    earliest = await _lookback(context, admission, key)
    offset = begin.offset
    if distance(offset, earliest):
        if body.to != "earliest":
            raise Forbidden(
                "the grants of this key look back no further than "
                f"{format_cursor(context.log.epoch, earliest)}",
                code="beyond_lookback",
            )
        offset = earliest
    await admission.recheck()
    cursor = format_cursor(context.log.epoch, offset)
    before = await context.consumer_store.get(*key)
    row = _there(await context.consumers.rewind(key, cursor))
    context.consumer_watch.note(
        "consumer.rewound", row, {"from": before.cursor if before else "", "cursor": cursor},
        by=admission.key.id, reason=body.reason,
    )  # fmt: skip
    return json_response(await _shown(context, row))


async def delete(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`DELETE /v1/consumers/{name}`: 204; its reader is ended with 4505."""
    key = await _named(request, context, admission, CHANGING)
    row = _there(await context.consumer_store.get(*key))
    await admission.recheck()
    if not await context.consumers.delete(key):
        raise _unknown()
    context.consumer_watch.note("consumer.deleted", row, {}, by=admission.key.id)
    return web.Response(status=204, headers={**ALWAYS, "Cache-Control": "no-store"})


async def _named(
    request: web.Request, context: Context, admission: Admission, action: str
) -> ConsumerKey:
    """Consumer that a request is about. `action` is needed for those of other keys."""
    name = request.match_info["name"]
    check_consumer_name(name)
    return ConsumerKey(await _owner(request, context, admission, action), name)


async def _owner(request: web.Request, context: Context, admission: Admission, action: str) -> str:
    own = await lineage_of(context.keyring, admission.key)
    named = parse_owner(request.query.items())
    if named is None:
        return own
    key = await known_key(context.keyring, named)
    admission.access.about = key_urn(key.id)
    owner = await lineage_of(context.keyring, key)
    if owner == own:
        return owner
    if admission.view_of(action) is None:
        raise Forbidden(
            f"the consumers of other keys need the action `{action}`",
            code="action_not_granted",
            action=action,
        )
    if action == CHANGING:
        # Whoever moves a position takes events from its readers, or gives them a second time.
        chain = await rotation_chain_of(context.keyring, key)
        await check_delegation(context, admission, *chain)
    return owner


async def _lookback(context: Context, admission: Admission, key: ConsumerKey) -> int:
    """Offset behind which the key of a consumer begins to see."""
    view = admission.view_of("stream") or admission.view_of("pull")
    if await lineage_of(context.keyring, admission.key) != key.owner or view is None:
        # Of a consumer of another key, its own grants hold when it reads.
        return 0
    return (await bound_view(context.log, view, context.clock.now())).begin


def _bounded(name: str, text: str, least: int, most: int) -> int:
    seconds = parse_duration(text)
    if not least <= seconds <= most:
        raise InvalidRequest(f"{name}: between {least}s and {most}s", parameter=name)
    return seconds


def _changed(options: ConsumerOptions, body: NewConsumerBody) -> ConsumerOptions:
    given = {
        name: _bounded(name, value, *_BOUNDS[name])
        for name in _BOUNDS
        if (value := getattr(body, name)) is not UNSET
    }
    if body.max_unacked is not UNSET:
        given["max_unacked"] = body.max_unacked
    return structs.replace(options, **given)


async def _lag(context: Context, row: ConsumerRow) -> ConsumerLag:
    events, seconds = await context.consumer_watch.lag(row)
    return ConsumerLag(events, round(seconds, 3))


async def _shown(context: Context, row: ConsumerRow) -> ConsumerAnswer:
    reader, options, held = reader_of(row), read_options(row.options), row.held(context.clock.now())
    state = "overtaken" if context.consumer_watch.is_overtaken(row) else "idle"
    return ConsumerAnswer(
        name=row.name,
        key=reader.key or row.owner,
        mode=row.mode or reader.ack or EXPLICIT,
        state="connected" if held else state,  # type: ignore[arg-type]
        cursor=row.cursor,
        sent=row.sent,
        lag=await _lag(context, row),
        unacknowledged=row.unacknowledged,
        redelivered=row.redelivered,
        reader=ConsumerReaderAnswer(
            format_time(reader.since), reader.address, reader.client, reader.transport, reader.ack
        ) if held else None,
        selection=selection_members(row.selection),
        ack_delay=f"{options.ack_delay:.0f}s",
        ack_timeout=f"{options.ack_timeout:.0f}s",
        max_unacked=options.max_unacked,
        created_at=format_time(row.created_at),
        acked_at=format_time(row.acked_at) if row.acked_at else None,
    )  # fmt: skip


def _there(row: ConsumerRow | None) -> ConsumerRow:
    if row is None:
        raise _unknown()
    return row


def _unknown() -> NotFound:
    return NotFound(
        "this key has no consumer of this name; GET /v1/consumers lists them, and key= names "
        "another key",
        code="unknown_consumer",
    )
