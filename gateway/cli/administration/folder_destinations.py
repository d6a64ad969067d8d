"""Administration of destinations on the stores of a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from gateway.cli.base.key_folder import key_store, run
from gateway.cli.base.operator import this_operator
from gateway.cli.base.stores import log_to_read

if TYPE_CHECKING:
    from gateway.access.administration.caller import CommandLine
    from gateway.access.credentials.pepper import Pepper
    from gateway.access.keys.key_store import KeysAndRoles
    from gateway.cli.administration.ports import Members
    from gateway.delivery.administration import DestinationAdministration
    from gateway.delivery.running.outlets import Outlets
    from gateway.log.ports import Log
    from gateway.settings.declarations import Settings
    from gateway.trusted_clock import TrustedClock
T = TypeVar("T")


class DestinationDesk(NamedTuple):
    """What the commands work with."""

    admin: DestinationAdministration
    outlets: Outlets
    log: Log
    caller: CommandLine
    keys: KeysAndRoles
    clock: TrustedClock
    pepper: Callable[[], Awaitable[Pepper]]


class DestinationsInFolder:
    """Implements `gateway.cli.administration.ports.DestinationCommands`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(self, body: Members, reason: str) -> Members:
        async def work(desk: DestinationDesk) -> Members:
            return _members(await desk.admin.shown(await desk.admin.create(body)))

        return self._changed(work, reason)

    def all(self) -> list[Members]:
        async def work(desk: DestinationDesk) -> list[Members]:
            return [_members(await desk.admin.shown(one)) for one in await desk.admin.all()]

        return self._looked(work)

    def show(self, name: str) -> Members:
        async def work(desk: DestinationDesk) -> Members:
            return _members(await desk.admin.shown(await desk.admin.named(name)))

        return self._looked(work)

    def test(self, name: str) -> Members:
        async def work(desk: DestinationDesk) -> Members:
            destination = await desk.admin.named(name)
            return _members(await desk.outlets.test(destination, desk.log))

        return self._looked(work)

    def pause(self, name: str, reason: str) -> None:
        self._changed(lambda desk: desk.admin.pause(name, reason))

    def resume(self, name: str, reason: str) -> None:
        self._changed(lambda desk: desk.admin.resume(name, reason))

    def replay(self, name: str, body: Members) -> None:
        from gateway.delivery.definition import ReplayBody
        from gateway.json_members import parse_body

        parsed = parse_body(body, ReplayBody)
        self._changed(lambda desk: desk.admin.replay(name, parsed))

    def cancel_replay(self, name: str, reason: str) -> None:
        self._changed(lambda desk: desk.admin.cancel_replay(name), reason)

    def dead_letters(self, name: str, after: str, limit: int) -> list[Members]:
        from gateway.delivery.answer import public_dead_letter

        letters = self._looked(lambda desk: desk.admin.dead_letters(name, after, limit))
        return [_members(public_dead_letter(one)) for one in letters]

    def set_secret(self, name: str, secret: str, body: Members, reason: str) -> None:
        from gateway.delivery.definition import SecretBody
        from gateway.json_members import parse_body

        new = parse_body(body, SecretBody)
        self._changed(
            lambda desk: desk.admin.set_secret(name, secret, new.value, new.overlap), reason
        )

    def delete(self, name: str, reason: str) -> None:
        self._changed(lambda desk: desk.admin.delete(name), reason)

    def _looked(self, work: Callable[[DestinationDesk], Awaitable[T]]) -> T:
        """Result of work that is recorded as a look at keys."""
        return self._at_desk(work, "", change=False)

    def _changed(self, work: Callable[[DestinationDesk], Awaitable[T]], reason: str = "") -> T:
        return self._at_desk(work, reason, change=True)

    def _at_desk(
        self, work: Callable[[DestinationDesk], Awaitable[T]], reason: str, *, change: bool
    ) -> T:
        async def worked() -> T:
            async with destination_desk(self._settings, change, reason) as desk:
                return await work(desk)

        return run(worked())


@asynccontextmanager
async def destination_desk(
    settings: Settings, change: bool, reason: str, *, make: bool = False
) -> AsyncIterator[DestinationDesk]:
    """Stores of a folder, and the administration of destinations on them; `make` and `change` as
    for `key_store`."""
    from gateway.access.administration.caller import CommandLine
    from gateway.adapters.files.agreement import agree_on_pepper
    from gateway.adapters.files.folder import DataFolder
    from gateway.delivery.administration import DestinationAdministration, Stores
    from gateway.delivery.connect.lookup import Lookups
    from gateway.delivery.running.outlets import Outlets
    from gateway.runtime.declared import declare
    from gateway.runtime.outlets import outlet_types
    from gateway.runtime.stores import open_consumers, open_destinations

    async with AsyncExitStack() as stack:
        keys, clock = await stack.enter_async_context(key_store(settings, make=make, change=change))
        log = await stack.enter_async_context(log_to_read(settings))
        consumers = await open_consumers(settings)
        stack.push_async_callback(consumers.close)
        store = await open_destinations(settings)
        stack.push_async_callback(store.close)
        lookups = Lookups()
        stack.callback(lookups.close)
        peppers = DataFolder.of(settings).peppers
        types = outlet_types(settings, clock, lookups)
        outlets = Outlets(types, peppers.newest, clock)
        declare(settings, outlets, clock)

        async def pepper() -> Pepper:
            return (await agree_on_pepper(peppers, keys, clock.now())).current

        caller = CommandLine(this_operator(reason))
        admin = DestinationAdministration(
            caller, Stores(store, consumers, keys, log), clock, pepper,
            outlets.check_type,
        )  # fmt: skip
        yield DestinationDesk(admin, outlets, log, caller, keys, clock, pepper)


def _members(answer: Any) -> Members:
    members: Members = msgspec.to_builtins(answer)
    return members
