"""What becomes of keys, in the log: every change once, whoever makes and whoever writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.change import other_change
from gateway.access.keys.key import Key
from gateway.access.usage.access import PULLED, Access
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.key_events import KeyEvents
from tests.support.watched import DAY, NOW, FakeHub, FakeStream, FakeWriter, key

if TYPE_CHECKING:
    from tests.conftest import FakeClock

WARNINGS = (30 * DAY, 14 * DAY, 7 * DAY, DAY)


class Followed:
    """Key events of one process, with its keyring and its traces."""

    def __init__(self, path: Path, clock: FakeClock, writer: FakeWriter) -> None:
        self.store = SqliteKeys(path)
        self.clock = clock
        self.writer = writer
        self.hub = FakeHub()
        self.keyring = Keyring(self.store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
        self.profiles = ProfileStore(self.store)
        self.events = KeyEvents(
            self.store,
            writer,
            self.hub,
            self.profiles,
            clock,
            WARNINGS,  # type: ignore[arg-type]
        )

    async def poll(self, seconds: float = 0.25) -> None:
        """What the key watch and the background task do, a moment later."""
        self.clock.tick(seconds)
        self.events.take(await self.keyring.refresh())
        await self.events.poll()

    def use(self, one: Key) -> None:
        self.profiles.observe(
            Access(key=one, action=PULLED, at=self.clock.now(), address="9.9.9.9")
        )

    @property
    def told(self) -> list[str]:
        return self.writer.actions("gateway.keys")


Make = Callable[[], Followed]


@pytest.fixture
async def make(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Make]:
    """Makes processes that share one key store and one log."""
    made: list[Followed] = []
    writer = FakeWriter()

    def followed() -> Followed:
        made.append(Followed(tmp_path / "keys.db", clock, writer))
        return made[-1]

    yield followed
    for one in made:
        await one.store.close()


@pytest.fixture
async def one(make: Make) -> Followed:
    followed = make()
    await followed.poll()
    return followed


async def test_every_change_is_an_event_that_says_who_made_it(one: Followed) -> None:
    await one.store.create(key("a", changed_by="B" * 12, changed_at=NOW))
    await one.store.change("a", lambda old: lifecycle.suspend(old, NOW + 1, "why", by="program"))
    await one.poll()
    created, suspended = one.writer.events("gateway.keys")
    assert created["id"] == "key-a-1"
    assert created["time"] == "2023-11-14T22:13:20.000000Z"
    assert created["actor"] == {"type": "key", "id": "B" * 12, "key_id": "B" * 12}
    assert created["targets"] == [{"urn": "key:a", "type": "key", "id": "a"}]
    assert created["data"]["name"] == "name of a"
    assert suspended["actor"] == {"type": "program", "id": "program"}
    assert suspended["reason"] == "why"
    assert await one.store.unrecorded(10) == {}


async def test_a_change_that_nobody_tells_of_is_an_event_within_a_second(one: Followed) -> None:
    added = other_change("pepper.added", ["pepper:x"], by="program", at=NOW, data={"pepper": "x"})
    await one.store.record_later(added)
    await one.poll(1.0)
    [event] = one.writer.events("gateway.keys")
    assert (event["id"], event["action"]) == (added.id, "pepper.added")
    assert event["actor"] == {"type": "program", "id": "program"}
    assert event["targets"] == [{"urn": "pepper:x", "type": "pepper"}]
    assert event["data"] == {"pepper": "x"}
    assert await one.store.unrecorded(10) == {}


async def test_changes_that_follow_each_other_faster_than_anybody_looks_are_all_told(
    one: Followed,
) -> None:
    await one.store.create(key("a"))
    for _ in range(120):
        await one.store.change("a", lambda old: lifecycle.suspend(old, NOW, "", by="x"))
        await one.store.change("a", lambda old: lifecycle.resume(old, NOW, by="x"))
    await one.poll()
    assert one.told == ["key.created", *["key.suspended", "key.resumed"] * 120]


async def test_a_change_that_several_processes_notice_is_told_once(make: Make) -> None:
    first, second = make(), make()
    await first.poll()
    await second.poll()
    await first.store.create(key("a"))
    first.events.take(await first.keyring.refresh())
    second.events.take(await second.keyring.refresh())
    await asyncio.gather(first.events.poll(), second.events.poll())
    assert first.told == ["key.created"]


async def test_what_is_written_twice_has_one_id(
    one: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.store.create(key("a"))

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(one.store, "mark_recorded", away)
        with pytest.raises(Unavailable):
            await one.poll()
    await one.poll()
    assert one.writer.offered == ["key-a-1", "key-a-1"]
    assert one.told == ["key.created"]


async def test_changes_wait_for_the_log_and_for_the_next_start(make: Make) -> None:
    first = make()
    await first.poll()
    first.writer.away = True
    await first.store.create(key("a"))
    with pytest.raises(Unavailable):
        await first.poll()
    await first.events.close()
    first.writer.away = False
    later = make()
    await later.poll()
    assert later.told == ["key.created"]


async def test_what_was_changed_while_no_gateway_ran_is_told_at_the_start(make: Make) -> None:
    store = make().store
    await store.create(key("a"))
    await store.change("a", lambda found: lifecycle.revoke(found, NOW, "gone"))
    later = make()
    await later.events.poll()
    assert later.told == ["key.created", "key.revoked"]


async def test_changes_of_roles_are_told_too(one: Followed) -> None:
    await one.store.put_role(Role(name="soc"), "B" * 12)
    await one.poll()
    await one.store.delete_role("soc", "B" * 12)
    await one.poll()
    put, deleted = one.writer.events("gateway.keys")
    assert (put["action"], deleted["action"]) == ("role.put", "role.deleted")
    assert put["targets"] == [{"urn": "role:soc", "type": "role"}]
    assert deleted["actor"]["key_id"] == "B" * 12


# Ends


async def test_each_warning_and_the_end_are_told_once(one: Followed) -> None:
    await one.store.create(key("a"))
    for _ in range(92):
        await one.poll(DAY)
    assert one.told == ["key.created", *["key.expiring"] * 4, "key.expired"]
    warned = one.writer.events("gateway.keys")[1]
    assert warned["data"]["expires_at"] == "2024-02-12T22:13:20.000000Z"
    assert warned["data"]["owner"] == "o"
    assert warned["time"] == "2024-01-13T22:13:20.000000Z", "when it was due"


async def test_streams_of_the_key_are_warned_and_no_others(one: Followed) -> None:
    await one.store.create(key("a"))
    await one.store.create(key("b", expires_at=NOW + 200 * DAY))
    one.hub.subscriptions += [FakeStream("a"), FakeStream("a"), FakeStream("b")]
    await one.poll(59 * DAY)
    assert one.hub.said == []
    await one.poll(2 * DAY)
    assert (
        one.hub.said
        == [("a", "notice", {"code": "key_expiring", "expires_at": "2024-02-12T22:13:20.000000Z"})]
        * 2
    )
    await one.poll(DAY)
    assert len(one.hub.said) == 2, "once each"
    for _ in range(40):
        await one.poll(DAY)
    assert len(one.hub.said) == 8, "and an end speaks for itself"


async def test_every_process_warns_its_own_streams_and_the_event_is_one(make: Make) -> None:
    first, second = make(), make()
    await first.store.create(key("a"))
    for process in (first, second):
        await process.poll()
        process.hub.subscriptions.append(FakeStream("a"))
    first.clock.tick(61 * DAY)
    for process in (first, second):
        await process.poll()
        assert len(process.hub.said) == 1
    assert first.told == ["key.created", "key.expiring"]


async def test_of_several_warnings_that_are_late_the_last_is_told(one: Followed) -> None:
    await one.store.create(key("a"))
    await one.poll(84 * DAY)
    assert one.told == ["key.created", "key.expiring"]
    assert one.writer.offered[-1].endswith(str(7 * DAY))
    await one.poll(6 * DAY)
    assert one.told[-1] == "key.expired"


async def test_a_key_that_ended_while_no_gateway_ran_is_told_of_at_the_start(make: Make) -> None:
    first = make()
    await first.store.create(key("a"))
    await first.store.create(key("long ago", expires_at=NOW - 31 * DAY))
    await first.poll()
    first.clock.tick(95 * DAY)
    for _ in range(2):
        later = make()
        await later.poll()
        await later.poll()
    assert later.told == ["key.created", "key.created", "key.expired"]


async def test_a_changed_key_is_followed_as_it_is_now(one: Followed) -> None:
    await one.store.create(key("a"))
    await one.poll()
    await one.store.change("a", lambda old: lifecycle.revoke(old, NOW, "", "x"))
    for _ in range(100):
        await one.poll(DAY)
    assert one.told == ["key.created", "key.revoked"]


async def test_a_warning_waits_for_the_log(one: Followed) -> None:
    await one.store.create(key("a"))
    await one.poll()
    one.hub.subscriptions.append(FakeStream("a"))
    one.writer.away = True
    one.clock.tick(61 * DAY)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await one.poll()
    one.writer.away = False
    await one.poll()
    assert one.told == ["key.created", "key.expiring"]
    assert len(one.hub.said) == 1


# Rotation


async def rotated(one: Followed) -> tuple[Key, Key]:
    await one.store.create(key("a"))
    old, successor, _ = lifecycle.rotate(
        msgspec.structs.replace(key("a"), revision=1), one.clock.now(), overlap=7 * DAY,
        max_life=90 * DAY, pepper=b"p" * 32, by="admin",
    )  # fmt: skip
    await one.store.change("a", lambda current: old, create=successor)
    await one.poll()
    return old, successor


async def state(one: Followed) -> str:
    found = await one.store.get("a")
    assert found is not None
    return found.state(one.clock.now())


async def test_a_replaced_key_ends_once_it_is_idle_and_its_successor_is_in_use(
    one: Followed,
) -> None:
    old, successor = await rotated(one)
    one.use(old)
    for _ in range(100):
        await one.poll(15)
    assert await state(one) == "draining", "its successor is not in use"
    one.use(successor)
    await one.poll(15)
    await one.poll(15)
    assert await state(one) == "expired"
    assert one.told == ["key.created", "key.rotated", "key.created", "key.drained"]
    drained = one.writer.events("gateway.keys")[-1]
    assert drained["actor"]["id"] == "gateway"
    assert drained["data"]["successor"] == successor.id


async def test_a_replaced_key_that_is_used_goes_on_until_it_is_idle(one: Followed) -> None:
    old, successor = await rotated(one)
    one.use(successor)
    for _ in range(10):
        one.use(old)
        await one.poll(890)
        assert await state(one) == "draining"
    await one.poll(15)
    assert await state(one) == "expired"


async def test_a_replaced_key_with_an_open_stream_goes_on(one: Followed) -> None:
    _, successor = await rotated(one)
    one.use(successor)
    one.hub.subscriptions.append(FakeStream("a"))
    for _ in range(10):
        await one.poll(3600)
    assert await state(one) == "draining"
    one.hub.subscriptions.clear()
    await one.poll(15)
    assert await state(one) == "expired"


async def test_the_background_task_writes_changes_and_outlives_an_outage(
    one: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    task = asyncio.create_task(one.events.run())
    await one.store.create(key("a"))
    one.writer.away = True
    one.events.take(await one.keyring.refresh())
    await one.clock.advance(3)
    assert "cannot be recorded" in caplog.text
    one.writer.away = False
    await one.clock.advance(2)
    assert one.told == ["key.created"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_keys_that_could_not_be_read_at_the_start_are_followed_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any) -> Any:
        raise Unavailable("busy")

    one = make()
    await one.store.create(key("a", expires_at=NOW + 7 * DAY + 10))
    with monkeypatch.context() as outage:
        outage.setattr(one.store, "_select", busy)
        with pytest.raises(Unavailable):
            await one.poll()
    await one.poll()
    await one.poll(60)
    assert "key.expiring" in one.told
