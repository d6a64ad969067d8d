"""Usage on its way from the counts in memory to the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.usage.meter import FLUSH_SECONDS, Meter, UsageBatch
from gateway.access.usage.windows import DAY, MINUTE
from gateway.errors import Unavailable
from tests.support.memory_ledger import MemoryLedger


class FailingLedger(MemoryLedger):
    """Fails as told: `before` storing anything, or `after`, when the answer is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: str | None = None
        self.offered: list[UsageBatch] = []

    async def add(self, batch: UsageBatch) -> None:
        self.offered.append(batch)
        if self.fails == "before":
            raise Unavailable("away")
        await super().add(batch)
        if self.fails == "after":
            raise Unavailable("the answer was lost")


async def events_of(ledger: MemoryLedger, key_id: str) -> int:
    counts = await ledger.read(key_id, DAY, 0, 10**9)
    return sum(counted[2] for counted in counts.values())


async def test_a_crash_loses_at_most_half_a_second_of_counts(clock: Any) -> None:
    ledger = MemoryLedger()
    meter = Meter(ledger, clock)
    running = meter.running()
    await running.__aenter__()
    for _ in range(97):
        await clock.advance(0.1)
        meter.count("k", events=1)
    stored = await events_of(ledger, "k")
    assert 97 - FLUSH_SECONDS / 0.1 <= stored < 97
    await running.__aexit__(None, None, None)


async def test_an_orderly_end_loses_nothing(clock: Any) -> None:
    ledger = MemoryLedger()
    meter = Meter(ledger, clock)
    async with meter.running():
        meter.count("k", events=5)
    assert await events_of(ledger, "k") == 5


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_counts_of_an_outage_arrive_once_and_in_their_minute(clock: Any, fails: str) -> None:
    ledger = FailingLedger()
    meter = Meter(ledger, clock)
    minute = MINUTE.index(clock.now())
    ledger.fails = fails
    for _ in range(3):
        for _ in range(4):
            meter.count("k", events=10, size=1)
            assert await meter.flush() is False
        clock.tick(60)
    ledger.fails = None
    assert await meter.flush() is True
    found = await ledger.read("k", MINUTE, minute, minute + 2)
    assert found == {minute + later: (0, 0, 40, 4, 0) for later in range(3)}


async def test_a_batch_is_offered_unchanged_until_it_is_known_to_be_stored(clock: Any) -> None:
    ledger = FailingLedger()
    meter = Meter(ledger, clock)
    ledger.fails = "before"
    meter.count("k", requests=1)
    await meter.flush()
    meter.count("k", requests=1)
    await meter.flush()
    ledger.fails = None
    await meter.flush()
    first, second, third, last = ledger.offered
    assert first == second == third
    assert last.number == third.number + 1


async def test_a_key_is_in_a_batch_once(clock: Any) -> None:
    ledger = FailingLedger()
    meter = Meter(ledger, clock)
    ledger.fails = "before"
    for _ in range(3):
        meter.count("a", requests=1)
        meter.count("b", requests=1)
        await meter.flush()
        clock.tick(60)
    ledger.fails = None
    await meter.flush()
    batches = {batch.number: set(batch.entries) for batch in ledger.offered}
    assert batches == {1: {"a", "b"}, 2: {"a", "b"}, 3: {"a", "b"}}


async def test_many_keys_go_in_batches_of_500(clock: Any) -> None:
    ledger = FailingLedger()
    meter = Meter(ledger, clock)
    for key in range(1200):
        meter.count(f"k{key}", events=1)
        meter.count(f"k{key}", events=1)
    await meter.flush()
    assert [len(batch.entries) for batch in ledger.offered] == [500, 500, 200]


async def test_an_endless_outage_is_bounded_and_what_it_loses_is_counted(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FailingLedger()
    meter = Meter(ledger, clock, most_waiting=10)
    ledger.fails = "before"
    for key in range(30):
        meter.count(f"k{key}", events=1)
        await meter.flush()
    # One is in the batch that is being offered, ten wait.
    assert meter.lost == 19
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    ledger.fails = None
    assert await meter.flush() is True
    assert sum([await events_of(ledger, f"k{key}") for key in range(30)]) == 11
