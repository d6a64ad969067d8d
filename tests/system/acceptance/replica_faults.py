"""Three gateways on one PostgreSQL and one Redis, and what can happen to any of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer
from tests.support.services.valkey import Valkey

_START_SECONDS = 60
_TURN = "hashtextextended('audit_gateway.step', 0)"
_WAITING = """
SELECT client_port FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE locktype = 'advisory' AND NOT granted AND application_name = 'audit-gateway'
"""


@dataclass
class Replica:
    """One gateway, on another port after each start. `life` counts the starts."""

    number: int
    life: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    process: GatewayProcess | None = None


@dataclass
class Kill:
    """A gateway that was killed at a time, and since when it may not have told its counts."""

    number: int
    life: int
    at: float
    untold_since: float


@dataclass
class Replicas:
    """The gateways with their database and Redis; `close` ends what runs of it."""

    folder: Path
    database: PostgresServer
    redis: Valkey
    settings: dict[str, str]
    replicas: list[Replica] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    admin: str = ""
    # Time of Redis' last outage: from, and to when it is under way no more.
    _away: tuple[float, float] = (0.0, 0.0)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)
    _redis_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, count: int) -> None:
        for number in range(count):
            self.replicas.append(Replica(number))
            await self._start(self.replicas[-1])

    def choose(self) -> Replica:
        """Any of them, whether it is up or not."""
        return random.choice(self.replicas)

    @property
    def up(self) -> list[Replica]:
        return [one for one in self.replicas if one.process is not None]

    async def all_up(self) -> None:
        await asyncio.gather(*self._starting)
        async with self._redis_lock:
            pass

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """A request of the administrator to one that is up, again while the gateway says 503."""
        while True:
            process = random.choice(self.up).process
            assert process is not None
            with suppress(OSError):
                status, said = await asyncio.to_thread(process.ask, method, path, self.admin, body)
                if status != 503:
                    return status, said
            await asyncio.sleep(0.1)

    async def make_key(self, *grants: dict[str, Any]) -> str:
        body = {
            "name": "test", "purpose": "test", "owner": "test", "expires_in": "1d",
            "grants": list(grants),
        }  # fmt: skip
        status, said = await self.ask("POST", "/v1/keys", body)
        assert status == 201, said
        key: str = said["key"]
        return key

    # Faults

    async def kill_one(self) -> None:
        """SIGKILL; started again after a moment."""
        await self._kill(random.choice(self.up))

    async def kill_in_a_step(self) -> None:
        """SIGKILL the gateway whose step is under way: it waits for its turn, dies, and the
        database carries the step out all the same."""
        connection = await asyncpg.connect(self.database.url())
        try:
            # Not in a transaction: that would see the same sessions at each look.
            await connection.execute(f"SELECT pg_advisory_lock({_TURN})")
            victims: list[Replica] = []
            async with asyncio.timeout(patience(10)):
                # Those that wait may also be starting, or dead already.
                while not victims:
                    ports = [row["client_port"] for row in await connection.fetch(_WAITING)]
                    victims = [one for one in self.up if _has_connection(one, ports)]
                    await asyncio.sleep(0.005)
            await self._kill(victims[0])
        finally:
            connection.terminate()

    async def crash_postgres(self) -> None:
        """Immediate shutdown, recovery, and on."""
        await asyncio.to_thread(self.database.stop, signal.SIGQUIT)
        await asyncio.sleep(random.uniform(0, 2))
        await asyncio.to_thread(self.database.start)

    async def restart_redis(self) -> None:
        """Does nothing while it is away: the other faults are to happen then, too."""
        if not self._redis_lock.locked():
            await self.redis_outage(0)

    async def redis_outage(self, seconds: float) -> None:
        async with self._redis_lock:
            self._away = (time.monotonic(), float("inf"))
            await asyncio.to_thread(self.redis.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.redis.start)
            # It is tried again every two seconds at most.
            self._away = (self._away[0], time.monotonic() + 3.0)

    async def _kill(self, victim: Replica) -> None:
        process, victim.process = victim.process, None
        assert process is not None
        await asyncio.to_thread(process.kill)
        now = time.monotonic()
        away_from, away_until = self._away
        untold = min(now, away_from) if now <= away_until + 1.0 else now
        self.kills.append(Kill(victim.number, victim.life, now, untold - 1.0))
        task = asyncio.create_task(self._start_again(victim))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_again(self, replica: Replica) -> None:
        """As a supervisor does: until it stays, for the database may be away."""
        await asyncio.sleep(random.uniform(0.1, 2))
        async with asyncio.timeout(patience(_START_SECONDS)):
            while True:
                try:
                    return await self._start(replica)
                except AssertionError:
                    await asyncio.sleep(0.2)

    async def _start(self, replica: Replica) -> None:
        first = not self.admin
        process = await asyncio.to_thread(
            GatewayProcess, self.folder / "data", settings=self.settings, shows_key=first
        )
        self.admin = self.admin or process.first_key
        replica.life += 1
        replica.host, replica.port, replica.process = process.host, process.port, process

    def errors(self) -> str:
        """What all gateways have said, over all their lives."""
        return (self.folder / "data.stderr").read_text(errors="replace")

    async def close(self) -> None:
        """Let starts come to their end, so that no process is missed; then kill all."""
        await asyncio.gather(*self._starting, return_exceptions=True)
        for one in self.up:
            assert one.process is not None
            one.process.kill()
            one.process = None


def _has_connection(replica: Replica, ports: Collection[int]) -> bool:
    """Whether a TCP connection from one of these local ports is the replica's."""
    assert replica.process is not None
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if int(row[1].rpartition(":")[2], 16) in ports}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for descriptor in Path(f"/proc/{replica.process.pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(descriptor) in wanted:
                return True
    return False
