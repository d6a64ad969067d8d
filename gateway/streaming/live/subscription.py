"""Subscription: one live stream of a client, its position, and its states.

    state      who writes to it                          its position
    REPLAYING  its own task, from the store              `cursor`
    LIVE       the hub, together with its shard          the shard's
    ENDED      nobody                                    where it ended

    REPLAYING -> LIVE       it has reached the hub's position ("caught up"); same turn of the loop
    LIVE      -> REPLAYING  its peer does not keep up ("demoted"); on from the shard's position
    any       -> ENDED      end() or the connection is lost

Nothing queues per subscriber: what a peer has not taken is at most the connection's bounded buffer,
and everything behind that is in the store.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Container, Sequence, Sized
from enum import Enum
from typing import Any, Protocol

from gateway.access.limits.ports import Lease
from gateway.access.usage.access import Access
from gateway.streaming.live.cost_backoff import CostBackoff
from gateway.streaming.live.delivery_pacer import Pacer
from gateway.streaming.live.interest import Interest
from gateway.wire.framing import COMPLETE, End

_NUMBERS = itertools.count(1)


class State(Enum):
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended"


class StreamSink(Protocol):
    """Connection to one peer.

    Ordering: bytes go out in the order of the calls. Nothing is written after `finish`, and writing
    to a lost connection does nothing.
    """

    @property
    def descriptor(self) -> int:
        """Socket that may be written to directly while `clear`; -1 if there is none."""

    @property
    def clear(self) -> bool:
        """Whether all bytes have left for the peer's system."""

    @property
    def waited(self) -> int:
        """Number of bytes that ever waited here because the peer's system did not take them."""

    @property
    def unsent(self) -> int:
        """Number of bytes that wait now."""

    @property
    def vanished(self) -> bool:
        """Whether the peer's system was silent for so long that it must be gone."""

    def write(self, data: bytes | memoryview) -> bool:
        """Write bytes without waiting. False: the peer is too far behind for more. A view is the
        rest of bytes whose first part was written to the socket."""

    async def drained(self) -> None:
        """Return when the peer has taken what was written, or is lost."""

    def finish(self, last: bytes, within: float) -> None:
        """Write the last bytes and close; drop what is unsent after `within` seconds."""

    def abort(self) -> None:
        """Close at once."""


class JoinedShard(Protocol):
    """Shard of a live stream, which it shares with other streams of one interest."""

    begin: int
    count: int
    size: int

    @property
    def pending(self) -> Sized:
        """Events that are matched and not yet written, from `begin` on."""

    @property
    def buffered(self) -> Container[Subscription]:
        """Members in whose connections bytes may wait."""

    def blocked(self, subscription: Subscription) -> None:
        """Note that bytes wait in the connection, which nothing may overtake."""


class PeerListener(Protocol):
    """What a durable consumer is told of its stream."""

    @property
    def has_room(self) -> bool:
        """Whether more may be sent before the peer has acknowledged something."""

    async def await_room(self, seconds: float) -> bool:
        """Wait for room, or for the end of the stream; False after so many seconds."""

    def delivered(self, reached: int, offsets: Sequence[int], size: int) -> None:
        """Events with these offsets and so many bytes were written, and all up to a position was
        looked at; there may be none."""

    def skipped(self, gap: dict[str, Any]) -> None:
        """The stream goes on behind events that are gone; these are the members of its `gap`."""

    def received(self, opcode: int, payload: bytes) -> None:
        """A message or a pong has come from the peer of a WebSocket."""


class Subscription:
    """State of one stream. Only the hub and its replay change it."""

    __slots__ = (
        "address", "caught_up", "consumer", "costly", "counted", "cursor", "end", "ends_at",
        "first", "interest", "joined_at", "joined_bytes", "key_id", "last", "limit",
        "lookback", "number", "opened", "pacer", "place", "sent", "sent_bytes", "shard", "sink",
        "skip_gaps", "state", "task", "until", "viewer", "when_complete",
    )  # fmt: skip

    def __init__(
        self,
        interest: Interest,
        sink: StreamSink,
        key_id: str,
        cursor: int,
        *,
        until: int | None = None,
        limit: int | None = None,
        skip_gaps: bool = False,
        address: str | None = None,
        pacer: Pacer | None = None,
        place: Lease | None = None,
        consumer: PeerListener | None = None,
    ) -> None:
        # Its name in this process.
        self.number = next(_NUMBERS)
        self.interest = interest
        self.sink = sink
        self.key_id = key_id
        self.cursor = cursor
        # The offset, and the number of events, at which the stream is complete.
        self.until = until
        self.limit = limit
        self.when_complete = COMPLETE
        self.skip_gaps = skip_gaps
        # Address of the peer; some grants count only from certain networks.
        self.address = address
        # For keys with limits on deliveries and on concurrent streams.
        self.pacer = pacer
        self.place = place
        # For streams of durable consumers, which hear of what the peer acknowledges.
        self.consumer = consumer
        # Its opening, for the access log, and how many of its events detection has counted.
        self.opened: Access | None = None
        self.counted = 0
        # Of an embedded viewer: the id of its token, and how far back it looks at most, in seconds.
        self.viewer = ""
        self.lookback: int | None = None
        # None for most streams, whose filters never cost too much to be live.
        self.costly: CostBackoff | None = None
        self.state = State.REPLAYING
        # How it was ended; None: by its peer, or not yet.
        self.end: End | None = None
        self.caught_up = False
        # Offsets of the first event and of the last one that were written while it replayed.
        self.first = self.last = 0
        # Events, and bytes of them, written before it joined its shard; and the shard's then.
        self.sent = 0
        self.joined_at = 0
        self.sent_bytes = 0
        self.joined_bytes = 0
        # When its life ends, on the clock that goes on evenly; infinite if never.
        self.ends_at = math.inf
        self.shard: JoinedShard | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def delivered(self) -> int:
        """Number of events written so far."""
        return self.sent if self.shard is None else self.sent + self.shard.count - self.joined_at

    @property
    def delivered_bytes(self) -> int:
        """Number of bytes of these events, as the wire has them."""
        shard = self.shard
        return self.sent_bytes + (0 if shard is None else shard.size - self.joined_bytes)

    def cost_backoff(self) -> CostBackoff:
        """Backoff of the filter, created at the first call."""
        if self.costly is None:
            self.costly = CostBackoff()
        return self.costly

    @property
    def bounded(self) -> bool:
        """Whether the stream has an end or a pace of its own, and so does not go live."""
        paced = self.pacer is not None or bool(self.costly)
        return paced or self.until is not None or self.limit is not None
