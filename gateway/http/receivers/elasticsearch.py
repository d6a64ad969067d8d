"""`/_bulk`: Elasticsearch's bulk interface, as far as it adds documents.

Under overload a request is held, and then its connection closed without an answer: programs repeat
what was not answered, but some give up what was answered with 429 or 503.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    TooManyRequests,
    Unavailable,
)
from gateway.http.intake.sorted_items import SortedItems, store_each
from gateway.http.receivers.elasticsearch_version import PRODUCT
from gateway.http.receivers.filter_path import filtered
from gateway.http.request.admission import Admission
from gateway.http.request.body import read_sent
from gateway.http.request.context import Context
from gateway.http.request.decoding import Unit, bound_owner, check_nested, usual_owner
from gateway.http.response.answer import Answer
from gateway.http.response.problem import Rendered
from gateway.ingest.marked import Lenient
from gateway.ingest.protocols.documents import Chosen, map_bulk, work_apart
from gateway.ingest.protocols.elasticsearch_bulk import (
    NOT_A_DOCUMENT,
    BulkItem,
    items_of_bulk,
    name_of_index,
)
from gateway.ingest.sources.source import RecordSource

OWN = ("ecs", "elasticsearch")
# Query parameters: the source is ours; the others are what clients send.
OF_BULK = (
    "source", "filter_path", "pipeline", "refresh", "routing", "timeout", "master_timeout",
    "wait_for_active_shards", "require_alias", "require_data_stream", "op_type", "_source",
    "_source_includes", "_source_excludes", "list_executed_pipelines",
    "include_source_on_error", "pretty", "human", "error_trace", "type",
)  # fmt: skip
_HELD_SECONDS = 20.0
_ENCODE = msgspec.json.Encoder().encode
_REASON = 512
# Types of errors of whole requests, by status; the last is that of all others.
_TYPES = {
    401: "security_exception", 403: "security_exception", 413: "content_too_long_exception",
    415: "media_type_header_exception", 404: "index_not_found_exception",
}  # fmt: skip


async def bulk(request: web.Request, context: Context, admission: Admission) -> Answer:
    """`POST /_bulk`, `POST /{index}/_bulk`, and `PUT` of both."""
    limits, began = context.settings.ingest, context.clock.monotonic()
    body = await read_sent(request, context, admission)
    check_nested(body)
    items: list[BulkItem] = []
    units = _units(request, context, admission, body, items)
    decoded = await context.decoder.map_units(
        units, admission.key.id, most=limits.max_request_events
    )
    if not items:
        raise InvalidRequest("request body is required: lines of actions and documents")
    found, new = await _store_patiently(context, admission, decoded)
    results = [*_results(items, decoded, found, new)]
    answer = {
        "took": int((context.clock.monotonic() - began) * 1000),
        "errors": any("error" in result for [result] in map(dict.values, results)),
        "items": results,
    }
    answer = filtered(answer, request.query.get("filter_path", ""))
    return Answer(_ENCODE(answer), "application/json", headers=PRODUCT)


def render(request: web.Request, error: GatewayError) -> Rendered:
    """An error as clients understand it. Under overload, and where a body is too slow, the
    connection is closed instead."""
    if isinstance(error, Unavailable | TooManyRequests | RequestTimeout):
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(error.detail)
    kind = _TYPES.get(error.status, "illegal_argument_exception")
    if error.status >= 500:
        kind = "exception"
    cause = {"type": kind, "reason": error.detail, "code": error.code}
    document = {"error": {"root_cause": [cause], **cause}, "status": error.status}
    return Rendered(error.status, "application/json", _ENCODE(document), PRODUCT)


async def _store_patiently(
    context: Context, admission: Admission, decoded: Lenient
) -> tuple[SortedItems, set[int]]:
    """Store what was decoded; while the queue is full, try again for a while."""
    clock = context.clock
    until = clock.monotonic() + _HELD_SECONDS
    while True:
        try:
            return await store_each(context, admission, decoded)
        except Unavailable as error:
            waits = error.code == "write_queue_full"
            if not waits or clock.monotonic() + error.retry_after > until:
                raise
            await clock.sleep(error.retry_after)


def _units(
    request: web.Request,
    context: Context,
    admission: Admission,
    body: bytes,
    items: list[BulkItem],
) -> Iterator[Unit]:
    """The documents of a body, each with its sources; `items` gets their actions."""
    view, sources = admission.view, context.sources
    own = [sources.named(name) for name in OWN]
    most = context.settings.ingest.max_request_events
    chosen = Chosen(
        _of_request(request, context),
        tuple([source for source in own if source is not None]),
        usual_owner(view),
        bound_owner(view),
        most,
    )
    by_index: dict[str, Chosen] = {}
    for item in items_of_bulk(body, request.match_info.get("index", "")):
        # Documents are as large as the body; results need none.
        items.append(item.without_document())
        of_one = chosen
        if chosen.named is None and not item.error:
            if item.into not in by_index:
                named = sources.known_as(name_of_index(item.into))
                is_named = named is not None and named.name not in OWN
                by_index[item.into] = chosen.by(named) if is_named else chosen
            of_one = by_index[item.into]
        here = partial(map_bulk, item, of_one)
        yield Unit(len(item.raw), here, work_apart(map_bulk, item, of_one))


def _of_request(request: web.Request, context: Context) -> RecordSource | None:
    """The source that the query names for all documents."""
    name = request.query.get("source", "")
    found = context.sources.known_as(name) if name else None
    if name and found is None:
        raise InvalidRequest(context.sources.lacks(name))
    return found


def _results(
    items: list[BulkItem], decoded: Lenient, found: SortedItems, new: set[int]
) -> Iterator[dict[str, Any]]:
    """Result of each action, in order."""
    # An envelope may hold several records: what is stored of it must not be sent again.
    stored = {*found.places}
    rejected = {one.index: one for one in reversed(found.rejected) if one.index not in stored}
    ids = {index: draft.id for index, draft in reversed(decoded.drafts)}
    for index, item in enumerate(items):
        about = {"_index": item.into, "_id": item.id or ids.get(index)}
        if index in rejected:
            refused = rejected[index]
            where = f"{refused.path}: " if refused.path else ""
            kind, status = item.error or NOT_A_DOCUMENT, 400
            if index in found.outside:
                kind, status = "security_exception", 403
            result = _failed(about, status, kind, (where + refused.reason)[:_REASON])
        elif index in new or index not in ids:
            result = {**about, "_version": 1, "result": "created", "status": 201}
        elif item.action == "create":
            reason = f"[{about['_id']}]: version conflict, document already exists"
            result = _failed(about, 409, "version_conflict_engine_exception", reason)
        else:
            result = {**about, "_version": 1, "result": "noop", "status": 200}
        yield {item.action: result}


def _failed(about: dict[str, Any], status: int, kind: str, reason: str) -> dict[str, Any]:
    return {**about, "status": status, "error": {"type": kind, "reason": reason}}
