"""Gateways in this process whose tasks can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateways import Gateway

from gateway.runtime import background as module
from gateway.runtime.background import Background
from gateway.runtime.compose import Running, running
from gateway.runtime.first_key import make_first_key
from gateway.runtime.worker import Worker
from gateway.settings.declarations import SECTIONS, Settings
from gateway.tasks import Work
from tests.support.machine_time import patience

SERVER = {"port": 0, "drain_timeout": 1}


class Broken:
    """Lets tasks fail with an exception of their own, wherever they are waiting.

    A name stands for the task of that name that was started last.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: dict[str, asyncio.Event] = {}
        self.at_first: set[str] = set()
        self.for_ever: set[str] = set()
        keep = Background.keep

        def kept(
            background: Background,
            name: str,
            work: Work,
            on_given_up: Callable[[], None] | None = None,
        ) -> asyncio.Task[None]:
            return keep(background, name, self._breakable(name, work), on_given_up)

        monkeypatch.setattr(Background, "keep", kept)
        monkeypatch.setattr(module, "PAUSES", (0.01, 0.02))

    def once(self, name: str) -> None:
        self.tasks[name].set()

    def always(self, name: str) -> None:
        self.for_ever.add(name)
        self.tasks[name].set()

    def _breakable(self, name: str, work: Work) -> Work:
        broken = self.tasks[name] = asyncio.Event()

        async def breaking() -> None:
            if name in self.for_ever:
                raise RuntimeError(f"{name} is broken for ever")
            if name in self.at_first:
                self.at_first.discard(name)
                raise RuntimeError(f"{name} is broken")
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


class Started:
    """A gateway that ends when it cannot go on, with settings by section."""

    def __init__(
        self,
        folder: Path,
        session: aiohttp.ClientSession,
        *,
        key: str = "",
        worker: Worker | None = None,
        **sections: dict[str, Any],
    ) -> None:
        sections = {"server": SERVER, "record": {"delay": 0}, **sections}
        given = {name: of(**sections.get(name, {})) for name, of in SECTIONS.items()}
        self.settings = Settings(data=folder / "data", **given)
        self._session = session
        self.key = key
        self._worker = worker
        self._running: AbstractAsyncContextManager[Running] | None = None
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Gateway:
        self._running = running(self.settings, worker=self._worker, stop=self.stop)
        started = await self._running.__aenter__()
        key = self.key or started.first_key or await make_first_key(started.context)
        assert key is not None
        self.gateway = Gateway(started.url, key, self._session, started.context)
        await self.gateway.make_user()
        return self.gateway

    async def __aexit__(self, *_: object) -> None:
        await self.stop_now()

    async def stop_now(self) -> None:
        """Drain and stop, once."""
        running, self._running = self._running, None
        if running is not None:
            self.gateway.disconnect()
            async with asyncio.timeout(patience(20)):
                await running.__aexit__(None, None, None)


async def lines(gateway: Gateway, **parameters: str) -> aiohttp.ClientResponse:
    headers = {"Authorization": f"Bearer {gateway.user}", "Accept": "application/x-ndjson"}
    return await gateway.session.get(f"{gateway.url}/v1/stream", headers=headers, params=parameters)


async def read_until(stream: aiohttp.ClientResponse, *event_ids: str) -> None:
    """Return when the events with these ids have come, in whatever order."""
    missing = {f'"{event_id}"'.encode() for event_id in event_ids}
    async with asyncio.timeout(patience(10)):
        while missing:
            line = await stream.content.readline()
            assert line, "the stream has ended"
            missing = {one for one in missing if one not in line}


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


async def ends(started: Started, name: str) -> None:
    """The gateway is not ready because of that task, and ends with 70."""
    async with asyncio.timeout(patience(10)):
        await started.stop.wait()
    status, answer = await text(started.gateway, "/readyz")
    assert status == 503
    assert '"internal_failure"' in answer
    assert name in answer
    failure = started.gateway.context.failure
    assert failure is not None
    assert failure.exit_code == 70


async def told_to_restart(stream: aiohttp.ClientResponse) -> None:
    """The stream has ended with the code of a restart and a cursor."""
    last = (await stream.content.read()).splitlines()[-1]
    assert b'"code":1012' in last
    assert b'"cursor":' in last
