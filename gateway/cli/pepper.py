"""`audit-gateway pepper`: rotates the secret of the key digests, while gateways run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import (
    current_pepper,
    json_option,
    key_store,
    refuse_no_folder,
    run,
)
from gateway.cli.base.operator import this_operator
from gateway.cli.base.options import settings_options
from gateway.cli.base.stores import has_keys
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.access.credentials.pepper import Peppers
    from gateway.access.keys.key import Key
    from gateway.adapters.files.pepper_file import PepperFile
    from gateway.settings.declarations import Settings

# Every process polls the file four times a second.
_LEARN_SECONDS = 2.0
# Beside the pepper itself: an event has 32 targets.
_MOST_NAMED = 31

_EXAMPLES = """\b
Examples:
  audit-gateway pepper rotate
  audit-gateway pepper rotate --leaked
  audit-gateway pepper status
  audit-gateway pepper forget

\b
Gateways with folders of their own, which need the same file (copy it after each step):
  audit-gateway pepper add
  audit-gateway pepper switch
"""

_leaked_option = click.option(
    "--leaked", is_flag=True, help="Others may know the pepper: its tickets are void at once."
)


@click.group(epilog=_EXAMPLES)
def pepper() -> None:
    """The secret of the key digests. No key and no stream notices when it is rotated.

    Keys that were made with a former pepper go on, and each moves to the new one when it is
    used. `forget` removes a former one as soon as no living key needs it.
    """


@pepper.command(epilog=_EXAMPLES)
@_leaked_option
@settings_options
def rotate(leaked: bool, settings: Settings) -> None:
    """Add a new pepper and switch to it, with running gateways on the same folder."""
    import secrets
    import time

    from gateway.access.credentials.pepper import BYTES

    file = _file(settings)
    coming = file.change(lambda peppers: peppers.with_coming(secrets.token_bytes(BYTES)))
    _record(settings, "added", coming.all[0].id)
    # Every process has to know the pepper before it meets the first key made with it.
    time.sleep(_LEARN_SECONDS)
    changed = _switch(settings, leaked)
    say(f"pepper {changed.current.id} is current; back up {file.path}")


@pepper.command(epilog=_EXAMPLES)
@settings_options
def add(settings: Settings) -> None:
    """Add a coming pepper: known to every gateway, and used by none until `switch`."""
    import secrets

    from gateway.access.credentials.pepper import BYTES

    file = _file(settings)
    changed = file.change(lambda peppers: peppers.with_coming(secrets.token_bytes(BYTES)))
    _record(settings, "added", changed.all[0].id)
    say(f"pepper {changed.all[0].id} is coming; bring {file.path} to all gateways")


@pepper.command(epilog=_EXAMPLES)
@_leaked_option
@settings_options
def switch(leaked: bool, settings: Settings) -> None:
    """Make the coming pepper the current one, once all gateways know it."""
    _file_that_is_there(settings)
    changed = _switch(settings, leaked)
    path = _file(settings).path
    say(f"pepper {changed.current.id} is current; bring {path} to all gateways")


@pepper.command(epilog=_EXAMPLES)
@settings_options
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show the peppers by their ids, and how many living keys need each.

    Exit code 1 where a living key needs one that is not here.
    """
    file = _file_that_is_there(settings)
    found = file.find()
    needing = run(_needing(settings, found))
    shown = [
        {"id": one.id, "standing": one.standing, "keys": len(needing.pop(one.id, ()))}
        for one in (found.all if found is not None else ())
    ]
    shown += [
        {"id": one, "standing": "missing", "keys": len(keys)} for one, keys in needing.items()
    ]
    if as_json:
        say_json({"peppers": shown})
    else:
        for row in shown:
            say(f"{row['id'] or 'unknown':12}  {row['standing']:8}  {row['keys']} keys")
    if needing:
        say(
            f"{sum(map(len, needing.values()))} living keys need a pepper that is not in "
            f"{file.place}: copy the file from another gateway, or restore it from backup",
            err=True,
        )
        raise SystemExit(1)


@pepper.command(epilog=_EXAMPLES)
@click.option("--force", is_flag=True, help="Also those that living keys need: these keys end.")
@settings_options
def forget(force: bool, settings: Settings) -> None:
    """Remove former peppers that no living key needs."""
    _file_that_is_there(settings)
    file = _file(settings)
    peppers = file.read()
    needing = run(_needing(settings, peppers))
    run(_reseal(settings, peppers))
    over = [one for one in peppers.all if one.replaced]
    kept = [one for one in over if needing.get(one.id) and not force]
    gone = frozenset(one.id for one in over if one not in kept)
    if gone:
        file.change(lambda peppers: peppers.without(gone))
    for identity in sorted(gone):
        ended = [key.id for key in needing.get(identity, ())]
        run(_revoke(settings, ended))
        _record(settings, "forgotten", identity, ended=ended)
        say(f"pepper {identity} is forgotten")
    _warn_of_log_secret(settings, [one.secret for one in over if one.id in gone])
    for one in kept:
        names = ", ".join(f"{key.id} ({key.name})" for key in needing[one.id])
        say(f"pepper {one.id} is kept for keys that were not used since: {names}")
    if not over:
        say("there is no former pepper")


def _warn_of_log_secret(settings: Settings, forgotten: Sequence[bytes]) -> None:
    """Warn if the secret of the log was derived from a forgotten pepper."""
    from gateway.adapters.files.folder import DataFolder
    from gateway.adapters.files.log_secret import derived_from

    file = DataFolder.of(settings).log_secret_file
    if file.find() in [derived_from(secret) for secret in forgotten]:
        say(
            "note: the secret of the log was made from it; a gateway whose folder does not have "
            f"the file log-secret needs a copy of {file.place} from now on",
            err=True,
        )


def _file(settings: Settings) -> PepperFile:
    """File of the peppers; the first pepper is created, unless keys need another."""
    from gateway.adapters.files.folder import DataFolder

    file = DataFolder.of(settings).peppers
    if has_keys(settings):
        run(_agreed(settings))
    elif not file.named:
        file.make()
    return file


def _file_that_is_there(settings: Settings) -> PepperFile:
    """File of the peppers. Refuses a folder with neither keys nor peppers, a mistyped name."""
    from gateway.adapters.files.folder import DataFolder

    named = settings.server.pepper or settings.server.pepper_file
    if not (has_keys(settings) or named or (settings.data / "pepper").exists()):
        refuse_no_folder(settings)
    return DataFolder.of(settings).peppers


async def _agreed(settings: Settings) -> None:
    async with key_store(settings, change=True) as (store, clock):
        await current_pepper(settings, store, clock)


async def _revoke(settings: Settings, key_ids: Sequence[str]) -> None:
    """Revoke keys whose pepper is forgotten, so that they do not look like keys of a lost one."""
    from gateway.access.keys import lifecycle

    if key_ids:
        async with key_store(settings, change=True) as (store, clock):
            operator, reason = this_operator(), "its pepper was forgotten"
            for key_id in key_ids:
                await store.change(
                    key_id, lambda key: lifecycle.revoke(key, clock.now(), reason, operator)
                )


def _switch(settings: Settings, leaked: bool) -> Peppers:
    file = _file(settings)
    changed = file.change(lambda peppers: peppers.switched(leaked=leaked))
    run(_reseal(settings, changed))
    _record(settings, "switched", changed.current.id, leaked=leaked)
    return changed


async def _reseal(settings: Settings, peppers: Peppers) -> None:
    """Seal the secrets of pseudonyms and destinations under the current pepper."""
    from gateway.access.keys.pseudonym_secrets import KIND, NAME
    from gateway.access.keys.pseudonym_secrets import resealed as resealed_note

    if has_keys(settings):
        async with key_store(settings, change=True) as (keys, _):
            if await keys.note(KIND, NAME):
                await keys.update_notes(KIND, {NAME: resealed_note(peppers)}, erases=True)
    from gateway.adapters.files.folder import DataFolder
    from gateway.runtime.stores import open_destinations

    if not (settings.on_postgres or DataFolder(settings.data).destinations.exists()):
        return
    from gateway.delivery.sealing import resealed

    store = await open_destinations(settings)
    try:
        for destination in await store.all():
            if destination.secrets:
                await store.change(
                    destination.name,
                    lambda before, others: None if before is None else resealed(before, peppers),
                )
    finally:
        await store.close()


def _record(
    settings: Settings, what: str, pepper_id: str, *, ended: Sequence[str] = (), **data: Any
) -> None:
    """Queue an event about the pepper for the log. `ended`: the keys that no longer work."""
    from gateway.errors import GatewayError

    try:
        run(_keep(settings, f"pepper.{what}", pepper_id, ended, data))
    except GatewayError as error:
        # The change is done. A copied file may have no keys beside it to record the change with.
        say(f"the change of the pepper is not recorded: {error.detail}", err=True)


async def _keep(
    settings: Settings, action: str, pepper_id: str, ended: Sequence[str], data: dict[str, Any]
) -> None:
    from gateway.access.keys.change import key_urn, other_change

    data = {"pepper": pepper_id, **data}
    # Name each key among the targets of an event, so that its history includes it.
    parts = [ended[start : start + _MOST_NAMED] for start in range(0, len(ended), _MOST_NAMED)]
    operator = this_operator()
    async with key_store(settings, change=True) as (store, clock):
        for part in parts or [()]:
            about = [f"pepper:{pepper_id}", *map(key_urn, part)]
            shown = {**data, "ended": list(part)} if part else data
            change = other_change(
                action, about, by=operator.actor, at=clock.now(), data=shown, operator=operator
            )
            await store.record_later(change)
        # Claim the current pepper for all gateways.
        await current_pepper(settings, store, clock)


async def _needing(settings: Settings, peppers: Peppers | None) -> dict[str, list[Key]]:
    """Living keys by the id of the pepper that they need."""
    from gateway.access.keys.lifecycle import living_by_pepper

    by_id = {} if peppers is None else peppers.by_id()
    needing: dict[str, list[Key]] = {}
    if not has_keys(settings):
        return needing
    async with key_store(settings) as (store, clock):
        for identity, keys in living_by_pepper(await store.all(), clock.now()).items():
            name = by_id[identity].id if identity in by_id else identity
            needing.setdefault(name, []).extend(keys)
    return needing
