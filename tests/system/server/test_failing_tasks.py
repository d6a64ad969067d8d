"""Every task of a running gateway is made to fail: once, and for ever."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import apsw
import pytest
from failing import Broken, Started, ends, lines, post, read_until, text, told_to_restart
from test_failing_tasks_of_stores import FOLLOWER, PASSING, REMOTE

from gateway.adapters.sqlite.dedup import HAS_TEXT_INDEX
from gateway.cli.serve import _serve
from gateway.errors import InternalFailure
from tests.support.machine_time import eventually, patience

GATEWAY = Path(__file__).parents[3] / "gateway"
# Of a gateway that is started as here; one that is not named here fails the first test.
TASKS = (
    "clock_watch", "consumer_pages", "consumer_watch", "consumers", "delivery_watch",
    "destinations", "end", "heartbeat", "inventory", "key_events", "key_lives", "key_watch", "lags",
    "loop_delay", "record", "retention", "role_watch", "sessions", "tail", "usage", "watchdog",
    "writer",
)  # fmt: skip
# Of the program, beside those of the gateway in it.
PROGRAM = ("collector", "demo", "memory")
# Of destinations: tests/system/server/test_destinations.py makes one fail.
DELIVERY = ("destination",)
# Of one that speaks TLS: tests/system/server/test_certificates.py makes it fail.
TLS = ("certificates",)
# Of one with traces: tests/system/server/test_traces.py makes it fail.
TRACES = ("traces",)
# Of one where people sign in by a provider: tests/system/server/test_oidc.py makes it fail.
OIDC = ("confirmations",)
# Of large exports: tests/system/server/test_csv_exports.py makes one fail.
EXPORTS = ("export",)
# Of one that takes up a log of an earlier version.
UPGRADE = "old_event_ids"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


@pytest.fixture
def started(tmp_path: Path, session: aiohttp.ClientSession, broken: Broken) -> Started:
    return Started(tmp_path, session, store={"retention_age": 86400 * 365})


def names_in_the_source() -> set[str]:
    """The names of all tasks that the program can start, in whatever configuration."""
    names: set[str] = set()
    for path in GATEWAY.rglob("*.py"):
        text = path.read_text()
        names.update(re.findall(r'\.(?:keep|run)\(\s*"(\w+)"', text))
        # Those that are started together.
        for table in re.findall(r"works: dict\[str, Work\] = \{(.*?)\n    \}", text, re.DOTALL):
            names.update(re.findall(r'^ *"(\w+)":', table, re.MULTILINE))
        names.update(re.findall(r'\bworks\["(\w+)"\]', text))
    return names


def test_no_task_is_forgotten_here() -> None:
    broken = {
        *TASKS,
        UPGRADE,
        *PASSING,
        *REMOTE,
        *FOLLOWER,
        *PROGRAM,
        *DELIVERY,
        *TLS,
        *EXPORTS,
        *TRACES,
        *OIDC,
    }
    assert names_in_the_source() == broken


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
        await read_until(stream, "before", "after")
        assert (await text(gateway, "/readyz"))[0] == 200
        _, metrics = await text(gateway, "/metrics")
        assert f'audit_gateway_internal_errors_total{{task="{name}"}} 1.0\n' in metrics
        assert f"{name} is broken" in caplog.text
        stream.close()


@pytest.mark.parametrize("name", TASKS)
async def test_a_task_that_goes_on_failing_ends_streams_and_the_process(
    name: str, started: Started, broken: Broken
) -> None:
    async with started as gateway:
        stream = await lines(gateway)
        broken.always(name)
        await ends(started, name)
    await told_to_restart(stream)


async def test_unexpected_exceptions_of_requests_and_appends_are_counted_and_end_nothing(
    started: Started, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    appends = 0

    async def fails(*_: object) -> None:
        raise RuntimeError("made to fail")

    async def fails_to_append(*_: object) -> None:
        # What the gateway itself appends at that moment counts, too.
        nonlocal appends
        appends += 1
        raise RuntimeError("made to fail")

    async with started as gateway:
        log = gateway.context.log
        for count in range(1, 5):
            with monkeypatch.context() as broken:
                broken.setattr(log, "append", fails_to_append)
                broken.setattr(log, "find", fails)
                assert await post(gateway, "lost") == 500
                assert (await gateway.get("/v1/events/lost")).status == 500
            _, metrics = await text(gateway, "/metrics")
            assert appends >= count
            for name, errors in (("writer", appends), ("request", 2 * count)):
                line = f'audit_gateway_internal_errors_total{{task="{name}"}} {float(errors)}\n'
                assert line in metrics
        assert await post(gateway, "after") == 201
        assert (await text(gateway, "/readyz"))[0] == 200
        assert "made to fail" in caplog.text


@pytest.fixture
async def earlier_log(started: Started, tmp_path: Path) -> None:
    """The folder of the gateway has a log whose ids have not been taken up."""
    async with started as gateway:
        assert await post(gateway, "of before") == 201
    with apsw.Connection(str(tmp_path / "data" / "log.db")) as connection:
        connection.execute("CREATE UNIQUE INDEX event_id ON event (id, tenant)")
    connection.close()
    started.key = gateway.admin


async def test_ids_of_old_events_are_taken_up_although_that_failed_once(
    earlier_log: None, started: Started, broken: Broken, tmp_path: Path
) -> None:
    broken.at_first.add(UPGRADE)
    async with started as gateway:
        await eventually(lambda: not _has_text_index(tmp_path / "data" / "log.db"))
        assert gateway.context.tasks.errors[UPGRADE] == 1
        assert (await text(gateway, "/readyz"))[0] == 200


async def test_a_log_whose_old_ids_cannot_be_taken_up_ends_the_process(
    earlier_log: None, started: Started, broken: Broken
) -> None:
    broken.for_ever.add(UPGRADE)
    async with started:
        await ends(started, UPGRADE)


@pytest.mark.parametrize("name", PROGRAM)
async def test_a_task_of_the_program_that_goes_on_failing_ends_it_with_70(
    name: str, started: Started, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They change the process for good.
    monkeypatch.setattr("gateway.runtime.process.threads.start_threads", lambda: None)
    monkeypatch.setattr("gateway.runtime.process.collector.Collector.begin", lambda collector: None)
    broken.for_ever.add(name)
    with pytest.raises(InternalFailure, match=f"the task {name} failed 3 times") as failed:
        async with asyncio.timeout(patience(20)):
            await _serve(started.settings, demo=True)
    assert failed.value.exit_code == 70


def _has_text_index(path: Path) -> bool:
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        return bool(connection.execute(HAS_TEXT_INDEX).fetchone())
