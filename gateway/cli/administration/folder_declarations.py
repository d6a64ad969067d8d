"""Declared sets on the stores of a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gateway.cli.administration.folder_destinations import DestinationDesk, destination_desk
from gateway.cli.base.key_folder import run

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members
    from gateway.declarations.administration import DeclarationAdministration
    from gateway.settings.declarations import Settings
T = TypeVar("T")


class DeclarationsInFolder:
    """Implements `gateway.cli.administration.ports.DeclarationCommands`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def plan(self, body: Members, *, prune: bool, make: bool = False) -> Members:
        from gateway.declarations.applied import answer_of

        async def work(sets: DeclarationAdministration) -> Members:
            return _members(answer_of(await sets.plan(body, prune=prune)))

        return self._worked(work, "", change=False, make=make)

    def apply(self, body: Members, *, prune: bool, expect: str, reason: str) -> Members:
        from gateway.declarations.applied import answer_of

        async def work(sets: DeclarationAdministration) -> Members:
            applied = await sets.apply(body, prune=prune, expect=expect, hold=True)
            return _members(answer_of(applied.plan, applied))

        return self._worked(work, reason, change=True, make=True)

    def _worked(
        self,
        work: Callable[[DeclarationAdministration], Awaitable[T]],
        reason: str,
        *,
        change: bool,
        make: bool,
    ) -> T:
        async def worked() -> T:
            async with destination_desk(self._settings, change, reason, make=make) as desk:
                return await work(self._sets(desk))

        return run(worked())

    def _sets(self, desk: DestinationDesk) -> DeclarationAdministration:
        from gateway.access.administration.administration import Administration
        from gateway.declarations.administration import DeclarationAdministration
        from gateway.declarations.declared_destinations import DeclaredDestinations
        from gateway.scheduling.loop_work import LoopWork

        async def pepper() -> bytes:
            return (await desk.pepper()).secret

        terms, slices = self._settings.keys, LoopWork(desk.clock).slices("")
        admin = Administration(desk.caller, desk.keys, desk.clock, terms, pepper, slices)
        destinations = DeclaredDestinations(desk.caller, desk.admin, desk.clock, desk.pepper)
        return DeclarationAdministration(
            desk.caller, admin, desk.keys, desk.clock, terms, destinations, slices
        )


def _members(answer: object) -> Members:
    members: Members = msgspec.to_builtins(answer)
    return members
