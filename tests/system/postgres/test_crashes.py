"""Connections, gateways and servers die at any moment: no acknowledged event is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from gateway.event import Draft
from tests.support.examples import examples
from tests.support.machine_time import Stopwatch
from tests.support.services.postgres import PostgresServer
from tests.system.postgres.writers import eventually, everything, insert, until_head

MakeDraft = Callable[..., Draft]
ROOT = Path(__file__).parents[3]


class Producer:
    """Appends batches of ten, sends again what was not acknowledged, and remembers what was."""

    def __init__(self, log: PostgresLog, name: str, draft: MakeDraft) -> None:
        self._log = log
        self._name = name
        self._draft = draft
        self.acknowledged: list[str] = []
        self.refused: list[Unavailable] = []

    async def run(self, until: asyncio.Event) -> None:
        batch = 0
        while not until.is_set():
            ids = [f"{self._name}-{batch}-{place}" for place in range(10)]
            try:
                [done] = await self._log.append([[self._draft(id=name) for name in ids]])
            except Unavailable as error:
                self.refused.append(error)
                await asyncio.sleep(0.02)
                continue
            assert done.accepted + done.duplicates == 10
            self.acknowledged += ids
            batch += 1


@asynccontextmanager
async def producing(
    logs: list[PostgresLog], draft: MakeDraft
) -> AsyncIterator[tuple[list[Producer], asyncio.Event]]:
    """Producers that run until the event is set, or the block ends."""
    stop = asyncio.Event()
    producers = [Producer(log, f"p{number}", draft) for number, log in enumerate(logs)]
    tasks = [asyncio.create_task(producer.run(stop)) for producer in producers]
    try:
        yield producers, stop
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def check(producers: list[Producer], log: PostgresLog) -> None:
    acknowledged = [name for producer in producers for name in producer.acknowledged]
    await until_head(log, len(acknowledged))
    found = await everything(log)
    assert len(found) == len(set(found)), "none is there twice"
    assert set(acknowledged) <= set(found), "none is lost"


async def progress(producer: Producer, events: int) -> None:
    """Wait until so many more events are acknowledged."""
    wanted = len(producer.acknowledged) + events

    async def made() -> bool:
        return len(producer.acknowledged) >= wanted

    await eventually(made)


async def refusals(producer: Producer, count: int) -> None:
    """Wait until so many more appends are refused."""
    wanted = len(producer.refused) + count

    async def made() -> bool:
        return len(producer.refused) >= wanted

    await eventually(made)


async def test_connections_killed_in_the_middle_of_anything_lose_nothing(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    logs = [await PostgresLog.open(database, SystemClock()) for _ in range(2)]
    rng = random.Random(4)
    killed = 0
    async with producing(logs, draft) as (producers, _):
        await progress(producers[0], 10)
        while killed < examples(60, share=3):
            victims = await sql.fetch(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'audit-gateway'"
                " AND datname = current_database() AND state = 'active'"
            )
            for victim in victims:
                if rng.random() < 0.3:
                    killed += await sql.fetchval(
                        "SELECT pg_terminate_backend($1)::integer", victim["pid"]
                    )
            await asyncio.sleep(rng.random() * 0.02)
        for producer in producers:
            await progress(producer, 10)
    assert any(producer.refused for producer in producers)
    await check(producers, logs[1])
    for log in logs:
        await log.close()


async def test_a_server_that_crashes_in_the_middle_of_appends_keeps_what_was_acknowledged(
    own_postgres: PostgresServer, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(own_postgres.url(), SystemClock())
    epoch = log.epoch
    async with producing([log], draft) as (producers, _):
        for how in (signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):
            await progress(producers[0], 200)
            await asyncio.to_thread(own_postgres.stop, how)
            await refusals(producers[0], 3)
            await asyncio.to_thread(own_postgres.start)
        await progress(producers[0], 200)
    await check(producers, log)
    assert log.epoch == epoch
    for error in producers[0].refused:
        assert error.status == 503
        assert error.retry_after >= 1
    await log.close()


ANOTHER_GATEWAY = """
import asyncio, sys
from gateway.clock import SystemClock
from gateway.ingest.decode import decode_event
from gateway.ingest.ids import new_ids
from gateway.adapters.postgres.log import PostgresLog

async def main():
    log = await PostgresLog.open(sys.argv[1], SystemClock())
    ids = new_ids(lambda: 0.0)
    while True:
        drafts = [decode_event(b'{"category":"a","action":"b"}', ids) for _ in range(100)]
        await log.append([drafts])
        print(log.head, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_gateway_that_dies_or_hangs_holds_up_nobody(
    database: str, sql: asyncpg.Connection, draft: MakeDraft, how: signal.Signals
) -> None:
    log = await PostgresLog.open(database, SystemClock())
    rng = random.Random(7)
    for turn in range(3):
        other = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", ANOTHER_GATEWAY, database],
            stdout=subprocess.PIPE, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            assert other.stdout is not None
            for _ in range(rng.randint(1, 20)):
                assert await asyncio.to_thread(other.stdout.readline)
            await asyncio.sleep(rng.random() * 0.02)
            other.send_signal(how)
            watch = Stopwatch()
            # Committed, and nobody there but us to give it an offset.
            await insert(sql, [f"left behind {turn}"])
            before = log.head
            await until_head(log, before + 1, seconds=3)
            await log.append([[draft(id=f"after {turn}")]])
            assert watch.seconds < 3
        finally:
            other.kill()
            other.wait()
            if other.stdout is not None:
                other.stdout.close()
    found = await everything(log)
    assert len(found) == len(set(found)) == log.head
    assert {f"left behind {turn}" for turn in range(3)} <= set(found)
    rows = await sql.fetchval("SELECT count(*) FROM event")
    assert rows == log.head, "every committed row has its offset"
    await log.close()


@pytest.mark.parametrize("with_a_known_one", [False, True])
async def test_events_that_a_crash_took_before_their_step_are_not_acknowledged(
    own_postgres: PostgresServer, draft: MakeDraft, with_a_known_one: bool
) -> None:
    # Commits that wait for no disk are written there once in ten seconds.
    admin = await asyncpg.connect(own_postgres.url())
    await admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    await admin.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
    await admin.close()
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start)
    log = await PostgresLog.open(own_postgres.url(), SystemClock())
    await log.append([[draft(id="known")]])
    placed = log._placed
    # Nobody else's step makes them durable.
    log._tasks[0].cancel()

    async def after_a_crash(batch: int, count: int) -> int | None:
        await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
        await asyncio.to_thread(own_postgres.start)
        for database in (log._writes, log._reads, log._arrivals):
            await database.let_go()
        return await placed(batch, count)

    known = [draft(id="known")] if with_a_known_one else []
    kept = ["known"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_placed", after_a_crash)
        for number in range(10):
            lost = f"lost-{number}"
            try:
                await log.append([[draft(id=lost), *known]])
            except Unavailable as error:
                caught = error
                break
            # A busy machine took ten seconds to crash: it was written, and is told rightly.
            kept.append(lost)
            assert await everything(log) == kept
        else:
            pytest.fail("no crash took an event")
    assert caught.code == "outcome_unknown"
    assert "send them again with the same ids" in caught.detail
    assert await log.find(lost, None) == []
    [done] = await log.append([[draft(id=lost), *known]])
    assert done.accepted == 1
    assert await everything(log) == [*kept, lost]
    await log.close()


async def test_rows_of_an_append_that_was_cut_off_before_its_step_are_placed_by_others(
    database: str, sql: asyncpg.Connection, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await PostgresLog.open(database, SystemClock())
    other = await PostgresLog.open(database, SystemClock())
    await one.append([[draft(id="a")]])

    async def cut_off(**_: object) -> None:
        raise Unavailable("the connection is gone")

    monkeypatch.setattr(one, "_step", cut_off)
    with pytest.raises(Unavailable) as caught:
        await one.append([[draft(id="b"), draft(id="c")]])
    assert caught.value.code == "outcome_unknown"
    await until_head(other, 3)
    assert await everything(other) == ["a", "b", "c"]
    [again] = await other.append([[draft(id="b"), draft(id="c")]])
    assert (again.accepted, again.duplicates, again.first, again.last) == (0, 2, 2, 3)
    for log in (one, other):
        await log.close()
