"""`POST /v1/logs`: log records of OpenTelemetry, in OTLP over HTTP.

Senders repeat what is answered with 429, 502, 503 or 504, and drop what is answered with anything
else; errors are a `google.rpc.Status` in the encoding of the request.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from aiohttp import web

from gateway.errors import (
    GatewayError,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from gateway.http.intake.sorted_items import SortedItems, store_sorted
from gateway.http.query.query import parse_of_logs
from gateway.http.receivers.log_mapping import LogMapping
from gateway.http.request.admission import Admission
from gateway.http.request.body import media_type, read_sent
from gateway.http.request.context import Context
from gateway.http.request.decoding import (
    LARGE_UNIT,
    MOST_CONTAINERS,
    SLICE_BYTES,
    add_mapped,
    bound_owner,
    usual_owner,
)
from gateway.http.response.answer import Answer
from gateway.http.response.problem import Rendered
from gateway.ingest.marked import Lenient
from gateway.ingest.otlp.json_encoding import JSON
from gateway.ingest.otlp.log_records import LogEncoding, SentRecord
from gateway.ingest.strict_json import Refused

PROTOBUF_TYPE, JSON_TYPE = "application/x-protobuf", "application/json"
# Copies of resources and scopes in the events of one request, as a multiple of the largest body.
_MOST_COPIED = 4
_MOST_REASONS, _MOST_MESSAGE = 3, 1024
# What a record costs beside its bytes.
_BYTES_OF_A_RECORD = 64
_CODES = {401: 16, 403: 7, 404: 5, 408: 14, 415: 12, 429: 8, 500: 13, 503: 14}
_INVALID_ARGUMENT = 3


async def receive_logs(
    request: web.Request, context: Context, admission: Admission
) -> web.StreamResponse:
    """`POST /v1/logs`."""
    limits = context.settings.ingest
    encoding = _encoding(media_type(request, (PROTOBUF_TYPE, JSON_TYPE)))
    name = parse_of_logs(request.query.items())
    if name is not None and context.sources.known_as(name) is None:
        raise NotFound(context.sources.lacks(name))
    body = await read_sent(request, context, admission)
    mapping = LogMapping(
        context.sources, bound_owner(admission.view), limits.max_request_events, name,
        usual_owner(admission.view),
    )  # fmt: skip
    decoded = await _decoded(context, admission.key.id, body, encoding, mapping)
    found = SortedItems()
    if decoded.drafts or decoded.refused:
        _, found = await store_sorted(context, admission, decoded)
    rejected = len({one.index for one in found.rejected})
    return Answer(encoding.answer(rejected, _message(found, rejected)), encoding.content_type)


def render(request: web.Request, error: GatewayError) -> Rendered:
    """An error in the encoding of the request."""
    encoding = JSON
    if request.content_type == PROTOBUF_TYPE:
        try:
            encoding = _encoding(PROTOBUF_TYPE)
        except UnsupportedMediaType:
            pass
    code = _CODES.get(error.status, _INVALID_ARGUMENT)
    body = encoding.status(code, f"{error.detail} ({error.code})")
    if isinstance(error, RequestTimeout):
        # It would be dropped, though it may arrive in time when it is sent again.
        return Rendered(503, encoding.content_type, body, {"Retry-After": "1"})
    return Rendered(error.status, encoding.content_type, body)


def _encoding(kind: str) -> LogEncoding:
    if kind == JSON_TYPE:
        return JSON
    try:
        from gateway.ingest.otlp.protobuf import PROTOBUF
    except ImportError:
        raise UnsupportedMediaType(
            "protobuf needs a package: install audit-gateway[otlp] where the gateway runs, or send "
            "application/json"
        ) from None
    return PROTOBUF


async def _decoded(
    context: Context, key_id: str, body: bytes, encoding: LogEncoding, mapping: LogMapping
) -> Lenient:
    """Drafts and refusals of the records of a request, by their place in it."""
    limits = context.settings.ingest
    slices = context.intake.slices(key_id)
    slices.start()
    records: Iterable[SentRecord | None]
    if encoding is JSON and len(body) >= LARGE_UNIT:
        if body.count(b"{") + body.count(b"[") > MOST_CONTAINERS:
            raise PayloadTooLarge(
                f"more than {MOST_CONTAINERS} objects and lists in one request; send fewer records"
            )
        records = await slices.in_process(partial(_split_whole, body, limits.max_request_events))
    else:
        records = encoding.split(body, limits.max_request_events)
    found = Lenient()
    index = size = copied = 0
    for sent in records:
        if sent is None:
            await slices.rest()
            continue
        copied += sent.origin.size
        if copied > _MOST_COPIED * limits.max_request_bytes:
            raise PayloadTooLarge(
                "the resources and scopes of the records are too large; send fewer at a time"
            )
        try:
            for one in await mapping.map(sent, encoding, slices):
                add_mapped(found, index, one)
        except Refused as refused:
            found.refused.append((index, sent.raw, refused))
        index += 1
        size += len(sent.raw) + sent.origin.size + _BYTES_OF_A_RECORD
        if size >= SLICE_BYTES:
            size = 0
            await slices.rest()
    return found


def _split_whole(body: bytes, most: int) -> list[SentRecord]:
    return [sent for sent in JSON.split(body, most) if sent is not None]


def _message(found: SortedItems, rejected: int) -> str:
    """What became of records that are not stored as they are."""
    if rejected:
        reasons = "; ".join(
            f"record {one.index}: {one.path}: {one.reason}" if one.path
            else f"record {one.index}: {one.reason}"
            for one in found.rejected[:_MOST_REASONS]
        )  # fmt: skip
        more = " .." if rejected > _MOST_REASONS else ""
        text = f"{rejected} of the log records are refused and kept apart: {reasons}{more}"
    elif found.truncated:
        text = (
            f"{len(found.truncated)} of the log records are too deep or large, and stored in part"
        )
    else:
        return ""
    return text[:_MOST_MESSAGE]
