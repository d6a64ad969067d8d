"""Hub: all live subscriptions of one log in this process, and the fan-out to them.

Everything runs on the event loop and never waits. `publish` matches events and moves the hub's
`position`; `flush` writes, a few hundred members at a time. A stream that joins at the hub's
position, in a shard with nothing pending, has neither a gap nor a duplicate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gateway.access.grants.mask_templates import MaskTemplates
from gateway.access.policy.decision import View
from gateway.access.usage.meter import Meter
from gateway.clock import Clock
from gateway.cursor import format_cursor
from gateway.event import Event
from gateway.log.ports import LogExtent
from gateway.notifier import Notifier
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.filter_charges import COSTLY, charge_filters
from gateway.streaming.live.flusher import Flusher
from gateway.streaming.live.group import Shard
from gateway.streaming.live.groups import Groups
from gateway.streaming.live.lags import Lags
from gateway.streaming.live.lifetimes import Lifetimes
from gateway.streaming.live.matching import Matching
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.live.totals import Totals
from gateway.wire.framing import (
    CLIENT_CLOSED,
    CLIENT_GONE,
    LIFETIME_REACHED,
    NOT_GRANTED,
    OVERTAKEN,
    End,
)


class Hub:
    """All streams of one log in this process."""

    def __init__(
        self,
        log: LogExtent,
        clock: Clock,
        start_replay: Callable[[Subscription], None],
        timings: StreamTimings,
        work: LoopWork | None = None,
        usage: Meter | None = None,
        worked: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`worked` is how many seconds the event loop has worked in all."""
        # Events up to here have been matched; the head of the log may be ahead.
        self.position = log.head
        self.timings = timings
        # Whether nothing is written because it is not known what keys may see.
        self.waits = False
        self.work = work or LoopWork(clock)
        self.moved = Notifier()
        # Ended streams with unsent last bytes; `emptied` notifies when there are none.
        self.ending: dict[Subscription, None] = {}
        self.emptied = Notifier()
        self.totals = Totals()
        self.usage = usage
        self.subscriptions: dict[Subscription, None] = {}
        self._log = log
        self._close_listeners: list[Callable[[Subscription, End | None], None]] = []
        self._clock = clock
        self._start_replay = start_replay
        self._groups = Groups()
        self._templates = MaskTemplates()
        self._flusher = Flusher(
            clock, timings.flush, worked, self.totals, usage, self._write, self.move_to_replay
        )
        self._by_key: defaultdict[str, dict[Subscription, None]] = defaultdict(dict)
        self._pinged_at = clock.monotonic()
        self._lifetimes = Lifetimes(timings.lifetime)
        self._lags = Lags(log, clock, self.totals)

    def on_close(self, listener: Callable[[Subscription, End | None], None]) -> None:
        """Call `listener` with each stream that has ended, and how, if it was ended from here."""
        self._close_listeners.append(listener)

    # Coming and going

    def open(self, subscription: Subscription) -> None:
        """Take in a stream at its cursor. The opening of its wire is already written."""
        self.totals.opened += 1
        self.totals.of(subscription.interest.wire).open += 1
        if self.usage is not None:
            self.usage.count(subscription.key_id, streams=1)
        self.subscriptions[subscription] = None
        self._by_key[subscription.key_id][subscription] = None
        self._lifetimes.begin(subscription, self._clock.monotonic())
        if not self.join(subscription):
            self._start_replay(subscription)

    def join(self, subscription: Subscription) -> bool:
        """Make a subscription live if it is at the hub's position; return whether it is live."""
        if subscription.bounded or subscription.cursor != self.position:
            return False
        interest = subscription.interest = subscription.interest.live()
        self.announce_caught_up(subscription)
        group = self._groups.of(interest)
        if group is None:
            return False
        group.shard_to_join(self._clock.monotonic(), self.position).add(subscription)
        subscription.state = State.LIVE
        return True

    def announce_caught_up(self, subscription: Subscription) -> None:
        """Tell the client, once, that from here on it receives events as they happen."""
        if not subscription.caught_up:
            subscription.caught_up = True
            members = {"cursor": self.cursor_of(subscription)}
            said = subscription.interest.wire.control("caught-up", members)
            if said:
                subscription.sink.write(said)

    def demote(self, subscription: Subscription) -> None:
        """Move a live stream that does not keep up to its replay."""
        self.totals.demotions += 1
        self.move_to_replay(subscription)

    def move_to_replay(self, subscription: Subscription) -> None:
        """Let a live stream go on from the store, at its own pace."""
        self._leave(subscription)
        self._start_replay(subscription)

    def complete_at_head(self, subscription: Subscription) -> None:
        """End a stream whose client has closed its side, once it has received all events so far."""
        if subscription.state is State.ENDED:
            return
        if subscription.until is None:
            subscription.until, subscription.when_complete = self._log.head, CLIENT_CLOSED
        if subscription.state is State.LIVE:
            self._leave(subscription)
        if subscription.task is not None:
            # It may be waiting for events.
            subscription.task.cancel()
        self._start_replay(subscription)

    def demote_for_cost(self, subscription: Subscription) -> None:
        """Demote a live stream whose filter costs too much."""
        subscription.cost_backoff().begin(self._clock.monotonic(), self.work.filters)
        self.work.totals.left_live += 1
        self.demote(subscription)
        self.send_control(subscription, "notice", {"code": "filter_costly", "detail": COSTLY})

    def change_view(self, subscription: Subscription, view: View) -> None:
        """Change the view of a stream from its position on; nothing that it hides is delivered."""
        if subscription.state is State.ENDED:
            return
        if subscription.interest.wire.fixed_view:
            self.end(subscription, NOT_GRANTED)
            return
        if subscription.state is State.LIVE:
            self._leave(subscription)
        subscription.interest = subscription.interest.with_view(view)
        if subscription.task is None and not self.join(subscription):
            self._start_replay(subscription)

    def end(self, subscription: Subscription, end: End) -> None:
        """End a stream, and tell its client why and at which cursor."""
        if subscription.state is State.ENDED:
            return
        last = subscription.interest.wire.end(end, self.cursor_of(subscription))
        self.forget(subscription, end)
        self.ending[subscription] = None
        subscription.sink.finish(last, self.timings.finish)

    def send_control(self, subscription: Subscription, kind: str, members: dict[str, Any]) -> None:
        """Send a control message to one stream, if its wire has any."""
        said = subscription.interest.wire.control(kind, members)
        if not said or subscription.state is State.ENDED:
            return
        keeps_up = subscription.sink.write(said)
        if not keeps_up and subscription.state is State.LIVE:
            self.demote(subscription)

    def forget(self, subscription: Subscription, end: End | None = None) -> None:
        """Remove a stream whose connection is lost, or that is being ended."""
        if subscription.state is State.ENDED:
            self.ending.pop(subscription, None)
            if not self.ending:
                self.emptied.notify()
            return
        if subscription.state is State.LIVE:
            self._leave(subscription)
        subscription.state, subscription.end = State.ENDED, end
        if subscription.task is not None:
            subscription.task.cancel()
        self.totals.ends[str(end.code) if end is not None else CLIENT_GONE] += 1
        self.totals.of(subscription.interest.wire).open -= 1
        del self.subscriptions[subscription]
        streams = self._by_key[subscription.key_id]
        del streams[subscription]
        if not streams:
            del self._by_key[subscription.key_id]
        for listener in self._close_listeners:
            listener(subscription, end)

    def blocked(self, subscription: Subscription) -> None:
        """Note that the connection of a stream has begun to buffer."""
        if subscription.shard is not None:
            subscription.shard.blocked(subscription)

    def cursor_of(self, subscription: Subscription) -> str:
        """Cursor of a stream, from which a client resumes."""
        return format_cursor(self._log.epoch, self.offset_of(subscription))

    def key_ids(self) -> Iterable[str]:
        """Ids of all keys with streams."""
        return tuple(self._by_key)

    def streams_of(self, key_id: str) -> Sequence[Subscription]:
        """Open streams of a key."""
        return tuple(self._by_key.get(key_id, ()))

    def offset_of(self, subscription: Subscription) -> int:
        """Offset behind which a stream goes on."""
        shard = subscription.shard
        if shard is None:
            return subscription.cursor
        return shard.begin if shard.pending else self.position

    def _leave(self, subscription: Subscription) -> None:
        shard = subscription.shard
        assert isinstance(shard, Shard)
        subscription.cursor = self.offset_of(subscription)
        subscription.state = State.REPLAYING
        shard.remove(subscription)
        if not shard:
            self._drop(shard)

    def _drop(self, shard: Shard) -> None:
        group = shard.group
        group.shards.remove(shard)
        self._flusher.drop(shard)
        if not group.shards:
            self._groups.remove(group)

    # Events

    @property
    def wants_events(self) -> bool:
        """Whether there are live streams; without any the position may simply be moved."""
        return bool(self._groups)

    @property
    def takes_events(self) -> bool:
        """Whether writing keeps up; if not, new events wait in the store."""
        return self._flusher.keeps_up

    @property
    def writing(self) -> bool:
        """Whether events are pending for live streams."""
        return self._flusher.writing

    def overdue(self) -> int:
        """Number of live streams whose events have been pending for seconds, which is a bug."""
        return 0 if self.waits else self._flusher.overdue()

    def move_to(self, position: int) -> None:
        """Move the position; events up to it have been matched."""
        self.position = position
        self.moved.notify()

    def publish(self, events: Sequence[Event], reached: int) -> None:
        """Match the events of `position < offset <= reached`; `flush` delivers them in order."""
        for _ in self.publishing(events, reached):
            pass

    def publishing(self, events: Sequence[Event], reached: int) -> Iterator[None]:
        """Publish in parts; yields whenever other work should run."""
        while True:
            matching = Matching(self._groups.index, events, self.work, self._templates)
            with self._groups.keep_fixed():
                yield from matching.parts()
            for subscription in charge_filters(matching, self.work):
                self.demote_for_cost(subscription)
            # The replay of each finds the event that fails.
            for subscription in matching.failed_members():
                self.move_to_replay(subscription)
            self._flusher.add(matching.found, self.position, events)
            if matching.cut_at is None:
                self.move_to(reached)
                return
            self.move_to(matching.cut_at)
            events = [event for event in events if event.offset > matching.cut_at]
            yield

    @property
    def can_join(self) -> bool:
        """Whether streams may go live, which they may not while a page is being matched."""
        return not self._groups.fixed

    def flush(self) -> float | None:
        """Write what is pending to some shards. Return the seconds until it is worth calling again,
        None if nothing is pending."""
        return self._flusher.flush(self.position)

    def retention_exceeded(self, floor: int) -> None:
        """End the live streams, which have missed events that retention deleted."""
        for group in self._groups:
            for shard in list(group.shards):
                for subscription in shard.members():
                    self.end(subscription, OVERTAKEN)
        self.move_to(floor)

    # Quiet

    def tick(self) -> None:
        """Send heartbeats, bookmarks and pings, and end what is due. Call about once a second."""
        now = self._clock.monotonic()
        for subscription in self._lifetimes.over(now):
            self.end(subscription, LIFETIME_REACHED)
        self._lifetimes.forget_closed(self.subscriptions, len(self.subscriptions))
        cursor = format_cursor(self._log.epoch, self.position)
        ping_due = now - self._pinged_at >= self.timings.ping
        if ping_due:
            self._pinged_at = now
        for group in self._groups:
            wire = group.interest.wire
            for shard in list(group.shards):
                if self._bookmark_due(shard, now):
                    shard.quiet_since = now
                    shard.bookmark = self.position
                    self._send(shard, wire.heartbeat(cursor))
                if ping_due:
                    self._send(shard, wire.ping())

    async def measure_lags(self) -> None:
        """Measure the lags of all streams, in slices. Call about once a second."""
        await self._lags.measure(self.subscriptions, self.position)

    def stalls(self, subscription: Subscription) -> bool:
        """Whether the peer of a stream takes nothing, though something waits for it."""
        return self._lags.stalls(subscription)

    def _bookmark_due(self, shard: Shard, now: float) -> bool:
        if shard.pending:
            return False
        quiet = now - shard.quiet_since
        moved = shard.bookmark < self.position
        return quiet >= self.timings.heartbeat or (moved and quiet >= self.timings.scanning)

    def _send(self, shard: Shard, data: bytes) -> None:
        if data and shard:
            self._write(shard, data)

    def _write(self, shard: Shard, data: bytes) -> None:
        for subscription in shard.write(data):
            self.demote(subscription)
