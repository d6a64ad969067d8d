"""Every task of a running gateway is made to fail: once, and for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateways import Gateway

from gateway.runtime import background as module
from gateway.runtime.background import Background
from gateway.service import running
from gateway.settings.declarations import SECTIONS, Settings
from gateway.tasks import Work
from tests.machine_time import eventually, patience

# Of a gateway that is started as here; one that is not named here fails the first test.
TASKS = (
    "clock_watch", "end", "heartbeat", "key_events", "key_lives", "key_watch", "loop_delay",
    "record", "retention", "role_watch", "tail", "usage", "watchdog", "writer",
)  # fmt: skip


class Broken:
    """Lets tasks fail with an exception of their own, wherever they are waiting."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Event] = {}
        self.for_ever: set[str] = set()

    def breakable(self, name: str, work: Work) -> Work:
        broken = self.tasks[name] = asyncio.Event()

        async def breaking() -> None:
            if name in self.for_ever:
                raise RuntimeError(f"{name} is broken for ever")
            running = asyncio.ensure_future(work())
            breaks = asyncio.ensure_future(broken.wait())
            try:
                await asyncio.wait({running, breaks}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    return running.result()
                broken.clear()
                raise RuntimeError(f"{name} is broken")
            finally:
                for one in (running, breaks):
                    one.cancel()
                await asyncio.gather(running, breaks, return_exceptions=True)

        return breaking

    def once(self, name: str) -> None:
        self.tasks[name].set()

    def always(self, name: str) -> None:
        self.for_ever.add(name)
        self.tasks[name].set()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    broken = Broken()
    keep = Background.keep

    def wrapped(
        self: Background, name: str, work: Work, on_given_up: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        return keep(self, name, broken.breakable(name, work), on_given_up)

    monkeypatch.setattr(Background, "keep", wrapped)
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.02))
    return broken


class Started:
    """A gateway that ends when it cannot go on."""

    def __init__(self, tmp_path: Path, session: aiohttp.ClientSession) -> None:
        sections: dict[str, Any] = {
            "server": {"port": 0, "drain_timeout": 1},
            "store": {"retention_age": 86400 * 365},
            "record": {"delay": 0},
        }
        given = {name: of(**sections.get(name, {})) for name, of in SECTIONS.items()}
        self._settings = Settings(data=tmp_path / "data", **given)
        self._session = session
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Gateway:
        self._running = running(self._settings, stop=self.stop)
        started = await self._running.__aenter__()
        assert started.first_key is not None
        self.gateway = Gateway(started.url, started.first_key, self._session, started.context)
        await self.gateway.make_user()
        return self.gateway

    async def __aexit__(self, *_: object) -> None:
        self.gateway.disconnect()
        async with asyncio.timeout(patience(20)):
            await self._running.__aexit__(None, None, None)


@pytest.fixture
def started(tmp_path: Path, session: aiohttp.ClientSession, broken: Broken) -> Started:
    return Started(tmp_path, session)


async def lines(gateway: Gateway, **parameters: str) -> aiohttp.ClientResponse:
    headers = {"Authorization": f"Bearer {gateway.user}", "Accept": "application/x-ndjson"}
    return await gateway.session.get(f"{gateway.url}/v1/stream", headers=headers, params=parameters)


async def post(gateway: Gateway, event_id: str) -> int:
    event = {"id": event_id, "category": "auth", "action": "login"}
    headers = {"Authorization": f"Bearer {gateway.user}"}
    async with gateway.session.post(
        f"{gateway.url}/v1/events", json=event, headers=headers
    ) as answer:
        return answer.status


async def text(gateway: Gateway, path: str) -> tuple[int, str]:
    async with gateway.session.get(gateway.url + path) as answer:
        return answer.status, await answer.text()


async def test_each_task_that_is_started_is_made_to_fail_here(
    started: Started, broken: Broken
) -> None:
    async with started:
        assert tuple(sorted(broken.tasks)) == TASKS


@pytest.mark.parametrize("name", TASKS)
async def test_a_task_that_fails_once_goes_on_and_nothing_is_lost(
    name: str, started: Started, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    async with started as gateway:
        errors = gateway.context.tasks.errors
        stream = await lines(gateway)
        assert await post(gateway, "before") == 201
        broken.once(name)
        await eventually(lambda: errors[name] == 1)
        # Whatever is asked of it while it pauses waits.
        assert await post(gateway, "after") == 201
        seen = b""
        async with asyncio.timeout(patience(10)):
            while not (b'"before"' in seen and b'"after"' in seen):
                seen += await stream.content.readline()
        assert (await text(gateway, "/readyz"))[0] == 200
        _, metrics = await text(gateway, "/metrics")
        assert f'audit_gateway_internal_errors_total{{task="{name}"}} 1\n' in metrics
        assert f"{name} is broken" in caplog.text
        stream.close()


@pytest.mark.parametrize("name", TASKS)
async def test_a_task_that_goes_on_failing_ends_streams_and_the_process(
    name: str, started: Started, broken: Broken
) -> None:
    async with started as gateway:
        stream = await lines(gateway)
        broken.always(name)
        async with asyncio.timeout(patience(10)):
            await started.stop.wait()
        status, answer = await text(gateway, "/readyz")
        assert status == 503
        assert '"internal_failure"' in answer
        assert name in answer
        failure = gateway.context.failure
        assert failure is not None
        assert failure.exit_code == 70
    last = (await stream.content.read()).splitlines()[-1]
    assert b'"code":1012' in last
    assert b'"cursor":' in last
