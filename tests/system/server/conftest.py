"""Fixtures of gateways: within the process, and as a program of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from gateways import Gateway, Program, ProgramProcess, ShiftedClock, Start, StartProgram

from gateway.clock import Clock
from gateway.http.intake.single_events import SingleEvents
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from tests.support.machine_time import patience

SHORT = {
    "server": {"port": 0},
    "stream": {"heartbeat": 1, "ping": 1},
    # What tests count in the log are their own events; the record is written at the end.
    "record": {"delay": 3600},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses the gateway of its module runs in its event loop."""
    for item in items:
        # This is told of all tests that were collected; others have fixtures of that name, too.
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def settings_of(folder: Path, sections: dict[str, dict[str, Any]]) -> Settings:
    given = {
        name: of(**{**SHORT.get(name, {}), **sections.get(name, {})})
        for name, of in SECTIONS.items()
    }
    return Settings(data=folder / "data", **given)


@pytest.fixture
def shifted() -> ShiftedClock:
    """A clock that a test may set forward."""
    return ShiftedClock()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
async def start(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Start]:
    """Start a gateway with settings by section, as in `start(stream={"heartbeat": 2})`."""
    async with AsyncExitStack() as stack:

        async def start(clock: Clock | None = None, **sections: dict[str, Any]) -> Gateway:
            settings = settings_of(tmp_path, sections)
            started = await stack.enter_async_context(running(settings, clock))
            assert started.first_key is not None
            gateway = Gateway(started.url, started.first_key, session, started.context)
            stack.callback(gateway.disconnect)
            await gateway.make_user()
            return gateway

        yield start


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    """A gateway whose heartbeats and pings come every second."""
    return await start()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of requests that were taken without aiohttp."""
    counts: list[int] = []
    take = SingleEvents.take

    def counted(*arguments: Any) -> int:
        count = take(*arguments)
        counts.append(count)
        return count

    monkeypatch.setattr(SingleEvents, "take", counted)
    return counts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One gateway for all tests of a module; see `gateway_of_module`."""
    settings = settings_of(tmp_path_factory.mktemp("shared"), {})
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        running(settings, None) as started,
    ):
        assert started.first_key is not None
        yield Gateway(started.url, started.first_key, session, started.context)


@pytest_asyncio.fixture(loop_scope="module")
async def gateway_of_module(shared: Gateway) -> AsyncIterator[Gateway]:
    """The module's gateway with a user of the test's own, for tests that mind no other's events.

    A module whose `gateway` it is saves most of what its tests would cost.
    """
    gateway = Gateway(shared.url, shared.admin, shared.session, shared.context)
    await gateway.make_user()
    yield gateway
    gateway.disconnect()


@pytest.fixture
async def start_program(
    tmp_path: Path, session: aiohttp.ClientSession
) -> AsyncIterator[StartProgram]:
    """Start `audit-gateway serve` on a free port, with settings from the environment.

    Always on the same folder; `key` is its admin's, where it was started on before. For
    `executed` see `tests.support.gateway_process.start`.
    """
    programs: list[Program] = []
    started: list[ProgramProcess] = []

    async def start(key: str = "", *, executed: bool = False, **settings: str) -> Program:
        data = tmp_path / "data"
        arguments = ("serve", "--data", str(data), "--port", "0")
        process = ProgramProcess(arguments, settings, executed)
        started.append(process)
        program = Program(await _greeting(process, "listening on"), "", session)
        programs.append(program)
        program.process, program.data = process, data
        program.admin = key or await _greeting(process, "first admin key, shown this once:")
        await program.make_user()
        return program

    yield start
    for program in programs:
        program.disconnect()
    for process in started:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.end()


async def _greeting(process: ProgramProcess, words: str) -> str:
    """The word behind those words on the standard output of a program that is starting."""
    async with asyncio.timeout(patience()):
        while line := await process.line():
            if words in line:
                return line.partition(words)[2].split()[0]
        errors = await process.end()
    raise AssertionError(f"it ended before it said {words!r}: {errors}")


@pytest.fixture
async def recording(start: Start) -> Gateway:
    """A gateway that writes its record as fast as it can."""
    return await start(record={"delay": 0, "merge": 1, "merge_ingest": 1})
