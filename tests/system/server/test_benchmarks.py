"""Every scenario of `make bench` in miniature: all of it runs, and nothing gets lost."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.benchmarks import compare, postgres, report, session
from tests.benchmarks.__main__ import PEERS, TARGETS
from tests.benchmarks.gateway import ROOT, Gateway
from tests.benchmarks.plan import MINIATURE, SCENARIOS, Run
from tests.benchmarks.programs import BenchmarkError, Server
from tests.support.loaded_program import LoadedProgram
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations

NEWEST = max(installations(), key=int)
# These are about no events that come in.
WITHOUT_EVENTS = ("memory", "authorize", "declaring", "looking", "inventory", "sources")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("cc"), reason="the benchmarks need a C compiler"),
]


class ForkedServer(Server):
    """A gateway that need not load its program."""

    def _start(self, command: Sequence[str], **options: Any) -> Any:
        del options["preexec_fn"]
        return LoadedProgram(command[3:], **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are compiled once."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture
def database(server_of: Callable[[str], PostgresServer]) -> Callable[[], Any]:
    """In place of a server of its own, an empty database of the one that tests share."""

    @contextmanager
    def running() -> Iterator[tuple[PostgresServer, str]]:
        server = server_of(NEWEST)
        asyncio.run(execute(server.url(), "CREATE DATABASE benchmark"))
        try:
            yield server, server.url("benchmark")
        finally:
            asyncio.run(execute(server.url(), "DROP DATABASE benchmark WITH (FORCE)"))

    return running


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        connection.terminate()


# The name of the server is in the name of the test, which runs where that server does.
@pytest.mark.parametrize(
    "scenario", SCENARIOS, ids=lambda name: f"postgres{NEWEST}" if name == "postgres" else name
)
def test_scenario_runs_and_nothing_gets_lost(
    scenario: str,
    folder: Path,
    database: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Gateway, "server", ForkedServer)
    monkeypatch.setattr(postgres, "running_database", database)
    # However busy the machine is: what is missing then is lost.
    monkeypatch.setattr(session, "DRAIN_SECONDS", patience(20))
    missing = [peer.name for peer in PEERS if peer.missing()]
    targets = [name for name in TARGETS if name not in missing]
    said: list[str] = []
    run = Run(MINIATURE, folder, targets, 0, said.append)
    run.scenario(scenario)
    found = run.results[scenario]
    assert found
    assert not [one for one in found if "failed" in one], "\n".join(said)
    for step in steps_of(found):
        lost = {name: step[name] for name in ("missing", "duplicates", "closed", "refusal")}
        assert step["delivered"], step
        assert not any(lost.values()), lost
    rows = report.rows(run.results)
    assert len(rows) >= len(found)
    assert all(row.came_in for row in rows) or scenario in WITHOUT_EVENTS
    for mark in ("NOT COMPLETE", "MISSING", "refused"):
        assert mark not in report.table(rows)


def test_another_checkout_is_measured_beside_this_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateway, "server", ForkedServer)
    monkeypatch.setattr(session, "DRAIN_SECONDS", patience(20))
    # One way of each kind: the others differ in numbers.
    some = {name: dict([next(iter(kinds.items()))]) for name, kinds in compare.MEASURES.items()}
    monkeypatch.setattr(compare, "MEASURES", some)
    sides = [compare.Side(name, ROOT, sys.executable, folder) for name in ("before", "after")]
    sides[0].check()
    sizes = compare.Sizes(rounds=1, seconds=0.05, subscribers=4, log=500, settle=0.01)
    head, *lines = compare.compared(sides, sizes, list(some), lambda _: None)
    assert head.split()[:2] == ["before", "after"]
    assert [line.rpartition(": ")[0] for line in lines if "cpu us" in line] == [
        f"{name} {what}" for name in ("ingest", "catchup", "fanout") for what in some[name]
    ]


def test_a_folder_without_a_gateway_is_not_taken_for_another_checkout(tmp_path: Path) -> None:
    side = compare.Side("before", tmp_path, sys.executable, tmp_path)
    with pytest.raises(BenchmarkError, match="no gateway to be started"):
        side.check()


def steps_of(found: Any) -> Iterator[dict[str, Any]]:
    """Every step of load, however deep in the results."""
    if isinstance(found, dict):
        if "producer_late" in found:
            yield found
        for one in found.values():
            yield from steps_of(one)
    elif isinstance(found, list):
        for one in found:
            yield from steps_of(one)
