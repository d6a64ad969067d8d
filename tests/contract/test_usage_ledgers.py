"""What every ledger of usage does: in memory, in a file, in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.shared.memory import MemoryLedger
from gateway.shared.meter import Batch, Ledger
from gateway.shared.redis_address import parse_address
from gateway.shared.redis_link import Link
from gateway.shared.redis_usage import RedisLedger
from gateway.shared.sqlite_usage import SqliteLedger
from gateway.shared.windows import DAY, HOUR, MINUTE, Counts
from tests.contract.sharing import START, StillClock, new_prefix
from tests.services.valkey import Valkey

NOW = MINUTE.index(START)
Entries = dict[str, tuple[int, Counts]]


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    elif request.param == "sqlite":
        file = SqliteLedger(tmp_path / "usage.db")
        yield file
        await file.close()
    else:
        with Valkey() as server:
            link = Link(parse_address(server.url), StillClock(), new_prefix())
            assert await link.probe()
            yield RedisLedger(link)
            await link.close()


def batch(number: int, entries: Entries, writer: str = "w") -> Batch:
    return Batch(writer, number, entries)


async def test_a_batch_offered_again_is_counted_once(ledger: Ledger) -> None:
    first = batch(1, {"a": (NOW, (1, 2, 3, 4, 5)), "b": (NOW, (1, 1, 1, 1, 1))})
    second = batch(2, {"a": (NOW, (1, 2, 3, 4, 5))})
    for offered in (first, first, second, first, second):
        await ledger.add(offered)
    await ledger.add(batch(1, {"a": (NOW, (0, 0, 1, 0, 0))}, writer="another"))
    assert await ledger.read("a", MINUTE, NOW, NOW) == {NOW: (2, 4, 7, 8, 10)}
    assert await ledger.read("b", MINUTE, NOW, NOW) == {NOW: (1, 1, 1, 1, 1)}


async def test_minutes_add_up_to_their_hour_and_day(ledger: Ledger) -> None:
    for later in range(150):
        await ledger.add(batch(later + 1, {"k": (NOW + later, (1, 0, 10, 0, 0))}))
    for tier in (MINUTE, HOUR, DAY):
        first, last = tier.index(NOW * 60), tier.index((NOW + 149) * 60)
        found = await ledger.read("k", tier, first, last)
        assert sorted(found) == list(range(first, last + 1))
        assert sum(counts[2] for counts in found.values()) == 1500


async def test_a_read_gives_its_stretch_and_its_key_only(ledger: Ledger) -> None:
    for later in range(10):
        counted = (NOW + later, (0, 0, later, 0, 0))
        await ledger.add(batch(later + 1, {"a": counted, "b": counted}))
    found = await ledger.read("a", MINUTE, NOW + 3, NOW + 5)
    assert found == {NOW + later: (0, 0, later, 0, 0) for later in (3, 4, 5)}
    assert await ledger.read("a", MINUTE, NOW - 500, NOW - 1) == {}
    assert await ledger.read("c", DAY, 0, 10**6) == {}


async def test_many_keys_in_one_batch_are_all_counted(ledger: Ledger) -> None:
    entries: Entries = {f"k{n}": (NOW, (n, 0, 0, 0, 1)) for n in range(600)}
    await ledger.add(batch(1, entries))
    for n in (0, 24, 25, 249, 250, 599):
        assert await ledger.read(f"k{n}", MINUTE, NOW, NOW) == {NOW: (n, 0, 0, 0, 1)}


async def test_a_file_keeps_its_counts_when_it_is_opened_again(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "usage.db")
    await ledger.add(batch(1, {"k": (NOW, (1, 2, 3, 4, 5))}))
    await ledger.close()
    again = SqliteLedger(tmp_path / "usage.db")
    assert await again.read("k", DAY, 0, 10**6) == {DAY.index(START): (1, 2, 3, 4, 5)}
    await again.close()


async def test_a_file_forgets_what_is_no_longer_shown(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "usage.db")
    later = NOW + MINUTE.kept // 60 + 60
    await ledger.add(batch(1, {"k": (NOW, (1, 0, 0, 0, 0))}))
    await ledger.add(batch(1, {"k": (later, (1, 0, 0, 0, 0))}, writer="after a restart"))
    assert await ledger.read("k", MINUTE, 0, 10**9) == {later: (1, 0, 0, 0, 0)}
    assert len(await ledger.read("k", HOUR, 0, 10**9)) == 2
    await ledger.close()
