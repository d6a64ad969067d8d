"""Claims of readers on a consumer: at most one at a time, and who gives way. Pure.

A claim is a row's `reader` with a `generation`, for as long as `lease_until` is renewed. A second
reader waits until the first has answered a ping, or shown otherwise that it is alive: by what it
acknowledges, or by asking for pages. Else it takes over.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import structs

from gateway.errors import Conflict, InUse
from gateway.streaming.consumers.options import EXPLICIT, PAGE
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, further
from gateway.streaming.consumers.selection import refuse_difference

LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0
# For how long the first reader may answer a ping; one at another process hears of it later.
ANSWER_SECONDS = 3.0
ELSEWHERE_SECONDS = 1.5
# At most one takeover of readers that cannot be asked in this time, and what a refused one waits.
TAKEOVER_SECONDS = 60.0
RETRY_SECONDS = 5
# As many connections that begin at one position within this time are a finding.
STUCK_CONNECTIONS, STUCK_SECONDS = 5, 600.0
_ENCODE = msgspec.json.Encoder().encode
_MOST_BEGINS = 20


class ClaimingReader(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who reads, as the row keeps it. Times are seconds since 1970."""

    id: str = ""
    key: str = ""
    since: float = 0.0
    address: str = ""
    client: str = ""
    transport: str = ""
    ack: str = ""
    # Whether it can be asked if it is alive.
    answers: bool = False
    # Where it began, and when readers began there.
    begin: str = ""
    begins: tuple[float, ...] = ()
    # When a reader that could not be asked gave way; when the holder was asked if it is alive, by
    # the clock of who asked, and the question that it answered; when the position was set.
    taken_at: float = 0.0
    asked_at: float = 0.0
    answered_at: float = 0.0
    rewound_at: float = 0.0


class ConsumerClaim(NamedTuple):
    """What a reader that comes wants of a consumer."""

    key: ConsumerKey
    reader: ClaimingReader
    selection: str
    # Where it begins if it is made now, and what the reader acknowledges as it comes.
    begin: str
    acknowledges: str | None = None
    # Where it goes on if what is behind the position `gone` is gone.
    gone: str = ""
    goes_on: str | None = None
    takeover: bool = False
    updates_selection: bool = False
    # Generation whose reader was asked, and did not answer.
    silent: int | None = None
    # Whether the row is held from now on, or only read once.
    holds: bool = True


def reader_of(row: ConsumerRow) -> ClaimingReader:
    """The newest reader of a row."""
    return msgspec.json.decode(row.reader or "{}", type=ClaimingReader)


def reader_text(reader: ClaimingReader) -> str:
    return _ENCODE(reader).decode()


def claimed(
    row: ConsumerRow | None, others: int, claim: ConsumerClaim, now: float, most: int
) -> ConsumerRow:
    """Row after a claim, which may create it; whether it `has_claimed` is told by the row.

    If the present holder has to be asked first, the row says so. Raises `Conflict`.
    """
    if row is None:
        row = new_row(claim.key, claim.begin, claim.selection, others, now, most)
    elif not claim.updates_selection:
        refuse_difference(row.selection, claim.selection)
    before = reader_of(row)
    taken_at = before.taken_at
    if row.held(now) and not claim.takeover and row.generation != claim.silent:
        if before.answers:
            if is_asked(before):
                return row
            asked = structs.replace(before, asked_at=now)
            return structs.replace(row, reader=reader_text(asked), updated_at=now)
        if before.transport == PAGE or now - taken_at < TAKEOVER_SECONDS:
            # A claim on pages lasts for as long as the next page may take to be asked for.
            raise in_use(row)
        taken_at = now
    # What is sent for another selection tells nothing of this one.
    sent = row.sent if row.selection == claim.selection else row.cursor
    # A gap is for the position that it was found at: another one may have gone on already.
    goes_on = claim.goes_on if row.cursor == claim.gone else None
    cursor = further(goes_on or row.cursor, claim.acknowledges)
    began = _begins(before, cursor, now)
    reader = structs.replace(
        claim.reader, since=now, begin=cursor, begins=began, taken_at=taken_at,
        rewound_at=before.rewound_at,
    )  # fmt: skip
    return structs.replace(
        row,
        cursor=cursor,
        sent=further(goes_on or sent, cursor),
        acked_at=row.acked_at if cursor == row.cursor else now,
        generation=row.generation + 1,
        reader=reader_text(reader),
        lease_until=now + LEASE_SECONDS if claim.holds else 0.0,
        selection=claim.selection,
        unacknowledged=0,
        updated_at=now,
    )


def new_row(
    key: ConsumerKey, begin: str, selection: str, others: int, now: float, most: int
) -> ConsumerRow:
    """Row of a consumer that is made now. Raises `Conflict` beyond the limit of its owner."""
    if others >= most:
        raise Conflict(
            f"this key has {others} consumers, and limits.consumers is {most}; delete one that is "
            "not needed, or use its name",
            code="too_many_consumers",
        )
    return ConsumerRow(
        owner=key.owner, name=key.name, cursor=begin, sent=begin, selection=selection,
        # Beyond those of a deleted consumer of this name, whose readers may still be about.
        generation=int(now * 1_000_000), created_at=now, updated_at=now,
    )  # fmt: skip


def has_claimed(row: ConsumerRow, claim: ConsumerClaim) -> bool:
    return reader_of(row).id == claim.reader.id


def is_asked(reader: ClaimingReader) -> bool:
    """Whether the holder was asked if it is alive, and has not answered."""
    return reader.asked_at != reader.answered_at


def shows_life(row: ConsumerRow, since: ConsumerRow) -> bool:
    """Whether the holder of a row, as it was a while ago and as it is now, acknowledges what it is
    sent: something, or all there is while its process renews the claim."""
    is_renewed = row.lease_until > since.lease_until
    return row.cursor != since.cursor or (row.unacknowledged == 0 and is_renewed)


def acknowledges_by_calls(row: ConsumerRow) -> bool:
    """Whether the holder cannot be asked if it is alive, and acknowledges by calls of its own."""
    reader = reader_of(row)
    return not reader.answers and reader.ack == EXPLICIT and reader.transport != PAGE


def in_use(row: ConsumerRow) -> InUse:
    """Refusal of a reader that comes second."""
    reader = reader_of(row)
    return InUse(
        f"a reader from {reader.address or 'an unknown address'} reads this consumer now, and is "
        f"alive; come again in {RETRY_SECONDS} s, use a consumer of your own, or send "
        "takeover=true to end it",
        code="consumer_in_use",
        retry_after=RETRY_SECONDS,
    )


def _begins(before: ClaimingReader, cursor: str, now: float) -> tuple[float, ...]:
    earlier = before.begins if before.begin == cursor else ()
    recent = [at for at in earlier if now - at < STUCK_SECONDS]
    return (*recent[1 - _MOST_BEGINS :], now)


def is_stuck(row: ConsumerRow) -> bool:
    """Whether readers begin at one position again and again."""
    return len(reader_of(row).begins) >= STUCK_CONNECTIONS


def rewound(row: ConsumerRow, cursor: str, now: float) -> ConsumerRow:
    """Row whose position or selection is set; its reader has to come back."""
    reader = structs.replace(reader_of(row), rewound_at=now, begin="", begins=())
    return structs.replace(
        row, cursor=cursor, sent=cursor, generation=row.generation + 1, lease_until=0.0,
        reader=reader_text(reader), unacknowledged=0, updated_at=now,
    )  # fmt: skip
