"""`GET /v1/keys`: keys, with what somebody who looks after them wants to know of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping

from aiohttp import web
from msgspec import Struct, structs

from gateway.access.administration.role_lookup import grants_by_role
from gateway.access.grants.grant import Grant
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.access.policy.decision import effective_grants
from gateway.errors import Forbidden
from gateway.http.keys.parameters import format_place, parse_keys
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.delegation import administration_by
from gateway.http.request.listing import Rest, listed
from gateway.http.response.answers import ListedKey, MoreKeys
from gateway.oversight.detection.usage_profile import LastUse
from gateway.oversight.inventory.key_query import KeyFacts, KeyQuery, Place
from gateway.oversight.inventory.summary import Summing
from gateway.oversight.review.record_masks import masked_finding, masked_last_use
from gateway.oversight.review.sentences import can_sentences

# Memory of one last use.
_USE_BYTES = 320
_NEVER = LastUse()
_DAY = 86400


class _Keys:
    """All keys of one request, of which a query chooses."""

    def __init__(
        self,
        query: KeyQuery,
        now: float,
        known: Mapping[str, tuple[Grant, ...]],
        uses: Mapping[str, LastUse],
        findings: Counter[str] | None,
    ) -> None:
        self.found = 0
        self.summing = Summing() if query.limit else None
        self._query = query
        self._now = now
        self._known = known
        self._uses = uses
        self._findings = findings

    def place(self, key: Key) -> Place | None:
        """Where a key that is wanted stands among the others; None if it is not."""
        facts = self.facts(key)
        if self.summing is not None:
            self.summing.add(facts)
        if not self._query.matches(facts):
            return None
        self.found += 1
        place = self._query.place(facts)
        return place if self._query.is_behind(place) else None

    def facts(self, key: Key) -> KeyFacts:
        findings = None if self._findings is None else self._findings[key.id]
        used_at = self._uses.get(key.id, _NEVER).used_at
        return KeyFacts(key, effective_grants(key, self._known), self._now, used_at, findings)

    def shown(self, key: Key, own: tuple[Grant, ...]) -> ListedKey:
        """The key for a caller with such grants."""
        use = self._uses.get(key.id, _NEVER).last_use()
        grants = grants_of_key(key, self._known)
        return ListedKey(
            **structs.asdict(key.public(self._now)),
            scope=can_sentences([one.grant for one in grants]),
            last_used=use and masked_last_use(own, key.id, use),
            unused_grants=None if use else [one.name for one in grants],
            age_days=max(0, int((self._now - key.created_at) // _DAY)),
            findings_open=None if self._findings is None else self._findings[key.id],
        )

    def rest(self, last: Key | None) -> MoreKeys:
        """What stands behind a page; `last` is its last key if there are others behind it."""
        assert self.summing is not None
        query = self._query
        place = None if last is None else query.place(self.facts(last))
        following = None if place is None else format_place(query.order, place)
        return MoreKeys(following, self.found, self.summing.summary())


@listed("keys")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[Struct]:
    """`GET /v1/keys`: those that are asked for, oldest first unless another order is."""
    query = parse_keys(request.query.items())
    now, administration = context.clock.now(), administration_by(context, admission)
    holding, own = admission.holding(request), admission.grants
    known = await grants_by_role(context.key_store)
    findings = await open_findings(context, admission)
    if findings is None and query.findings is not None:
        raise Forbidden(
            "findings: which keys have some is shown to keys with a grant of usage.read",
            code="action_not_granted",
            action="usage.read",
        )
    uses = await context.detector.profiles.last_uses()
    holding.take(_USE_BYTES * len(uses))
    keys = _Keys(query, now, known, uses, findings)
    last, left = None, query.limit
    async for key in administration.all_keys(holding.take, keys.place):
        if left == 0:
            break
        left = None if left is None else left - 1
        last = key
        yield keys.shown(key, own)
    else:
        last = None
    if query.limit is not None:
        yield Rest(keys.rest(last))


async def open_findings(context: Context, admission: Admission) -> Counter[str] | None:
    """Numbers of open findings by key, as far as the caller sees whom they are about; None if it
    may not read them."""
    if admission.view_of("usage.read") is None:
        return None
    found: Counter[str] = Counter()
    slices = context.work.slices(admission.key.id)
    async for finding in slices.each(await context.detector.findings.all()):
        if finding.state == "open" and finding.key:
            found[masked_finding(admission.grants, finding).key or ""] += 1
    return found
