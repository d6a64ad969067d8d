"""Who administers keys and roles, and how much of it they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from gateway.access.grants.grant import Grant
from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS, KeyLimits
from gateway.access.keys.key_store import RoleCheck, allow_any
from gateway.access.keys.operator import Actor, Operator

Result = TypeVar("Result")


class Caller(Protocol):
    """Who asks for a change. What narrows (revoke, suspend) is the right of everyone; whatever
    widens what a key may do is asked of the caller."""

    @property
    def by(self) -> Actor:
        """How records name them."""

    @property
    def limits(self) -> KeyLimits:
        """What the keys that they make inherit."""

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        """Raise if a key that they make work, or work again, may do more than they may."""

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        """The key as they may make it, and whether its life was cut; `given`: its expiry was asked
        for; `can_issue`: it can make others."""

    async def recheck(self) -> None:
        """Raise if they may not administer any more: right before a change is stored, as what comes
        before it may take long."""

    async def change_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        change: Callable[[RoleCheck], Awaitable[Result]],
    ) -> Result:
        """What `change` returns, which is given what has to hold within the change of a role."""


class CommandLine:
    """Who runs the command line on the stores of the gateway, and may do everything there."""

    limits = NO_LIMITS

    def __init__(self, operator: Operator) -> None:
        self.by = operator

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        """Whatever the key may do."""

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        return key, False

    async def recheck(self) -> None:
        """Nobody takes that right away."""

    async def change_role(
        self,
        name: str,
        instead: tuple[Grant, ...],
        change: Callable[[RoleCheck], Awaitable[Result]],
    ) -> Result:
        return await change(allow_any)
