"""The connection to Redis: bounded in time, cut when it fails, restored by itself.

A circuit breaker: the first call that fails or takes too long opens it. From then on calls fail at
once with `Down`; a probe tries again at growing intervals, and closes it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from gateway.adapters.redis.address import RedisAddress
from gateway.adapters.redis.scripts import ScriptCall
from gateway.clock import Clock
from gateway.tasks import PLAIN, Tasks

# A round trip takes less than a millisecond; a server this slow counts as down.
CALL_SECONDS = 0.1
_PROBE_SECONDS = 1.0
_SLICES = 20
_CANCEL_SECONDS = 0.01
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_STEADY_SECONDS = 10.0
_PROBE_MILLISECONDS = 1000
_BATCH = 100
# Connections for calls, opened when Redis is found to be up: opening one, with TLS, may take
# longer than a call may.
_LINES = 3
_LOGGER = logging.getLogger(__name__)

Client = Redis | RedisCluster
Command = tuple[str | int | float, ...]
T = TypeVar("T")


class Down(Exception):
    """Redis did not answer, or the circuit is open."""


class Link:
    """Connection of one replica to one Redis, with its circuit breaker."""

    def __init__(
        self,
        address: RedisAddress,
        clock: Clock,
        prefix: str,
        seconds: float = CALL_SECONDS,
        tasks: Tasks = PLAIN,
    ) -> None:
        self.tasks = tasks
        self.client, self._sentinels = connect(address)
        self.prefix = prefix
        self.up = False
        self.outages = 0
        self.failed_calls = 0
        self.round_trips = 0
        # Keys of different subjects may be on different servers, so never in one call.
        self.scattered = address.kind == "cluster"
        self._lines = asyncio.Semaphore(_LINES)
        self._address = address
        self._clock = clock
        self._seconds = seconds
        self._down = asyncio.Event()
        self._down.set()
        self._down_since = self._up_since = clock.monotonic()
        self._returned: list[Callable[[], Awaitable[None]]] = []

    def on_return(self, act: Callable[[], Awaitable[None]]) -> None:
        """Call `act` each time Redis is back, before any other call is let through. It may call
        `run` with `early`; its exceptions count as failures of Redis."""
        self._returned.append(act)

    async def run(self, calls: Sequence[ScriptCall], *, early: bool = False) -> list[Any]:
        """Answers to the calls, in one round trip. Raises `Down`."""
        if not (self.up or early):
            raise Down
        return await self._within(self._send(calls), self._seconds)

    async def fetch(self, commands: Sequence[Command]) -> list[Any]:
        """Answers to slower plain commands; None for a value of a foreign type. Raises `Down`."""
        if not self.up:
            raise Down
        return await self._within(self._plain(commands), _PROBE_SECONDS)

    async def publish(self, channel: str, message: str) -> None:
        """Publish a message to a channel. Raises `Down`."""
        if not self.up:
            raise Down
        await self._within(self._publish(channel, message), self._seconds)

    def connect_apart(self) -> tuple[Client, list[Sentinel]]:
        """Separate client, and its Sentinels, for use outside this link's connections."""
        return connect(self._address)

    async def _within(self, work: Awaitable[T], seconds: float) -> T:
        """Result of work that must end within `seconds`; a failure or delay opens the circuit."""
        began = self.outages
        try:
            return await bounded(work, seconds)
        except Exception as error:
            self.failed_calls += 1
            # A call begun before an earlier outage says nothing about the new connection.
            if self.up and self.outages == began:
                self._open(error)
            raise Down from error

    async def keep(self) -> None:
        """Reconnect whenever Redis is down, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            await self._down.wait()
            if self._down_since - self._up_since > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            await self._clock.sleep(pause * random.uniform(0.75, 1.25))
            # A server that fails again at once is also probed at growing intervals.
            pause = min(2 * pause, _LONGEST_PAUSE)
            await self.probe()

    async def probe(self) -> bool:
        """Try to connect once; return whether Redis is up."""
        try:
            await bounded(self._try(), _PROBE_SECONDS)
            for act in self._returned:
                await act()
        except Exception as error:
            if not self.outages:
                self._open(error)
            return False
        if not self.up:
            self.up = True
            self._up_since = self._clock.monotonic()
            self._down.clear()
            if self.outages:
                away = self._clock.monotonic() - self._down_since
                _LOGGER.warning("Redis at %s is back after %.1f s", self._address, away)
        return True

    async def close(self) -> None:
        self.up = False
        for client in (self.client, *self._sentinels):
            with suppress(Exception):
                await bounded(client.aclose(), _PROBE_SECONDS)

    def _open(self, error: Exception) -> None:
        """Open the circuit; logs once per outage, however many requests fail."""
        self.up = False
        self.outages += 1
        self._down_since = self._clock.monotonic()
        self._down.set()
        _LOGGER.error(
            "Redis at %s is away (%s); until it is back each replica limits on its own and "
            "keeps its counts", self._address, str(error) or type(error).__name__,
        )  # fmt: skip

    async def _try(self) -> None:
        # Connections from before the failure may lead to a former primary.
        if isinstance(self.client, RedisCluster):
            await self.client.aclose()
            # A cluster is up only as a whole: a subject may be on any node.
            told: dict[str, Any] = await self.client.cluster_info(
                target_nodes=RedisCluster.PRIMARIES
            )
            states = told.values() if "cluster_state" not in told else (told,)
            if any(state["cluster_state"] != "ok" for state in states):
                raise ConnectionError("the cluster is not complete")
        else:
            await self._open_lines(self.client.connection_pool)
        # A write: a replica, or a server with a full disk, would answer a PING.
        await self.client.set(f"{self.prefix}:{{probe}}", 1, px=_PROBE_MILLISECONDS)

    async def _open_lines(self, pool: ConnectionPool) -> None:
        await pool.disconnect()
        lines = []
        try:
            for _ in range(_LINES):
                lines.append(await pool.get_connection())  # type: ignore[no-untyped-call]
        finally:
            for line in lines:
                await pool.release(line)

    async def _publish(self, channel: str, message: str) -> None:
        if isinstance(self.client, RedisCluster):
            await self.client.publish(channel, message)
        else:
            await self._plain([("PUBLISH", channel, message)])

    async def _send(self, calls: Sequence[ScriptCall]) -> list[Any]:
        answers = await self._exchange([call.known() for call in calls])
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = await self._exchange([calls[i].whole() for i in unknown])
            for i, answer in zip(unknown, again, strict=True):
                answers[i] = answer
        return _raise_first(answers)

    async def _plain(self, commands: Sequence[Command]) -> list[Any]:
        answers = await self._exchange(commands)
        return _raise_first([None if _is_of_another_type(one) else one for one in answers])

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Answers to commands sent together; an error takes the place of its answer."""
        self.round_trips += 1
        if isinstance(self.client, RedisCluster):
            pipeline = self.client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers
        # The client's own pipeline does the same but takes two to three times as long.
        pool = self.client.connection_pool
        async with self._lines:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                packed = connection.pack_commands(commands)
                await connection.send_packed_command(packed, check_health=False)
                return [await _answer(connection) for _ in commands]
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


S = TypeVar("S")


class Rounds(Generic[S]):
    """Batches calls for many subjects: at most one round trip is under way, and subjects added
    meanwhile go into the next."""

    def __init__(
        self,
        link: Link,
        ask: Callable[[S], ScriptCall],
        hear: Callable[[S, Any], None],
        miss: Callable[[S], None],
    ) -> None:
        self._link = link
        self._ask = ask
        self._hear = hear
        self._miss = miss
        self._due: dict[S, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, subject: S) -> None:
        """Include this subject in the next round."""
        self._due[subject] = None
        if self._task is None:
            self._task = self._link.tasks.run("redis_rounds", self._run)

    async def settled(self) -> None:
        """Wait until no subject is queued or under way."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while self._due:
                batch = list(self._due)[:_BATCH]
                for subject in batch:
                    del self._due[subject]
                await self._round(batch)
        finally:
            self._task = None

    async def _round(self, batch: list[S]) -> None:
        heard = 0
        try:
            answers = await self._link.run([self._ask(subject) for subject in batch])
            for subject, answer in zip(batch, answers, strict=True):
                self._hear(subject, answer)
                heard += 1
        except Exception as error:
            if not isinstance(error, Down):
                # The answer has an unexpected form.
                self._link.tasks.report("redis_rounds", error)
            for subject in batch[heard:]:
                self._miss(subject)


async def bounded(work: Awaitable[T], seconds: float) -> T:
    """Result of `work`, or `TimeoutError`.

    Unlike with `asyncio.timeout`, a busy event loop does not look like a silent server: the wait is
    cut into slices, each at least one turn of the loop.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(_SLICES):
            await asyncio.wait({task}, timeout=seconds / _SLICES)
            if task.done():
                break
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
    if task.cancelled() or not task.done():
        raise TimeoutError("no answer in time")
    return task.result()


def _is_of_another_type(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")


def _raise_first(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def connect(address: RedisAddress) -> tuple[Client, list[Sentinel]]:
    """Client that has not connected yet, and its Sentinels, to be closed with it.

    It has neither retries nor timeouts: the link has both.
    """
    options: dict[str, Any] = {
        "username": address.user,
        "password": address.password,
        "protocol": 2,
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
    }
    secure: dict[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca} if address.tls else {}
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, **options, **secure), []
    if address.kind == "sentinel":
        login = {"username": address.sentinel_user, "password": address.sentinel_password}
        # One dead Sentinel must leave time to ask the next.
        asking = {**options, **login, **secure, "socket_timeout": _PROBE_SECONDS / 4}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            address.hosts, sentinel_kwargs=asking, **options, **secure
        )
        master: Redis = sentinel.master_for(address.service, db=address.db)
        return master, [sentinel]
    host, port = address.hosts[0]
    return Redis(host=host, port=port, db=address.db, **options, **secure), []
