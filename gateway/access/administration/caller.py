"""Callers of the administration of keys and roles, and what each of them may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from gateway.access.grants.grant import Grant
from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS, KeyLimits
from gateway.access.keys.key_store import RoleCheck, allow_any
from gateway.access.keys.operator import Actor, Operator

Result = TypeVar("Result")


class Caller(Protocol):
    """Who asks for a change. Every caller may narrow (revoke, suspend); what widens a key is
    checked."""

    @property
    def by(self) -> Actor:
        """Name in records."""

    @property
    def person(self) -> str:
        """Name of the person, for the keys that they make; "" for others."""

    @property
    def limits(self) -> KeyLimits:
        """Limits that the keys they issue inherit."""

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        """Raise if the caller may not issue or resume a key with such rights."""

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        """The key with a life that the caller may give, and whether it was cut. `given`: its expiry
        was asked for. `can_issue`: it can issue keys."""

    async def refuse_own_case(self, key: Key) -> None:
        """Raise if the caller may not review the key, as it has a part in it."""

    async def recheck(self) -> None:
        """Raise if the caller may not administer any more. Called right before a change is stored,
        as what comes before it may take long."""

    async def change_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        change: Callable[[RoleCheck], Awaitable[Result]],
    ) -> Result:
        """Result of `change`, which is passed a check that has to hold when the role is changed."""

    async def check_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        known: Mapping[str, Role],
        having: Sequence[Key],
    ) -> None:
        """Raise if the caller may not have a role grant something else, where these roles are known
        and these keys have it."""


class CommandLine:
    """Operator who runs the command line on the stores of the gateway, and may do everything."""

    limits = NO_LIMITS
    person = ""

    def __init__(self, operator: Operator) -> None:
        self.by = operator

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        """Everything may be delegated."""

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        return key, False

    async def refuse_own_case(self, key: Key) -> None:
        """An operator has no key."""

    async def recheck(self) -> None:
        """An operator does not lose rights."""

    async def change_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        change: Callable[[RoleCheck], Awaitable[Result]],
    ) -> Result:
        return await change(allow_any)

    async def check_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        known: Mapping[str, Role],
        having: Sequence[Key],
    ) -> None:
        """Every role may be changed."""
