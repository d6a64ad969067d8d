"""Stored position of one reader, and how it moves. Pure."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from gateway.access.credentials.token import is_key_id
from gateway.cursor import distance, parse_cursor

T = TypeVar("T")


class ConsumerKey(NamedTuple):
    """Name of a row. `owner` is the oldest key of a rotation chain, or a kind of delivery that is
    no key's, such as destinations, whose name no key can have as its id; names are unique for each
    owner."""

    owner: str
    name: str


class ConsumerRow(msgspec.Struct, frozen=True, kw_only=True):
    """Position, claim and selection of one reader. Times are seconds since 1970, cursors the texts
    that clients have."""

    owner: str
    name: str
    # How the reader acknowledges; "" is the usual way of its transport.
    mode: str = ""
    # Everything up to here needs no further delivery.
    cursor: str
    # Newest position that a reader was sent; `cursor` never passes it.
    sent: str
    # Changes with each claim and each rewind; what an earlier holder moves is ignored.
    generation: int = 0
    # The holder, and until when its claim lasts unless it is renewed; 0 when it has left.
    reader: str = ""
    lease_until: float = 0.0
    # What is read, as its owner writes it: a reader that wants another one is refused.
    selection: str = ""
    # What is acknowledged beyond the cursor, for owners that acknowledge out of order.
    ranges: str = ""
    # Options of the reader that were chosen, as its owner writes them.
    options: str = ""
    # Events that are sent and not acknowledged, and those that were sent again, in all.
    unacknowledged: int = 0
    redelivered: int = 0
    created_at: float
    acked_at: float = 0.0
    updated_at: float

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.owner, self.name)

    @property
    def of_key(self) -> bool:
        """Whether it is a consumer of a key, and no other delivery."""
        return is_key_id(self.owner)

    def held(self, now: float) -> bool:
        """Whether a reader holds it."""
        return now < self.lease_until


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Progress to store, by the holder of a `generation`; by anybody if that is None. Members that
    are None stay as they are."""

    at: float
    generation: int | None
    cursor: str | None = None
    sent: str | None = None
    reader: str | None = None
    lease_until: float | None = None
    ranges: str | None = None
    unacknowledged: int | None = None
    redelivered: int | None = None


def moved(row: ConsumerRow, move: Move) -> ConsumerRow:
    """Row after a move; the same object if the move is of another generation or changes nothing.

    `cursor` and `sent` only go forwards, within one epoch, and `cursor` not beyond `sent`.
    """
    if move.generation not in (None, row.generation):
        return row
    sent = further(row.sent, move.sent)
    cursor = further(row.cursor, move.cursor)
    if is_ahead(cursor, sent):
        cursor = row.cursor
    after = msgspec.structs.replace(
        row,
        cursor=cursor,
        sent=sent,
        reader=_given(move.reader, row.reader),
        lease_until=_given(move.lease_until, row.lease_until),
        ranges=_given(move.ranges, row.ranges),
        unacknowledged=(0 if cursor == sent else _given(move.unacknowledged, row.unacknowledged)),
        redelivered=_given(move.redelivered, row.redelivered),
        acked_at=row.acked_at if cursor == row.cursor else move.at,
    )
    return row if after == row else msgspec.structs.replace(after, updated_at=move.at)


def _given(given: T | None, known: T) -> T:
    return known if given is None else given


def is_ahead(one: str, other: str) -> bool:
    """Whether a cursor is behind another in the log, that is, later; False across epochs."""
    (epoch, place), (other_epoch, other_place) = parse_cursor(one), parse_cursor(other)
    return epoch == other_epoch and distance(other_place, place) > 0


def further(known: str, other: str | None) -> str:
    """The later of two cursors of one epoch; the known one if the other is of another epoch."""
    return other if other is not None and is_ahead(other, known) else known
