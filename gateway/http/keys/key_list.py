"""`GET /v1/keys`: all keys, with what somebody who looks after them wants to know of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

from aiohttp import web
from msgspec import structs

from gateway.access.administration.role_lookup import grants_by_role
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.delegation import administration_by
from gateway.http.request.listing import listed
from gateway.http.response.answers import ListedKey
from gateway.oversight.detection.usage_profile import LastUse
from gateway.oversight.review.record_masks import masked_finding, masked_last_use
from gateway.oversight.review.sentences import can_sentences

# Memory of one last use.
_USE_BYTES = 320
_NEVER = LastUse()


@listed("keys")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[ListedKey]:
    """`GET /v1/keys`: oldest first."""
    now, administration = context.clock.now(), administration_by(context, admission)
    holding, own = admission.holding(request), admission.grants
    known = await grants_by_role(context.key_store)
    findings = await _open_findings(context, admission)
    uses = await context.detector.profiles.last_uses()
    holding.take(_USE_BYTES * len(uses))
    async for key in administration.all_keys(holding.take):
        use = uses.get(key.id, _NEVER).last_use()
        yield ListedKey(
            **structs.asdict(key.public(now)),
            scope=can_sentences([one.grant for one in grants_of_key(key, known)]),
            last_used=use and masked_last_use(own, key.id, use),
            findings_open=None if findings is None else findings[key.id],
        )


async def _open_findings(context: Context, admission: Admission) -> Counter[str] | None:
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
