"""Items of a request that the key may write, and marked events for the others."""

from __future__ import annotations

import asyncio
from base64 import b32encode
from functools import partial

import msgspec

from gateway.access.keys.key import Key
from gateway.access.policy.decision import View, compiled
from gateway.access.usage.access import INGESTED, Access
from gateway.cursor import advance
from gateway.errors import Forbidden
from gateway.event import Draft
from gateway.http.intake.single_events import note_conflicts
from gateway.http.request.access_logging import log_out_of_scope
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answers import RefusedItem
from gateway.ingest.content import record_digest
from gateway.ingest.decode import refused_events
from gateway.ingest.marked import Lenient, rejected_event, tenant_of
from gateway.ingest.strict_json import Refused
from gateway.log.ports import Appended

# Large requests are checked in parts, so that live streams do not wait for them.
_CHECK_AT_ONCE = 500
MOST_ERRORS = 1000
# Larger items are examined on a thread.
_LARGE_ITEM = 16 * 1024


class SortedItems(msgspec.Struct):
    """Items that are stored together: the valid ones, and marked events for the others.

    `places` are the indices of the valid ones, `outside` those of items that the key may not write.
    """

    good: list[Draft] = []
    places: list[int] = []
    outside: set[int] = set()
    marked: list[Draft] = []
    rejected: list[RefusedItem] = []
    truncated: list[RefusedItem] = []


async def check_granted(
    context: Context, view: View, access: Access, drafts: list[Draft], first: int = 0
) -> None:
    """Raise unless the key may write all events; `first` is the index of the first of them."""
    outside = await _outside(drafts, view)
    if outside:
        _log_outside(outside, view, access)
        raise Forbidden(
            "some events are outside of what this key may write, and nothing was stored",
            code="events_not_granted",
            errors=[
                _error(first + index, _not_granted(draft, view))
                for index, draft in outside[:MOST_ERRORS]
            ],
        )
    if context.followed is not None and (
        errors := [
            _error(first + index, refused)
            for index, draft in enumerate(drafts)
            if (refused := _of_a_row(draft, context)) is not None
        ]
    ):
        remedy = "give the events named in `errors` other ids and send all again"
        raise refused_events(len(errors), errors[:MOST_ERRORS], remedy)


async def sort_items(
    context: Context, key: Key, view: View, access: Access, found: Lenient
) -> SortedItems:
    """Sort what was decoded leniently."""
    outside = await _outside([draft for _, draft in found.drafts], view)
    refused = list(found.refused)
    if outside:
        _log_outside(outside, view, access)
        refused += [
            (found.drafts[place][0], found.items[place], _not_granted(draft, view))
            for place, draft in outside
        ]
    kept = {place for place, _ in outside}
    result = SortedItems(outside={found.drafts[place][0] for place, _ in outside})
    for place, (index, draft) in enumerate(found.drafts):
        if place in kept:
            continue
        of_a_row = _of_a_row(draft, context)
        if of_a_row is not None:
            refused.append((index, found.items[place], of_a_row))
        else:
            result.good.append(draft)
            result.places.append(index)
    refused.sort(key=lambda one: one[0])
    slices = context.intake.slices(key.id)
    slices.start()
    for index, item, reason in refused:
        mark = partial(_marked, context, access, key, view, item, reason)
        large = len(item) > _LARGE_ITEM
        result.marked.append(await slices.in_thread(mark) if large else mark())
        result.rejected.append(_error(index, reason))
        await slices.rest()
    gone = {index for index, _, _ in refused}
    result.truncated += [
        RefusedItem(index, "data", reason)
        for index, reason in found.cut.items()
        if index not in gone
    ]
    return result


async def store_sorted(
    context: Context, admission: Admission, decoded: Lenient
) -> tuple[Appended, SortedItems]:
    """Store durably what the key may write, with marked events for the rest.

    Returns what became of the valid events, and the sorted items.
    """
    key, view, access = admission.key, admission.view, admission.access
    found = await sort_items(context, key, view, access, decoded)
    # Decoding and marking many events takes long.
    await admission.recheck()
    stored = await context.writer.append_together([found.good, found.marked])
    return note_stored(context, access, stored), found


async def store_each(
    context: Context, admission: Admission, decoded: Lenient
) -> tuple[SortedItems, set[int]]:
    """As `store_sorted`; returns the sorted items, and the indices of those with new events."""
    key, view, access = admission.key, admission.view, admission.access
    found = await sort_items(context, key, view, access, decoded)
    await admission.recheck()
    *each, marked = await context.writer.append_together(
        [*([draft] for draft in found.good), found.marked]
    )
    note_stored(context, access, [_together(each), marked])
    return found, {index for index, one in zip(found.places, each, strict=True) if one.accepted}


def _together(stored: list[Appended]) -> Appended:
    """What became of several batches."""
    return Appended(
        sum(one.accepted for one in stored),
        sum(one.duplicates for one in stored),
        min((one.first for one in stored), default=0),
        max((one.last for one in stored), default=0),
        sum(one.conflicts for one in stored),
    )


def note_stored(context: Context, access: Access, stored: list[Appended]) -> Appended:
    """Log and count what was stored: the valid events, and the marked ones if any were possible.

    Returns what became of the valid ones.
    """
    good, marks = stored[0], stored[1:]
    there_are = not marks or good.accepted + good.duplicates > 0
    whole = good if there_are else marks[0]
    access.action = INGESTED
    access.events = sum(one.accepted for one in stored)
    access.duplicates = sum(one.duplicates for one in stored)
    access.begin, access.end = advance(whole.first, -1), whole.last
    note_conflicts(context, access, whole.conflicts)
    context.requests.accepted += good.accepted
    context.requests.duplicates += access.duplicates
    context.requests.invalid += sum(one.accepted for one in marks)
    # No valid event has an offset to report.
    return good if there_are else Appended(0, 0, context.log.head, context.log.head)


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
