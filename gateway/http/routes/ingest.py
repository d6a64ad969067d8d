"""`POST /v1/events`: events, all or none, or the valid ones alone."""

from __future__ import annotations

import asyncio
from base64 import b32encode
from functools import partial

from aiohttp import web

from gateway.access.keys.key import Key
from gateway.access.policy.decision import View, compiled
from gateway.access.usage.access import INGESTED, Access
from gateway.cursor import advance
from gateway.errors import Forbidden, InvalidRequest
from gateway.event import Draft
from gateway.http.query.query import AS_USUAL, parse_ingest
from gateway.http.request.access_logging import log_out_of_scope
from gateway.http.request.admission import Admission
from gateway.http.request.body import NDJSON_TYPES, media_type, read_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.single_events import SINGLE_EVENTS, answer_members, note_conflicts
from gateway.http.response.answers import Ingested, IngestedLeniently, RefusedItem
from gateway.http.response.problem import json_response
from gateway.ingest.content import record_digest
from gateway.ingest.decode import NotJson, Refused, refused_events
from gateway.ingest.marked import Lenient, rejected_event, tenant_of
from gateway.log.ports import Appended

# Large requests are checked in parts, so that live streams do not wait for them.
_CHECK_AT_ONCE = 500
_MOST_ERRORS = 1000
# Larger items are examined on a thread.
_LARGE_ITEM = 16 * 1024


async def ingest(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/events`."""
    limits = context.settings.ingest
    key, view, access = admission.key, admission.view, admission.access
    asked = parse_ingest(request.query.items()) if request.query else AS_USUAL
    prefers = asked.skips is None and _prefers_lenient(request)
    kind = media_type(request, ("application/json", *NDJSON_TYPES))
    body = await read_body(
        request,
        most=limits.max_request_bytes,
        seconds=context.settings.server.body_timeout,
        holding=admission.holding(request),
    )
    lines = kind in NDJSON_TYPES
    if asked.skips or prefers:
        lenient = await context.decoder.decode_leniently(
            body, key.id, lines=lines, most=limits.max_request_events, mapped=asked.mapped
        )
        if not lines:
            _check_is_json(body, lenient)
        answer = await _store_good_ones(request, admission, lenient)
        if prefers:
            answer.headers["Preference-Applied"] = "handling=lenient"
        return answer
    drafts = await context.decoder.decode(
        body, key.id, lines=lines, most=limits.max_request_events, mapped=asked.mapped
    )
    single = len(drafts) == 1 and compiled(view)(drafts[0])
    outside = [] if single else await _outside(drafts, view)
    if outside:
        _log_outside(outside, view, access)
        raise Forbidden(
            "some events are outside of what this key may write, and nothing was stored",
            code="events_not_granted",
            errors=[
                _error(index, _not_granted(draft, view)) for index, draft in outside[:_MOST_ERRORS]
            ],
        )
    if context.followed is not None and (
        errors := [
            _error(index, refused)
            for index, draft in enumerate(drafts)
            if (refused := _of_a_row(draft, context)) is not None
        ]
    ):
        remedy = "give the events named in `errors` other ids and send all again"
        raise refused_events(len(errors), errors[:_MOST_ERRORS], remedy)
    if not single:
        # Decoding many events takes long.
        await admission.recheck()
    appended = await context.writer.append(drafts)
    _log_appended(context, access, appended)
    context.requests.accepted += appended.accepted
    context.requests.duplicates += appended.duplicates
    if single:
        request.app[SINGLE_EVENTS].learn(request, admission, lines=lines)
    return json_response(Ingested(*answer_members(context.log.epoch, appended)), status=201)


async def _store_good_ones(
    request: web.Request, admission: Admission, found: Lenient
) -> web.Response:
    """Store the valid items, and a marked event for each of the others, in one append."""
    context, access = request.app[CONTEXT], admission.access
    key, view = admission.key, admission.view
    drafts = [draft for _, draft in found.drafts]
    outside = await _outside(drafts, view)
    refused = list(found.refused)
    if outside:
        _log_outside(outside, view, access)
        refused += [
            (found.drafts[place][0], found.items[place], _not_granted(draft, view))
            for place, draft in outside
        ]
    kept = {place for place, _ in outside}
    good: list[Draft] = []
    for place, (index, draft) in enumerate(found.drafts):
        if place in kept:
            continue
        of_a_row = _of_a_row(draft, context)
        if of_a_row is not None:
            refused.append((index, found.items[place], of_a_row))
        else:
            good.append(draft)
    refused.sort(key=lambda one: one[0])
    marked, slices = [], context.intake.slices(key.id)
    slices.start()
    for _, item, reason in refused:
        mark = partial(_marked, context, access, key, view, item, reason)
        marked.append(await slices.in_thread(mark) if len(item) > _LARGE_ITEM else mark())
        await slices.rest()
    # Decoding and marking many events takes long.
    await admission.recheck()
    appended, rejected = await context.writer.append_together([good, marked])
    _log_appended(context, access, appended if good else rejected)
    access.events, access.duplicates = (
        appended.accepted + rejected.accepted, appended.duplicates + rejected.duplicates,
    )  # fmt: skip
    context.requests.accepted += appended.accepted
    context.requests.duplicates += appended.duplicates + rejected.duplicates
    context.requests.invalid += rejected.accepted
    if not good:
        # No valid event has an offset to report.
        appended = Appended(0, 0, context.log.head, context.log.head)
    gone = {index for index, _, _ in refused}
    rejected_items = [_error(index, reason) for index, _, reason in refused]
    cut = [
        RefusedItem(index, "data", reason)
        for index, reason in found.cut.items()
        if index not in gone
    ]
    members = answer_members(context.log.epoch, appended)
    return json_response(IngestedLeniently(*members, rejected_items, cut or ()))


def _marked(
    context: Context, access: Access, key: Key, view: View, item: bytes, refused: Refused
) -> Draft:
    """Marked event of an item: under its own tenant, if the key may write there."""
    tenant = tenant_of(item)
    if tenant is not None and not _may_write_to(view, tenant):
        tenant = None
    # Keyed, so that a reader without the item cannot guess it by its id.
    value = context.keyed.content(record_digest(item)) or b""
    return rejected_event(
        item,
        refused.reason,
        id=f"rejected-{b32encode(value).decode().rstrip('=')}",
        tenant=tenant,
        path=refused.path,
        by=key.id,
        address=access.address,
        client=access.client,
    )


def _may_write_to(view: View, tenant: str) -> bool:
    probe = Draft("", tenant, "", "", "unknown", 1, "", "", True, b"")
    if view.outside(probe) == "tenant":
        return False
    whole = [scope for scope in view.denied if not (scope.category or scope.resource)]
    return not any(scope.compile()(probe) for scope in whole)


def _check_is_json(body: bytes, found: Lenient) -> None:
    """Refuse a body whose only item is not JSON: it contains nothing to keep."""
    if len(found.refused) == 1 and not found.drafts and body.lstrip()[:1] != b"[":
        refused = found.refused[0][2]
        if isinstance(refused, NotJson):
            raise InvalidRequest(f"the body is {refused.reason}", code="malformed_json")


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


def _log_appended(context: Context, access: Access, appended: Appended) -> None:
    access.action, access.events, access.duplicates = (
        INGESTED,
        appended.accepted,
        appended.duplicates,
    )
    access.begin, access.end = advance(appended.first, -1), appended.last
    note_conflicts(context, access, appended)


async def _outside(drafts: list[Draft], view: View) -> list[tuple[int, Draft]]:
    """Events outside the key's grants, with their indices."""
    may_write = compiled(view)
    outside: list[tuple[int, Draft]] = []
    for start in range(0, len(drafts), _CHECK_AT_ONCE):
        part = enumerate(drafts[start : start + _CHECK_AT_ONCE], start)
        outside += [(index, draft) for index, draft in part if not may_write(draft)]
        if start:
            await asyncio.sleep(0)
    return outside


def _log_outside(outside: list[tuple[int, Draft]], view: View, access: Access) -> None:
    refused = [draft for _, draft in outside]
    log_out_of_scope(
        access, view, {draft.category for draft in refused},
        dict.fromkeys(draft.tenant for draft in refused),
    )  # fmt: skip


def _not_granted(draft: Draft, view: View) -> Refused:
    return Refused(
        view.outside(draft),
        f"this key may not write {draft.category!r} of tenant {draft.tenant!r} "
        "with these targets and this severity",
    )


def _of_a_row(draft: Draft, context: Context) -> Refused | None:
    """Refusal of an event whose id looks like that of a row of the followed table."""
    prefix = context.followed.prefix if context.followed is not None else ""
    if not prefix or not draft.id.startswith(prefix):
        return None
    return Refused(
        "id",
        f"what begins with {prefix!r} is the id of a row of the table that this gateway follows",
    )


def _error(index: int, refused: Refused) -> RefusedItem:
    return RefusedItem(index, refused.path, refused.reason)
