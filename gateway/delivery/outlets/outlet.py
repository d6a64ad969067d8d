"""Port of a type of destination: encodes events, sends batches, and judges what came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.cursor import IN_JSON, offset_in
from gateway.event import recorded_at_of

# What a success means: the receiver has stored the events, or has taken them, or only its kernel
# has their bytes.
Confirmation = Literal["stored", "received", "sent"]
# Values of a secret by its name, newest first: two while a rotation overlaps, none where it is
# missing. Asked anew for each request.
Secrets = Callable[[str], Sequence[str]]


class DeliveryResult(StrEnum):
    """How an attempt ended."""

    SUCCESS = "success"
    # The same events again, later.
    TRANSIENT = "transient"
    # This content is refused.
    PERMANENT = "permanent"
    # Nothing would be accepted: address, credentials or settings are wrong.
    CONFIG = "config"


class OutboundMembers(msgspec.Struct):
    """Members of events that receivers file them under. `time` is as `format_rfc3339` writes it."""

    id: str
    tenant: str
    category: str
    action: str
    outcome: str
    severity: int
    time: str

    @property
    def delivery_id(self) -> str:
        """Id by which receivers know repeats: unique over tenants, at most 193 bytes."""
        return f"{self.tenant}:{self.id}"


_members = msgspec.json.Decoder(OutboundMembers).decode


class OutboundEvent(msgspec.Struct, frozen=True, gc=False):
    """Event on its way out, as masked native JSON on one line: all that the key of the destination
    sees.

    `reduced` are the members that were left out because of its size, also named in its JSON.
    """

    json: bytes
    reduced: tuple[str, ...] = ()

    @property
    def members(self) -> OutboundMembers:
        """Decoded anew at each call, as that costs more than all else that is done with many."""
        return _members(self.json)

    @property
    def cursor(self) -> str:
        return self.json[IN_JSON].decode()

    def recorded_at(self) -> int:
        """When it was recorded, in microseconds since 1970."""
        return recorded_at_of(self.json)


def offset_of(line: bytes) -> int:
    """Offset of an event from its native JSON."""
    return offset_in(line[IN_JSON])


class EncodedEvent(msgspec.Struct, frozen=True, gc=False):
    """Event and its part of a request's body; batches are measured by the length of `body`.

    `json` is its native JSON, and `reduced` are the members that were left out.
    """

    json: bytes
    body: bytes
    reduced: tuple[str, ...] = ()

    @property
    def outbound(self) -> OutboundEvent:
        return OutboundEvent(self.json, self.reduced)

    @property
    def cursor(self) -> str:
        return self.json[IN_JSON].decode()


class RefusedEvent(msgspec.Struct, frozen=True):
    """Event of a batch, by its index, that the receiver refuses for its content. `reason` is a name
    of the protocol and none of the receiver's words, which may quote values of the event."""

    index: int
    reason: str
    status: int | None = None


class DeliveryVerdict(NamedTuple):
    """Result of an attempt, and what became of each event.

    Events named in `refused` are refused, those named in `again` are to be sent again, and all
    others are delivered. Where it names none, `result` holds for the whole batch; a whole batch
    that is refused is halved, to find the event that is meant.
    """

    result: DeliveryResult
    refused: tuple[RefusedEvent, ...] = ()
    again: frozenset[int] = frozenset()
    # Events that the receiver had already, and how many it refused without saying which.
    duplicates: int = 0
    unidentified: int = 0
    # Seconds before which not to try again.
    retry_after: float = 0.0
    # For people, without secrets: a short name of the failure such as `timeout` or `http`, the
    # status of an answer, and words of the receiver.
    kind: str = ""
    status: int | None = None
    message: str = ""
    # Whether the receiver asked not to be called ever again.
    gone: bool = False
    # Newest cursor that the receiver is known to hold, from `open` only.
    cursor: str | None = None
    # What `confirm` waits for; None if a success is final.
    receipt: object | None = None

    def delivered(self, count: int) -> frozenset[int]:
        """Indices of the events of a batch of so many that are delivered."""
        if self.refused or self.again:
            others = {event.index for event in self.refused} | self.again
            return frozenset(range(count)) - others
        return frozenset(range(count)) if self.result is DeliveryResult.SUCCESS else frozenset()


SUCCESS = DeliveryVerdict(DeliveryResult.SUCCESS)


class OutletLimits(NamedTuple):
    """Largest batch that the type takes, also its default, and how batches are sent.

    `max_bytes` is before compression. An event whose body is longer than `max_event_bytes` has to
    be reduced. `unconfirmed` batches may be sent while the first of them is not confirmed yet.
    """

    max_events: int
    max_bytes: int
    max_event_bytes: int
    max_wait: float = 1.0
    unconfirmed: int = 1
    # Whether a batch that was not taken is sent again as it was, and not in parts, as its first and
    # last cursor make the name under which the receiver knows it. It takes all before the newest
    # event that it has for stored, so nothing is sent past one that it refuses.
    planned: bool = False


class Outlet(Protocol):
    """Connection of one destination to its receiver, of one type.

    Success: the receiver has said, in the way that its protocol prescribes, that it has all events
    of the batch; what that is worth is the `confirmation` of the outlet. An answer that does not
    say so is no success.
    Ordering: events of a batch are sent in its order, and batches in the order of `send`. One call
    of `send` is under way at a time, and one of `confirm`, beside it.
    Failures: no method raises because of what a receiver, a network or a disk does; that is a
    verdict. After one that is no success, the next call connects anew if it has to.
    Cancellation: any call may be cancelled at any time. Whether the receiver has the events of a
    cancelled `send` is unknown, so they are sent again.
    Memory: an outlet holds the batch that is sent and one that is staged, their bodies, also
    compressed, and at most 1 MiB of the answer. It keeps no event that was sent after the verdict.
    Secrets: those of the destination are in no verdict, error or line of the log.
    """

    @property
    def limits(self) -> OutletLimits:
        """Limits of batches."""

    @property
    def confirmation(self) -> Confirmation:
        """What a success means."""

    async def open(self) -> DeliveryVerdict:
        """Prepare before the first batch. Where the receiver itself knows the last event that it
        has, the verdict has its cursor, which is right where the stored one is another."""

    @property
    def verbatim(self) -> bool:
        """Whether `encode` returns native JSON as it is."""

    def encode(self, outbound: OutboundEvent) -> bytes:
        """Part of a body for one event; the same bytes for the same event. Pure."""

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        """Prepare a batch beside the one that is being sent: if nothing is wrong with that, `send`
        is given the same object next."""

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        """Send a batch of at least one event, within the limits, in one request."""

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        """Wait until the batch with that receipt, the oldest that is unconfirmed, is confirmed. If
        it is not, it and all that were sent after it are to be sent again."""

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        """Send an event that is none of the log, in the way of all others, but so that it moves
        no cursor."""

    async def close(self) -> None:
        """Close connections and files."""
