"""What all tests share. Tests get at it through fixtures, never by importing this file."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from _pytest.assertion import rewrite
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling
from xdist.workermanage import WorkerController

from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.event import Draft, Event
from gateway.ingest.decode import decode_event
from gateway.ingest.ids import new_ids
from tests.support.event_loop import EventLoop
from tests.support.examples import THOROUGH, examples
from tests.support.leftovers import nothing_is_left_behind
from tests.support.loaded_program import end_loader
from tests.support.log_secrets import SecretsInLog
from tests.support.services.postgres import CLUSTERS, PostgresServer, servers

# An ordinary run says the same of the same code; a thorough one looks elsewhere each time. Examples
# are found again by the printed blob, not by a folder of them.
settings.register_profile(
    "here",
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=examples(200),
    derandomize=not THOROUGH,
)
settings.load_profile("here")

START = 1_700_000_000.0
_MOST_WORKERS = 16
_TURNS = 20
_ROOM = 6 << 30
# Here a test takes as long as a file of tests does elsewhere ..
_LONG = ("acceptance", "clients", "postgres")
# .. but what these set up for all of their tests takes longer.
_TOGETHER = (
    "test_browser.py", "test_browser_origins.py", "test_browser_tickets.py",
    "test_replica_limits.py", "test_replicas.py",
)  # fmt: skip
_POSTGRES = re.compile(r"\bpostgres\d+\b")


def pytest_xdist_auto_num_workers() -> int:
    """Most tests wait for servers, clients and time-outs: there is room for more than the cores.
    Each process collects all tests and has servers of its own, so there are not many more."""
    cores = os.cpu_count() or 1
    return min(cores + max(1, cores // 2), _MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    """What tests write need not last: in memory, where there is room, they wait for no disk.
    Programs that they start again and again are compiled once. Nothing that is collected goes."""
    gc.disable()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM
    if roomy and "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)
    if CLUSTERS not in os.environ:
        # Of the process that starts the others, which inherit it.
        folder = tempfile.mkdtemp(prefix="gateway-clusters-")
        # Servers do not run as root.
        os.chmod(folder, 0o1777)
        os.environ[CLUSTERS] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


class Together(LoadScopeScheduling):
    """Gives the tests of a file, or each of those that take long, to the next process that is
    free, and those with one PostgreSQL to one. What they share is then started once."""

    def _split_scope(self, nodeid: str) -> str:
        if version := _POSTGRES.search(nodeid):
            return version[0]
        file = nodeid.partition("::")[0]
        long = Path(file).parts[2] in _LONG and not file.endswith(_TOGETHER)
        return nodeid if long else file

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """Forget the test: all that a process has done would be counted again at each test."""
        nodeid = self.registered_collections[node][item_index]
        scope = self._split_scope(nodeid)
        assigned = self.assigned_work[node]
        del assigned[scope][nodeid]
        if not assigned[scope]:
            del assigned[scope]
        self._reschedule(node)


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Compile all files of the tests once, before the processes begin that would each do so."""
    gc.enable()
    state = config.stash[rewrite.assertstate_key]
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        pyc = rewrite.get_cache_dir(file) / (file.stem + rewrite.PYC_TAIL)
        tested = file.name == "conftest.py" or file.name.startswith("test_")
        if tested and rewrite._read_pyc(file, pyc) is None:
            pyc.parent.mkdir(exist_ok=True)
            hashed, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(state, code, hashed, pyc)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Together(config, log)


def pytest_asyncio_loop_factories() -> dict[str, type[EventLoop]]:
    """The only loop of tests, so their names do not speak of it."""
    return {"default": EventLoop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, or they would be what is waited for at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Thousands of tests stay: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


class FakeClock:
    """Time that stands still until a test moves it. Implements `gateway.clock.Clock`."""

    began = 0.0

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._monotonic = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def boottime(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._monotonic + seconds, next(self._order), awake))
        await awake

    @property
    def sleepers(self) -> int:
        """How many calls of `sleep` are waiting."""
        return sum(not awake.done() for _, _, awake in self._sleepers)

    def step(self, seconds: float) -> None:
        """Set the wall clock, forward or back, as an operator or NTP does; no time passes."""
        self._now += seconds

    def tick(self, seconds: float) -> None:
        """Let time pass at once; whoever has slept long enough is woken."""
        self._now += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            awake = heappop(self._sleepers)[2]
            if not awake.done():
                awake.set_result(None)

    async def advance(self, seconds: float) -> None:
        """Let time pass sleeper by sleeper, so that a loop that sleeps runs every turn of it."""
        until = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.tick(self._sleepers[0][0] - self._monotonic)
            await settle()
        self.tick(until - self._monotonic)
        await settle()


# What runs on the threads of stores now.
_on_threads: set[asyncio.Future[Any]] = set()
_run = SqliteThreads.run


async def _run_in_sight(threads: SqliteThreads, work: Callable[..., Any]) -> Any:
    running = asyncio.ensure_future(_run(threads, work))
    _on_threads.add(running)
    running.add_done_callback(_on_threads.discard)
    return await running


SqliteThreads.run = _run_in_sight  # type: ignore[method-assign, assignment]


async def settle() -> None:
    """Let every task that can run do so, several turns long, and wait for what stores do."""
    while True:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        running = [one for one in _on_threads if one.get_loop() is loop]
        if not running or not (await asyncio.wait(running, timeout=1))[0]:
            return


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No process, temporary file or user is left when the last test and the servers have ended."""
    # The folder of `tmp_path` is made before: the last few of those are kept on purpose.
    tmp_path_factory.getbasetemp()
    with nothing_is_left_behind():
        yield
        end_loader()


@pytest.fixture(scope="session", autouse=True)
def no_secrets_in_logs() -> Iterator[None]:
    """No gateway in this process has logged a key, a ticket or a cookie; for programs see
    `tests.support.log_secrets.assert_no_secrets`."""
    handler = SecretsInLog()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    assert not handler.found


@pytest.fixture(scope="session")
def server_of() -> Iterator[Callable[[str], PostgresServer]]:
    """The PostgreSQL of a major version, shared by the tests that do it no harm."""
    with servers(max_connections="150") as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    """A clock of the test's own, at 2023-11-14T22:13:20Z."""
    return FakeClock()


@pytest.fixture(scope="session")
def draft() -> Callable[..., Draft]:
    """Makes drafts from members, through the decoder; the gateway's own records as well."""
    ids = new_ids(lambda: START)

    def make(**members: Any) -> Draft:
        event = {"category": "auth", "action": "user.login", **members}
        return decode_event(msgspec.json.encode(event), ids, own=True)

    return make


@pytest.fixture(scope="session")
def event() -> Callable[..., Event]:
    """Makes events of the log from the columns that matching looks at."""

    def make(
        offset: int = 1,
        *,
        tenant: str = "acme",
        category: str = "auth",
        action: str = "user.login",
        outcome: str = "unknown",
        severity: int = 1,
        actor: str = "",
        resources: str = "",
        json: bytes | None = None,
    ) -> Event:
        cursor = b"k3f9xq7m2p-%020d" % offset
        whole = b'{"cursor":"%b"}' % cursor if json is None else json
        return Event(
            offset, tenant, category, action, outcome, severity, actor, resources, cursor, whole
        )

    return make
