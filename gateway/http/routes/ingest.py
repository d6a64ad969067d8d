"""`POST /v1/events`: events, all or none, or the valid ones alone."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import InvalidRequest
from gateway.http.intake.ingest_stream import IngestStream
from gateway.http.intake.single_events import SINGLE_EVENTS, answer_members
from gateway.http.intake.sorted_items import check_granted, note_stored, sort_items
from gateway.http.query.query import AS_USUAL, parse_ingest
from gateway.http.request.admission import Admission
from gateway.http.request.body import NDJSON_TYPES, media_type, read_body
from gateway.http.request.context import Context
from gateway.http.response.accept import best_kind
from gateway.http.response.answers import Ingested, IngestedLeniently
from gateway.http.response.problem import json_response
from gateway.ingest.marked import Lenient
from gateway.ingest.strict_json import NotJson


async def ingest(
    request: web.Request, context: Context, admission: Admission
) -> web.StreamResponse:
    """`POST /v1/events`."""
    limits = context.settings.ingest
    key, view, access = admission.key, admission.view, admission.access
    asked = parse_ingest(request.query.items()) if request.query else AS_USUAL
    prefers = asked.skips is None and _prefers_lenient(request)
    kind = media_type(request, ("application/json", *NDJSON_TYPES))
    if kind in NDJSON_TYPES and _wants_lines(request):
        lenient = bool(asked.skips or prefers)
        return IngestStream(request, context, admission, mapped=asked.mapped, lenient=lenient)
    body = await read_body(
        request,
        most=limits.max_request_bytes,
        seconds=context.settings.server.body_timeout,
        holding=admission.holding(request),
    )
    lines = kind in NDJSON_TYPES
    if asked.skips or prefers:
        decoded = await context.decoder.decode_leniently(
            body, key.id, lines=lines, most=limits.max_request_events, mapped=asked.mapped
        )
        if not lines:
            _check_is_json(body, decoded)
        found = await sort_items(context, key, view, access, decoded)
        # Decoding and marking many events takes long.
        await admission.recheck()
        stored = await context.writer.append_together([found.good, found.marked])
        members = answer_members(context.log.epoch, note_stored(context, access, stored))
        headers = {"Preference-Applied": "handling=lenient"} if prefers else None
        lists = found.rejected, found.truncated or ()
        return json_response(IngestedLeniently(*members, *lists), headers=headers)
    drafts = await context.decoder.decode(
        body, key.id, lines=lines, most=limits.max_request_events, mapped=asked.mapped
    )
    await check_granted(context, view, access, drafts)
    single = len(drafts) == 1
    if not single:
        # Decoding many events takes long.
        await admission.recheck()
    appended = await context.writer.append(drafts)
    note_stored(context, access, [appended])
    if single:
        request.app[SINGLE_EVENTS].learn(request, admission, lines=lines)
    return json_response(Ingested(*answer_members(context.log.epoch, appended)), status=201)


def _check_is_json(body: bytes, found: Lenient) -> None:
    """Refuse a body whose only item is not JSON: it contains nothing to keep."""
    if len(found.refused) == 1 and not found.drafts and body.lstrip()[:1] != b"[":
        refused = found.refused[0][2]
        if isinstance(refused, NotJson):
            raise InvalidRequest(f"the body is {refused.reason}", code="malformed_json")


def _wants_lines(request: web.Request) -> bool:
    """Whether the answer is to come while the body arrives."""
    kinds = ("application/json", *NDJSON_TYPES)
    return "Accept" in request.headers and best_kind(request, kinds) in NDJSON_TYPES


def _prefers_lenient(request: web.Request) -> bool:
    """Whether the first `Prefer: handling` is `lenient` (RFC 7240)."""
    if "Prefer" not in request.headers:
        return False
    for field in request.headers.getall("Prefer"):
        for preference in field.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "handling":
                return value.strip().strip('"').lower() == "lenient"
    return False
