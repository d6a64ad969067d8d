"""The adapters that the contract suites run over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.access.keys.key_store import KeyStore
from gateway.adapters.postgres.database import SCHEMA
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.sqlite.follower import SqliteFollower
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.log import SqliteLog
from gateway.adapters.sqlite.writer_server import WriterServer
from gateway.ingest.writer import Writer
from gateway.log.ports import Log
from tests.support.memory_log import MemoryLog
from tests.support.services.postgres import PostgresServer, installations
from tests.support.store_connections import connections

if TYPE_CHECKING:
    from tests.conftest import FakeClock


POSTGRES = [f"postgres{major}" for major in sorted(installations())]
# Each of them asks its database for news twenty times a second.
_POSTGRES_LOGS_AT_ONCE = 2


@pytest.fixture(params=["memory", "sqlite", "follower", *POSTGRES])
async def new_log(
    request: pytest.FixtureRequest,
    clock: FakeClock,
    tmp_path: Path,
    server_of: Callable[[str], PostgresServer],
) -> AsyncIterator[Callable[[], Awaitable[Log]]]:
    """Makes an empty log at each call; all of them are closed at the end."""
    made: list[Log] = []

    async def make() -> Log:
        log: Log
        if request.param == "memory":
            log = MemoryLog(clock)
        elif request.param == "sqlite":
            log = await SqliteLog.open(tmp_path / f"log{len(made)}.db", clock)
        elif request.param == "follower":
            log = await stack.enter_async_context(followed(tmp_path, f"log{len(made)}", clock))
        else:
            for earlier in made[:-_POSTGRES_LOGS_AT_ONCE]:
                await earlier.close()
            server = server_of(request.param.removeprefix("postgres"))
            url = await stack.enter_async_context(server.database(SCHEMA))
            log = await PostgresLog.open(url, clock)
        made.append(log)
        return log

    async with AsyncExitStack() as stack:
        yield make
        for log in made:
            await log.close()


@asynccontextmanager
async def followed(folder: Path, name: str, clock: FakeClock) -> AsyncIterator[SqliteFollower]:
    """A follower of a log whose writer is there, too."""
    path, link = folder / f"{name}.db", folder / f"{name}.sock"
    written = await SqliteLog.open(path, clock)
    writer = Writer(written, queue_events=100_000, queue_bytes=1 << 30)
    writing = asyncio.create_task(writer.run())
    server = WriterServer(link, written, writer.append_together)
    await server.start()
    follower = await SqliteFollower.open(path, link, clock)
    await follower.connected()
    yield follower
    await server.close(1.0)
    writer.close()
    await writing
    await written.close()


@pytest.fixture
async def log(new_log: Callable[[], Awaitable[Log]]) -> Log:
    """An empty log."""
    return await new_log()


@pytest.fixture(params=["sqlite", *POSTGRES])
async def connect_keys(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> AsyncIterator[Callable[[], Awaitable[KeyStore]]]:
    """Connects to one and the same key store, as each process does for itself."""
    sqlite = partial(SqliteKeys, tmp_path / "keys.db")
    async with connections(request.param, server_of, sqlite, PostgresKeys.open) as connect:
        yield connect


@pytest.fixture
async def keys(connect_keys: Callable[[], Awaitable[KeyStore]]) -> KeyStore:
    """An empty key store."""
    return await connect_keys()
