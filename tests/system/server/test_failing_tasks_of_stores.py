"""The tasks of PostgreSQL, Redis, followed tables and further workers are made to fail, too.

As in test_failing_tasks.py: once, and for ever. The servers are shared by all tests here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from failing import Broken, Started, ends, lines, post, read_until, text, told_to_restart

from gateway.adapters.redis.link import Link
from gateway.http.metrics.metrics import Metrics
from gateway.runtime.stores import claim_log
from gateway.runtime.worker import Worker
from gateway.settings.declarations import Settings
from gateway.streaming.enforcement import Enforcement
from gateway.streaming.replay_cache import ReplayCache
from gateway.streaming.wakeups import KEYS
from tests.support.machine_time import eventually, patience
from tests.support.services.postgres import PostgresServer, installations
from tests.support.services.valkey import Valkey

# Those that a gateway on PostgreSQL and Redis that follows a table has beside the others.
REMOTE = (
    "deliveries", "followed_table", "leases", "partitions", "processes", "redis_link", "sequencer",
    "signals",
)  # fmt: skip
# Those of a worker that appends through another one.
FOLLOWER = ("log_look", "writer_link")
# Those that end by themselves, and begin anew when there is something to do.
PASSING = ("redis_rounds", "replay", "signals_sending", "wake_ups")
TABLE = "CREATE TABLE rows (id bigserial PRIMARY KEY, verb text)"
COLUMNS = {"action": "verb", "category": "=auth"}


class Servers:
    """PostgreSQL with a database of a gateway that follows a table, and Redis."""

    def __init__(self, postgres: PostgresServer, redis: Valkey) -> None:
        self._sections = {
            "store": {
                "url": postgres.url(), "table": "rows", "columns": COLUMNS,
                "table_mode": "read-only",
            },
            "redis": {"url": redis.url},
            "limits": {"concurrent_streams": 100, "events_per_second": 100_000},
        }  # fmt: skip
        self._url = postgres.url()
        self._key = ""

    async def start(
        self, stack: AsyncExitStack, folder: Path, session: aiohttp.ClientSession
    ) -> Started:
        """A gateway on them; the folder is always the same."""
        if not self._key:
            connection = await asyncpg.connect(self._url)
            await connection.execute(TABLE)
            connection.terminate()
        started = Started(folder, session, key=self._key, **self._sections)
        self._key = (await stack.enter_async_context(started)).admin
        return started

    async def add_row(self, verb: str) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute("INSERT INTO rows (verb) VALUES ($1)", verb)
        connection.terminate()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    newest = installations()[max(installations(), key=int)]
    with PostgresServer(newest) as postgres, Valkey() as redis:
        yield Servers(postgres, redis)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


@pytest.fixture
async def remote(
    servers: Servers, folder: Path, session: aiohttp.ClientSession, broken: Broken
) -> AsyncIterator[Started]:
    async with AsyncExitStack() as stack:
        yield await servers.start(stack, folder, session)


@pytest.fixture
async def follower(
    tmp_path: Path, session: aiohttp.ClientSession, broken: Broken
) -> AsyncIterator[Started]:
    """The second of two workers; the first one is in this process, too."""
    metrics = Metrics(2)
    lock = claim_log(Settings(data=tmp_path / "data"))
    async with AsyncExitStack() as stack:
        key = ""
        for number, right in enumerate((lock, None)):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            worker = Worker(number, [listening], theirs, right, metrics, False)
            started = Started(tmp_path, session, key=key, worker=worker)
            key = (await stack.enter_async_context(started)).admin
        yield started


async def fails_once_and_goes_on(
    started: Started, broken: Broken, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = started.gateway
    errors = gateway.context.tasks.errors
    stream = await lines(gateway)
    broken.once(name)
    await eventually(lambda: errors[name] == 1, f"{name} has failed")
    # A further worker says 503 until it has reached the first one again.
    async with asyncio.timeout(patience(10)):
        while (status := await post(gateway, f"after {name}")) != 201:
            assert status == 503
    await read_until(stream, f"after {name}")
    stream.close()
    assert (await text(gateway, "/readyz"))[0] == 200
    _, metrics = await text(gateway, "/metrics")
    assert f'audit_gateway_internal_errors_total{{task="{name}"}} 1.0\n' in metrics
    [record] = [one for one in caplog.records if f"in the task {name}" in one.getMessage()]
    assert record.exc_info is not None
    # It was started again, and can fail again.
    broken.once(name)
    await eventually(lambda: errors[name] == 2, f"{name} has failed again")


async def test_each_task_of_a_remote_store_fails_once_and_goes_on(
    remote: Started, servers: Servers, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    for name in REMOTE:
        await fails_once_and_goes_on(remote, broken, name, caplog)
    stream = await lines(remote.gateway)
    await servers.add_row("row.after")
    await read_until(stream, "row.after")
    stream.close()


@pytest.mark.parametrize("name", PASSING)
async def test_a_task_that_ends_by_itself_fails_once_and_begins_anew(
    name: str,
    remote: Started,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = remote.gateway
    errors = gateway.context.tasks.errors
    leases: Any = gateway.context.shared.leases
    of: dict[str, tuple[Any, str]] = {
        "redis_rounds": (leases._rounds, "_hear"),
        "replay": (ReplayCache, "get"),
        "signals_sending": (Link, "publish"),
        "wake_ups": (Enforcement, "poll"),
    }
    owner, function = of[name]
    whole = getattr(owner, function)

    def fails_once(*given: Any, **named: Any) -> None:
        monkeypatch.setattr(owner, function, whole)
        raise RuntimeError(f"{name} is broken")

    monkeypatch.setattr(owner, function, fails_once)
    # Something to do for each of them: a place and a delivery, a replay, two signals.
    stream = await lines(gateway, **{"from": "start"})
    gateway.context.shared.signals._wake(KEYS)
    assert await post(gateway, f"after {name}") == 201
    await eventually(lambda: errors.get(name) == 1, f"{name} has failed")
    stream.close()
    [record] = [one for one in caplog.records if f"in the task {name}" in one.getMessage()]
    assert record.exc_info is not None
    again = await lines(gateway, **{"from": "start"})
    await read_until(again, f"after {name}")
    again.close()
    assert (await text(gateway, "/readyz"))[0] == 200


@pytest.mark.parametrize("name", REMOTE)
async def test_a_task_of_a_remote_store_that_goes_on_failing_ends_the_process(
    name: str, remote: Started, broken: Broken
) -> None:
    stream = await lines(remote.gateway)
    broken.always(name)
    await ends(remote, name)
    await remote.stop_now()
    await told_to_restart(stream)


async def test_each_task_of_a_further_worker_fails_once_and_goes_on(
    follower: Started, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    for name in FOLLOWER:
        await fails_once_and_goes_on(follower, broken, name, caplog)


@pytest.mark.parametrize("name", FOLLOWER)
async def test_a_task_of_a_further_worker_that_goes_on_failing_ends_its_process(
    name: str, follower: Started, broken: Broken
) -> None:
    stream = await lines(follower.gateway)
    broken.always(name)
    await ends(follower, name)
    await follower.stop_now()
    await told_to_restart(stream)
