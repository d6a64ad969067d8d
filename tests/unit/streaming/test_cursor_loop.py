"""The cursor loop carries readers that have no connection: each event they may see, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.cursor import parse_cursor
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.filters.scope import Scope
from gateway.notifier import Notifier
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.cursor_loop import CursorLoop, ReadingContext
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.replay import Replays
from gateway.streaming.replay_cache import Chunk, EventFailed, ReplayCache
from gateway.streaming.tail import Tail
from gateway.wire.framing import OVERTAKEN, End
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.machine_time import patience
from tests.support.memory_log import MemoryLog
from tests.support.open_gate import OpenGate

MakeDraft = Callable[..., Draft]
CATEGORIES = ("auth", "billing", "k8s.audit")


def view(*grants: dict[str, Any]) -> View:
    decision = decide_grants(
        tuple(parse_grant({"actions": ["stream"], **grant}) for grant in grants), "stream"
    )
    assert isinstance(decision, Allowed)
    return decision.view


# Events of one category with a member masked, of another without it, of the third not at all.
MASKED = view(
    {"categories": ["auth"], "fields": {"mask": ["actor.name"]}},
    {"categories": ["billing"], "fields": {"drop": ["data"]}},
)


class Receiver:
    """A reader that is pushed to: it takes a part of what it is given, and keeps its cursor."""

    key_id = "k" * 12
    until: int | None = None
    pacer: DeliveryPacer | None = None
    reading = True
    sharing = 1
    wants_offsets = False

    def __init__(self, world: World, cursor: int = 0, **members: Any) -> None:
        self.interest = Interest(StreamQuery(Scope(), members.get("view", MASKED)), NDJSON_PLAIN)
        self.cursor = cursor
        self.sent = 0
        self.limit: int | None = members.get("limit")
        self.skip_gaps = members.get("skip_gaps", False)
        self.text = b""
        self.told: list[Any] = []
        self._log, self._appends = world.log, world.appends

    @property
    def progress(self) -> Receiver:
        return self

    @property
    def newest(self) -> int:
        return self._log.head

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.splitlines()]

    def join(self) -> bool:
        return False

    async def await_more(self, seconds: float) -> bool:
        return await self._appends.until(lambda: self._log.head > self.cursor, seconds)

    def deliver(self, chunk: Chunk) -> None:
        self.text += chunk.data

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def quiet(self) -> None:
        self.told.append("quiet")

    def skip(self, gap: dict[str, Any]) -> None:
        self.told.append(gap)

    def complete(self) -> None:
        self.told.append("complete")

    def fail(self, failed: EventFailed) -> None:
        self.end(OVERTAKEN)

    def end(self, end: End) -> None:
        self.told.append(end)
        self.reading = False


class World:
    def __init__(self, clock: Any, draft: MakeDraft) -> None:
        self.clock = clock
        self.draft = draft
        self.log = MemoryLog(clock)
        self.appends = Notifier()
        self.log.on_append(self.appends.notify)
        self.timings = StreamTimings()
        work = LoopWork(clock)
        self.context = ReadingContext(
            self.log, clock, self.timings, work, ReplayCache(self.log, work), OpenGate()
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def append(self, count: int) -> None:
        first = self.log.head
        await self.log.append([[
            self.draft(
                id=f"e{number}",
                category=CATEGORIES[number % 3],
                actor={"id": "u1", "name": "Mallory"},
                data={"card": "4111"},
            )
            for number in range(first, first + count)
        ]])  # fmt: skip

    def read(self, receiver: Receiver) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(CursorLoop(self.context, receiver).run()))
        return self.tasks[-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(patience()):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def visible(self, after: int = 0) -> list[int]:
        """The offsets that the masked view shows."""
        return [n for n in range(after + 1, self.log.head + 1) if (n - 1) % 3 != 2]


def offsets(events: list[dict[str, Any]]) -> list[int]:
    return [parse_cursor(event["cursor"])[1] for event in events]


def masks_are_applied(events: list[dict[str, Any]]) -> bool:
    return all(
        event["actor"]["name"] != "Mallory" and event["data"] == {"card": "4111"}
        if event["category"] == "auth"
        else event["actor"]["name"] == "Mallory" and "data" not in event
        for event in events
    )


async def test_a_reader_without_a_connection_gets_each_event_it_may_see_once_and_in_order(
    clock: Any, draft: MakeDraft
) -> None:
    world = World(clock, draft)
    await world.append(2500)
    receiver = Receiver(world)
    world.read(receiver)
    # From the store, and then as events happen.
    await world.until(lambda: receiver.cursor == 2500)
    for count in (1, 30, 7):
        await world.append(count)
        await world.until(lambda: receiver.cursor == world.log.head)
    assert offsets(receiver.events) == world.visible()
    assert masks_are_applied(receiver.events)
    assert receiver.sent == len(receiver.events)
    await world.close()


async def test_a_reader_that_begins_anew_goes_on_from_the_cursor_that_it_kept(
    clock: Any, draft: MakeDraft
) -> None:
    world = World(clock, draft)
    await world.append(1500)
    first = Receiver(world)
    task = world.read(first)
    await world.until(lambda: first.cursor >= 1000)
    task.cancel()
    await world.append(10)
    second = Receiver(world, first.cursor)
    world.read(second)
    await world.until(lambda: second.cursor == world.log.head)
    assert offsets(first.events + second.events) == world.visible()
    await world.close()


async def test_a_reader_is_told_what_retention_has_deleted_or_ends_there(
    clock: Any, draft: MakeDraft
) -> None:
    world = World(clock, draft)
    await world.append(50)
    while await world.log.trim(None, 2_000):
        pass
    floor = world.log.floor
    assert 0 < floor < 50
    skipping, ending = Receiver(world, skip_gaps=True), Receiver(world)
    world.read(skipping)
    world.read(ending)
    await world.until(lambda: skipping.cursor == 50 and not ending.reading)
    [gap] = skipping.told
    assert gap["missing"] == floor
    assert offsets(skipping.events) == world.visible(floor)
    assert ending.told == [OVERTAKEN]
    assert (ending.cursor, ending.text) == (0, b"")
    await world.close()


async def test_a_reader_with_a_limit_is_complete_at_its_last_event(
    clock: Any, draft: MakeDraft
) -> None:
    world = World(clock, draft)
    await world.append(30)
    receiver = Receiver(world, limit=5)
    await asyncio.wait_for(world.read(receiver), patience())
    assert receiver.told == ["complete"]
    assert offsets(receiver.events) == world.visible()[:5]
    assert receiver.cursor == world.visible()[4]


async def test_a_quiet_reader_learns_how_far_the_log_was_read(clock: Any, draft: MakeDraft) -> None:
    world = World(clock, draft)
    await world.append(3)
    nothing = Receiver(world, view=view({"categories": ["iam"]}))
    world.read(nothing)
    await world.until(lambda: nothing.cursor == 3)
    assert nothing.told == []
    world.clock.tick(world.timings.scanning)
    await world.append(3)
    await world.until(lambda: nothing.cursor == 6)
    assert nothing.told == ["quiet"]
    assert nothing.text == b""
    await world.close()


class Collector:
    """A sink in memory."""

    descriptor = -1
    clear = True
    vanished = False
    waited = unsent = 0

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes | memoryview) -> bool:
        self.text += data
        return True

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None: ...

    def abort(self) -> None: ...


async def test_a_reader_goes_live_behind_its_last_replayed_event_without_a_connection(
    clock: Any, draft: MakeDraft
) -> None:
    world = World(clock, draft)
    await world.append(2500)
    hub = Hub(world.log, clock, lambda stream: replays.start(stream), world.timings)
    replays = Replays(hub, world.log, world.appends, clock, OpenGate())
    tail = Tail(world.log, hub, Notifier(), clock, OpenGate())
    world.log.on_append(tail.log_grew)
    world.tasks.append(asyncio.create_task(tail.run()))
    collector = Collector()
    stream = Subscription(
        Interest(StreamQuery(Scope(), MASKED), NDJSON_PLAIN), collector, "k" * 12, 0
    )
    hub.open(stream)
    # Some come while it reads the store, some when it is live, some when it was demoted.
    await world.until(lambda: stream.cursor > 0)
    await world.append(40)
    await world.until(lambda: stream.state is State.LIVE)
    await world.append(40)
    await world.until(lambda: hub.position == world.log.head and not hub.writing)
    hub.demote(stream)
    await world.append(40)
    await world.until(lambda: stream.state is State.LIVE and hub.position == world.log.head)
    await world.until(lambda: not hub.writing)
    events = [orjson.loads(line) for line in collector.text.splitlines()]
    events = [event for event in events if "type" not in event]
    assert offsets(events) == world.visible()
    assert masks_are_applied(events)
    hub.forget(stream)
    await world.close()


async def test_many_readers_who_follow_the_log_share_one_reading_of_what_is_new(
    clock: Any, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(clock, draft)
    receivers = [Receiver(world) for _ in range(30)]
    for receiver in receivers:
        world.read(receiver)
    await world.append(3)
    await world.until(lambda: all(one.cursor == 3 for one in receivers))
    readings: list[int] = []
    read = world.log.read

    async def counted(after: int, until: int, **options: Any) -> Any:
        readings.append(after)
        # Others ask meanwhile.
        for _ in range(5):
            await asyncio.sleep(0)
        return await read(after, until, **options)

    monkeypatch.setattr(world.log, "read", counted)
    await world.append(3)
    await world.until(lambda: all(one.cursor == 6 for one in receivers))
    assert readings == [3]
    assert {one.text for one in receivers} == {receivers[0].text}
    assert offsets(receivers[0].events) == world.visible()
    await world.close()


async def test_readers_who_wait_for_a_reading_that_fails_read_for_themselves(
    clock: Any, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(clock, draft)
    await world.append(3)
    interest, chunks = Receiver(world).interest, world.context.chunks
    read, failures = world.log.read, [Unavailable("the store is away", code="store_unavailable")]

    async def failing(after: int, until: int, **options: Any) -> Any:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return await read(after, until, **options)

    monkeypatch.setattr(world.log, "read", failing)
    asking = [chunks.get(interest, 0, 3, None, Receiver.key_id) for _ in range(3)]
    first, *others = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, Unavailable)
    assert [one.count for one in others if isinstance(one, Chunk)] == [2, 2]
    await world.close()
