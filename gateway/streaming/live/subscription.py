"""One live stream of a subscriber: its position, and the states it goes through.

    state      who writes to it                          its position
    REPLAYING  its own task, from the store              `cursor`
    LIVE       the hub, together with its shard          the shard's
    ENDED      nobody                                    where it ended

    REPLAYING -> LIVE       it has reached the hub's position ("caught up"); same turn of the loop
    LIVE      -> REPLAYING  its peer does not keep up ("demoted"); on from the shard's position
    any       -> ENDED      end() or the connection is lost

Nothing queues per subscriber: what a peer has not taken is at most the
connection's bounded buffer, and everything behind that is in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from enum import Enum
from typing import Protocol

from gateway.access.limits.ports import Lease
from gateway.access.usage.access import Access
from gateway.streaming.live.cost_backoff import CostBackoff
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.interest import Interest
from gateway.wire.framing import COMPLETE


class State(Enum):
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended"


class StreamSink(Protocol):
    """A connection to one peer.

    Ordering: bytes go out in the order of the calls. Nothing is written after
    `finish`, and writing to a lost connection does nothing.
    """

    @property
    def descriptor(self) -> int:
        """A socket that may be written to directly whenever `clear`; -1 if there is none."""

    @property
    def clear(self) -> bool:
        """Whether everything handed over has left for the peer's system."""

    @property
    def waited(self) -> int:
        """Number of bytes that ever waited here because the peer's system did not take them."""

    @property
    def unsent(self) -> int:
        """Number of bytes that wait now."""

    @property
    def vanished(self) -> bool:
        """Whether the peer's system has been silent for so long that it must be gone."""

    def write(self, data: bytes | memoryview) -> bool:
        """Hand over bytes, never waiting. False: the peer is too far behind for more.

        A view is the rest of bytes of which the first part has been written to the socket.
        """

    async def drained(self) -> None:
        """Return when the peer has taken what was written, or is lost."""

    def finish(self, last: bytes, within: float) -> None:
        """Write the last bytes and close; whatever is unsent after `within` seconds is dropped."""

    def abort(self) -> None:
        """Close at once."""


class JoinedShard(Protocol):
    """The shard of a live stream, which it shares with other streams of one interest."""

    begin: int
    count: int

    @property
    def pending(self) -> Sized:
        """Events that are matched and not yet written, from `begin` on."""

    def blocked(self, subscription: Subscription) -> None:
        """Take note that bytes wait in the connection: nothing may be written past them."""


class Subscription:
    """The state of one stream. Only the hub and its replay change it."""

    __slots__ = (
        "address", "caught_up", "costly", "counted", "cursor", "interest", "joined_at", "key_id",
        "limit", "opened", "pacer", "place", "sent", "shard", "sink", "skip_gaps", "state", "task",
        "until", "when_complete",
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
        pacer: DeliveryPacer | None = None,
        place: Lease | None = None,
    ) -> None:
        self.interest = interest
        self.sink = sink
        self.key_id = key_id
        self.cursor = cursor
        # The offset at which the stream is complete, and the number of events likewise.
        self.until = until
        self.limit = limit
        self.when_complete = COMPLETE
        self.skip_gaps = skip_gaps
        # Of the peer; some grants count only from certain networks.
        self.address = address
        # Where its key may be sent only so much, or have only so many streams.
        self.pacer = pacer
        self.place = place
        # How it was opened, for the access log; and how many of its events detection has counted.
        self.opened: Access | None = None
        self.counted = 0
        # Whether its filter costs too much to be live; None for the many that never did.
        self.costly: CostBackoff | None = None
        self.state = State.REPLAYING
        self.caught_up = False
        # Events written before it joined its shard, and the shard's count at that moment.
        self.sent = 0
        self.joined_at = 0
        self.shard: JoinedShard | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def delivered(self) -> int:
        """Events written so far."""
        return self.sent if self.shard is None else self.sent + self.shard.count - self.joined_at

    def cost_backoff(self) -> CostBackoff:
        """Backoff of the filter, kept from the first call on."""
        if self.costly is None:
            self.costly = CostBackoff()
        return self.costly

    @property
    def bounded(self) -> bool:
        """Whether the stream has an end or a pace of its own, and so does not go live."""
        paced = self.pacer is not None or bool(self.costly)
        return paced or self.until is not None or self.limit is not None
