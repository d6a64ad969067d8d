"""The watch over durable consumers: findings, records, unused ones, and numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from gateway.adapters.sqlite.consumers import SqliteConsumers
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.cursor import format_cursor
from gateway.delivery.destination import OWNER as DESTINATIONS
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.log.gap import gap_message
from gateway.log.ports import Appended
from gateway.oversight.consumer_watch import ConsumerLimits, ConsumerWatch
from gateway.oversight.detection.findings import Findings
from gateway.streaming.consumers.claims import ClaimingReader, reader_text
from gateway.streaming.consumers.row import ConsumerRow
from gateway.tasks import stop
from tests.support.machine_time import eventually
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
OWNER = "7kQ2mZ0aB1cD"
HOUR = 3600


class RecordLog:
    """Takes records as the writer does, and is away when it is told to be."""

    def __init__(self) -> None:
        self.taken: dict[str, Draft] = {}
        self.away = False

    async def append(self, batch: Sequence[Draft]) -> Appended:
        if self.away:
            raise Unavailable("away", code="store_unavailable")
        self.taken |= {one.id: one for one in batch}
        return Appended(len(batch), 0, 1, len(batch))

    @property
    def actions(self) -> list[str]:
        return [one.action for one in self.taken.values()]


class World:
    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.store = SqliteConsumers(folder / "consumers.db")
        self.keys = SqliteKeys(folder / "keys.db")
        self.log = MemoryLog(clock)
        self.records = RecordLog()
        self.findings = Findings(self.keys, self.records, clock)
        self.warned: list[Any] = []

    def watch(self, **limits: int) -> ConsumerWatch:
        limits = {"age": 0, "size": 0, "expire_after": 0, **limits}
        watch = ConsumerWatch(
            self.store, self.log, self.records, self.findings, self.clock, ConsumerLimits(**limits)
        )
        watch.on_risk(self.warned.extend)
        return watch

    async def put(self, offset: int, **members: Any) -> ConsumerRow:
        cursor = format_cursor(self.log.epoch, offset)
        now = self.clock.now()
        row = ConsumerRow(
            owner=OWNER, name="siem", cursor=cursor, sent=cursor, generation=1, created_at=now,
            updated_at=now,
        )  # fmt: skip
        row = structs.replace(row, **members)
        await self.store.change(row.owner, row.name, lambda before, others: row)
        return row

    async def signals(self) -> list[str]:
        return [one.signal for one in await self.findings.all()]


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    made = World(tmp_path, clock)
    yield made
    await made.store.close()
    await made.keys.close()


async def test_a_position_is_at_risk_at_four_fifths_of_the_way_to_being_overtaken(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch(age=10 * HOUR)
    await world.log.append([[draft()], [draft()]])
    row = await world.put(1)
    clock.tick(7.9 * HOUR)
    await watch.poll()
    assert await world.signals() == []
    clock.tick(0.2 * HOUR)
    await watch.poll()
    await watch.poll()
    assert await world.signals() == ["position_at_risk"]
    assert world.warned == [row.key], "the reader is told once"
    [finding] = await world.findings.all()
    assert (finding.count, finding.key, finding.data["consumer"]) == (1, OWNER, "siem")


async def test_other_deliveries_are_at_risk_by_the_same_rule_and_told_to_those_who_know_them(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    told: list[tuple[ConsumerRow, dict[str, Any]]] = []

    async def take(row: ConsumerRow, behind: dict[str, Any]) -> None:
        told.append((row, behind))

    watch = world.watch(age=10 * HOUR, expire_after=HOUR)
    watch.on_delivery_risk(take)
    await world.log.append([[draft()], [draft()]])
    row = await world.put(1, owner=DESTINATIONS, reader="a process of the gateway")
    clock.tick(7.9 * HOUR)
    await watch.poll()
    assert told == []
    clock.tick(0.2 * HOUR)
    await watch.poll()
    await watch.poll()
    behind = {"cursor": row.cursor, "events": 1, "seconds": int(8.1 * HOUR)}
    assert told == [(row, behind)], "once"
    assert await world.signals() == [], "which finding it is, they say"


async def test_who_is_at_the_head_is_at_no_risk_however_old_the_log_is(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch(age=HOUR, size=1)
    await world.log.append([[draft()]])
    await world.put(1)
    clock.tick(2 * HOUR)
    await watch.poll()
    assert await world.signals() == []


async def test_a_position_near_to_what_a_full_log_deletes_is_at_risk(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch(size=1)
    await world.log.append([[draft()] for _ in range(10)])
    clock.tick(10)
    await world.log.append([[draft()] for _ in range(10)])
    await world.log.trim(int((clock.now() - 5) * 1_000_000), None)
    assert world.log.floor == 10
    await world.put(13)
    await watch.poll()
    assert await world.signals() == []
    await world.put(12)
    await watch.poll()
    assert await world.signals() == ["position_at_risk"]


async def deleted(world: World, draft: MakeDraft, old: int, new: int) -> None:
    """Have events in the log of which the old ones are deleted."""
    await world.log.append([[draft()] for _ in range(old)])
    world.clock.tick(10)
    await world.log.append([[draft()] for _ in range(new)])
    await world.log.trim(int((world.clock.now() - 5) * 1_000_000), None)
    assert world.log.floor == old


async def pass_seconds(clock: FakeClock, seconds: int) -> None:
    """Let seconds pass, each when the watch has done what it had to do in the one before."""
    for _ in range(seconds):
        await eventually(lambda: clock.sleepers == 1, "it sleeps")
        clock.tick(1)
    await eventually(lambda: clock.sleepers == 1, "it sleeps")


async def test_what_retention_deletes_is_compared_with_positions_at_once(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    """A full log may overtake a position in less time than from one look to the next."""
    await world.put(3)
    watch = world.watch(size=1)
    task = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: clock.sleepers == 1, "it sleeps")
        await deleted(world, draft, 1, 19)
        await pass_seconds(clock, 2)
        assert await world.signals() == ["position_at_risk"]
        await pass_seconds(clock, 2)
        assert len(world.warned) == 1, "once"
    finally:
        await stop([task])


async def test_a_position_that_was_overtaken_at_once_is_a_finding_all_the_same(
    world: World, draft: MakeDraft
) -> None:
    watch = world.watch(age=HOUR)
    await world.put(3)
    await deleted(world, draft, 10, 10)
    await watch.compare()
    await watch.poll()
    assert await world.signals() == ["position_at_risk"]
    assert len(world.warned) == 1


async def test_a_position_at_risk_that_could_not_be_told_of_is_told_the_next_time(
    world: World, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = world.watch(age=HOUR)
    rows = [await world.put(3, name=name) for name in ("one", "two")]
    await deleted(world, draft, 10, 10)
    add, asked = world.findings.add, [0]

    async def away(*signal: Any) -> Any:
        asked[0] += 1
        if asked[0] == 2:
            raise Unavailable("away", code="store_unavailable")
        return await add(*signal)

    monkeypatch.setattr(world.findings, "add", away)
    with pytest.raises(Unavailable):
        await watch.compare()
    for _ in range(2):
        await watch.compare()
    assert asked == [3]
    assert sorted(world.warned) == sorted(row.key for row in rows)


async def test_positions_are_looked_at_several_times_in_the_last_fifth_of_a_short_age(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch(age=60)
    await world.log.append([[draft()], [draft()]])
    await world.put(1)
    task = asyncio.create_task(watch.run())
    try:
        await pass_seconds(clock, 46)
        assert world.warned == []
        await pass_seconds(clock, 8)
        assert len(world.warned) == 1, "it was seen before it is overtaken"
    finally:
        await stop([task])


async def test_readers_that_begin_at_one_position_again_and_again_are_a_finding(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch()
    await world.log.append([[draft()]])
    now = clock.now()
    stuck = reader_text(ClaimingReader(key="k" * 12, begins=(now,) * 5))
    await watch.claimed(await world.put(1, reader=stuck))
    assert await world.signals() == [], "there is nothing for it"
    four = reader_text(ClaimingReader(begins=(now,) * 4))
    await watch.claimed(await world.put(0, reader=four))
    assert await world.signals() == []
    await watch.claimed(await world.put(0, reader=stuck))
    assert await world.signals() == ["consumer_stuck"]
    assert [one.key for one in await world.findings.all()] == ["k" * 12]


async def test_a_consumer_that_nobody_uses_is_deleted_and_recorded(
    world: World, clock: FakeClock
) -> None:
    watch = world.watch(expire_after=24 * HOUR)
    await world.put(0)
    clock.tick(24 * HOUR - 1)
    await watch.poll()
    assert await world.store.get(OWNER, "siem") is not None
    clock.tick(1)
    await watch.poll()
    assert await world.store.get(OWNER, "siem") is None
    assert world.records.actions == ["consumer.expired"]


async def test_a_consumer_that_is_read_and_what_is_no_consumer_of_a_key_stay(
    world: World, clock: FakeClock
) -> None:
    watch = world.watch(expire_after=HOUR)
    await world.put(0, lease_until=clock.now() + 2 * HOUR + 1)
    await world.put(0, owner=DESTINATIONS, name="siem", reader="a process of the gateway")
    clock.tick(2 * HOUR)
    await watch.poll()
    assert [row.owner for row in await world.store.all()] == [OWNER, DESTINATIONS]
    assert [one.consumer for one in await watch.numbers()] == ["siem"]


async def test_what_was_given_up_is_recorded_once_also_if_the_log_was_away(
    world: World, draft: MakeDraft
) -> None:
    watch = world.watch()
    await world.log.append([[draft()]])
    row = await world.put(0)
    gap = gap_message(world.log, "cursor_expired", (world.log.epoch, 0), 1)
    world.records.away = True
    with pytest.raises(Unavailable):
        await watch.record_gap(row, gap)
    world.records.away = False
    await watch.record_gap(row, gap)
    await watch.record_gap(row, gap)
    [record] = world.records.taken.values()
    assert (record.category, record.action) == ("gateway.delivery", "consumer.gap")


async def test_the_lag_is_told_in_events_and_in_seconds(
    world: World, draft: MakeDraft, clock: FakeClock
) -> None:
    watch = world.watch()
    await world.log.append([[draft()]])
    clock.tick(60)
    await world.log.append([[draft()]])
    clock.tick(30)
    assert await watch.lag(await world.put(0)) == (2, pytest.approx(90))
    assert await watch.lag(await world.put(1)) == (1, pytest.approx(30))
    assert await watch.lag(await world.put(2)) == (0, 0.0)
    elsewhere = format_cursor("zzzzzzzzzz", 2)
    other = await world.put(0, cursor=elsewhere, sent=elsewhere)
    assert watch.is_overtaken(other)
    assert (await watch.lag(other))[0] == 2
