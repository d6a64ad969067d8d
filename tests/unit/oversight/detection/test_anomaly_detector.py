"""The watch: from uses to findings, over the key store that all processes share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.grants.role import Role
from gateway.access.keyring import Changes
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.stored_grant import read_grant
from gateway.access.limits.delivery_limits import Deliveries
from gateway.access.limits.limits import Daily
from gateway.access.usage.access import CLOSED, DENIED, PULLED, Access
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.oversight.detection.anomaly_detector import AnomalyDetector, Reaction
from gateway.oversight.detection.baseline import decode_volume
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.signals import Signal
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.subscription import State
from tests.support.machine_time import patience
from tests.support.watched import DAY, NOW, FakeHub, FakeStream, FakeWriter, key

if TYPE_CHECKING:
    from tests.conftest import FakeClock

K = "A" * 12


class Watched:
    """An anomaly detector over a key store in a file. `step` is one of its looks, a second
    later."""

    def __init__(
        self, path: Path, clock: FakeClock, reaction: Reaction, warm_up: int, writer: FakeWriter
    ) -> None:
        self.store = SqliteKeys(path)
        self.writer = writer
        self.hub = FakeHub()
        self.clock = clock
        self.findings = Findings(self.store, writer, clock)
        self.detector = AnomalyDetector(
            self.store, self.hub, self.findings, clock,  # type: ignore[arg-type]
            warm_up=warm_up, reaction=reaction,
        )  # fmt: skip

    def use(self, times: int = 1, **members: Any) -> None:
        for _ in range(times):
            made = {"key": key(K), "action": PULLED, "address": "9.9.9.9", "at": self.clock.now()}
            self.detector.observe(Access(**{**made, **members}))

    def denied(self, times: int = 1, **members: Any) -> None:
        for n in range(times):
            refused = {"action": DENIED, "outcome": "denied", "reason": "action_not_granted"}
            self.use(**{**refused, "at": self.clock.now() + n / 100, **members})

    async def step(self, seconds: float = 1.0) -> None:
        self.clock.tick(seconds)
        await self.detector.poll()

    async def minutes(self, counts: list[int]) -> None:
        for count in counts:
            if count:
                self.use(events=count)
            await self.step(30)
            await self.step(30)
        # The grace for other processes.
        await self.step(6)
        self.clock.tick(54)

    async def found(self) -> list[tuple[str, int]]:
        return [(one.signal, one.count) for one in await self.findings.all()]


Make = Callable[..., Watched]


@pytest.fixture
async def make(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Make]:
    """Makes detectors that share one key store and one log, as processes do."""
    made: list[Watched] = []
    writer = FakeWriter()

    def watched(warm_up: int = 7 * DAY, **reaction: Any) -> Watched:
        one = Watched(tmp_path / "keys.db", clock, Reaction(**reaction), warm_up, writer)
        made.append(one)
        return one

    yield watched
    for one in made:
        await one.store.close()


@pytest.fixture
def watched(make: Make) -> Watched:
    return make()


async def test_a_signal_becomes_a_finding_and_an_event_within_a_second(watched: Watched) -> None:
    watched.denied(5)
    await watched.step()
    [finding] = await watched.findings.all()
    assert (finding.signal, finding.key, finding.count) == ("denials", K, 5)
    [event] = watched.writer.events("gateway.anomaly")
    assert (event["tenant"], event["action"], event["severity"]) == (
        "gateway", "anomaly.denials", 3,
    )  # fmt: skip
    assert event["targets"] == [{"urn": f"key:{K}", "type": "key", "id": K}]
    assert event["data"]["finding"] == finding.id
    assert event["data"]["count"] == 5
    assert watched.findings.found == {"denials": 5}


async def test_a_key_with_a_stored_grant_that_would_be_refused_is_a_finding(
    watched: Watched,
) -> None:
    stored = read_grant(b'{"id":"g","actions":["pull"],"categories":["auth"],"tenants":[]}')
    await watched.store.create(key("B" * 12, grants=(stored,)))
    await watched.store.put_role(Role(name="team", grants=(stored,)))
    await watched.store.create(key("C" * 12, roles=("team",)))
    await watched.store.create(key("D" * 12, grants=(stored,), revoked_at=NOW))
    await watched.step()
    found = {one.key: one for one in await watched.findings.all()}
    assert {one.signal for one in found.values()} == {"invalid_grant"}
    assert {name: one.data["problems"][0]["path"] for name, one in found.items()} == {
        "B" * 12: "grants[0].tenants", "C" * 12: "team: grants[0].tenants",
    }  # fmt: skip


async def test_keys_that_change_to_what_would_be_refused_or_cannot_be_read_are_findings(
    watched: Watched,
) -> None:
    """Another version has written them, or a backup was restored."""
    plain = read_grant(b'{"actions":["pull"],"categories":["auth"]}')
    await watched.store.put_role(Role(name="team", grants=(plain,)))
    await watched.store.create(key("B" * 12, roles=("team",)))
    await watched.step()
    assert await watched.found() == []
    stored = read_grant(b'{"id":"g","actions":["pull"],"categories":["auth"],"tenants":[]}')
    await watched.store.create(wrong := key("C" * 12, grants=(stored,)))
    newer: Any = {"en": "name"}
    await watched.store.create(key("D" * 12, purpose=newer))
    watched.detector.stored_defects.take(Changes([wrong, key("D" * 12)], frozenset()))
    await watched.step()
    assert sorted(await watched.found()) == [("invalid_grant", 1), ("unreadable", 1)]
    await watched.store.put_role(Role(name="team", description=newer))
    watched.detector.stored_defects.take(Changes([], frozenset({"team"})))
    await watched.step()
    found = {one.key: one for one in await watched.findings.all()}
    assert found["B" * 12].data["roles"] == ["team"]
    # What is known already is not found again with each change.
    watched.detector.stored_defects.take(Changes([wrong], frozenset({"team"})))
    await watched.step()
    assert {one.count for one in await watched.findings.all()} == {1}


async def test_a_role_that_is_read_as_it_is_written_needs_no_look_at_all_keys(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = read_grant(b'{"actions":["pull"],"categories":["auth"]}')
    await watched.step()

    async def read() -> list[Key]:
        raise AssertionError("all keys are read")

    monkeypatch.setattr(watched.store, "all", read)
    await watched.store.put_role(Role(name="team", grants=(plain,)))
    watched.detector.stored_defects.take(Changes([], frozenset({"team"})))
    await watched.step()


async def test_what_is_seen_of_a_key_stays_bounded_while_the_store_is_away(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(watched.store, "update_notes", away)
    for number in range(40):
        for n in range(20):
            name = f"{number}-{n}"
            address = f"2001:db8:{number:x}{n:02x}::1"
            watched.use(
                forbidden=(name,), probed=(f"tenant:{name}",), out_of_scope=(name,), address=address
            )
        with pytest.raises(Unavailable):
            await watched.step()
    delta = watched.detector.profiles._deltas[K]
    for values in (delta.forbidden, delta.probed, delta.out_of_scope):
        assert len(values) <= 16
    assert len(delta.networks) <= 64


async def test_a_finding_that_counts_on_is_told_of_now_and_then(watched: Watched) -> None:
    watched.denied(5)
    await watched.step()
    for _ in range(120):
        watched.denied()
        await watched.step()
    counts = [event["data"]["count"] for event in watched.writer.events("gateway.anomaly")]
    assert counts == sorted(counts)
    assert counts[0] == 5
    assert 3 <= len(counts) <= 8
    await watched.step(61)
    last = watched.writer.events("gateway.anomaly")[-1]["data"]["count"]
    assert last == 125, "and its last count is told of, too"
    [finding] = await watched.findings.all()
    assert finding.count == 125


async def test_ordinary_uses_find_nothing(watched: Watched) -> None:
    for _ in range(300):
        watched.use(behind=10)
        await watched.step()
    assert await watched.found() == []
    assert watched.writer.drafts == {}


async def test_signals_of_several_processes_come_together_and_are_told_of_once(
    make: Make,
) -> None:
    one, other = make(), make()
    one.denied(3)
    await one.detector.poll()
    assert await one.found() == []
    one.clock.tick(1)
    other.denied(3)
    await other.detector.poll()
    assert await one.found() == [("denials", 6)]
    await one.detector.poll()
    assert len(one.writer.events("gateway.anomaly")) == 1


async def test_two_processes_that_find_the_same_count_into_one_finding(make: Make) -> None:
    one, other = make(), make()
    for watched in (one, other):
        watched.use(at=NOW, action=DENIED, outcome="denied", reason="key_revoked")
        await watched.detector.poll()
    assert await one.found() == [("revoked_presented", 2)]
    counts = [event["data"]["count"] for event in one.writer.events("gateway.anomaly")]
    assert counts == [1, 2]


async def test_denials_without_a_key_are_found_by_address(watched: Watched) -> None:
    watched.denied(5, key=None, address="45.1.2.3")
    watched.denied(4, key=None, address="45.1.2.4")
    await watched.step()
    [finding] = await watched.findings.all()
    assert (finding.key, finding.address, finding.count) == ("", "45.1.2.3", 5)
    assert "targets" not in watched.writer.events("gateway.anomaly")[0]


async def test_what_a_key_is_used_for_is_remembered_over_a_restart(make: Make) -> None:
    first = make()
    first.use(address="9.9.9.9", client="curl", behind=3)
    await first.detector.close()
    later = make()
    profile = await later.detector.profiles.of(K)
    assert (profile.used_at, profile.address, profile.client) == (NOW, "9.9.9.9", "curl")
    later.use(address="45.1.2.3")
    await later.step()
    assert await later.found() == [("new_network", 1)]


async def test_the_last_use_is_known_at_once_and_stored_in_batches(
    watched: Watched, make: Make
) -> None:
    watched.use()
    await watched.step()
    watched.clock.tick(10)
    watched.use(client="new")
    assert (await watched.detector.profiles.of(K)).client == "new"
    await watched.step()
    other = make()
    assert (await other.detector.profiles.of(K)).client == "", "an ordinary use waits"
    await watched.step(30)
    assert (await other.detector.profiles.of(K)).client == "new"


async def test_a_key_with_an_open_stream_is_in_use(watched: Watched) -> None:
    watched.use()
    watched.hub.subscriptions.append(FakeStream(K))
    for _ in range(10):
        await watched.step(60)
    assert (await watched.detector.profiles.of(K)).used_at >= watched.clock.now() - 60


# What is expected


async def test_what_is_marked_expected_is_silent_for_that_key_and_signal(
    watched: Watched,
) -> None:
    watched.denied(5)
    await watched.step()
    [finding] = await watched.findings.all()
    marked = await watched.findings.mark(finding.id, expected=True, by="admin", reason="a test")
    assert marked is not None
    assert (marked.state, marked.by, marked.reason) == ("expected", "admin", "a test")
    events = len(watched.writer.drafts)
    await watched.step(4000)
    watched.denied(9)
    watched.denied(9, key=key("B" * 12))
    watched.use(forbidden=("a", "b", "c"))
    await watched.step()
    assert sorted(await watched.found()) == [
        ("denials", 5), ("denials", 9), ("forbidden_categories", 3),
    ]  # fmt: skip
    assert len(watched.writer.drafts) == events + 2
    await watched.findings.mark(finding.id, expected=False, by="admin")
    await watched.step(4000)
    watched.denied(5)
    await watched.step()
    assert len(await watched.found()) == 4


async def test_there_is_nothing_to_mark_under_an_unknown_id(watched: Watched) -> None:
    assert await watched.findings.mark("denials-x-1", expected=True, by="a") is None
    assert await watched.store.notes("silence") == {}


async def test_old_findings_are_forgotten(watched: Watched) -> None:
    watched.denied(5)
    await watched.step()
    watched.clock.tick(89 * DAY)
    await watched.findings.prune()
    assert len(await watched.found()) == 1
    watched.clock.tick(2 * DAY)
    await watched.findings.prune()
    assert await watched.found() == []


# Outages


async def test_a_finding_is_told_of_when_the_log_is_back(watched: Watched, make: Make) -> None:
    watched.writer.away = True
    watched.denied(5)
    await watched.step()
    assert await watched.found() == [("denials", 5)]
    later = make()
    later.writer.away = False
    await later.findings.begin()
    await later.detector.poll()
    assert len(later.writer.events("gateway.anomaly")) == 1, "also by another process"


async def test_what_was_seen_while_the_key_store_was_away_is_evaluated_later(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = watched.store.update_notes

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(watched.store, "update_notes", away)
    watched.denied(3)
    with pytest.raises(Unavailable):
        await watched.step()
    watched.denied(3)
    with pytest.raises(Unavailable):
        await watched.step()
    monkeypatch.setattr(watched.store, "update_notes", whole)
    await watched.step()
    assert await watched.found() == [("denials", 6)]


async def test_the_background_task_goes_on_after_an_outage(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    whole = watched.store.notes

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(watched.store, "notes", away)
    task = asyncio.create_task(watched.detector.run())
    # How many turns of the loop a step takes is up to the thread of the store.
    async with asyncio.timeout(patience()):
        while "trying again" not in caplog.text:
            await watched.clock.advance(1)
        monkeypatch.setattr(watched.store, "notes", whole)
        watched.denied(5)
        while not (found := await watched.found()):
            await watched.clock.advance(1)
    assert found == [("denials", 5)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Rotation


async def rotated(watched: Watched, predecessor: Key) -> Key:
    """The key that takes over from one in the store."""
    old, successor, _ = lifecycle.rotate(
        predecessor, watched.clock.now(), overlap=DAY, max_life=90 * DAY, pepper=b"p"
    )
    await watched.store.change(predecessor.id, lambda _: old, create=successor)
    return successor


async def test_a_successor_comes_from_the_networks_that_its_predecessors_came_from(
    make: Make,
) -> None:
    watched = make()
    await watched.store.create(key(K))
    watched.use(address="9.9.9.9", client="curl", behind=50_000)
    await watched.step()
    assert await watched.found() == []
    unused = await rotated(watched, key(K))
    successor = await rotated(watched, unused)
    assert (await watched.detector.profiles.of(successor.id)).used_at == 0, "it is not in use"
    later = make()
    await later.step()
    later.use(key=successor, address="9.9.9.9", behind=50_000)
    await later.step()
    assert await later.found() == []
    third = await rotated(later, successor)
    later.use(key=third, address="45.1.2.3", behind=200_000)
    await later.step()
    assert sorted(await later.found()) == [("deep_replay", 1), ("new_network", 1)]


async def test_a_successor_that_was_never_used_has_no_last_use(watched: Watched) -> None:
    await watched.store.create(key(K))
    watched.use(client="curl")
    await watched.step()
    successor = await rotated(watched, key(K))
    watched.denied(key=successor, reason="key_suspended")
    await watched.step()
    assert (await watched.detector.profiles.of(successor.id)).last_use() is None
    assert "9.9.9.0/24" in (await watched.detector.profiles.of(successor.id)).networks


async def test_what_is_expected_of_a_key_is_expected_of_its_successor(watched: Watched) -> None:
    await watched.store.create(key(K))
    watched.denied(5)
    await watched.step()
    [finding] = await watched.findings.all()
    await watched.findings.mark(finding.id, expected=True, by="admin")
    successor = await rotated(watched, await rotated(watched, key(K)))
    await watched.step(4000)
    watched.denied(5, key=successor)
    watched.use(key=successor, forbidden=("a", "b", "c"))
    await watched.step()
    found = {(one.signal, one.key) for one in await watched.findings.all()}
    assert found == {("denials", K), ("forbidden_categories", successor.id)}
    await watched.findings.mark(finding.id, expected=False, by="admin")
    assert await watched.findings.add(Signal("denials", NOW), successor.id) is not None
    assert await watched.store.notes("silence") == {}


async def test_a_mark_that_is_taken_back_of_a_successor_was_made_of_its_predecessor(
    watched: Watched,
) -> None:
    await watched.store.create(key(K))
    successor = await rotated(watched, key(K))
    watched.denied(5)
    watched.denied(5, key=successor)
    await watched.step()
    of = {one.key: one for one in await watched.findings.all()}
    await watched.findings.mark(of[K].id, expected=True, by="admin")
    assert await watched.findings.add(Signal("denials", NOW), successor.id) is None
    await watched.findings.mark(of[successor.id].id, expected=False, by="admin")
    assert await watched.findings.add(Signal("denials", NOW), successor.id) is not None


async def test_what_is_usual_for_a_key_is_usual_for_its_successor(make: Make) -> None:
    watched = make(warm_up=300 * 60)
    await watched.store.create(key(K))
    rng = random.Random(1)
    await watched.minutes([rng.randint(90, 110) for _ in range(400)])
    successor = await rotated(watched, key(K))

    async def minutes(one: Watched, counts: list[int]) -> None:
        for count in counts:
            one.use(key=successor, events=count)
            await one.step(30)
            await one.step(30)

    await minutes(watched, [100] * 3)
    # Another process goes on with it.
    later = make(warm_up=300 * 60)
    await watched.detector.close()
    await minutes(later, [100] * 5)
    assert await later.found() == []
    await minutes(later, [1000] * 6)
    found = {one.signal: one for one in await later.findings.all()}
    assert found["volume"].key == successor.id
    assert 80 < found["volume"].data["expected_per_minute"] < 130
    before = decode_volume(await later.store.note("volume", K))
    after = decode_volume(await later.store.note("volume", successor.id))
    assert after.baseline.minutes > before.baseline.minutes >= 400


# Streams


async def test_a_stream_that_takes_nothing_for_five_minutes_is_a_silent_consumer(
    watched: Watched,
) -> None:
    stuck = FakeStream(K, state=State.REPLAYING, cursor=10)
    slow = FakeStream("B" * 12, state=State.REPLAYING, cursor=10)
    live = FakeStream("C" * 12, cursor=10)
    done = FakeStream("D" * 12, state=State.REPLAYING, cursor=500)
    watched.hub.subscriptions += [stuck, slow, live, done]
    watched.hub.position = 500
    for minute in range(5):
        slow.cursor += 1
        await watched.step(60)
        assert await watched.found() == [], f"minute {minute}"
    await watched.step(60)
    await watched.step()
    [finding] = await watched.findings.all()
    assert (finding.signal, finding.key) == ("silent_consumer", K)
    assert finding.data["behind"] == 490
    assert finding.data["seconds"] >= 300


async def test_a_live_stream_whose_bytes_are_not_taken_is_a_silent_consumer(
    watched: Watched,
) -> None:
    stuck, slow = FakeStream(K), FakeStream("B" * 12)
    watched.hub.subscriptions += [stuck, slow]
    for stream in (stuck, slow):
        stream.sink.waited = stream.sink.unsent = 1000
    for minute in range(6):
        assert await watched.found() == [], f"minute {minute}"
        # What is added is not taken; here as much is taken as is added.
        stuck.sink.waited, stuck.sink.unsent = stuck.sink.waited + 50, stuck.sink.unsent + 50
        slow.sink.waited += 50
        await watched.step(60)
    await watched.step()
    [finding] = await watched.findings.all()
    assert (finding.signal, finding.key) == ("silent_consumer", K)
    assert finding.data["unsent_bytes"] == 1300


async def test_a_stream_that_waits_for_its_own_quota_is_no_silent_consumer(
    watched: Watched,
) -> None:
    waiting = FakeStream(K, state=State.REPLAYING, cursor=10)
    buckets = Deliveries(watched.clock)
    waiting.pacer = DeliveryPacer(buckets.of(K, events=[Daily("d", 10)]), watched.clock, 3600)
    waiting.pacer.sent(10, 1000)
    watched.hub.subscriptions.append(waiting)
    watched.hub.position = 500
    for _ in range(20):
        assert waiting.pacer.wait() > 0
        await watched.step(60)
    assert await watched.found() == []
    # The next day it may go on, and does not.
    watched.clock.tick(DAY)
    assert waiting.pacer.wait() == 0.0
    for _ in range(7):
        await watched.step(60)
    assert [signal for signal, _ in await watched.found()] == ["silent_consumer"]


# Volume


async def test_a_spike_of_pulls_is_found_within_five_minutes_and_has_no_consequences(
    make: Make,
) -> None:
    watched = make(warm_up=300 * 60, suspend_on=("denials", "volume"), throttle_on=("new_network",))
    await watched.store.create(key(K))
    rng = random.Random(1)
    await watched.minutes([rng.randint(90, 110) for _ in range(400)])
    assert await watched.found() == []
    await watched.minutes([1000] * 5)
    [finding] = await watched.findings.all()
    assert finding.signal == "volume"
    assert finding.data["per_minute"] > 4 * finding.data["expected_per_minute"]
    found = await watched.store.get(K)
    assert found is not None
    assert found.state(watched.clock.now()) == "active"


async def test_what_streams_deliver_counts_minute_by_minute_and_only_once(make: Make) -> None:
    watched = make(warm_up=300 * 60)
    stream = FakeStream(K)
    watched.hub.subscriptions.append(stream)
    for _ in range(400):
        stream.delivered += 100
        await watched.step(60)
    for _ in range(5):
        stream.delivered += 1000
        await watched.step(60)
    await watched.step(6)
    assert [signal for signal, _ in await watched.found()] == ["volume"]
    assert stream.counted == stream.delivered
    # Its end tells of all that it has delivered, which was counted.
    before = await watched.store.note("volume", K)
    watched.use(action=CLOSED, events=stream.delivered, counted=stream.counted)
    await watched.step(60)
    await watched.step(6)
    assert await watched.store.note("volume", K) == before


# Consequences


async def state_of(watched: Watched) -> str:
    found = await watched.store.get(K)
    assert found is not None
    return found.state(watched.clock.now())


async def test_nothing_happens_to_a_key_unless_it_was_asked_for(watched: Watched) -> None:
    await watched.store.create(key(K))
    watched.denied(50)
    watched.use(forbidden=("a", "b", "c"))
    await watched.step()
    assert len(await watched.found()) == 2
    assert await state_of(watched) == "active"
    assert await watched.store.newest_revision() == 1


async def test_a_key_is_suspended_for_a_quarter_of_an_hour_where_that_is_asked_for(
    make: Make,
) -> None:
    watched = make(suspend_on=("denials",))
    await watched.store.create(key(K))
    watched.denied(5)
    await watched.step()
    assert await state_of(watched) == "suspended"
    [_, change] = (await watched.store.unrecorded(9)).values()
    assert (change.action, change.by, change.reason) == (
        "key.suspended", "gateway", "unusual activity: denials",
    )  # fmt: skip
    # It goes on trying, which neither prolongs nor repeats it.
    for _ in range(30):
        watched.denied(5, reason="key_suspended")
        await watched.step(29)
    assert await state_of(watched) == "suspended"
    await watched.step(31)
    assert await state_of(watched) == "active"
    assert await watched.store.newest_revision() == 2


async def test_a_key_is_throttled_where_that_is_asked_for(make: Make) -> None:
    watched = make(throttle_on=("forbidden_categories",), suspend_on=("denials",))
    await watched.store.create(key(K))
    watched.use(forbidden=("a", "b", "c"))
    await watched.step()
    found = await watched.store.get(K)
    assert found is not None
    assert found.throttled(watched.clock.now())
    assert not found.throttled(watched.clock.now() + 900)
    assert await state_of(watched) == "active"


async def test_what_is_expected_has_no_consequences(make: Make) -> None:
    watched = make(suspend_on=("denials",))
    watched.denied(5)
    await watched.step()
    [finding] = await watched.findings.all()
    await watched.findings.mark(finding.id, expected=True, by="admin")
    await watched.store.create(key(K))
    watched.denied(5)
    await watched.step()
    assert await state_of(watched) == "active"


async def test_addresses_without_a_key_and_keys_that_ended_are_left_alone(make: Make) -> None:
    watched = make(suspend_on=("denials", "revoked_presented"))
    await watched.store.create(key(K, revoked_at=NOW))
    watched.denied(9, key=None, claimed=K)
    watched.denied(2, reason="key_revoked")
    await watched.step()
    assert len(await watched.found()) == 2
    assert await watched.store.newest_revision() == 1


async def test_a_suspension_is_not_prolonged_by_further_signals(make: Make) -> None:
    watched = make(suspend_on=("denials", "forbidden_categories"))
    await watched.store.create(key(K))
    watched.denied(5)
    await watched.step()
    watched.use(forbidden=("a", "b", "c"))
    await watched.step(600)
    await watched.step(300)
    assert await state_of(watched) == "active"
    assert await watched.store.newest_revision() == 2


# What each part of the watch is there for


async def test_a_spike_is_found_though_the_key_falls_silent_after_it(make: Make) -> None:
    watched = make(warm_up=300 * 60)
    # To the beginning of a minute.
    watched.clock.tick(-NOW % 60)
    await watched.minutes([100] * 400)
    watched.use(events=9000)
    await watched.step(60)
    assert await watched.found() == [], "others may yet add to that minute"
    await watched.step(5)
    assert [signal for signal, _ in await watched.found()] == ["volume"]


async def test_counts_of_several_processes_are_one_volume(make: Make) -> None:
    one, other = make(warm_up=300 * 60), make(warm_up=300 * 60)
    one.clock.tick(-NOW % 60 + 6)
    for _ in range(400):
        one.use(events=50)
        other.use(events=50)
        one.clock.tick(54)
        await one.detector.poll()
        await other.detector.poll()
        one.clock.tick(6)
        await other.detector.poll()
        await one.detector.poll()
    volume = decode_volume(await one.store.note("volume", K))
    assert volume.baseline.recent == (100,) * 5


async def test_uses_right_before_the_end_are_kept(make: Make) -> None:
    watched = make()
    watched.use()
    await watched.step()
    watched.use(events=7, client="last")
    await watched.detector.close()
    later = make()
    assert (await later.detector.profiles.of(K)).client == "last"
    assert decode_volume(await later.store.note("volume", K)).count == 7


async def test_denials_of_an_address_add_up_over_several_looks(watched: Watched) -> None:
    for _ in range(5):
        watched.denied(key=None, address="45.1.2.3")
        await watched.step(30)
    assert await watched.found() == [("denials", 5)]


async def test_the_memory_of_addresses_is_bounded(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.oversight.detection.profile_store._MOST_ADDRESSES", 10)
    for n in range(30):
        watched.denied(key=None, address=f"45.1.2.{n}")
    assert len(watched.detector.profiles._address_deltas) == 10
    await watched.step()
    for n in range(30, 60):
        watched.denied(key=None, address=f"45.1.2.{n}")
        await watched.step()
    profiles = watched.detector.profiles
    assert len(profiles._addresses) == 10
    assert len(profiles._address_deltas) == 0


async def test_findings_are_pruned_as_time_goes_by_and_beyond_a_number(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.oversight.detection.findings._MOST_KEPT", 3)
    for n in range(5):
        watched.denied(5, key=key(f"{n:012d}"))
        await watched.step()
    await watched.step(3600)
    kept = [finding.key for finding in await watched.findings.all()]
    assert kept == [f"{n:012d}" for n in (4, 3, 2)], "the newest"
    await watched.step(91 * DAY)
    assert await watched.found() == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_another_process_counted_and_did_not_tell_of_is_told_of_later(
    make: Make, restarted: bool
) -> None:
    one, other = make(), make()
    signal = Signal("revoked_presented", NOW)
    await one.findings.add(signal, K)
    await other.findings.add(signal, K)
    # The other one ends here.
    await one.findings.report()
    later = make() if restarted else one
    later.clock.tick(61)
    if restarted:
        await later.findings.begin()
    await later.findings.report()
    counts = [event["data"]["count"] for event in later.writer.events("gateway.anomaly")]
    assert counts == [1, 2]
