"""A key as the caller of administration: it delegates no more than it has itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TypeVar

from gateway.access.grants.grant import Grant
from gateway.access.grants.role import Role, grants_of_roles
from gateway.access.keyring import Keyring
from gateway.access.keys.descent import can_issue_keys
from gateway.access.keys.issuance import bound_to_issuer
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import KeyLimits, exceeded
from gateway.access.keys.key_store import KeysAndRoles, RoleCheck
from gateway.access.keys.lifecycle import is_living
from gateway.access.keys.rotation_chain import ended_issuer, is_own_case
from gateway.access.keys.unreadable import check_readable
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.subsumption import uncovered_grant
from gateway.clock import Clock
from gateway.errors import Conflict, Forbidden, InvalidRequest
from gateway.scheduling.loop_work import Slices

Result = TypeVar("Result")
_MOST_ATTEMPTS = 5


class Issuer:
    """A key as a `Caller`. `recheck` raises once it may not administer any more; policies are
    compared in its `slices`."""

    def __init__(
        self,
        key: Key,
        recheck: Callable[[], Awaitable[None]],
        keyring: Keyring,
        store: KeysAndRoles,
        clock: Clock,
        slices: Slices,
    ) -> None:
        self.key = key
        self._recheck = recheck
        self._keyring = keyring
        self._store = store
        self._clock = clock
        self._slices = slices

    @property
    def by(self) -> str:
        return self.key.id

    @property
    def person(self) -> str:
        return "" if self.key.person is None else self.key.person.name

    @property
    def limits(self) -> KeyLimits:
        return self.key.limits

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        """Raise if a key to be issued or resumed may do more than this one, or has weaker
        limits."""
        for name in key.roles:
            if name in roles:
                # What it grants is unknown here, but another version may read it.
                check_readable(roles[name])
        await self._refuse_with_ended_issuer()
        wanted = effective_grants(key, grants_of_roles(roles))
        _refuse(await self._slices.run(uncovered_grant(self._grants(), wanted)))
        more = exceeded(self.key.limits, key.limits)
        if more is not None:
            raise Forbidden(
                f"limits.{more}: this key has {getattr(self.key.limits, more)} itself and cannot "
                "give more; use a key without that limit",
                code="exceeds_own_limits",
                limit=more,
            )

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        return bound_to_issuer(key, self.key, asked=given, can_issue=can_issue)

    async def refuse_own_case(self, key: Key) -> None:
        if await is_own_case(self._store, self.key, key):
            raise Forbidden(
                "this key is the one to be reviewed, made it, or has its owner, or one of them "
                "came of the other: have somebody else review it",
                code="own_case",
            )

    async def recheck(self) -> None:
        await self._recheck()

    async def change_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        change: Callable[[RoleCheck], Awaitable[Result]],
    ) -> Result:
        """Change a role, if the caller has the rights that the role grants before and after.

        Where the role denies or hides something, the caller needs all rights that keys with the
        role have afterwards; and no key may win the right to issue keys and outlive the caller.
        This is checked before the change, in slices, and again if something changes meanwhile.
        """
        await self._refuse_with_ended_issuer()
        for _ in range(_MOST_ATTEMPTS):
            known = await self._store.roles()
            having: list[Key] | None = None
            if _concerns_keys(grants_of_roles(known).get(name, ()), instead):
                having = []
                async for part in self._store.parts():
                    await self._slices.rest()
                    having += [key for key in part if name in key.roles]
            await self._slices.run(self._checking_role(name, instead, known, having or ()))
            try:
                return await change(_unless_other(known, having))
            except _Other:
                continue
        raise Conflict(f"the role {name}, or keys with it, change all the time; try again")

    async def check_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        known: Mapping[str, Role],
        having: Sequence[Key],
    ) -> None:
        """Raise if the caller may not have a role grant something else, where these roles are known
        and these keys have it."""
        await self._refuse_with_ended_issuer()
        concerned = having if _concerns_keys(grants_of_roles(known).get(name, ()), instead) else ()
        await self._slices.run(self._checking_role(name, instead, known, concerned))

    def _grants(self) -> tuple[Grant, ...]:
        return self._keyring.grants_of(self.key)

    async def _refuse_with_ended_issuer(self) -> None:
        """Raise if the key, or an issuer of it, was ended or suspended."""
        ended = await ended_issuer(self._keyring, self.key, self._clock.now())
        if ended is not None:
            raise Forbidden(
                f"the key {ended[0]}, which this key was made with, is {ended[1]}: what this key "
                "may do stays, but it makes, resumes and widens nothing any more; use another key",
                code="maker_ended",
                maker=ended[0],
            )

    def _checking_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        known: Mapping[str, Role],
        having: Sequence[Key],
    ) -> Generator[None, None, None]:
        own, roles = self._grants(), grants_of_roles(known)
        replaced = roles.get(name, ())
        _refuse((yield from uncovered_grant(own, instead)))
        _refuse((yield from uncovered_grant(own, replaced)))
        changed = {**roles, name: instead}
        now = self._clock.now()
        for key in (one for one in having if is_living(one, now)):
            yield
            before, after = effective_grants(key, roles), effective_grants(key, changed)
            outlives = key.expires_at > self.key.expires_at
            if can_issue_keys(after) and not can_issue_keys(before) and outlives:
                raise InvalidRequest(
                    f"the key {key.id} has this role and could then make keys, and expires after "
                    "the key that changes the role: change it with one that lives longer, or by "
                    "the command line, or make a shorter-lived key instead",
                    code="outlives_maker",
                    key=key.id,
                )
            if (yield from uncovered_grant(before, after)) is not None:
                _refuse((yield from uncovered_grant(own, after)))


class _Other(Exception):
    """The roles or keys that were checked have changed."""


def _unless_other(known: Mapping[str, Role], having: Sequence[Key] | None) -> RoleCheck:
    """Check that raises `_Other` on a change since; `having` is None if the keys with the role do
    not matter."""

    def revisions(keys: Sequence[Key]) -> dict[str, int]:
        return {key.id: key.revision for key in keys}

    def check(roles: Mapping[str, Role], keys: Sequence[Key]) -> None:
        if roles != known or (having is not None and revisions(keys) != revisions(having)):
            raise _Other

    return check


def _concerns_keys(replaced: tuple[Grant, ...], instead: tuple[Grant, ...]) -> bool:
    """Whether keys with the role may gain more by the change than the role then grants."""
    return can_issue_keys(instead) or any(
        grant.effect == "deny" or grant.fields for grant in replaced
    )


def _refuse(more: Grant | None) -> None:
    """Raise if there is a grant that the caller lacks."""
    if more is not None:
        raise Forbidden(
            "this key cannot grant what it does not have; narrow the grant, or use a key that "
            "has those rights",
            code="exceeds_own_grants",
            grant=more.shown(),
        )
