"""Keys and findings in numbers: what is counted, and at what cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.keys.key import Key
from gateway.access.keys.key_store import PART_KEYS
from gateway.access.keys.operator import Person
from gateway.access.people import new_person
from gateway.access.sessions import Sessions
from gateway.access.usage.access import PULLED, Access
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.key_inventory import KeyInventory
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.detection.signals import Signal
from tests.support.watched import DAY, NOW, FakeWriter, key

if TYPE_CHECKING:
    from tests.conftest import FakeClock

K, L, M = "K" * 12, "L" * 12, "M" * 12


class Counted:
    """An inventory, and what it counts."""

    def __init__(self, store: Any, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.profiles = ProfileStore(store)
        self.findings = Findings(store, FakeWriter(), clock)
        self.sessions = Sessions(store, clock)
        self.inventory = KeyInventory(store, self.profiles, self.findings, self.sessions, clock)

    async def add(self, *keys: Key) -> None:
        for one in keys:
            await self.store.create(one)

    async def use(self, one: Key) -> None:
        self.profiles.observe(
            Access(key=one, action=PULLED, at=self.clock.now(), address="9.9.9.9")
        )
        await self.profiles.flush(everything=True)


@pytest.fixture
async def counted(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Counted]:
    store = SqliteKeys(tmp_path / "keys.db")
    clock.step(NOW - clock.now())
    yield Counted(store, clock)
    await store.close()


async def test_keys_are_counted_by_their_state_and_move_by_time_alone(counted: Counted) -> None:
    await counted.add(
        key(K), key(L, revoked_at=NOW), key(M, suspended_at=NOW, suspended_until=NOW + 60),
        key("E" * 12, expires_at=NOW - 1), key("D" * 12, drains_until=NOW + 60, successor=K),
    )  # fmt: skip
    await counted.inventory.poll()
    assert counted.inventory.states == dict.fromkeys(
        ("active", "revoked", "suspended", "expired", "draining"), 1
    )
    counted.clock.tick(60)
    await counted.inventory.poll()
    assert counted.inventory.states == {"active": 2, "revoked": 1, "expired": 2}


async def test_working_keys_are_counted_for_each_time_within_which_they_end(
    counted: Counted,
) -> None:
    ending = {"A": 1, "B": DAY, "C": DAY + 1, "D": 8 * DAY, "E": 30 * DAY, "F": 31 * DAY}
    await counted.add(
        *(key(name * 12, expires_at=NOW + left) for name, left in ending.items()),
        key(K, drains_until=NOW + 60, successor=L),
        key(L, suspended_at=NOW, expires_at=NOW + 60), key(M, revoked_at=NOW, expires_at=NOW + 60),
    )  # fmt: skip
    await counted.inventory.poll()
    assert counted.inventory.expiring == {"1d": 3, "7d": 4, "30d": 6}


async def test_keys_that_nobody_has_used_for_a_month_are_counted(counted: Counted) -> None:
    old = NOW - 31 * DAY
    used = key(K, created_at=old)
    await counted.add(
        used, key(L, created_at=old), key(M, created_at=old, suspended_at=NOW),
        key("N" * 12, created_at=NOW - 29 * DAY), key("R" * 12, created_at=old, revoked_at=NOW),
        key("E" * 12, created_at=old, expires_at=NOW - 1),
    )  # fmt: skip
    await counted.use(used)
    await counted.inventory.poll()
    assert counted.inventory.unused == 2
    counted.clock.tick(2 * DAY)
    await counted.inventory.poll()
    assert counted.inventory.unused == 3, "another one is a month old"
    counted.clock.tick(29 * DAY)
    await counted.inventory.poll()
    assert counted.inventory.unused == 4, "and the use of one was a month ago"


async def test_a_use_is_taken_in_within_ten_minutes_without_reading_profiles_each_time(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = key(K, created_at=NOW - 31 * DAY)
    await counted.add(one)
    await counted.inventory.poll()
    read, notes = [], counted.store.notes

    async def noted(kind: str, after: str = "", most: int | None = None) -> Any:
        read.append((kind, after, most))
        return await notes(kind, after, most)

    monkeypatch.setattr(counted.store, "notes", noted)
    await counted.use(one)
    for _ in range(5):
        await counted.inventory.poll()
    profiles = ("trace", "", PART_KEYS), ("trace", K, PART_KEYS)
    assert counted.inventory.unused == 1
    assert not set(read) & set(profiles)
    counted.clock.tick(600)
    await counted.inventory.poll()
    assert counted.inventory.unused == 0
    # In parts, up to an empty one.
    assert tuple(one for one in read if one[0] == "trace") == profiles


async def test_open_findings_are_counted_by_signal_until_they_are_marked(counted: Counted) -> None:
    await counted.add(key(K), key(L))
    for name, key_id in (("denials", K), ("denials", L), ("probing", K)):
        finding = await counted.findings.add(Signal(name, NOW), key_id)
    await counted.inventory.poll()
    assert counted.inventory.open_findings == {"denials": 2, "probing": 1}
    assert finding is not None
    await counted.findings.mark(finding.id, expected=True, by="somebody")
    await counted.inventory.poll()
    assert counted.inventory.open_findings == {"denials": 2}


class ManyKeys:
    """A store of very many keys, all in memory, each part of which takes a while."""

    def __init__(self, clock: FakeClock, keys: list[Key], seconds: float = 0.0) -> None:
        self._clock, self._keys, self.seconds = clock, keys, seconds
        self.polls = 0
        self.away = False

    async def parts(self) -> AsyncIterator[list[Key]]:
        if self.away:
            raise Unavailable("the keys cannot be read")
        self.polls += 1
        self._clock.tick(self.seconds)
        yield self._keys

    async def notes(self, kind: str, after: str = "", most: int | None = None) -> dict[str, bytes]:
        return {}


async def test_others_have_their_turns_while_many_keys_are_counted(clock: FakeClock) -> None:
    counted, turns = Counted(ManyKeys(clock, [key(K)] * 50_000), clock), 0

    async def work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(work())
    await counted.inventory.poll()
    working.cancel()
    assert counted.inventory.states.total() == 50_000
    assert turns >= 3


async def test_polls_take_at_most_a_hundredth_of_the_time(clock: FakeClock) -> None:
    store = ManyKeys(clock, [])
    running = asyncio.create_task(Counted(store, clock).inventory.run())
    await clock.advance(100)
    assert 10 <= store.polls <= 11, "every ten seconds while it costs nothing"
    before, store.seconds = store.polls, 1.0
    await clock.advance(1000)
    running.cancel()
    assert 5 <= store.polls - before <= 11


async def test_sessions_that_have_not_ended_are_counted(counted: Counted) -> None:
    _, first = await counted.sessions.open(K, "", "")
    await counted.sessions.open(L, "", "")
    await counted.inventory.poll()
    assert counted.inventory.sessions == 2
    await counted.sessions.end([first.id])
    await counted.inventory.poll()
    assert counted.inventory.sessions == 1


async def test_while_keys_cannot_be_read_the_numbers_stay_and_polls_go_on(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = ManyKeys(clock, [key(K, expires_at=clock.now() + 100 * DAY)])
    counted = Counted(store, clock)
    running = asyncio.create_task(counted.inventory.run())
    await clock.advance(10)
    store.away = True
    await clock.advance(10)
    assert counted.inventory.states == {"active": 1}
    assert "keys and findings cannot be counted now" in caplog.text
    store.away, polls = False, store.polls
    await clock.advance(20)
    running.cancel()
    assert store.polls > polls


async def test_an_outage_of_the_keys_is_warned_of_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = ManyKeys(clock, [])
    running = asyncio.create_task(Counted(store, clock).inventory.run())
    for outages in (1, 2):
        store.away = True
        await clock.advance(50)
        assert caplog.text.count("keys and findings cannot be counted now") == outages
        store.away = False
        await clock.advance(20)
    running.cancel()


async def test_keys_of_people_who_stay_away_are_findings_once(counted: Counted) -> None:
    ann = new_person(Person("https://login.example", "u-1", "ann@example.org", NOW), ("auditor",))
    lives = {"created_at": NOW, "expires_at": NOW + 200 * DAY, "created_by": ann.id}
    await counted.add(
        ann, key(K, created_by_name="ann@example.org", **lives),
        key(L, created_by_name="ann@example.org", revoked_at=NOW, **lives),
    )  # fmt: skip
    counted.clock.tick(90 * DAY - 1)
    await counted.inventory.poll()
    assert await counted.findings.all() == []
    assert sum(counted.inventory.states.values()) == 2, "people are no keys"
    counted.clock.tick(1)
    for _ in range(2):
        await counted.inventory.poll()
    [found] = await counted.findings.all()
    assert (found.signal, found.key, found.count) == ("maker_absent", K, 1)
    assert found.data["person"] == "ann@example.org"
