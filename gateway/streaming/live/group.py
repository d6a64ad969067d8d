"""Groups of live subscriptions: matched once, encoded once, written to shard by shard.

A group is all streams with one interest. Its shards are small enough to be written to without
holding up the event loop. Each writes all that is pending when its turn comes: events that arrive
meanwhile wait for one round at most, and go out in one write per member.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from gateway.access.grants.mask import Hiding, Versions
from gateway.access.grants.mask_templates import Version, lines_of
from gateway.event import Event
from gateway.formats.format import Format
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import Subscription
from gateway.wire.formatted import Formatted
from gateway.wire.framing import Wire

# Members written to without a pause: one to two milliseconds, several of which an incoming
# event may wait for.
MOST_MEMBERS = 200
_LOGGER = logging.getLogger(__name__)


class EventBatch:
    """Events that were matched together; encoded once for each wire, and
    formatted once for all wires of a format. `recorded` is when the
    first event of their page was, in seconds since 1970."""

    __slots__ = ("_encoded", "_in_formats", "events", "recorded")

    def __init__(self, events: Sequence[Event | Version], recorded: float) -> None:
        self.events = events
        self.recorded = recorded
        self._encoded: dict[str, bytes] = {}
        # By the name of the format, which several wires may have.
        self._in_formats: dict[str, list[bytes]] | None = None

    def encoded(self, wire: Wire) -> bytes:
        data = self._encoded.get(wire.name)
        if data is None:
            if wire.format is None:
                data = wire.lines(lines_of(self.events))
            else:
                assert isinstance(wire, Formatted)
                cursors = [event.cursor for event in self.events]
                data = wire.framed(cursors, self._in_format(wire.format))
            self._encoded[wire.name] = data
        return data

    def _in_format(self, format: Format) -> list[bytes]:
        if self._in_formats is None:
            self._in_formats = {}
        known = self._in_formats.get(format.name)
        if known is None:
            known = self._in_formats[format.name] = [
                format.encode(event.json) for event in self.events
            ]
        return known


class ProjectedEvent:
    """An event as `groups` see it, decoded at most once."""

    __slots__ = ("_hiding", "_members", "_versions", "groups")

    def __init__(self, versions: Versions, hiding: Hiding | None) -> None:
        self._versions, self._hiding = versions, hiding
        self.groups: list[Group] = []
        self._members: dict[str, Any] | None = None

    def members(self) -> dict[str, Any]:
        if self._members is None:
            self._members = self._versions.under(self._hiding).members()
        return self._members


class GroupProjection:
    """Masks of events, shared by groups that differ in their filters only. In a live query they
    depend on the columns of an event alone, unless selectors look at pseudonyms, which depend on
    its time (`timed`)."""

    __slots__ = ("groups", "masks_for", "timed")

    def __init__(self, query: StreamQuery) -> None:
        self.masks_for = query.live().masks_for()
        self.timed = query.depends_on_time
        self.groups = 0


class Group:
    """One interest, and the shards of its streams."""

    __slots__ = ("counted", "filter", "interest", "projection", "shards")

    def __init__(self, interest: Interest, projection: GroupProjection) -> None:
        self.interest = interest
        self.projection = projection
        chosen = interest.query.filter
        self.filter: Callable[[dict[str, Any]], bool] | None = (
            chosen.matches if chosen is not None else None
        )
        self.counted = chosen is not None and chosen.counted
        self.shards: list[Shard] = []

    def shard_to_join(self, now: float, position: int) -> Shard:
        """A shard with room and nothing pending."""
        for shard in self.shards:
            if not shard.pending and len(shard) < MOST_MEMBERS:
                return shard
        shard = Shard(self, now, position)
        self.shards.append(shard)
        return shard


class Shard:
    """Part of a group's members, all at one position.

    Members whose connections are clear are written to directly on their sockets. A gateway spends
    its time in that loop: one system call per member, and as little as possible around it. A member
    that does not take everything is written to through its connection, which buffers, until it is
    clear again.
    """

    __slots__ = (
        "_direct",
        "begin",
        "bookmark",
        "buffered",
        "count",
        "due",
        "group",
        "keys",
        "pending",
        "pending_since",
        "quiet_since",
        "size",
    )  # fmt: skip

    def __init__(self, group: Group, now: float, position: int) -> None:
        self.group = group
        # Matched and not yet written. `begin` is the position of the members as long as there is
        # any, `pending_since` when they last got a part of it.
        self.pending: list[EventBatch] = []
        self.begin = position
        self.pending_since = now
        # Events and bytes of them written since the shard began, and when its members were last
        # written to.
        self.count = 0
        self.size = 0
        self.quiet_since = now
        self.bookmark = position
        # Not written to before this time, so that more events can join.
        self.due = now
        # Number of members of each key, for its usage.
        self.keys: dict[str, int] = {}
        self._direct: dict[int, Subscription] = {}
        self.buffered: dict[Subscription, None] = {}

    def __len__(self) -> int:
        return len(self._direct) + len(self.buffered)

    def members(self) -> list[Subscription]:
        return [*self._direct.values(), *self.buffered]

    def add(self, subscription: Subscription) -> None:
        sink = subscription.sink
        subscription.shard = self
        subscription.joined_at = self.count
        subscription.joined_bytes = self.size
        self.keys[subscription.key_id] = self.keys.get(subscription.key_id, 0) + 1
        if sink.descriptor >= 0 and sink.clear:
            self._direct[sink.descriptor] = subscription
        else:
            self.buffered[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        subscription.shard = None
        subscription.sent += self.count - subscription.joined_at
        subscription.sent_bytes += self.size - subscription.joined_bytes
        self.keys[subscription.key_id] -= 1
        if not self.keys[subscription.key_id]:
            del self.keys[subscription.key_id]
        if subscription in self.buffered:
            del self.buffered[subscription]
        else:
            del self._direct[subscription.sink.descriptor]

    def blocked(self, subscription: Subscription) -> None:
        """Buffer for a member in whose connection bytes wait, which nothing may overtake."""
        if self._direct.pop(subscription.sink.descriptor, None) is not None:
            self.buffered[subscription] = None

    def take(self, most: int) -> tuple[bytes, int]:
        """Next batches that fit into so many bytes, at least one, and their number of events."""
        wire = self.group.interest.wire
        parts: list[bytes] = []
        count = size = taken = 0
        for batch in self.pending:
            part = batch.encoded(wire)
            if parts and size + len(part) > most:
                break
            parts.append(part)
            size += len(part)
            count += len(batch.events)
            taken += 1
        self.begin = self.pending[taken - 1].events[-1].offset
        del self.pending[:taken]
        self.count += count
        self.size += size
        return parts[0] if len(parts) == 1 else b"".join(parts), count

    def write(self, data: bytes) -> list[Subscription]:
        """Write to all members; return those that are too far behind."""
        buffered = list(self.buffered)
        size = len(data)
        write = os.write
        behind: list[tuple[int, int]] = []
        for descriptor in self._direct:
            try:
                sent = write(descriptor, data)
            except OSError:
                # Full, or broken: the connection notices when it gets the bytes.
                sent = 0
            if sent != size:
                behind.append((descriptor, sent))
        slow = []
        for descriptor, sent in behind:
            subscription = self._direct.pop(descriptor)
            self.buffered[subscription] = None
            # A view, which shows where in the whole its frames begin.
            if not _hand_over(subscription, memoryview(data)[sent:]):
                slow.append(subscription)
        for subscription in buffered:
            if not _hand_over(subscription, data):
                slow.append(subscription)
            elif subscription.sink.clear and subscription.sink.descriptor >= 0:
                del self.buffered[subscription]
                self._direct[subscription.sink.descriptor] = subscription
        return slow


def _hand_over(subscription: Subscription, data: bytes | memoryview) -> bool:
    """Write to a sink as `StreamSink.write` does; abort one that fails, without harm to others."""
    try:
        return subscription.sink.write(data)
    except Exception:
        _LOGGER.exception("a stream cannot be written to: its connection is cut")
        subscription.sink.abort()
        return True
