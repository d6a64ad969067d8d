"""`audit-gateway log`: back up the embedded log, and give a restored one a new epoch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import config_option, data_option
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound
from gateway.settings.kinds import SQLITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.settings.load import Settings

_EXAMPLES = """\b
Examples:
  audit-gateway log backup /mnt/backup/2026-01-31 --data /var/lib/audit-gateway
  audit-gateway log new-epoch --data /var/lib/audit-gateway
"""


@click.group(epilog=_EXAMPLES)
def log() -> None:
    """Back up the log, and give a restored one a new epoch."""


@log.command(epilog=_EXAMPLES)
@config_option
@data_option
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
def backup(config_file: Path | None, data: str | None, target: Path) -> None:
    """Copy an embedded log, its keys and its pepper into a new FOLDER.

    The gateway may run on. The copy is whole: it has every event that was
    acknowledged before the command was started. FOLDER is private to its user;
    whoever reads it reads all events.
    """
    settings = _settings(config_file, data)
    source = _embedded(settings)
    if source is None:
        raise InvalidRequest(
            "this log is in PostgreSQL: back up the database, with pg_basebackup or pg_dump, and "
            f"{settings.data / 'pepper'}"
        )
    if not source.exists():
        raise NotFound(f"there is no log {source}")
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty; name a new folder")
    # Keys first: a change of one that waits there to be recorded is in the log's copy, or waits
    # in theirs.
    others = sorted(path for path in settings.data.glob("*.db") if path.name != source.name)
    databases = [*others, source]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(databases, settings.data, target)
    except OSError as error:
        raise GatewayError(
            f"{target} cannot be written: {error.strerror}", code="folder_unusable"
        ) from error
    click.echo(f"copied {', '.join(one.name for one in databases)} and pepper to {target}")


@log.command("new-epoch", epilog=_EXAMPLES)
@config_option
@data_option
def new_epoch(config_file: Path | None, data: str | None) -> None:
    """Give the log a new epoch, after it was set back to an earlier state.

    From then on every cursor of before is answered with 410: else one from
    after the backup would silently mean other events. No gateway may be running
    on an embedded log; gateways on PostgreSQL have to be restarted.
    """
    settings = _settings(config_file, data)
    path = _embedded(settings)
    if path is not None:
        from gateway.store.sqlite_backup import begin_new_life

        epoch = begin_new_life(path)
    else:
        import asyncio

        from gateway.store import postgres_log

        epoch = asyncio.run(postgres_log.begin_new_life(settings.store_url))
    click.echo(f"the epoch of the log is now {epoch}; cursors of before are answered with 410")


def _copy(databases: Sequence[Path], data: Path, target: Path) -> None:
    """Copy into a folder of another name first: `target` is there when all of it is."""
    import shutil
    from tempfile import mkdtemp

    from gateway.store.folder import DataFolder
    from gateway.store.sqlite_backup import copy_database

    draft = Path(mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        for database in databases:
            copy_database(database, draft / database.name)
        pepper = os.open(draft / "pepper", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(pepper, "wb") as file:
            file.write(DataFolder(data).peppers.content())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft)
        raise


def _settings(config_file: Path | None, data: str | None) -> Settings:
    from gateway.settings.load import load

    return load(config_file, os.environ, {"data": data})


def _embedded(settings: Settings) -> Path | None:
    """The file of an embedded log."""
    url = settings.store_url
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None
