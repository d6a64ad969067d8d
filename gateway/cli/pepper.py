"""`audit-gateway pepper`: rotates the secret of the key digests, while gateways run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.key_folder import (
    PROGRAM,
    data_option,
    json_option,
    key_store,
    run,
    settings_of,
)

if TYPE_CHECKING:
    from gateway.keys.key import Key
    from gateway.keys.pepper import Peppers
    from gateway.settings.load import Settings
    from gateway.store.pepper_file import PepperFile

# Every process of the folder looks at the file four times a second.
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
@data_option
def rotate(leaked: bool, data: str | None) -> None:
    """Add a new pepper and switch to it, with running gateways on the same folder."""
    import secrets
    import time

    from gateway.keys.pepper import BYTES

    settings = settings_of(data)
    file = _file(settings)
    coming = file.change(lambda peppers: peppers.with_coming(secrets.token_bytes(BYTES)))
    _record(settings, "added", coming.all[0].id)
    # Whoever meets the first key made with it has to know it by then.
    time.sleep(_LEARN_SECONDS)
    changed = _switch(settings, leaked)
    click.echo(f"pepper {changed.current.id} is current; back up {file.path}")


@pepper.command(epilog=_EXAMPLES)
@data_option
def add(data: str | None) -> None:
    """Add a coming pepper: known to every gateway, and used by none until `switch`."""
    import secrets

    from gateway.keys.pepper import BYTES

    settings = settings_of(data)
    file = _file(settings)
    changed = file.change(lambda peppers: peppers.with_coming(secrets.token_bytes(BYTES)))
    _record(settings, "added", changed.all[0].id)
    click.echo(f"pepper {changed.all[0].id} is coming; bring {file.path} to all gateways")


@pepper.command(epilog=_EXAMPLES)
@_leaked_option
@data_option
def switch(leaked: bool, data: str | None) -> None:
    """Make the coming pepper the current one, once all gateways know it."""
    settings = settings_of(data)
    changed = _switch(settings, leaked)
    path = _file(settings).path
    click.echo(f"pepper {changed.current.id} is current; bring {path} to all gateways")


@pepper.command(epilog=_EXAMPLES)
@data_option
@json_option
def status(data: str | None, as_json: bool) -> None:
    """Show the peppers by their ids, and how many living keys need each."""
    settings = settings_of(data)
    needing = run(_needing(settings))
    shown = [
        {"id": one.id, "standing": one.standing, "keys": len(needing[one.id])}
        for one in _file(settings).read().all
    ]
    if as_json:
        click.echo(json.dumps({"peppers": shown}))
        return
    for row in shown:
        click.echo(f"{row['id']}  {row['standing']:8}  {row['keys']} keys")


@pepper.command(epilog=_EXAMPLES)
@click.option("--force", is_flag=True, help="Also those that living keys need: these keys end.")
@data_option
def forget(force: bool, data: str | None) -> None:
    """Remove former peppers that no living key needs."""
    settings = settings_of(data)
    file = _file(settings)
    needing = run(_needing(settings))
    over = [one for one in file.read().all if one.over]
    kept = [one for one in over if needing[one.id] and not force]
    gone = frozenset(one.id for one in over if one not in kept)
    if gone:
        file.change(lambda peppers: peppers.without(gone))
    for identity in sorted(gone):
        _record(settings, "forgotten", identity, ended=[key.id for key in needing[identity]])
        click.echo(f"pepper {identity} is forgotten")
    for one in kept:
        names = ", ".join(f"{key.id} ({key.name})" for key in needing[one.id])
        click.echo(f"pepper {one.id} is kept for keys that were not used since: {names}")
    if not over:
        click.echo("there is no former pepper")


def _file(settings: Settings) -> PepperFile:
    from gateway.store.folder import DataFolder

    return DataFolder(settings.data).peppers


def _switch(settings: Settings, leaked: bool) -> Peppers:
    file = _file(settings)
    changed = file.change(lambda peppers: peppers.switched(leaked=leaked))
    _record(settings, "switched", changed.current.id, leaked=leaked)
    return changed


def _record(
    settings: Settings, what: str, pepper_id: str, *, ended: Sequence[str] = (), **data: Any
) -> None:
    """Have it written into the log by a gateway. `ended`: the keys that work no more."""
    from gateway.errors import GatewayError

    try:
        run(_keep(settings, f"pepper.{what}", pepper_id, ended, data))
    except GatewayError as error:
        # It is done. Where a copy of the file is changed there may be no keys to record it with.
        click.echo(f"the change of the pepper is not recorded: {error.detail}", err=True)


async def _keep(
    settings: Settings, action: str, pepper_id: str, ended: Sequence[str], data: dict[str, Any]
) -> None:
    from gateway.keys.change import key_urn, other_change

    data = {"pepper": pepper_id, **data}
    # Of the keys each is named among the targets of an event, so that its history tells of it.
    parts = [ended[start : start + _MOST_NAMED] for start in range(0, len(ended), _MOST_NAMED)]
    async with key_store(settings) as (store, _, now):
        for part in parts or [()]:
            about = [f"pepper:{pepper_id}", *map(key_urn, part)]
            shown = {**data, "ended": list(part)} if part else data
            await store.record_later(other_change(action, about, by=PROGRAM, at=now, data=shown))


async def _needing(settings: Settings) -> dict[str, list[Key]]:
    """The keys that work or may work again, by the id of the pepper that they need."""
    by_id: dict[str, Any] = _file(settings).read().by_id()
    needing: dict[str, list[Key]] = {one.id: [] for one in by_id.values()}
    async with key_store(settings, make=True) as (store, _, now):
        for key in await store.all():
            if key.pepper in by_id and key.state(now) not in ("revoked", "expired"):
                needing[by_id[key.pepper].id].append(key)
    return needing
