"""Replay: one subscription reads the store from its own cursor, at its peer's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.filters.expression import FilterCost
from gateway.log.gap import gap_message
from gateway.log.ports import Log, RetentionExceeded
from gateway.notifier import Notifier
from gateway.streaming.gate import Gate, OpenGate
from gateway.streaming.live.costly import EXCEEDED
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.replay_cache import Chunk, EventFailed, ReplayCache
from gateway.tasks import PLAIN, Tasks
from gateway.wire.framing import EVENT_FAILED, GOING_AWAY, OVERTAKEN, QUOTA_EXHAUSTED

_RETRY_SECONDS = 1.0


class Replays:
    """Starts and runs the replays of one hub."""

    def __init__(
        self,
        hub: Hub,
        log: Log,
        appends: Notifier,
        clock: Clock,
        gate: Gate | None = None,
        tasks: Tasks = PLAIN,
    ) -> None:
        self.hub = hub
        self.gate = gate or OpenGate()
        self.chunks = ReplayCache(log, hub.work)
        self._log = log
        self._appends = appends
        self._clock = clock
        self._tasks = tasks
        self._failure_listeners: list[Callable[[str, EventFailed], None]] = []

    def on_event_failed(self, listener: Callable[[str, EventFailed], None]) -> None:
        """Call `listener` with the key of each stream that an event has ended."""
        self._failure_listeners.append(listener)

    def event_failed(self, subscription: Subscription, failed: EventFailed) -> None:
        """End a stream with an event that cannot be delivered to it."""
        for listener in self._failure_listeners:
            listener(subscription.key_id, failed)
        self.hub.end(subscription, EVENT_FAILED)

    def start(self, subscription: Subscription) -> None:
        """Run a replay as a task of its own until the subscription is live or has ended."""
        subscription.task = self._tasks.run("replay", partial(self._run, subscription))

    async def _run(self, subscription: Subscription) -> None:
        try:
            await _Replay(self, subscription).run()
        except asyncio.CancelledError:
            # Ended or begun anew from outside: whoever cancelled has said what there was to say.
            if subscription.state is not State.ENDED and self._is_current(subscription):
                raise
        except Exception:
            # Reported by whoever runs the task; the stream can be resumed.
            self.hub.end(subscription, GOING_AWAY)
            raise
        finally:
            if self._is_current(subscription):
                subscription.task = None

    @staticmethod
    def _is_current(subscription: Subscription) -> bool:
        """Whether the running task is the subscription's replay, and no later one."""
        return subscription.task is asyncio.current_task()


class _Replay:
    def __init__(self, replays: Replays, subscription: Subscription) -> None:
        self._replays = replays
        self._log = replays._log
        self._hub = replays.hub
        self._appends = replays._appends
        self._clock = replays._clock
        self._timings = replays.hub.timings
        self._subscription = subscription
        self._chunks = replays.chunks
        self._gate = replays.gate
        self._work = replays.hub.work
        self._said_at = self._clock.monotonic()

    async def run(self) -> None:
        subscription, hub = self._subscription, self._hub
        await subscription.sink.drained()
        while subscription.state is State.REPLAYING:
            if not self._gate.admits(subscription.key_id):
                await self._await_gate()
                continue
            # No `await` between this look at the position and joining.
            if hub.join(subscription):
                return
            if self._complete():
                hub.end(subscription, subscription.when_complete)
                return
            if subscription.cursor >= self._target():
                await self._wait_at_head()
                continue
            if seconds := self._wait_for_share():
                await self._clock.sleep(seconds)
                continue
            interest = subscription.interest
            chunk = await self._read()
            if subscription.pacer is not None and chunk is not None and chunk.count:
                await self._await_turn(subscription.pacer)
            while not self._gate.admits(subscription.key_id):
                await self._await_gate()
            # What was read for a view that the key no longer has is not delivered.
            narrowed = subscription.interest is not interest
            if chunk is not None and not narrowed and subscription.state is State.REPLAYING:
                self._deliver(chunk)
                await subscription.sink.drained()
                # Others have their turn, above all the tail.
                await asyncio.sleep(0)

    def _target(self) -> int:
        """Never beyond the hub while it may be joined; a bounded stream follows the log itself."""
        subscription = self._subscription
        if subscription.until is not None:
            return min(subscription.until, self._log.head)
        return self._log.head if subscription.bounded else self._hub.position

    def _complete(self) -> bool:
        subscription = self._subscription
        if subscription.limit is not None and subscription.sent >= subscription.limit:
            return True
        return subscription.until is not None and subscription.cursor >= subscription.until

    async def _wait_at_head(self) -> None:
        subscription = self._subscription
        if subscription.bounded:
            self._hub.say_caught_up(subscription)
        log, hub, cursor = self._log, self._hub, subscription.cursor
        if subscription.bounded:
            woken = await self._appends.until(lambda: log.head > cursor, self._timings.heartbeat)
        else:
            # The hub is behind this client, who resumes from what it got elsewhere, or it is
            # matching a page, and begins no new group meanwhile.
            woken = await hub.moved.until(
                lambda: hub.settled and hub.position >= cursor, self._timings.heartbeat
            )
        if not woken:
            self._bookmark()

    async def _await_gate(self) -> None:
        """Until more is known of what the key may see, or something has to be said meanwhile."""
        gate, key_id = self._gate, self._subscription.key_id
        if not await gate.renewed.until(lambda: gate.admits(key_id), self._timings.heartbeat):
            self._bookmark()

    def _wait_for_share(self) -> float:
        """The seconds to wait because the key's filters have used up their share."""
        chosen = self._subscription.interest.query.filter
        if chosen is None or not chosen.counted:
            return 0.0
        seconds = self._work.wait(self._subscription.key_id)
        if seconds and self._clock.monotonic() - self._said_at >= self._timings.scanning:
            self._bookmark()
        return min(seconds, _RETRY_SECONDS)

    async def _await_turn(self, pacer: DeliveryPacer) -> None:
        """Until more may be sent, or the stream has ended because it would take too long."""
        while seconds := pacer.wait():
            if pacer.given_up:
                self._hub.end(self._subscription, QUOTA_EXHAUSTED)
                return
            if self._clock.monotonic() - self._said_at >= self._timings.heartbeat:
                self._bookmark()
            await self._clock.sleep(seconds)

    async def _read(self) -> Chunk | None:
        subscription = self._subscription
        left = None if subscription.limit is None else subscription.limit - subscription.sent
        if subscription.pacer is not None:
            streams = len(self._hub.streams_of(subscription.key_id))
            left = subscription.pacer.most(left, streams)
        try:
            return await self._chunks.get(
                subscription.interest,
                subscription.cursor,
                self._target(),
                left,
                subscription.key_id,
            )
        except RetentionExceeded:
            self._overtaken()
        except EventFailed as failed:
            self._replays.event_failed(subscription, failed)
        except GatewayError:
            # The store is away for a while; the stream stays and goes on from its cursor.
            await self._clock.sleep(_RETRY_SECONDS)
        return None

    def _deliver(self, chunk: Chunk) -> None:
        subscription = self._subscription
        subscription.cursor = chunk.reached
        if chunk.count:
            subscription.sent += chunk.count
            subscription.sink.write(chunk.data)
            if subscription.pacer is not None:
                subscription.pacer.sent(chunk.count, len(chunk.data))
            self._hub.totals.events += chunk.count
            self._hub.totals.bytes += len(chunk.data)
            if self._hub.usage is not None:
                self._hub.usage.count(subscription.key_id, events=chunk.count, size=len(chunk.data))
            self._said_at = self._clock.monotonic()
        elif self._clock.monotonic() - self._said_at >= self._timings.scanning:
            self._bookmark()
        self._settle(chunk.cost)

    def _settle(self, cost: FilterCost) -> None:
        """Whether the filter is too costly, still or no longer; and what has to be told of it."""
        subscription = self._subscription
        if subscription.costly is None and not cost.exceeded:
            return
        costly, now, budget = subscription.costliness(), self._clock.monotonic(), self._work.filters
        costly.add(cost, now, budget)
        events = costly.tell(now, budget)
        if events:
            members = {"code": "filter_cost_exceeded", "events": events, "detail": EXCEEDED}
            self._hub.say(subscription, "notice", members)

    def _bookmark(self) -> None:
        self._said_at = self._clock.monotonic()
        wire = self._subscription.interest.wire
        data = wire.heartbeat(self._hub.cursor_of(self._subscription)) + wire.ping()
        if data:
            self._subscription.sink.write(data)

    def _overtaken(self) -> None:
        subscription = self._subscription
        if not subscription.skip_gaps:
            self._hub.end(subscription, OVERTAKEN)
            return
        log = self._log
        after, begin = (log.epoch, subscription.cursor), log.floor
        gap = gap_message(log, "cursor_expired", after, begin)
        subscription.sink.write(subscription.interest.wire.control("gap", gap))
        subscription.cursor = begin
