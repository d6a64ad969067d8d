"""`GET /v1/review`: who may see what, who looked, and what has changed, as a report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from aiohttp import web

from gateway.access.policy.decision import RAW_ITEM, View
from gateway.access.usage.access import REVIEWED, ExportedFile
from gateway.errors import InvalidRequest, NotAcceptable
from gateway.filters.overlap import category_overlaps
from gateway.http.keys.key_list import open_findings
from gateway.http.query.values import collect, one
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.named_key import reader_of
from gateway.http.response.accept import best_kind
from gateway.http.response.answer import Answer
from gateway.http.review.parameters import parse_review
from gateway.ingest.gateway_event import ACCESS, KEYS
from gateway.oversight.access_log.past_access import Presence
from gateway.oversight.detection.usage_profile import LastUse
from gateway.oversight.report.collect import (
    Asker,
    ReviewBudgets,
    Totals,
    collect_review,
)
from gateway.oversight.report.text import CONTENT_SECURITY_POLICY, FORMATS, ReviewFormat

_BUDGETS = ReviewBudgets()
_DAY = 86400
_USE_BYTES = 320
_BY_KIND = {one.kind: one for one in FORMATS.values()}


async def review(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/review`. It shows no more than the lists of keys, findings, usage and records that
    the caller may see, and says what that left out."""
    written = _format(request)
    now = context.clock.now()
    query = parse_review(request.query.items(), now)
    key, access = admission.key, admission.access
    slices = context.work.slices(key.id)
    sources = _Sources(request, context, admission)
    async with context.looks.whole(key.id):
        report = await collect_review(
            sources, query, await _asker(context, admission), _BUDGETS, slices
        )
        body = bytearray()
        async for part in slices.each(written.write(report)):
            encoded = part.encode()
            sources.hold(len(encoded))
            body += encoded
    await admission.recheck()
    digest = hashlib.sha256(body).hexdigest()
    access.action = REVIEWED
    access.export = ExportedFile(0, 0, len(body), digest, complete=True)
    named = f"access-review-{report.review.made_at[:19].replace(':', '')}Z.{written.suffix}"
    charset = "" if written.kind == "application/json" else "; charset=utf-8"
    return Answer(
        bytes(body), f"{written.kind}{charset}",
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{named}"',
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Vary": "Accept",
        },
    )  # fmt: skip


def _format(request: web.Request) -> ReviewFormat:
    named = one(collect(request.query.items()), "format")
    if named is not None:
        if named not in FORMATS:
            raise InvalidRequest(f"format: one of {', '.join(FORMATS)}", parameter="format")
        return FORMATS[named]
    kind = best_kind(request, tuple(_BY_KIND))
    if kind is None:
        raise NotAcceptable("a review comes as " + ", ".join(_BY_KIND))
    return _BY_KIND[kind]


class _Sources:
    """`ReviewSources` of a request."""

    def __init__(self, request: web.Request, context: Context, admission: Admission) -> None:
        self.store = context.key_store
        self.log = context.log
        self.clock = context.clock
        self._context = context
        self._admission = admission
        self._holding = admission.holding(request)

    async def last_uses(self) -> Mapping[str, LastUse]:
        uses = await self._context.detector.profiles.last_uses()
        self.hold(_USE_BYTES * len(uses))
        return uses

    async def findings(self) -> Mapping[str, int] | None:
        return await open_findings(self._context, self._admission)

    async def totals(self, key_ids: Sequence[str], days: int) -> Totals | None:
        if self._admission.view_of("usage.read") is None:
            return None
        found = await self._context.usage.totals(key_ids, days * _DAY)
        return {key_id: (counts[2], counts[3]) for key_id, counts in found.items()}

    async def presence(self, key_id: str, use: LastUse) -> Presence:
        hub = self._context.hub
        streams = [
            (one.opened, hub.offset_of(one))
            for one in hub.streams_of(key_id)
            if one.opened is not None
        ]
        return Presence(tuple(streams), use.used_at, use.address)

    def hold(self, size: int) -> None:
        self._holding.take(size)


async def _asker(context: Context, admission: Admission) -> Asker:
    """The key that asks; what it cannot be shown depends on its grants alone."""
    view, not_shown = admission.view_of("pull"), []
    if admission.view_of("usage.read") is None:
        not_shown.append("Events, bytes and findings: the asking key has no grant of usage.read.")
    for category, what in ((KEYS, "Changes of keys and roles"), (ACCESS, "Who looked at what")):
        if view is None or not _pulls(view, category):
            not_shown.append(f"{what}: no grant of the asking key pulls {category} by name.")
        elif hidden := _hidden(view, category):
            not_shown.append(f"{what}: its grants hide {', '.join(hidden)}, or some records.")
    key, reader = admission.key, await reader_of(context, admission)
    return Asker(key.id, key.name, admission.grants, reader, tuple(not_shown))


def _pulls(view: View, category: str) -> bool:
    return any(category_overlaps(scope, category) for scope in view.scopes)


def _hidden(view: View, category: str) -> list[str]:
    """Members of records of a category that the view hides."""
    return sorted(
        {
            path
            for rule in view.rules
            if category_overlaps(rule.scope, category)
            for path in (*rule.masks.mask, *rule.masks.drop, *rule.masks.pseudonymize)
            # Of other records alone.
            if path not in RAW_ITEM.mask
        }
    )
