"""`audit-gateway store` prepares a table to be followed, `audit-gateway migrate` the schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base.options import config_option, settings_options
from gateway.cli.base.terminal import say
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.adapters.migrations import Migrated
    from gateway.adapters.postgres.table import Table
    from gateway.settings.declarations import Settings

_EXAMPLES = """\b
Examples:
  audit-gateway store prepare --dry-run --config /etc/audit-gateway/config.toml
  audit-gateway store check --config /etc/audit-gateway/config.toml
"""


@click.group(epilog=_EXAMPLES)
def store() -> None:
    """Look at the table that `store.table` names, and prepare it."""


@store.command(epilog=_EXAMPLES)
@config_option
@click.option("--dry-run", is_flag=True, help="Print the statement; change nothing.")
def prepare(settings: Settings, dry_run: bool) -> None:
    """Add to the table what tells its new rows, in one statement, which is printed.

    A column and an index; nothing of what is there is changed or rewritten.
    Rows cannot be written while the index is being built. The user of
    `store.url` has to own the table; else let its owner run what --dry-run
    prints.
    """
    import asyncio

    from gateway.adapters.postgres import source as postgres_source
    from gateway.adapters.postgres.table import TableSettings

    _check_followed(settings)
    source = TableSettings(settings.store.table, settings.store.columns)
    table = asyncio.run(postgres_source.look_at(settings.store_url, source))
    _warn_of_ids(table)
    statement = table.preparation()
    if not dry_run:
        asyncio.run(postgres_source.prepare(settings.store_url, source))
    if statement is None:
        say(f"{source.name} is prepared already", err=True)
    else:
        say(statement + ";")


@store.command(epilog=_EXAMPLES)
@config_option
def check(settings: Settings) -> None:
    """Say whether the table is there, fits [store.columns] and is prepared; change nothing."""
    import asyncio

    from gateway.adapters.postgres.source import look_at
    from gateway.adapters.postgres.table import TableSettings

    _check_followed(settings)
    source = TableSettings(settings.store.table, settings.store.columns)
    table = asyncio.run(look_at(settings.store_url, source))
    missing = table.preparation()
    say(f"{source.name} is there, and its columns fit")
    _warn_of_ids(table)
    if settings.store.table_mode == "read-only":
        say("it is only read: rows wait for every transaction that was open before them")
    elif missing is not None:
        say(f"it is not prepared; run `audit-gateway store prepare`, or: {missing};")
        raise SystemExit(1)
    else:
        say("it is prepared")


@click.command()
@settings_options
def migrate(settings: Settings) -> None:
    """Bring the schemas of the store up to date, forwards only; `serve` does so at its start, too.

    Says from which version to which. One process does it at a time, and others
    wait. An embedded log must not be in use by a gateway.
    """
    if settings.on_postgres:
        import asyncio

        from gateway.adapters.postgres.database import SCHEMA
        from gateway.adapters.postgres.database import migrate as migrate_postgres

        _tell(f"schema {SCHEMA}", asyncio.run(migrate_postgres(settings.store_url)))
    else:
        _migrate_embedded(settings)


def _migrate_embedded(settings: Settings) -> None:
    from gateway.adapters.sqlite.database import migrate as migrate_file
    from gateway.runtime.stores import claim_log

    lock = claim_log(settings)
    try:
        log = Path(settings.store_url.removeprefix("sqlite:///"))
        files = [(log, "sqlite_log"), (settings.data / "keys.db", "sqlite_keys"),
                 (settings.data / "usage.db", "sqlite_usage"),
                 (settings.data / "consumers.db", "sqlite_consumers"),
                 (settings.data / "destinations.db", "sqlite_destinations")]  # fmt: skip
        for path, schema in files:
            if not path.exists():
                say(f"{path}: not there yet")
                continue
            _tell(str(path), migrate_file(path, schema))
    finally:
        if lock is not None:
            lock.release()


def _tell(what: str, migrated: Migrated) -> None:
    before, now, scripts = migrated
    if scripts:
        say(f"{what}: from version {before} to {now} ({', '.join(scripts)})")
    else:
        say(f"{what}: version {now}, up to date")


def _check_followed(settings: Settings) -> None:
    if not settings.store.table:
        raise InvalidRequest(
            "no table is named: set store.url, store.table and [store.columns] in the file of "
            "--config; deploy/postgresql.md shows how"
        )


def _warn_of_ids(table: Table) -> None:
    if table.doubtful_id is not None:
        say(
            f"warning: id is made of {table.doubtful_id}, and no unique index of {table.name} sees "
            "to it that no two rows have the same: the second comes under an id that is made of "
            "the table and its key",
            err=True,
        )
