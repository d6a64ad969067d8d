"""What an administrator may hand on, give back or judge: never more than they have themselves.

Whatever widens what a key may do needs what minting that key needs, and goes through here.
What narrows (revoke, suspend) is every administrator's right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TypeVar

from gateway.access.grants.grant import Grant
from gateway.access.grants.role import BUILTIN, Role
from gateway.access.keys.descent import can_mint, living
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import exceeded
from gateway.access.keys.key_store import RoleCheck
from gateway.access.keys.rotation_chain import (
    ended_maker,
    is_delegated,
    is_partial,
    key_and_predecessors,
)
from gateway.access.keys.unreadable import check_readable
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.subsumption import comparing
from gateway.errors import Conflict, Forbidden, InvalidRequest
from gateway.http.request.context import Context
from gateway.oversight.detection.finding import Finding
from gateway.oversight.detection.usage_profile import network_of

Result = TypeVar("Result")
_MOST_ATTEMPTS = 5


async def all_roles(context: Context) -> dict[str, tuple[Grant, ...]]:
    """The grants of every role there is, by name."""
    return _grants_of(await context.key_store.roles())


def _grants_of(roles: Mapping[str, Role]) -> dict[str, tuple[Grant, ...]]:
    return {name: role.grants for name, role in {**BUILTIN, **roles}.items()}


async def _refuse_with_ended_maker(context: Context, issuer: Key) -> None:
    """Nobody grants anything when their maker can no more."""
    ended = await ended_maker(context.keyring, issuer, context.clock.now())
    if ended is not None:
        raise Forbidden(
            f"the key {ended[0]}, which this key was made with, is {ended[1]}: what this key may "
            "do stays, but it makes, resumes and widens nothing any more; use another key",
            code="maker_ended",
            maker=ended[0],
        )


def _refuse(more: Grant | None) -> None:
    """Nobody grants what they do not have themselves."""
    if more is not None:
        raise Forbidden(
            "this key cannot grant what it does not have; narrow the grant, or use a key that "
            "has those rights",
            code="exceeds_own_grants",
            grant=more.shown(),
        )


async def refuse_to_hand_on(context: Context, issuer: Key, key: Key) -> None:
    """Nobody makes a key work, or work again, that may do more than theirs, or faster."""
    roles = await context.key_store.roles()
    for name in key.roles:
        if name in roles:
            # What it allows is not known, and another version may read it tomorrow.
            check_readable(roles[name])
    await _refuse_with_ended_maker(context, issuer)
    having, wanted = context.keyring.grants_of(issuer), effective_grants(key, _grants_of(roles))
    _refuse(await context.work.slices(issuer.id).run(comparing(having, wanted)))
    more = exceeded(issuer.limits, key.limits)
    if more is not None:
        raise Forbidden(
            f"limits.{more}: this key has {getattr(issuer.limits, more)} itself and cannot give "
            "more; use a key without that limit",
            code="exceeds_own_limits",
            limit=more,
        )


async def change_role(
    context: Context,
    issuer: Key,
    name: str,
    instead: tuple[Grant, ...],
    change: Callable[[RoleCheck], Awaitable[Result]],
) -> Result:
    """What `change` returns, which is given what has to hold within the change of a role.

    Nobody grants by a role what they do not have, nor overwrites or deletes one that they could
    not have made. Nor does anybody take away what a role denies or hides, unless they have all
    that its keys may then do; nor let keys make others that live longer than theirs. Whether that
    is so is looked at before, in slices, and again where something of it changes meanwhile.
    """
    await _refuse_with_ended_maker(context, issuer)
    slices = context.work.slices(issuer.id)
    for _ in range(_MOST_ATTEMPTS):
        known = await context.key_store.roles()
        having: list[Key] | None = None
        if _concerns_keys(_grants_of(known).get(name, ()), instead):
            having = []
            async for part in context.key_store.parts():
                await slices.rest()
                having += [key for key in part if name in key.roles]
        await slices.run(_checking_role(context, issuer, name, instead, known, having or ()))
        try:
            return await change(_unless_other(known, having))
        except _Other:
            continue
    raise Conflict(f"the role {name}, or keys with it, change all the time; try again")


class _Other(Exception):
    """What was looked at is no longer so."""


def _unless_other(known: Mapping[str, Role], having: Sequence[Key] | None) -> RoleCheck:
    """`having` is None where it does not matter which keys have the role."""

    def revisions(keys: Sequence[Key]) -> dict[str, int]:
        return {key.id: key.revision for key in keys}

    def check(roles: Mapping[str, Role], keys: Sequence[Key]) -> None:
        if roles != known or (having is not None and revisions(keys) != revisions(having)):
            raise _Other

    return check


def _concerns_keys(replaced: tuple[Grant, ...], instead: tuple[Grant, ...]) -> bool:
    """Whether keys with the role win more by the change than the role then says."""
    return can_mint(instead) or any(grant.effect == "deny" or grant.fields for grant in replaced)


def _checking_role(
    context: Context,
    issuer: Key,
    name: str,
    instead: tuple[Grant, ...],
    known: Mapping[str, Role],
    having: Sequence[Key],
) -> Generator[None, None, None]:
    own, roles = context.keyring.grants_of(issuer), _grants_of(known)
    replaced = roles.get(name, ())
    _refuse((yield from comparing(own, instead)))
    _refuse((yield from comparing(own, replaced)))
    changed = {**roles, name: instead}
    for key in living(having, context.clock.now()):
        yield
        before, after = effective_grants(key, roles), effective_grants(key, changed)
        if can_mint(after) and not can_mint(before) and key.expires_at > issuer.expires_at:
            raise InvalidRequest(
                f"the key {key.id} has this role and could then make keys, and expires after the "
                "key that changes the role: change it with one that lives longer, or by the "
                "command line, or make a shorter-lived key instead",
                code="outlives_maker",
                key=key.id,
            )
        if (yield from comparing(before, after)) is not None:
            _refuse((yield from comparing(own, after)))


async def refuse_to_judge(
    context: Context, judge: Key, finding: Finding, address: str | None, *, expected: bool
) -> None:
    """Nobody judges a finding about themselves: about their key, one of its rotations, or one that
    it was made by. Who has been made an administrator does not judge what they made, either, nor
    an address where they have been: that is for their maker. And nobody silences a key that may do
    more than theirs. `address` is where the judge asks from."""
    key = await context.key_store.get(finding.key) if finding.key else None
    if key is None:
        if finding.address:
            await _refuse_own_address(context, judge, finding.address, address)
        return
    if await is_partial(context.key_store, judge, key):
        raise Forbidden(
            "this finding is about this key itself, or about one that it came of or that came of "
            "it; have somebody else judge it, with a key that is above both or of other origin",
            code="own_finding",
        )
    if expected:
        await refuse_to_hand_on(context, judge, key)


async def _refuse_own_address(
    context: Context, judge: Key, about: str, address: str | None
) -> None:
    """Whoever was refused there without a key may be who comes from there with one."""
    if not await is_delegated(context.key_store, judge):
        return
    profiles = context.detector.profiles
    places = {network_of(address)} if address else set()
    for key_id in await key_and_predecessors(context.key_store, judge.id):
        places |= set((await profiles.of(key_id)).networks)
    if network_of(about.partition("/")[0]) in places:
        raise Forbidden(
            "this finding is about an address in a network that this key is used from; have "
            "somebody else judge it, who comes from another, or whoever made this key",
            code="own_finding",
        )
