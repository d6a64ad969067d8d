"""Replay: reads the store for one stream, from its cursor and at its peer's pace, until it is
live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.clock import Clock
from gateway.filters.expression import FilterCost
from gateway.log.ports import Log
from gateway.notifier import Notifier
from gateway.streaming.cursor_loop import CursorLoop, ReadingContext
from gateway.streaming.delivery_gate import DeliveryGate
from gateway.streaming.live.filter_charges import EXCEEDED
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import PeerListener, State, Subscription
from gateway.streaming.replay_cache import Chunk, EventFailed, ReplayCache
from gateway.tasks import PLAIN, Tasks
from gateway.wire.framing import EVENT_FAILED, GOING_AWAY, End


class Replays:
    """Replays of the streams of one hub."""

    def __init__(
        self,
        hub: Hub,
        log: Log,
        appends: Notifier,
        clock: Clock,
        gate: DeliveryGate,
        tasks: Tasks = PLAIN,
    ) -> None:
        self.hub = hub
        self.log = log
        self.appends = appends
        self.clock = clock
        self.context = ReadingContext(
            log, clock, hub.timings, hub.work, ReplayCache(log, hub.work), gate
        )
        self._tasks = tasks
        self._failure_listeners: list[Callable[[str, EventFailed], None]] = []

    def on_event_failed(self, listener: Callable[[str, EventFailed], None]) -> None:
        """Call `listener` with the key of each stream that an event has ended."""
        self._failure_listeners.append(listener)

    def event_failed(self, subscription: Subscription, failed: EventFailed) -> None:
        """End a stream at an event that cannot be delivered to it."""
        for listener in self._failure_listeners:
            listener(subscription.key_id, failed)
        self.hub.end(subscription, EVENT_FAILED)

    def start(self, subscription: Subscription) -> None:
        """Run a replay as a task of its own until the subscription is live or has ended."""
        subscription.task = self._tasks.run("replay", partial(self._run, subscription))

    async def _run(self, subscription: Subscription) -> None:
        try:
            await CursorLoop(self.context, _StreamReader(self, subscription)).run()
        except asyncio.CancelledError:
            # Ended or restarted from outside, which has told the client.
            if subscription.state is not State.ENDED and self._is_current(subscription):
                raise
        except Exception:
            # Reported where the task is run; the stream can be resumed.
            self.hub.end(subscription, GOING_AWAY)
            raise
        finally:
            if self._is_current(subscription):
                subscription.task = None

    @staticmethod
    def _is_current(subscription: Subscription) -> bool:
        """Whether the running task is the subscription's replay, and not a former one."""
        return subscription.task is asyncio.current_task()


class _StreamReader:
    """Stream as the reader of a cursor loop. Implements
    `gateway.streaming.cursor_loop.LogReader`."""

    def __init__(self, replays: Replays, subscription: Subscription) -> None:
        self.progress = self._subscription = subscription
        self._replays = replays
        self._hub = replays.hub
        # Without a call in between, as it is awaited for each chunk.
        self.drained = subscription.sink.drained
        if subscription.consumer is not None:
            self.drained = partial(self._drained_with_room, subscription.consumer)
        self._log = replays.log

    @property
    def reading(self) -> bool:
        return self._subscription.state is State.REPLAYING

    @property
    def newest(self) -> int:
        """Never beyond the hub while it may be joined; a bounded stream follows the log itself."""
        return self._log.head if self._subscription.bounded else self._hub.position

    @property
    def wants_offsets(self) -> bool:
        return self._subscription.consumer is not None

    @property
    def sharing(self) -> int:
        return len(self._hub.streams_of(self._subscription.key_id))

    def join(self) -> bool:
        return self._hub.join(self._subscription)

    async def await_more(self, seconds: float) -> bool:
        log, hub, cursor = self._log, self._hub, self._subscription.cursor
        if self._subscription.bounded:
            hub.announce_caught_up(self._subscription)
            return await self._replays.appends.until(lambda: log.head > cursor, seconds)
        # The hub is behind this client, which resumes at a cursor from elsewhere, or is matching a
        # page and begins no new group meanwhile.
        return await hub.moved.until(lambda: hub.can_join and hub.position >= cursor, seconds)

    async def _drained_with_room(self, consumer: PeerListener) -> None:
        await self._subscription.sink.drained()
        while self.reading and not consumer.has_room:
            if not await consumer.await_room(self._hub.timings.heartbeat):
                self.quiet()

    def deliver(self, chunk: Chunk) -> None:
        if self._subscription.consumer is not None:
            self._subscription.consumer.delivered(
                chunk.reached, chunk.offsets or (), len(chunk.data)
            )
        if chunk.count:
            self._subscription.first = self._subscription.first or chunk.first
            self._subscription.last = chunk.last
            self._subscription.sink.write(chunk.data)
            self._subscription.sent_bytes += len(chunk.data)
            totals = self._hub.totals.of(self._subscription.interest.wire)
            totals.events += chunk.count
            totals.bytes += len(chunk.data)
            if self._hub.usage is not None:
                key_id = self._subscription.key_id
                self._hub.usage.count(key_id, events=chunk.count, size=len(chunk.data))
        self._settle(chunk.cost)

    def quiet(self) -> None:
        wire = self._subscription.interest.wire
        data = wire.heartbeat(self._hub.cursor_of(self._subscription)) + wire.ping()
        if data:
            self._subscription.sink.write(data)

    def skip(self, gap: dict[str, Any]) -> None:
        if self._subscription.consumer is not None:
            self._subscription.consumer.skipped(gap)
        self._subscription.sink.write(self._subscription.interest.wire.control("gap", gap))

    def complete(self) -> None:
        self._hub.end(self._subscription, self._subscription.when_complete)

    def fail(self, failed: EventFailed) -> None:
        self._replays.event_failed(self._subscription, failed)

    def end(self, end: End) -> None:
        self._hub.end(self._subscription, end)

    def _settle(self, cost: FilterCost) -> None:
        """Count the cost of the filter: back off if it is too high, and tell the client."""
        subscription, budget = self._subscription, self._hub.work.filters
        if subscription.costly is None and not cost.exceeded:
            return
        costly, now = subscription.cost_backoff(), self._replays.clock.monotonic()
        costly.add(cost, now, budget)
        events = costly.tell(now, budget)
        if events:
            members = {"code": "filter_cost_exceeded", "events": events, "detail": EXCEEDED}
            self._hub.send_control(subscription, "notice", members)
