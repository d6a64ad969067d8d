"""Opening of the stores in the settings: the log, the keys, and what is beside them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.access.keys.key_store import KeyStore
from gateway.adapters.files.folder import DataFolder, WriterLock
from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite.consumers import SqliteConsumers
from gateway.adapters.sqlite.delivery.destinations import SqliteDestinations
from gateway.adapters.sqlite.follower import SqliteFollower
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.log import SqliteLog
from gateway.clock import Clock
from gateway.delivery.ports import Destinations
from gateway.errors import GatewayError
from gateway.ingest.followed_table import FollowedTable
from gateway.log.ports import Log
from gateway.settings.declarations import Settings
from gateway.streaming.consumers.ports import Consumers
from gateway.tasks import PLAIN, Tasks
from gateway.tasks import stop as stop_tasks

if TYPE_CHECKING:
    from gateway.runtime.worker import Worker


async def open_log(
    settings: Settings, clock: Clock, worker: Worker | None = None, tasks: Tasks = PLAIN
) -> Log:
    """Log of the settings, opened for appending. Its secret has to exist."""
    folder = DataFolder.of(settings)
    secret = folder.log_secret()
    if settings.on_postgres:
        # Imported here: most gateways need neither the adapter nor its driver.
        from gateway.adapters.postgres.log import PostgresLog

        return await PostgresLog.open(settings.store_url, clock, tasks=tasks, secret=secret)
    path = _log_path(settings)
    if worker is None:
        return await SqliteLog.open(path, clock, tasks=tasks, secret=secret)
    if worker.lock is not None:
        return await SqliteLog.open(path, clock, worker.lock, tasks, secret=secret)
    return await SqliteFollower.open(path, folder.writer_socket, clock, tasks, secret=secret)


def claim_log(settings: Settings) -> WriterLock | None:
    """Right to append to the log, if only one process at a time may have it."""
    DataFolder(settings.data)
    return None if settings.on_postgres else WriterLock(_log_path(settings))


async def open_keys(settings: Settings) -> KeyStore:
    """Provisioning keys, in the data folder or beside the log in PostgreSQL."""
    if settings.on_postgres:
        from gateway.adapters.postgres.keys import PostgresKeys

        return await PostgresKeys.open(settings.store_url)
    return SqliteKeys(DataFolder(settings.data).keys)


async def open_consumers(settings: Settings) -> Consumers:
    """Positions of readers, in the data folder or beside the log in PostgreSQL."""
    if settings.on_postgres:
        from gateway.adapters.postgres.consumers import PostgresConsumers

        return await PostgresConsumers.open(settings.store_url)
    return SqliteConsumers(DataFolder(settings.data).consumers)


async def open_destinations(settings: Settings) -> Destinations:
    """Destinations, in the data folder or beside the log in PostgreSQL."""
    if settings.on_postgres:
        from gateway.adapters.postgres.destinations import PostgresDestinations

        return await PostgresDestinations.open(settings.store_url)
    return SqliteDestinations(DataFolder(settings.data).destinations)


async def open_followed(
    settings: Settings, log: Log, clock: Clock, stack: AsyncExitStack, tasks: Tasks
) -> FollowedTable | None:
    """Follow the table `store.table`, if there is one."""
    store = settings.store
    if not store.table:
        return None
    # Imported here: most gateways need neither the adapter nor its driver.
    from gateway.adapters.postgres.source import TableSource
    from gateway.adapters.postgres.table import TableSettings

    source = TableSettings(store.table, store.columns, store.table_mode == "read-only")
    secret = DataFolder.of(settings).log_secret()
    table = await TableSource.open(settings.store_url, source, clock, secret=secret)
    stack.push_async_callback(table.close)
    following = tasks.keep("followed_table", partial(table.watch, log.poll_now))
    stack.push_async_callback(stop_tasks, [following])
    return table


def open_files(settings: Settings) -> tuple[SameFile, ...]:
    """Files that are open beside the log."""
    if settings.on_postgres:
        return ()
    folder = DataFolder.of(settings)
    files = (folder.keys, folder.consumers, folder.destinations, folder.path / "usage.db")
    return tuple(map(SameFile, files))


def _log_path(settings: Settings) -> Path:
    path = Path(settings.store_url.removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        raise GatewayError(
            f"store.url: there is no folder {path.parent}; make it first", code="folder_unusable"
        )
    return path
