"""Processes that share a store agree on trusted time, and retention goes by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.log import SqliteLog
from gateway.cli.main import cli
from gateway.event import Draft
from gateway.oversight.clock_store import RATE, keep_state, kept_state, open_clock, read_clock
from gateway.oversight.clock_watch import ClockWatch
from gateway.oversight.detection.findings import Findings
from gateway.runtime.retention import Retention
from gateway.trusted_clock import TrustedClock

T0 = 1_700_000_000.0
DAY = 86_400.0
AHEAD = 60 * DAY


class SharedKeys(SqliteKeys):
    """Keys beside which there is a wall clock for all, as PostgreSQL has one."""

    clock: Any = None
    ahead = 0.0

    async def wall_time(self) -> float | None:
        return self.clock.now() + self.ahead if self.clock is not None else None


class Appended:
    """Takes what the findings tell of."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    async def append(self, drafts: list[Draft]) -> None:
        self.drafts += drafts


class Machine:
    """A machine on which other times have passed since its boot, and whose clock is `ahead`."""

    def __init__(self, clock: Any, since_boot: float) -> None:
        self.clock = clock
        self.since_boot = since_boot
        self.ahead = 0.0

    def now(self) -> float:
        return self.clock.now() + self.ahead  # type: ignore[no-any-return]

    def boottime(self) -> float:
        return self.clock.boottime() + self.since_boot  # type: ignore[no-any-return]

    def monotonic(self) -> float:
        return self.boottime()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


class Process:
    """One of the processes: its clock, its watch and what it has found."""

    def __init__(self, store: SharedKeys, machine: Machine, clock: TrustedClock) -> None:
        self.machine, self.clock = machine, clock
        self.told = Appended()
        self.findings = Findings(store, self.told, clock)  # type: ignore[arg-type]
        self.watch = ClockWatch(store, machine, clock, self.findings)


@pytest.fixture
async def store(tmp_path: Path, clock: Any) -> AsyncIterator[SharedKeys]:
    keys = SharedKeys(tmp_path / "keys.db")
    keys.clock = clock
    yield keys
    await keys.close()


class World:
    """Any number of processes, each on a machine of its own, that are looked after in turn."""

    def __init__(self, store: SharedKeys, clock: Any, boots: Callable[[str], None]) -> None:
        self.store, self.clock, self._boots = store, clock, boots
        self.processes: list[Process] = []

    async def start(self, since_boot: float) -> Process:
        machine = Machine(self.clock, since_boot)
        self._boots(f"boot-{since_boot}")
        process = Process(self.store, machine, await open_clock(self.store, machine))
        self.processes.append(process)
        return process

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.tick(1)
            for process in self.processes:
                self._boots(f"boot-{process.machine.since_boot}")
                await process.watch.poll()

    def away(self) -> list[float]:
        """How far trusted time is from true time, in each process."""
        return [round(one.clock.now() - self.clock.now(), 1) for one in self.processes]


@pytest.fixture
def world(store: SharedKeys, clock: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    def boot(name: str) -> None:
        monkeypatch.setattr("gateway.oversight.clock_store.boot_id", lambda: name)

    return World(store, clock, boot)


async def test_the_clock_of_one_machine_says_nothing_where_all_share_the_databases(
    world: World,
) -> None:
    one, other = await world.start(100), await world.start(9000)
    await world.pass_time(20)
    one.machine.ahead = AHEAD
    await world.pass_time(30)
    assert world.away() == [0, 0]
    assert (one.clock.steps, other.clock.steps) == (0, 0)
    late = await world.start(500)
    late.machine.ahead = -AHEAD
    await world.pass_time(15)
    assert world.away() == [0, 0, 0]


async def test_a_jump_of_the_databases_clock_is_followed_by_nobody_not_even_by_who_starts_then(
    world: World,
) -> None:
    one, _ = await world.start(100), await world.start(9000)
    await world.pass_time(20)
    world.store.ahead = AHEAD
    await world.pass_time(3)
    await world.start(500)
    await world.pass_time(27)
    assert world.away() == [0, 0, 0]
    world.store.ahead = 0.0
    await world.pass_time(2)
    assert world.away() == [0, 0, 0]
    assert one.clock.waiting is None
    [finding] = await one.findings.all()
    assert (finding.signal, finding.key, finding.data["seconds"]) == ("clock_jump", "", AHEAD)


async def test_a_step_that_stays_is_adopted_by_all_together(world: World) -> None:
    await world.start(100)
    await world.pass_time(11)
    world.store.ahead = -3600.0
    await world.pass_time(300)
    await world.start(9000)
    await world.pass_time(598)
    assert world.away() == [0, 0]
    await world.pass_time(6)
    assert world.away() == [-3600, -3600]
    assert [one.clock.adopted for one in world.processes] == [1, 0]


async def test_a_machine_that_was_paused_alone_goes_by_what_the_others_hold(world: World) -> None:
    paused, _ = await world.start(100), await world.start(9000)
    await world.pass_time(20)
    # Its CLOCK_BOOTTIME has not gone on.
    paused.machine.since_boot -= 600
    await world.pass_time(12)
    assert world.away() == [0, 0]


async def test_trusted_time_is_kept_over_a_restart_on_a_machine_whose_clock_was_set(
    world: World,
) -> None:
    world.store.clock = None
    one = await world.start(100)
    await world.pass_time(5)
    await one.watch.close()
    again = Machine(world.clock, 100)
    again.ahead = AHEAD
    world.clock.tick(50)
    clock = await open_clock(world.store, again)
    assert clock.now() == world.clock.now()
    assert clock.waiting is not None
    assert (clock.steps, clock.offset) == (1, AHEAD)


def test_trust_clock_has_a_step_adopted_at_once_and_recorded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert CliRunner().invoke(cli, ["log", "trust-clock", "--data", str(data)]).exit_code != 0

    async def begin() -> None:
        store = SqliteKeys(data / "keys.db")
        clock = await open_clock(store, Stepped())
        clock.advance_to(clock.now() + DAY)
        process = ClockWatch(store, Stepped(), clock, None)  # type: ignore[arg-type]
        await process.close()
        await store.close()

    async def after() -> tuple[float, list[str]]:
        store = SqliteKeys(data / "keys.db")
        state = await kept_state(store)
        changes = await store.unrecorded(10)
        await store.close()
        assert state is not None
        return state.trusted - state.wall, [one.action for one in changes.values()]

    data.mkdir()
    asyncio.run(begin())
    done = CliRunner().invoke(cli, ["log", "trust-clock", "--data", str(data)])
    assert "trusted time moves by -86400 s" in done.output
    assert asyncio.run(after()) == (0, ["clock.trusted"])
    done = CliRunner().invoke(cli, ["log", "trust-clock", "--data", str(data)])
    assert "is trusted as it is" in done.output


async def test_a_running_process_takes_over_what_trust_clock_says(world: World) -> None:
    one = await world.start(100)
    await world.pass_time(20)
    world.store.ahead = AHEAD
    await world.pass_time(5)
    told = await world.start(7)
    told.clock.adopt(world.clock.now() + AHEAD, await read_clock(world.store, told.machine))
    await keep_state(world.store, told.clock.state("trust-clock"), anyway=True)
    world.processes.remove(told)
    await world.pass_time(2)
    assert world.away() == [AHEAD]
    assert one.clock.waiting is None


class Stepped:
    """The machine's own clock."""

    def __new__(cls) -> Any:
        from gateway.clock import SystemClock

        return SystemClock()


class Kept:
    """A log with an event for each of ten days, and what deletes them after a day."""

    def __init__(self, log: SqliteLog, store: SqliteKeys, clock: Any) -> None:
        self.log, self.store, self.clock = log, store, clock
        self.trusted = TrustedClock.from_machine(clock)

    def retention(self) -> Retention:
        return Retention(self.log, self.store, self.trusted, age=int(DAY), size=0)

    async def turns(self, *retaining: Retention, seconds: int) -> int:
        """How many events were deleted while so many seconds passed."""
        before = self.log.floor
        # Hours pass in minutes: every turn asks the store.
        turn = 60 if seconds >= 3600 else 10
        for _ in range(seconds // turn):
            self.clock.tick(turn)
            for one in retaining:
                while await one.step():
                    pass
        return self.log.floor - before


@pytest.fixture
async def kept(
    tmp_path: Path, store: SharedKeys, clock: Any, draft: Callable[..., Draft]
) -> AsyncIterator[Kept]:
    log = await SqliteLog.open(tmp_path / "log.db", clock)
    for _ in range(10):
        await log.append([[draft()]])
        clock.tick(DAY)
    yield Kept(log, store, clock)
    await log.close()


async def test_the_horizon_begins_at_the_oldest_event_and_catches_up_24_times_as_fast(
    kept: Kept,
) -> None:
    retention = kept.retention()
    # Nine days are to be made up for: the first event goes at once, and then one an hour.
    assert await kept.turns(retention, seconds=20) == 1
    assert RATE == 24
    assert await kept.turns(retention, seconds=3600) == 1
    assert await kept.turns(retention, seconds=5 * 3600) == 5
    await kept.turns(retention, seconds=3 * 3600)
    assert kept.log.floor == 10


async def test_what_is_not_old_enough_stays(kept: Kept, draft: Callable[..., Draft]) -> None:
    retention = kept.retention()
    await kept.log.append([[draft()]])
    await kept.turns(retention, seconds=23 * 3600)
    assert kept.log.floor == 10
    await kept.turns(retention, seconds=3720)
    assert kept.log.floor == 11


async def test_two_who_delete_are_no_faster_than_one(kept: Kept) -> None:
    both = (kept.retention(), kept.retention())
    assert await kept.turns(*both, seconds=6 * 3600) in (6, 7)


async def test_a_clock_that_jumps_deletes_next_to_nothing(kept: Kept) -> None:
    retention = kept.retention()
    await kept.turns(retention, seconds=10 * 3600)
    left = kept.log.head - kept.log.floor
    # Even if the step were believed.
    kept.trusted.advance_to(kept.clock.now() + AHEAD)
    assert await kept.turns(retention, seconds=30) == 0
    assert kept.log.head - kept.log.floor == left
    # A start does not make up for time that nobody saw pass either.
    assert await kept.turns(kept.retention(), seconds=10) == 0


async def test_a_longer_age_sets_the_horizon_back(kept: Kept, store: SharedKeys) -> None:
    await kept.turns(kept.retention(), seconds=5 * 3600)
    assert kept.log.floor >= 5
    far = Retention(kept.log, store, kept.trusted, age=int(30 * DAY), size=0)
    assert await kept.turns(far, seconds=100) == 0
    # From the longer age on it begins anew.
    assert await kept.turns(kept.retention(), seconds=600) == 0


async def test_a_command_soon_after_the_first_start_goes_by_what_the_gateway_trusts(
    world: World,
) -> None:
    world.store.clock = None
    one = await world.start(100)
    await world.pass_time(1)
    command = Machine(world.clock, 100)
    command.ahead = AHEAD
    clock = await open_clock(world.store, command)
    assert abs(clock.now() - one.clock.now()) < 1
    assert clock.waiting is not None
