"""Replicas under fire: gateways, PostgreSQL and Redis are killed while clients check every event.

`CHAOS_SECONDS=300 pytest -s tests/system/acceptance/test_replica_chaos.py` is the long run, with
300 readers and a Redis that is away for 30 s; `CHAOS_SEED` repeats the order of the faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from replica_clients import TRANSPORTS, Deliveries, Producer, Reader, SqlProducer
from replica_faults import Replica, Replicas

from tests.support.machine_time import Stopwatch, patience, slowness
from tests.support.services.postgres import PostgresServer, installations
from tests.support.services.valkey import Valkey

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
LONG = SECONDS >= 120
READERS = 300 if LONG else 90
OUTAGE_SECONDS = 30 if LONG else 3
REPLICAS, READER_KEYS, PRODUCERS, SQL_PRODUCERS, DOOMED = 3, 10, 6, 2, 9
_READ = {"actions": ["stream", "pull"], "categories": ["**"]}
_READ_ALL = {"actions": ["stream", "pull"], "categories": ["**", "gateway.**"]}
_WRITE = {"actions": ["ingest"], "categories": ["**"]}
# Counts are told every half second; what comes in the moment after is not on its way yet.
_CATCH_UP_SECONDS = 60
_READ_SECONDS = 5


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    with ExitStack() as stack:
        newest = max(installations(), key=int)
        database = stack.enter_context(PostgresServer(installations()[newest], durable=True))
        redis = stack.enter_context(Valkey())
        settings = {
            "AUDIT_GATEWAY_STORE__URL": database.url(),
            "AUDIT_GATEWAY_REDIS__URL": f"redis://127.0.0.1:{redis.port}/0",
            "AUDIT_GATEWAY_STREAM__MAX_AGE": "30s",
        }
        deployment = Replicas(tmp_path, database, redis, settings)
        try:
            await deployment.start(REPLICAS)
            yield deployment
        finally:
            await deployment.close()


@dataclass
class Revocation:
    """How long after the answer the last stream of the key was gone, in quiet seconds."""

    seconds: float
    streams: int
    codes: set[object]


@dataclass
class Crowd:
    """All clients, and what they have found out together."""

    replicas: Replicas
    log: dict[int, str] = field(default_factory=dict)
    deliveries: Deliveries = field(default_factory=Deliveries)
    revocations: list[Revocation] = field(default_factory=list)

    def reader(self, key: str, number: int, **options: bool) -> Reader:
        choose, transport = self.replicas.choose, TRANSPORTS[number % len(TRANSPORTS)]
        return Reader(key, transport, choose, self.log, self.deliveries, **options)

    async def revoke(self) -> None:
        """Open streams of a key at every replica that is up, revoke it, and see them end."""
        key = await self.replicas.make_key(_READ)
        readers = []
        up = self.replicas.up
        for number in range(DOOMED):
            readers.append(self.reader(key, number))
            readers[-1].choose = _first(up[number // len(TRANSPORTS) % len(up)], self.replicas)
        tasks = [asyncio.create_task(one.run()) for one in readers]
        try:
            async with asyncio.timeout(patience(20)):
                # One that is killed meanwhile is not waited for: its readers go to others.
                while not all(one.open for one in readers):  # noqa: ASYNC110 - states to look at
                    await asyncio.sleep(0.01)
                status, said = await self.replicas.ask("POST", f"/v1/keys/{key[5:17]}/revoke", {})
                answered = time.monotonic()
                assert status == 200, said
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        codes = {one.end["code"] if one.end else one.refused for one in readers}
        took = (max(one.closed_at for one in readers) - answered) / slowness()
        self.revocations.append(Revocation(took, len(readers), codes))


def _first(replica: Replica, replicas: Replicas) -> Callable[[], Replica]:
    """That replica, and any once it was killed."""
    life = replica.life
    return lambda: replica if replica.process and replica.life == life else replicas.choose()


async def storm(
    crowd: Crowd, seconds: float, rng: random.Random, say: Callable[[str], None]
) -> Counter[str]:
    """Faults in random order, each kind at least once, for that long. Returns how many."""
    replicas = crowd.replicas
    kinds: list[Callable[[], Awaitable[None]]] = [
        replicas.kill_one, replicas.kill_in_a_step, replicas.crash_postgres,
        replicas.restart_redis, crowd.revoke, crowd.revoke,
    ]  # fmt: skip
    done: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    outage: asyncio.Task[None] | None = None
    while not done or time.monotonic() < ends:
        for fault in rng.sample(kinds, len(kinds)):
            if time.monotonic() > ends - seconds * 0.6 and outage is None:
                say(f"redis_outage of {OUTAGE_SECONDS} s")
                outage = asyncio.create_task(replicas.redis_outage(OUTAGE_SECONDS))
                done["redis_outage"] += 1
                await asyncio.sleep(0.5)
            while not replicas.up:  # noqa: ASYNC110 - a state to look at
                await asyncio.sleep(0.05)
            say(fault.__name__)
            await fault()
            done[fault.__name__] += 1
            await asyncio.sleep(rng.uniform(0.2, 3 if LONG else 1.2))
    if outage is not None:
        await outage
    return done


async def test_nothing_acknowledged_is_lost_or_repeated_while_everything_dies_in_turn(
    replicas: Replicas,
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
    print(f"CHAOS_SEED={seed}")
    rng = random.Random(seed)
    watch = Stopwatch()

    def say(text: str) -> None:
        print(f"{watch.elapsed:6.1f} s  {text}", flush=True)

    crowd = Crowd(replicas)
    keys = [await replicas.make_key(_READ) for _ in range(READER_KEYS)]
    auditing, writing = await replicas.make_key(_READ_ALL), await replicas.make_key(_WRITE)
    readers = [crowd.reader(keys[n % READER_KEYS], n // READER_KEYS) for n in range(READERS)]
    auditors = [crowd.reader(auditing, n, dense=True) for n in range(len(TRANSPORTS))]
    stop = asyncio.Event()
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        asyncio.TaskGroup() as clients,
    ):
        reads = [clients.create_task(one.run()) for one in [*readers, *auditors]]
        producers = [
            Producer(writing, f"p{n}", replicas.choose, session, stop, pause=0.6)
            for n in range(PRODUCERS)
        ]
        by_sql = [SqlProducer(replicas.database.url(), f"s{n}", stop) for n in range(SQL_PRODUCERS)]
        writes = [clients.create_task(one.run()) for one in [*producers, *by_sql]]
        faults = await storm(crowd, SECONDS, rng, say)
        await replicas.all_up()
        stop.set()
        async with asyncio.timeout(patience(_CATCH_UP_SECONDS)):
            await asyncio.gather(*writes)
            producers.append(Producer(writing, "last", replicas.choose, session, stop, pause=0))
            await producers[-1].run()
            last = max(producers[-1].acknowledged)
            say(f"all sent: {len(crowd.log)} events, the last at {last}")
            for one in [*readers, *auditors]:
                one.stop_at(last)
            behind = (await asyncio.wait(reads, timeout=patience(_READ_SECONDS)))[1]
            assert not behind, [one.where() for one in [*readers, *auditors] if not one.done]
    say("all read")

    sent = [one for producer in [*producers, *by_sql] for one in producer.sent]
    assert Counter(crowd.log.values()) == Counter(sent)
    for producer in producers:
        assert producer.acknowledged.items() <= crowd.log.items()
        assert len(producer.acknowledged) == len(producer.sent)
    # Each came behind the one before, so as many as there are is all of them.
    assert {one.count for one in [*readers, *auditors]} == {len(crowd.log)}
    for one in crowd.revocations:
        assert one.seconds < 1.0, crowd.revocations
        assert one.codes <= {4501, 401}, crowd.revocations
    figures = await usage(replicas, crowd, keys)
    for key, (told, least, most, exact) in figures.items():
        assert least <= told <= most, (key[5:17], told, least, most, exact)
    said = replicas.errors()
    assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:4000]

    answers = sum((producer.answers for producer in producers), Counter())
    opened = sum(one.connections for one in readers)
    assert opened > READERS + faults["kill_one"]
    say(f"faults: {dict(faults)}")
    say(f"{len(sent)} events, {sum(one.count for one in readers)} deliveries, {opened} streams")
    say(f"answers to producers: {dict(answers)}; longest {max(p.longest for p in producers):.1f} s")
    slowest = max(one.seconds for one in crowd.revocations)
    gone = sum(one.streams for one in crowd.revocations)
    say(f"{len(crowd.revocations)} keys revoked: {gone} streams gone within {slowest:.3f} s")
    say(f"usage (told, least, most, delivered): {list(figures.values())}")


async def usage(
    replicas: Replicas, crowd: Crowd, keys: list[str]
) -> dict[str, tuple[int, int, int, int]]:
    """Events of each key: what the gateways counted, the bounds for it, and what was delivered.

    A gateway that is killed takes a second of its counts along, more while Redis was away; and
    what it counted last may not have left it.
    """
    found = {}
    for key in keys:
        delivered = unsure = 0
        for (of, number, life, tenth), count in crowd.deliveries.events.items():
            if of == key:
                delivered += count
                unsure += count * any(
                    (kill.number, kill.life) == (number, life)
                    and tenth / 10 >= kill.untold_since - 0.1
                    for kill in replicas.kills
                )
        least, most = delivered - unsure, delivered + unsure
        told = -1
        deadline = time.monotonic() + patience(5)
        while not least <= told <= most and time.monotonic() < deadline:
            _, said = await replicas.ask("GET", f"/v1/keys/{key[5:17]}/usage?window=1h&step=1m")
            told = sum(row["events"] for row in said["rows"])
            await asyncio.sleep(0.1)
        found[key] = told, least, most, delivered
    return found
