"""Opening of the stores in the settings for commands, with or without a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.access.keys.key_store import KeyStore
    from gateway.log.ports import Log
    from gateway.settings.declarations import Settings
    from gateway.trusted_clock import TrustedClock


def has_keys(settings: Settings) -> bool:
    """Whether keys exist, as far as is known without opening them."""
    return settings.on_postgres or (settings.data / "keys.db").exists()


@asynccontextmanager
async def opened_keys(settings: Settings) -> AsyncIterator[tuple[KeyStore, TrustedClock]]:
    """Keys, created if missing, and the trusted clock."""
    from gateway.clock import SystemClock
    from gateway.oversight.clock_store import open_clock
    from gateway.runtime.stores import open_keys

    store = await open_keys(settings)
    try:
        yield store, await open_clock(store, SystemClock())
    finally:
        await store.close()


@asynccontextmanager
async def log_to_read(settings: Settings) -> AsyncIterator[Log]:
    """Log of the settings, also while a gateway writes to it; empty if none has ever run."""
    from gateway.adapters.files.folder import DataFolder
    from gateway.clock import SystemClock
    from gateway.settings.kinds import SQLITE

    clock = SystemClock()
    path = Path(settings.store_url.removeprefix(SQLITE))
    log: Log
    async with AsyncExitStack() as stack:
        if settings.on_postgres:
            from gateway.adapters.postgres.log import PostgresLog

            log = await PostgresLog.open(settings.store_url, clock)
        elif path.exists():
            from gateway.adapters.sqlite.follower import SqliteFollower

            log = await SqliteFollower.open(path, DataFolder(settings.data).writer_socket, clock)
        else:
            from gateway.adapters.sqlite.log import SqliteLog

            folder = stack.enter_context(TemporaryDirectory())
            log = await SqliteLog.open(Path(folder) / "log.db", clock)
        stack.push_async_callback(log.close)
        yield log
