"""`POST /v1/events`, `/v1/ingest/{source}`: events or records of others, all or the good ones."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import InvalidRequest, NotFound
from gateway.http.intake.ingest_stream import IngestStream
from gateway.http.intake.single_events import SINGLE_EVENTS, answer_members
from gateway.http.intake.sorted_items import (
    MOST_ERRORS,
    check_granted,
    note_stored,
    store_sorted,
)
from gateway.http.query.query import AS_USUAL, parse_ingest, parse_of_source
from gateway.http.receivers.cloudevents import has_cloudevents, read_cloudevents
from gateway.http.request.admission import Admission
from gateway.http.request.body import NDJSON_TYPES, media_type, read_sent
from gateway.http.request.context import Context
from gateway.http.request.decoding import usual_owner
from gateway.http.response.accept import best_kind
from gateway.http.response.answers import Ingested, IngestedLeniently
from gateway.http.response.problem import json_response
from gateway.ingest.decode import refused_events
from gateway.ingest.marked import Lenient
from gateway.ingest.strict_json import NotJson, Refused


async def ingest(
    request: web.Request, context: Context, admission: Admission
) -> web.StreamResponse:
    """`POST /v1/events`."""
    limits = context.settings.ingest
    key, view, access = admission.key, admission.view, admission.access
    asked = parse_ingest(request.query.items()) if request.query else AS_USUAL
    prefers = asked.skips is None and _prefers_lenient(request)
    applied = {"Preference-Applied": "handling=lenient"} if prefers else None
    if has_cloudevents(request):
        found = await read_cloudevents(request, context, admission)
        if asked.skips or prefers:
            return await _store_leniently(context, admission, found, applied)
        return await _store_all(context, admission, found)
    kind = media_type(request, ("application/json", *NDJSON_TYPES))
    if kind in NDJSON_TYPES and _wants_lines(request):
        lenient = bool(asked.skips or prefers)
        return IngestStream(request, context, admission, mapped=asked.mapped, lenient=lenient)
    body = await read_sent(request, context, admission)
    lines = kind in NDJSON_TYPES
    if asked.skips or prefers:
        decoded = await context.decoder.decode_leniently(
            body, key.id, lines=lines, most=limits.max_request_events, mapped=asked.mapped
        )
        if not lines:
            _check_is_json(body, decoded)
        return await _store_leniently(context, admission, decoded, applied)
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


async def _store_all(context: Context, admission: Admission, found: Lenient) -> web.Response:
    """Store all of what was mapped, or refuse it."""
    found.refused += [(index, b"", Refused("data", why)) for index, why in found.cut.items()]
    _refuse_any(found)
    drafts = [draft for _, draft in found.drafts]
    if not drafts:
        raise InvalidRequest("the body is empty; send one event or more")
    await check_granted(context, admission.view, admission.access, drafts)
    await admission.recheck()
    appended = await context.writer.append(drafts)
    note_stored(context, admission.access, [appended])
    return json_response(Ingested(*answer_members(context.log.epoch, appended)), status=201)


async def ingest_records(
    request: web.Request, context: Context, admission: Admission
) -> web.StreamResponse:
    """`POST /v1/ingest/{source}`, `/v1/ingest/{source}/{cluster}`."""
    limits = context.settings.ingest
    skips, cluster = parse_of_source(request.query.items(), request.match_info.get("cluster"))
    name = request.match_info["source"]
    source = context.sources.named(name, cluster)
    if source is None:
        raise NotFound(context.sources.lacks(name))
    body = await read_sent(request, context, admission)
    if not body.strip():
        raise InvalidRequest("the body is empty; send a record, a list of them, or lines")
    decoded = await context.decoder.map_records(
        body,
        admission.key.id,
        source,
        usual_owner(admission.view),
        most=limits.max_request_events,
    )
    if not skips:
        _refuse_any(decoded)
        drafts = [draft for _, draft in decoded.drafts]
        await check_granted(context, admission.view, admission.access, drafts)
    return await _store_leniently(context, admission, decoded)


def _refuse_any(found: Lenient) -> None:
    """Refuse all records if one is refused."""
    if found.refused:
        raise refused_events(
            len(found.refused),
            [
                {"index": index, "path": refused.path, "reason": refused.reason}
                for index, _, refused in found.refused[:MOST_ERRORS]
            ],
        )


async def _store_leniently(
    context: Context,
    admission: Admission,
    decoded: Lenient,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Store what the key may write, with marked events for the rest, and answer for each."""
    stored, found = await store_sorted(context, admission, decoded)
    members = answer_members(context.log.epoch, stored)
    lists = found.rejected, found.truncated or ()
    return json_response(IngestedLeniently(*members, *lists), headers=headers)


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
