"""The hub: groups of live subscriptions, and the fan-out to them.

Everything here runs on the event loop and never waits, so that between two
calls all live subscriptions stand at the same position: whoever joins at that
position has neither a gap nor a duplicate.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from gateway.clock import Clock
from gateway.cursor import format_cursor
from gateway.encode.wire import LIFETIME_REACHED, OVERTAKEN, End
from gateway.event import Event
from gateway.live.group import Group
from gateway.live.interest import Interest
from gateway.live.pulse import Pulse
from gateway.live.subscription import State, Subscription
from gateway.match.index import Index


class Pace(msgspec.Struct, frozen=True):
    """Seconds: how often a quiet stream hears something, how long its last bytes may take, and
    how long it may live (0: for ever)."""

    heartbeat: float = 15.0
    scanning: float = 5.0
    ping: float = 20.0
    finish: float = 0.5
    lifetime: float = 0.0


class Totals(msgspec.Struct):
    """Counters since the start, for metrics."""

    opened: int = 0
    ended: int = 0
    events: int = 0
    bytes: int = 0
    demotions: int = 0


class Hub:
    """All streams of one log in this process."""

    def __init__(
        self, epoch: str, position: int, clock: Clock, start_replay: Callable[[Subscription], None],
        pace: Pace,
    ) -> None:  # fmt: skip
        self.position = position
        self.moved = Pulse()
        self.totals = Totals()
        self.subscriptions: dict[Subscription, None] = {}
        self._epoch = epoch
        self._clock = clock
        self._start_replay = start_replay
        self._pace = pace
        self._groups: dict[Interest, Group] = {}
        self._index: Index[Group] = Index()
        self._by_key: defaultdict[str, dict[Subscription, None]] = defaultdict(dict)
        self._pinged_at = clock.monotonic()
        self._lifetimes: list[tuple[float, int, Subscription]] = []

    # Coming and going

    def open(self, subscription: Subscription) -> None:
        """Take a stream in, at its cursor. What its wire says first is already written."""
        self.totals.opened += 1
        self.subscriptions[subscription] = None
        self._by_key[subscription.key_id][subscription] = None
        if self._pace.lifetime:
            # Jittered, so that streams opened together do not all come back together.
            age = self._pace.lifetime * random.uniform(0.8, 1.0)
            heappush(
                self._lifetimes, (self._clock.monotonic() + age, id(subscription), subscription)
            )
        if not self.join(subscription):
            self._start_replay(subscription)

    def join(self, subscription: Subscription) -> bool:
        """Make a subscription live if it stands at the hub's position; says whether it is."""
        if subscription.bounded or subscription.cursor != self.position:
            return False
        interest = subscription.interest
        group = self._groups.get(interest)
        if group is None:
            group = Group(interest, self._clock.monotonic(), self.position)
            self._groups[interest] = group
            self._index.add(group, interest.question.bindings())
        group.add(subscription)
        subscription.state = State.LIVE
        subscription.joined_at = group.count
        self.say_caught_up(subscription)
        return True

    def say_caught_up(self, subscription: Subscription) -> None:
        """Tell the client, once, that from here on it hears events as they happen."""
        if not subscription.caught_up:
            subscription.caught_up = True
            members = {"cursor": self.cursor_of(subscription)}
            subscription.sink.write(subscription.interest.wire.control("caught-up", members))

    def demote(self, subscription: Subscription) -> None:
        """Let a live subscription go on from the store at its own pace."""
        self._leave(subscription)
        subscription.state = State.REPLAYING
        self.totals.demotions += 1
        self._start_replay(subscription)

    def end(self, subscription: Subscription, end: End) -> None:
        """End a stream, saying why and where."""
        if subscription.state is State.ENDED:
            return
        cursor = self.cursor_of(subscription)
        last = subscription.interest.wire.end(end, cursor)
        self.forget(subscription)
        subscription.sink.finish(last, self._pace.finish)

    def forget(self, subscription: Subscription) -> None:
        """The connection is gone."""
        if subscription.state is State.ENDED:
            return
        if subscription.state is State.LIVE:
            self._leave(subscription)
        subscription.state = State.ENDED
        if subscription.task is not None:
            subscription.task.cancel()
        self.totals.ended += 1
        del self.subscriptions[subscription]
        streams = self._by_key[subscription.key_id]
        del streams[subscription]
        if not streams:
            del self._by_key[subscription.key_id]

    def blocked(self, subscription: Subscription) -> None:
        """The connection has begun to buffer."""
        if subscription.state is State.LIVE:
            self._groups[subscription.interest].blocked(subscription)

    def cursor_of(self, subscription: Subscription) -> str:
        """Where a stream stands, as the cursor that a client resumes from."""
        live = subscription.state is State.LIVE
        return format_cursor(self._epoch, self.position if live else subscription.cursor)

    def key_ids(self) -> Iterable[str]:
        """The ids of all keys that have streams."""
        return tuple(self._by_key)

    def streams_of(self, key_id: str) -> Sequence[Subscription]:
        """The streams that a key has open."""
        return tuple(self._by_key.get(key_id, ()))

    def _leave(self, subscription: Subscription) -> None:
        interest = subscription.interest
        group = self._groups[interest]
        group.remove(subscription)
        subscription.cursor = self.position
        subscription.sent += group.count - subscription.joined_at
        if not group:
            del self._groups[interest]
            self._index.remove(group)

    # Events

    @property
    def wants_events(self) -> bool:
        """Whether there is anybody live; if not, the position may simply be moved."""
        return bool(self._groups)

    def move_to(self, position: int) -> None:
        """Everything up to `position` has been handed out."""
        self.position = position
        self.moved.beat()

    def publish(self, events: Sequence[Event], reached: int) -> None:
        """Deliver the events of `position < offset <= reached`, in order, to all who want them."""
        wanted = self._match(events)
        self.move_to(reached)
        now = self._clock.monotonic()
        encoded: dict[tuple[str, tuple[int, ...]], bytes] = {}
        for group, chosen in wanted.items():
            wire = group.interest.wire
            identity = (wire.name, tuple([event.offset for event in chosen]))
            data = encoded.get(identity)
            if data is None:
                data = encoded[identity] = wire.events(chosen)
            group.count += len(chosen)
            group.quiet_since = now
            group.bookmark = reached
            self.totals.events += len(chosen) * len(group)
            self.totals.bytes += len(data) * len(group)
            self._write(group, data)

    def _match(self, events: Sequence[Event]) -> dict[Group, list[Event]]:
        wanted: dict[Group, list[Event]] = {}
        for event in events:
            members: dict[str, Any] | None = None
            for group in self._index.candidates(event):
                if not group.in_scope(event):
                    continue
                if group.filter is not None:
                    if members is None:
                        members = event.members()
                    if not group.filter(members):
                        continue
                chosen = wanted.get(group)
                if chosen is None:
                    wanted[group] = [event]
                else:
                    chosen.append(event)
        return wanted

    def overtaken(self, floor: int) -> None:
        """Retention deleted events that live streams have not had: say so, and end them."""
        for group in list(self._groups.values()):
            for subscription in group.members():
                self.end(subscription, OVERTAKEN)
        self.move_to(floor)

    # Quiet

    def tick(self) -> None:
        """Heartbeats, bookmarks and pings that are due. Call about once a second."""
        now = self._clock.monotonic()
        while self._lifetimes and self._lifetimes[0][0] <= now:
            self.end(heappop(self._lifetimes)[2], LIFETIME_REACHED)
        if len(self._lifetimes) > 2 * len(self.subscriptions) + 1000:
            # Mostly streams that ended before their time.
            self._lifetimes = [entry for entry in self._lifetimes if entry[2] in self.subscriptions]
            heapify(self._lifetimes)
        cursor = format_cursor(self._epoch, self.position)
        ping_due = now - self._pinged_at >= self._pace.ping
        if ping_due:
            self._pinged_at = now
        for group in list(self._groups.values()):
            quiet = now - group.quiet_since
            moved = group.bookmark < self.position
            if quiet >= self._pace.heartbeat or (moved and quiet >= self._pace.scanning):
                group.quiet_since = now
                group.bookmark = self.position
                self._write(group, group.interest.wire.heartbeat(cursor))
            if ping_due:
                self._write(group, group.interest.wire.ping())

    def _write(self, group: Group, data: bytes) -> None:
        for subscription in group.write(data):
            self.demote(subscription)
