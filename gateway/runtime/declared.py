"""Destinations of the configuration: `[destinations.NAME]`, read-only for everybody else.

Their secrets stay where they are: in the file of settings, in another file, or in a variable.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.access.credentials.pepper import Peppers
from gateway.access.keys.change import key_urn, other_change
from gateway.clock import Clock, SystemClock
from gateway.delivery.administration import Stores
from gateway.delivery.connect.lookup import Lookups
from gateway.delivery.definition import Definition, invalid, parse_definition, parse_start
from gateway.delivery.destination import OWNER, Destination
from gateway.delivery.ports import DestinationChange
from gateway.delivery.position import position_row, start_cursor
from gateway.delivery.records import destination_urn
from gateway.delivery.running.outlets import Outlets
from gateway.errors import GatewayError, InvalidRequest, InvalidSetting
from gateway.runtime.outlets import outlet_types
from gateway.settings.declarations import Settings

_REREAD_SECONDS = 60.0
_MOST_SECRET_BYTES = 64 * 1024


class ConfiguredSecrets:
    """Secrets of one destination. What stands elsewhere is read again after a minute."""

    def __init__(self, references: Mapping[str, Any], clock: Clock) -> None:
        self._references = references
        self._clock = clock
        self._read: dict[str, tuple[float, Sequence[str]]] = {}

    @property
    def names(self) -> Collection[str]:
        return self._references.keys()

    def __call__(self, name: str) -> Sequence[str]:
        reference, now = self._references.get(name), self._clock.monotonic()
        if reference is None:
            return ()
        if isinstance(reference, str):
            return (reference,)
        known = self._read.get(name)
        if known is None or now - known[0] >= _REREAD_SECONDS:
            known = self._read[name] = (now, _referred(reference))
        return known[1]

    def forget(self) -> None:
        """Read all again at the next use, as the receiver refuses them."""
        self._read.clear()


def _referred(reference: Mapping[str, str]) -> Sequence[str]:
    if "env" in reference:
        value = os.environ.get(reference["env"], "")
    else:
        try:
            with Path(reference["file"]).open("rb") as file:
                value = file.read(_MOST_SECRET_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            value = ""
    return (value,) if value else ()


class Declared:
    """Destinations of the settings, checked. Raises `InvalidSetting` for one that cannot work."""

    def __init__(self, settings: Settings, outlets: Outlets, clock: Clock) -> None:
        self.definitions: dict[str, Definition] = {}
        self.secrets: dict[str, ConfiguredSecrets] = {}
        self._clock = clock
        for name, table in settings.declared_destinations.items():
            try:
                definition, references = _parsed(name, table)
                outlets.check_type(definition, frozenset(references), configured=True)
            except InvalidRequest as error:
                path = f"destinations.{name}"
                origin = settings.given[path].origin if path in settings.given else "settings"
                raise InvalidSetting(
                    f"{path}: {error.detail} ({origin})", setting=path, origin=origin
                ) from None
            self.definitions[name] = definition
            self.secrets[name] = ConfiguredSecrets(references, clock)

    async def store(self, stores: Stores) -> None:
        """Have the store hold just these of the configuration, each with its state and position.

        Raises `GatewayError` where a name is taken by one that was made otherwise.
        """
        known = {one.name: one for one in await stores.destination_store.all()}
        for name, definition in self.definitions.items():
            before = known.get(name)
            if before is None:
                await self._place(name, definition, stores)
            else:
                _refuse_other(before)
            if before is None or before.definition != definition:
                changed = await _replace(stores, name, self._declaring(definition))
                if changed is None:
                    await self._record(stores, "created", definition)
                elif changed.definition != definition:
                    await self._record(stores, "changed", definition)
        for name, one in known.items():
            if one.managed_by == "config" and name not in self.definitions:
                gone = await _replace(stores, name, _without_declared)
                if gone is not None and gone.managed_by == "config":
                    await self._record(stores, "deleted", one.definition)
                    await stores.consumer_store.change(OWNER, name, lambda row, others: None)

    async def _record(self, stores: Stores, what: str, definition: Definition) -> None:
        """Record a change, with the cursor from which it holds; of processes that start together
        the one that has made it does."""
        row = await stores.consumer_store.get(OWNER, definition.name)
        data = {
            "destination": definition.name,
            "type": definition.type,
            "key": definition.key,
            "from": row.cursor if row is not None else "",
        }
        about = [destination_urn(definition.name), key_urn(definition.key)]
        await stores.key_store.record_later(
            other_change(f"destination.{what}", about, by="config", at=self._clock.now(), data=data)
        )

    async def _place(self, name: str, definition: Definition, stores: Stores) -> None:
        now = self._clock.now()
        cursor = await start_cursor(stores.log, parse_start(definition.start, now))
        row = position_row(name, cursor, now)
        # Another process that starts at the same time may have been first.
        await stores.consumer_store.change(
            OWNER, name, lambda before, others: row if before is None else before
        )

    def _declaring(self, definition: Definition) -> DestinationChange:
        now = self._clock.now()

        def declare(before: Destination | None, others: int) -> Destination:
            if before is not None:
                _refuse_other(before)
                return replace(before, definition=definition)
            return Destination(
                definition=definition, since=now, created_at=now, created_by="config",
                managed_by="config",
            )  # fmt: skip

        return declare


def _refuse_other(before: Destination) -> None:
    """Raise `GatewayError` for a destination that stands in no configuration."""
    if before.managed_by != "config":
        raise GatewayError(
            f"destinations.{before.name}: a destination of this name was made over HTTP or by the "
            "command line; delete it, or choose another name",
            code="destination_exists",
        )


def _without_declared(before: Destination | None, others: int) -> Destination | None:
    return before if before is not None and before.managed_by != "config" else None


async def _replace(stores: Stores, name: str, change: DestinationChange) -> Destination | None:
    """Change a destination; return what it was before."""
    found: list[Destination | None] = []

    def noting(before: Destination | None, others: int) -> Destination | None:
        found.append(before)
        return change(before, others)

    await stores.destination_store.change(name, noting)
    return found[-1]


def declare(settings: Settings, outlets: Outlets, clock: Clock) -> Declared:
    """Destinations of the settings, whose secrets the outlets know then."""
    declared = Declared(settings, outlets, clock)
    outlets.configured = declared.secrets
    return declared


def check_declared(settings: Settings) -> None:
    """Raise `InvalidSetting` for a destination of the settings that cannot work."""
    clock, lookups = SystemClock(), Lookups()
    try:
        types = outlet_types(settings, clock, lookups)
        Declared(settings, Outlets(types, lambda: Peppers(()), clock), clock)
    finally:
        lookups.close()


def _parsed(name: str, table: Mapping[str, Any]) -> tuple[Definition, Mapping[str, Any]]:
    """Definition of a table, and the references to its secrets."""
    secrets = table.get("secrets", {})
    if not isinstance(secrets, dict):
        raise invalid("secrets", "a table is needed")
    for secret, reference in secrets.items():
        of_file = isinstance(reference, dict) and (
            len(reference) == 1 and next(iter(reference)) in ("env", "file")
            and isinstance(next(iter(reference.values())), str)
        )  # fmt: skip
        if not of_file and not (isinstance(reference, str) and reference):
            raise invalid(
                f"secrets.{secret}",
                'write it like { file = "/run/secrets/token" } or { env = "T" }',
            )
    members = {member: value for member, value in table.items() if member != "secrets"}
    return parse_definition({**members, "name": name})[0], secrets
