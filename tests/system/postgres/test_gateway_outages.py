"""A gateway whose database is away, in whatever way: refusals, open streams, and no restart."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer

pytestmark = pytest.mark.slow
EVERYTHING = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}
_SECONDS = 30


@pytest.fixture
def gateway(tmp_path: Path, own_postgres: PostgresServer) -> Iterator[GatewayProcess]:
    settings = {
        "AUDIT_GATEWAY_STORE__URL": own_postgres.url(),
        "AUDIT_GATEWAY_STREAM__HEARTBEAT": "1s",
    }
    with GatewayProcess(tmp_path / "data", settings=settings, shows_key=True) as gateway:
        yield gateway


class Client:
    """A producer, and a stream that has to stay open through it all."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.seen: list[str] = []
        self.signs_of_life = 0
        self.changed = asyncio.Event()

    async def post(self, name: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        event = {"id": name, "category": "auth", "action": "login"}
        async with self._session.post(self._url + "/v1/events", json=event) as answer:
            return answer.status, dict(answer.headers), await answer.json()

    async def refused(self, *codes: str) -> dict[str, Any]:
        """Post until it is refused with one of these codes; each refusal says when to come back."""
        async with asyncio.timeout(patience(_SECONDS)):
            while True:
                status, headers, answer = await self.post("refused")
                if status == 503:
                    assert int(headers["Retry-After"]) >= 1
                    assert "127.0.0.1" not in answer["detail"]
                    if answer["code"] in codes:
                        return answer
                await asyncio.sleep(0.05)

    async def taken(self, name: str) -> None:
        """Post until it is taken."""
        async with asyncio.timeout(patience(_SECONDS)):
            while (await self.post(name))[0] != 201:  # noqa: ASYNC110 - a retrying producer
                await asyncio.sleep(0.05)

    async def ready(self, status: int, words: str) -> None:
        """Ask /readyz until it has that status and says these words."""
        async with asyncio.timeout(patience(_SECONDS)):
            while True:
                async with self._session.get(self._url + "/readyz") as answer:
                    if answer.status == status and words in await answer.text():
                        return
                await asyncio.sleep(0.05)

    async def metrics(self) -> str:
        async with self._session.get(self._url + "/metrics") as answer:
            return await answer.text()

    async def page(self) -> list[str]:
        """The ids of the newest events that can be pulled."""
        async with self._session.get(self._url + "/v1/events?category=auth") as answer:
            assert answer.status == 200, await answer.text()
            return [event["id"] for event in (await answer.json())["events"]]

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                assert "reconnect" not in event, f"the stream was ended: {event}"
                if "id" in event:
                    self.seen.append(event["id"])
            self.signs_of_life += 1
            self.changed.set()
        raise AssertionError("the stream was cut")

    async def sees(self, *names: str) -> None:
        async with asyncio.timeout(patience(_SECONDS)):
            while not set(names) <= set(self.seen):
                self.changed.clear()
                await self.changed.wait()
        assert [name for name in self.seen if name != "refused"] == list(names)

    async def stays_alive(self) -> None:
        """Return after two more signs of life on the stream."""
        wanted = self.signs_of_life + 2
        async with asyncio.timeout(patience(_SECONDS)):
            while self.signs_of_life < wanted:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def client_of(gateway: GatewayProcess) -> AsyncIterator[Client]:
    """A client whose stream is open from before the first event on, and never ends."""
    key = await asyncio.to_thread(gateway.make_key, EVERYTHING)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        client = Client(session, gateway.url)
        async with session.get(
            gateway.url + "/v1/stream?category=auth&from=start",
            headers={"Accept": "text/event-stream"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            assert answer.status == 200, await answer.text()
            reading = asyncio.create_task(client.read(answer))
            await client.taken("before")
            await client.sees("before")
            yield client
            assert not reading.done(), reading.exception()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def test_a_database_that_is_down_at_the_start_is_named_and_the_program_ends(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    url = own_postgres.url().replace("gateway@", "gateway:secret@")
    await asyncio.to_thread(own_postgres.stop)
    settings = {"AUDIT_GATEWAY_STORE__URL": url}
    done = await asyncio.to_thread(
        run_program, "serve", "--data", str(tmp_path / "data"), "--port", "0", settings=settings
    )
    assert done.returncode == 5
    assert done.stderr.startswith("error: store.url: the database cannot be prepared: the database")
    assert str(own_postgres.port) in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_a_database_that_goes_down_and_comes_back_costs_no_stream_and_no_event(
    gateway: GatewayProcess, own_postgres: PostgresServer, how: signal.Signals
) -> None:
    async with client_of(gateway) as client:
        await asyncio.to_thread(own_postgres.stop, how)
        await client.refused("store_unavailable")
        await client.ready(503, "store_unavailable")
        assert "audit_gateway_store_away 1.0\n" in await client.metrics()
        await client.stays_alive()
        await asyncio.to_thread(own_postgres.start)
        await client.taken("after")
        await client.sees("before", "after")
        await client.ready(200, "ready\n")
        assert "audit_gateway_store_away 0.0\n" in await client.metrics()


async def test_a_database_without_a_free_connection_is_waited_for(
    gateway: GatewayProcess, own_postgres: PostgresServer
) -> None:
    async with client_of(gateway) as client:
        admin = await asyncpg.connect(own_postgres.url())
        taken: list[asyncpg.Connection] = []

        async def take_all() -> None:
            while True:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'audit-gateway'"
                )
                with suppress(asyncpg.TooManyConnectionsError):
                    while True:
                        taken.append(await asyncpg.connect(own_postgres.url()))
                await asyncio.sleep(0.05)

        taking = asyncio.create_task(take_all())
        await client.refused("store_unavailable")
        await client.ready(503, "no connection left")
        taking.cancel()
        await client.stays_alive()
        for connection in [*taken, admin]:
            connection.terminate()
        await client.taken("after")
        await client.sees("before", "after")
        await client.ready(200, "ready\n")


async def test_a_database_that_accepts_no_writes_is_waited_for_and_read_meanwhile(
    gateway: GatewayProcess, own_postgres: PostgresServer
) -> None:
    async with client_of(gateway) as client:
        admin = await asyncpg.connect(own_postgres.url())
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        await client.refused("store_read_only")
        await client.ready(503, "store_read_only")
        await client.stays_alive()
        # It may have been taken until the database had read its settings again.
        assert [name for name in await client.page() if name != "refused"] == ["before"]
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        await client.taken("after")
        await client.sees("before", "after")
        await client.ready(200, "ready\n")


async def test_a_table_that_is_locked_for_long_is_waited_for(
    gateway: GatewayProcess, own_postgres: PostgresServer
) -> None:
    async with client_of(gateway) as client:
        admin = await asyncpg.connect(own_postgres.url())
        await admin.execute("BEGIN; LOCK TABLE audit_gateway.event IN ACCESS EXCLUSIVE MODE")
        await client.refused("store_slow")
        await client.ready(503, "store_slow")
        await client.stays_alive()
        await admin.execute("ROLLBACK")
        await admin.close()
        await client.taken("after")
        await client.sees("before", "after")
        await client.ready(200, "ready\n")


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_gateway_whose_log_is_another_one_ends_its_streams_and_is_started_again(
    tmp_path: Path, own_postgres: PostgresServer, workers: int
) -> None:
    settings = {"AUDIT_GATEWAY_STORE__URL": own_postgres.url()}
    with GatewayProcess(
        tmp_path / "data", "--workers", str(workers), settings=settings, shows_key=True
    ) as gateway:
        key = await asyncio.to_thread(gateway.make_key, EVERYTHING)
        await asyncio.to_thread(gateway.post, [{"id": "a", "category": "auth", "action": "x"}], key)
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{gateway.url}/v1/stream?category=auth&from=start"
        async with (
            asyncio.timeout(patience(_SECONDS)),
            aiohttp.ClientSession(headers=headers) as session,
            session.get(url, headers={"Accept": "application/x-ndjson"}) as lines,
            session.ws_connect(url) as socket,
        ):
            event = json.loads(await lines.content.readline())
            assert (await socket.receive_json())["cursor"] == event["cursor"]
            made = await asyncio.to_thread(
                run_program, "log", "new-epoch", settings=settings, cwd=tmp_path
            )
            assert made.returncode == 0
            *_, end = (await lines.content.read()).splitlines()
            assert json.loads(end)["code"] == 1012
            assert (await socket.receive()).data == 1012
        if workers == 1:
            assert await asyncio.to_thread(gateway.ended) == 5
            assert "error: the database holds another log than before" in gateway.errors
        else:
            # The supervisor does it.
            page = f"{gateway.url}/v1/events?after={event['cursor']}"
            async with (
                asyncio.timeout(patience(_SECONDS)),
                aiohttp.ClientSession(headers=headers) as session,
            ):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        async with session.get(page) as answer:
                            if answer.status == 410:
                                break
                    await asyncio.sleep(0.05)
            assert "ended: the database holds another log than before" in gateway.errors
        assert "Traceback" not in gateway.errors
