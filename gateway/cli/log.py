"""`audit-gateway log`: back up the embedded log, give a restored one a new epoch, trust a clock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base.options import Folder, settings_options
from gateway.cli.base.terminal import say
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound
from gateway.settings.kinds import SQLITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.settings.declarations import Settings

_EXAMPLES = """\b
Examples:
  audit-gateway log backup /mnt/backup/2026-01-31 --data /var/lib/audit-gateway
  audit-gateway log new-epoch --data /var/lib/audit-gateway
  audit-gateway log trust-clock --data /var/lib/audit-gateway
"""


@click.group(epilog=_EXAMPLES)
def log() -> None:
    """Back up the log, give a restored one a new epoch, trust a clock that was set."""


@log.command(epilog=_EXAMPLES)
@settings_options
@click.argument("target", metavar="FOLDER", type=Folder())
def backup(settings: Settings, target: Path) -> None:
    """Copy an embedded log, its keys and its secrets into a new FOLDER.

    The gateway may run on. The copy is whole: it has every event that was
    acknowledged before the command was started. FOLDER is private to its user;
    whoever reads it reads all events.
    """
    source = _embedded(settings)
    if source is None:
        raise InvalidRequest(
            "this log is in PostgreSQL: back up the database, with pg_basebackup or pg_dump, and "
            f"the secrets: {', '.join(_places(settings))}"
        )
    if not source.exists():
        raise NotFound(f"there is no log {source}")
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty; name a new folder")
    _record_backup(settings)
    # Keys first: a change waiting there to be recorded is then in a copy of the log or of the keys.
    others = sorted(path for path in settings.data.glob("*.db") if path.name != source.name)
    databases = [*others, source]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        secrets = _copy(databases, settings, target)
    except OSError as error:
        raise GatewayError(
            f"{target} cannot be written: {error.strerror}", code="folder_unusable"
        ) from error
    _note_backup(settings)
    names = ", ".join([*(one.name for one in databases), *secrets])
    say(f"copied {names} to {target}")
    for name in {"pepper", "log-secret"} - set(secrets):
        say(f"note: {name} is kept elsewhere, and not in this backup", err=True)


@log.command("new-epoch", epilog=_EXAMPLES)
@settings_options
def new_epoch(settings: Settings) -> None:
    """Give the log a new epoch, after it was set back to an earlier state.

    From then on every cursor of before is answered with 410: else one from
    after the backup would silently mean other events. No gateway may be running
    on an embedded log; gateways on PostgreSQL have to be restarted.
    """
    import asyncio

    from gateway.cli.base.operator import record_act

    path = _embedded(settings)
    if path is not None:
        from gateway.adapters.sqlite.backup import begin_new_life

        epoch = begin_new_life(path)
    else:
        from gateway.adapters.postgres import log as postgres_log

        epoch = asyncio.run(postgres_log.begin_new_life(settings.store_url))
    asyncio.run(record_act(settings, "log.new_epoch", "log", {"epoch": epoch}))
    say(f"the epoch of the log is now {epoch}; cursors of before are answered with 410")


@log.command("trust-clock", epilog=_EXAMPLES)
@settings_options
def trust_clock(settings: Settings) -> None:
    """Trust the wall clock now, after it was set and is right.

    It is the clock of this machine, or of the database where the log is in
    PostgreSQL. Running gateways go by it within a second or two; without this
    they wait for 15 minutes, in case it is set back.
    """
    import asyncio

    from gateway.cli.base.key_folder import refuse_no_folder
    from gateway.cli.base.stores import has_keys

    if not has_keys(settings):
        refuse_no_folder(settings)
    away, wall = asyncio.run(_trust_clock(settings))
    if abs(away) < 0.5:
        say(f"the clock is trusted as it is: {wall}")
    else:
        say(f"trusted time moves by {away:+.0f} s: it is {wall}")


def _note_backup(settings: Settings) -> None:
    """Note when the newest backup was made, for `doctor`."""
    import asyncio

    from gateway.cli.base.stores import opened_keys
    from gateway.health.collect import note_backup

    async def work() -> None:
        async with opened_keys(settings) as (store, clock):
            await note_backup(store, clock.now())

    if (settings.data / "keys.db").exists():
        asyncio.run(work())


def _record_backup(settings: Settings) -> None:
    """Record the backup as a use, also in the copy: it copies all events and keys."""
    import asyncio

    from gateway.cli.base.key_folder import key_store

    async def work() -> None:
        async with key_store(settings):
            pass

    if (settings.data / "keys.db").exists():
        asyncio.run(work())


async def _trust_clock(settings: Settings) -> tuple[float, str]:
    """Seconds by which trusted time moves, and the wall clock's time as text."""
    from gateway.access.keys.change import other_change
    from gateway.cli.base.operator import this_operator
    from gateway.cli.base.stores import opened_keys
    from gateway.clock import SystemClock, format_rfc3339
    from gateway.oversight.clock_store import keep_state, read_clock
    from gateway.trusted_clock import ClockState

    async with opened_keys(settings) as (store, trusted):
        reading = await read_clock(store, SystemClock())
        away = reading.wall - trusted.now()
        wall = reading.wall
        state = ClockState(wall, wall, reading.boottime, reading.boot_id, by="trust-clock")
        await keep_state(store, state, anyway=True)
        data = {"seconds": round(away, 3)}
        operator = this_operator()
        await store.record_later(
            other_change(
                "clock.trusted", ["clock"], by=operator.actor, at=wall, data=data, operator=operator
            )
        )
        return away, format_rfc3339(int(wall * 1_000_000))


def _copy(databases: Sequence[Path], settings: Settings, target: Path) -> list[str]:
    """Copy to a temporary folder, then rename it to `target`; return the secrets' file names."""
    import shutil
    from tempfile import mkdtemp

    from gateway.adapters.files.folder import DataFolder
    from gateway.adapters.files.secret_file import make_secret
    from gateway.adapters.sqlite.backup import copy_database, copy_log

    folder = DataFolder.of(settings)
    contents = {"pepper": folder.peppers.content(), "log-secret": folder.log_secret_file.content()}
    kept = {name: content for name, content in contents.items() if content is not None}
    draft = Path(mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        *others, log = databases
        for database in others:
            copy_database(database, draft / database.name)
        copy_log(log, draft / log.name)
        for name, content in kept.items():
            make_secret(draft / name, content)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft)
        raise
    return list(kept)


def _places(settings: Settings) -> list[str]:
    from gateway.adapters.files.folder import DataFolder

    folder = DataFolder.of(settings)
    return [folder.peppers.place, folder.log_secret_file.place]


def _embedded(settings: Settings) -> Path | None:
    """File of an embedded log; None for other stores."""
    url = settings.store_url
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None
