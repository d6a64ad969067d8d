"""Rights of the key of a request over other keys, roles and findings."""

from __future__ import annotations

from gateway.access.administration.administration import Administration
from gateway.access.administration.issuer import Issuer
from gateway.access.keys.key import Key
from gateway.access.keys.rotation_chain import (
    has_conflict_of_interest,
    is_delegated,
    key_and_predecessors,
)
from gateway.errors import Forbidden
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.oversight.detection.finding import Finding
from gateway.oversight.detection.usage_profile import network_of


def administration_by(context: Context, admission: Admission) -> Administration:
    """Administration on behalf of an admitted key."""
    issuer = issuer_of(context, admission)

    async def pepper() -> bytes:
        return context.keyring.peppers.current.secret

    return Administration(
        issuer, context.key_store, context.clock, context.settings.keys, pepper,
        context.work.slices(issuer.by),
    )  # fmt: skip


def issuer_of(context: Context, admission: Admission) -> Issuer:
    """An admitted key as the caller of administration."""
    key = admission.key
    slices = context.work.slices(key.id)
    return Issuer(key, admission.recheck, context.keyring, context.key_store, context.clock, slices)


async def check_delegation(context: Context, admission: Admission, *keys: Key) -> None:
    """Raise if an admitted key may not grant what the other keys may do."""
    issuer, roles = issuer_of(context, admission), await context.key_store.roles()
    for key in keys:
        await issuer.check_delegation(key, roles)


async def refuse_own_finding(
    context: Context,
    admission: Admission,
    finding: Finding,
    address: str | None,
    *,
    expected: bool,
) -> None:
    """Raise if the key of the request may not review a finding.

    It may not if it has a conflict of interest, or if another key made it and it was used from the
    finding's address; nor mark as expected what a key with more rights does.
    """
    reviewer = admission.key
    key = await context.key_store.get(finding.key) if finding.key else None
    if key is None:
        if finding.address:
            await _refuse_own_address(context, reviewer, finding.address, address)
        return
    if await has_conflict_of_interest(context.key_store, reviewer, key):
        raise Forbidden(
            "this finding is about this key itself, or about one that it came of or that came of "
            "it; have somebody else review it, with a key that is above both or of other origin",
            code="own_case",
        )
    if expected:
        await check_delegation(context, admission, key)


async def _refuse_own_address(
    context: Context, reviewer: Key, about: str, address: str | None
) -> None:
    """Refuse a delegated key that uses this address: it may have caused the refusals there."""
    if not await is_delegated(context.key_store, reviewer):
        return
    profiles = context.detector.profiles
    places = {network_of(address)} if address else set()
    for key_id in await key_and_predecessors(context.key_store, reviewer.id):
        places |= set((await profiles.of(key_id)).networks)
    if network_of(about.partition("/")[0]) in places:
        raise Forbidden(
            "this finding is about an address in a network that this key is used from; have "
            "somebody else review it, who comes from another, or whoever made this key",
            code="own_case",
        )
