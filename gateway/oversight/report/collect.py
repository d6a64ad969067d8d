"""Collection of an access review from the stores, in slices and within budgets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.grants.mask import masked
from gateway.access.grants.role import BUILTIN, Role, grants_of_roles
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeysAndRoles
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.reader import Reader
from gateway.clock import Clock, format_time
from gateway.cursor import format_cursor
from gateway.errors import InvalidRequest
from gateway.ingest.gateway_event import ACCESS, KEYS
from gateway.log.ports import Log
from gateway.oversight.access_log.past_access import Presence
from gateway.oversight.detection.usage_profile import LastUse
from gateway.oversight.inventory.key_query import KeyFacts, KeyQuery
from gateway.oversight.report.controls import CONTROLS
from gateway.oversight.report.grants_in_use import GrantsInUse, Looked
from gateway.oversight.report.looks import RecordedActs
from gateway.oversight.report.rows import (
    AccessReview,
    KeyRow,
    ReviewHead,
    RoleRow,
    rows_sha256,
)
from gateway.oversight.review.key_review import Review, ReviewBudget
from gateway.oversight.review.record_masks import masked_last_use
from gateway.oversight.review.sentences import can_sentences
from gateway.scheduling.loop_work import Slices

MOST_KEYS = 10_000
UNUSED_SECONDS = 30 * 86400
PERIOD_SECONDS = 90 * 86400
_DAY = 86400
# Memory of a key with its row, and of what is kept of any other.
_ROW_BYTES, _NAME_BYTES = 4096, 256
_NEVER = LastUse()
# Events and bytes by key.
Totals = Mapping[str, tuple[int, int]]


class Asker(msgspec.Struct, frozen=True):
    """Who asks for a review: id and name, grants, whose masks hold for what records would tell, and
    what it cannot be shown, in sentences."""

    id: str
    name: str
    grants: tuple[Grant, ...]
    reader: Reader
    not_shown: tuple[str, ...] = ()


class ReviewQuery(msgspec.Struct, frozen=True):
    """Keys of a review, and the begin of its period, in seconds since 1970. `conditions` are those
    of the keys in words."""

    keys: KeyQuery
    since: float
    conditions: tuple[str, ...] = ()


class ReviewBudgets(msgspec.Struct, frozen=True):
    """Budgets for records of the gateway and for other events."""

    records: ReviewBudget = ReviewBudget(seconds=4.0, events=100_000)
    events: ReviewBudget = ReviewBudget(seconds=2.0, events=10_000)


class ReviewSources(Protocol):
    """Stores of a review, and what is known of keys beside them."""

    @property
    def store(self) -> KeysAndRoles:
        """Keys and roles."""

    @property
    def log(self) -> Log:
        """The log with the gateway's records."""

    @property
    def clock(self) -> Clock:
        """Trusted time."""

    async def last_uses(self) -> Mapping[str, LastUse]:
        """Last use of each key that was used, by its id."""

    async def findings(self) -> Mapping[str, int] | None:
        """Numbers of open findings by key; None for who may not read them."""

    async def totals(self, key_ids: Sequence[str], days: int) -> Totals | None:
        """Events and bytes of keys in so many days; None for who may not read them."""

    async def presence(self, key_id: str, use: LastUse) -> Presence:
        """What a key does that is not in the log yet."""

    def hold(self, size: int) -> None:
        """Count bytes that are held until the report is sent. Raises if those are too many."""


class _Found(msgspec.Struct):
    """Keys of a review, and what rows need to know of all others."""

    keys: list[Key] = []
    names: dict[str, str] = {}
    predecessors: dict[str, str] = {}
    having: dict[str, int] = {}


async def collect_review(
    sources: ReviewSources, query: ReviewQuery, asker: Asker, budgets: ReviewBudgets, slices: Slices
) -> AccessReview:
    """The report as of now. Raises `InvalidRequest` for too many keys."""
    log, now = sources.log, sources.clock.now()
    await log.catch_up()
    head, not_shown = format_cursor(log.epoch, log.head), list(asker.not_shown)
    roles = {**BUILTIN, **await sources.store.roles()}
    granted = grants_of_roles(roles)
    uses, findings = await sources.last_uses(), await sources.findings()
    found = await _found(sources, query, granted, uses, findings, now, slices)
    grants_in_use = GrantsInUse()
    async for key in slices.each(found.keys):
        since = max(key.created_at, now - UNUSED_SECONDS)
        grants_in_use.add_key(key.id, grants_of_key(key, granted), since)
    acts, looked = await _looked(sources, query, asker, budgets, grants_in_use, not_shown, slices)
    rows = _Rows(sources, asker, granted, uses, findings, found, now)
    days = max(1, round((now - query.since) / _DAY))
    totals = await sources.totals([key.id for key in found.keys], days)
    made = [
        await rows.row(key, totals, grants_in_use, looked, slices)
        async for key in slices.each(found.keys)
    ]
    report = AccessReview(
        review=ReviewHead(
            made_at=format_time(now), asked_by=asker.id, asked_by_name=asker.name, log_head=head,
            since=format_time(query.since), conditions=list(query.conditions), keys=len(made),
            not_shown=not_shown, rows_sha256="",
        ),
        keys=made,
        roles=[_role(roles[name], found.having) for name in sorted(roles)],
        changes=acts.changes(), looks=await slices.run(acts.looks()), controls=CONTROLS,
    )  # fmt: skip
    report.review.rows_sha256 = await slices.run(rows_sha256(report))
    return report


async def _found(
    sources: ReviewSources, query: ReviewQuery, granted: Mapping[str, tuple[Grant, ...]],
    uses: Mapping[str, LastUse], findings: Mapping[str, int] | None, now: float, slices: Slices,
) -> _Found:  # fmt: skip
    found = _Found()
    async for part in sources.store.parts():
        sources.hold(len(part) * _NAME_BYTES)
        async for key in slices.each(part):
            found.names[key.id] = key.name
            if key.predecessor:
                found.predecessors[key.id] = key.predecessor
            open_findings = None if findings is None else findings.get(key.id, 0)
            used_at = uses.get(key.id, _NEVER).used_at
            facts = KeyFacts(key, effective_grants(key, granted), now, used_at, open_findings)
            if facts.living:
                for role in key.roles:
                    found.having[role] = found.having.get(role, 0) + 1
            # Keys that have ended in the period tell that rights are removed.
            if not facts.living and _ended_at(key) < query.since:
                continue
            if query.keys.matches(facts):
                found.keys.append(key)
                sources.hold(_ROW_BYTES)
        if len(found.keys) > MOST_KEYS:
            raise InvalidRequest(
                f"a review has at most {MOST_KEYS} keys; narrow it by owner, role, tenant or q",
                code="too_many_keys",
            )
    found.keys.sort(key=lambda key: (key.owner.lower(), key.name.lower(), key.id))
    return found


def _ended_at(key: Key) -> float:
    return min(key.ends_at, key.revoked_at or key.ends_at)


async def _looked(
    sources: ReviewSources, query: ReviewQuery, asker: Asker, budgets: ReviewBudgets,
    grants_in_use: GrantsInUse, not_shown: list[str], slices: Slices,
) -> tuple[RecordedActs, Looked]:  # fmt: skip
    """Records of the period and the newest events; what was left out is added to `not_shown`."""
    log, clock, reader, acts = sources.log, sources.clock, asker.reader, RecordedActs()
    review = Review(log, clock, budgets.records, slices)
    now = clock.now()
    since = min(query.since, now - UNUSED_SECONDS)
    async with aclosing(review.records(since, (ACCESS, KEYS))) as records:
        async for record in records:
            grants_in_use.add_record(record)
            masks = reader.masks_for(record)
            if masks is not None and record.recorded_at() >= query.since * 1_000_000:
                acts.add(masked(record, masks))
    records_since = since
    if not review.complete and review.oldest is not None:
        records_since = review.oldest.recorded_at() / 1_000_000
        not_shown.append(
            f"Records before {format_time(records_since)}: as many as are looked at were newer."
        )
    if acts.cut:
        not_shown.append("Older changes than those below: as many as are shown were newer.")
    if log.floor and await log.last_before(int(since * 1_000_000)) <= log.floor:
        not_shown.append("Records that retention has deleted, if there were any in the period.")
    events = Review(log, clock, budgets.events, slices)
    if await slices.run(grants_in_use.await_events()):
        async with aclosing(events.events(now - UNUSED_SECONDS)) as newest:
            async for event in newest:
                masks = reader.masks_for(event)
                if masks is not None and not await slices.run(
                    grants_in_use.add_event(masked(event, masks))
                ):
                    break
    return acts, Looked(records_since, events.first, events.complete)


class _Rows:
    """Maker of the rows of keys."""

    def __init__(
        self, sources: ReviewSources, asker: Asker, granted: Mapping[str, tuple[Grant, ...]],
        uses: Mapping[str, LastUse], findings: Mapping[str, int] | None, found: _Found, now: float,
    ) -> None:  # fmt: skip
        self._sources = sources
        self._asker = asker
        self._granted = granted
        self._uses = uses
        self._findings = findings
        self._found = found
        self._now = now

    async def row(
        self, key: Key, totals: Totals | None, grants_in_use: GrantsInUse,
        looked: Looked, slices: Slices,
    ) -> KeyRow:  # fmt: skip
        use, findings = self._uses.get(key.id, _NEVER), self._findings
        grants_in_use.add_presence(key.id, await self._sources.presence(key.id, use), self._now)
        verdict = await slices.run(grants_in_use.verdict(key.id, self._asker.reader, looked))
        grants = effective_grants(key, self._granted)
        last = use.last_use()
        seen = last and masked_last_use(self._asker.grants, key.id, last)
        sent = None if totals is None else totals.get(key.id, (0, 0))
        names = [one.name for one in verdict.unused]
        unknown = [one.name for one in verdict.not_known]
        all_unknown = bool(unknown) and len(unknown) == len(grants)
        return KeyRow(
            kind="key" if key.person is None else "person", id=key.id, name=key.name,
            owner=key.owner, purpose=key.purpose,
            state=key.state(self._now), roles=list(key.roles), made_at=format_time(key.created_at),
            made_by=self._named(key.created_by), ends_at=format_time(_ended_at(key)),
            managed_by=key.managed_by,
            scope=can_sentences(grants), masks=_masks(grants), networks=_networks(grants),
            last_used=seen.get("at") if seen else None,
            last_used_from=str(seen.get("address") or "") if seen else "",
            unused_grants=None if all_unknown else names, grants_not_known=unknown,
            events=sent and sent[0], bytes=sent and sent[1],
            findings_open=None if findings is None else findings.get(key.id, 0),
            rotations=self._rotations(key.id), rotate_by=_moment(key.rotate_by),
            changed_at=format_time(key.changed_at or key.created_at), change=key.change,
            reviewed_at=_moment(key.reviewed_at), reviewed_by=self._named(key.reviewed_by),
            changed_since_review=_changed_since(key),
        )  # fmt: skip

    def _named(self, actor: str) -> str:
        name = self._found.names.get(actor)
        return actor if name is None else f"{actor} ({name})"

    def _rotations(self, key_id: str) -> int:
        seen = {key_id}
        while (before := self._found.predecessors.get(key_id)) and before not in seen:
            seen.add(before)
            key_id = before
        return len(seen) - 1


def _changed_since(key: Key) -> bool | None:
    if key.reviewed_at is None:
        return None
    return key.change not in ("reviewed", "signed_in") and key.changed_at > key.reviewed_at


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)


def _masks(grants: Collection[Grant]) -> list[str]:
    found = {
        f"{path} ({word})"
        for grant in grants
        if grant.fields is not None and grant.effect == "allow"
        for word, paths in (
            ("masked", grant.fields.mask), ("left out", grant.fields.drop),
            ("pseudonym", grant.fields.pseudonymize),
        )
        for path in paths
    }  # fmt: skip
    return sorted(found)


def _networks(grants: Collection[Grant]) -> list[str]:
    return sorted({one for grant in grants if grant.when is not None for one in grant.when.cidr})


def _role(role: Role, having: Mapping[str, int]) -> RoleRow:
    return RoleRow(
        name=role.name, description=role.description, scope=can_sentences(role.grants),
        masks=_masks(role.grants), keys=having.get(role.name, 0),
    )  # fmt: skip
