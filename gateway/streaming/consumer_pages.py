"""Consumers that are read by pages where the next page asked for acknowledges the one before.

Only the same connection can tell that its peer has the page before: on another one the same page is
given again.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from gateway.clock import Clock
from gateway.errors import Conflict
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumers.claims import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    ConsumerClaim,
    reader_of,
)
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move, is_ahead

# Connections that were given the same page, from which on the page says so.
REPEATED = 3
# Longest claim on pages, of a peer that asks for one every five minutes.
_MOST_LEASE_SECONDS = 600.0


class PeerConnection(Protocol):
    """Connection of a peer that asks for pages."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""


class GivenPage(NamedTuple):
    """Page that was given: its cursor, the number of its events, and of those given before."""

    cursor: str
    events: int
    again: int


class _PageHold(NamedTuple):
    """Connection that reads a consumer: under which generation, the cursor of its last page, for
    how long its claim lasts, and whether it waits for a page."""

    connection: PeerConnection
    generation: int
    cursor: str
    renewed_at: float
    lease: float
    waits: bool


class ConsumerPages:
    """Consumers whose pages acknowledge each other, in this process."""

    def __init__(self, consumers: ConsumerClaims, clock: Clock) -> None:
        self._consumers = consumers
        self._clock = clock
        self._holds: dict[ConsumerKey, _PageHold] = {}
        # When a connection was last given a page of a consumer, whether it holds it now or not.
        self._given_at: dict[tuple[ConsumerKey, PeerConnection], float] = {}

    async def read_once(self, claim: ConsumerClaim, row: ConsumerRow | None) -> ConsumerRow:
        """Row from which a page begins that something else acknowledges. Nothing is written where
        nothing has changed. Raises `Conflict` while a reader holds the consumer."""
        same = (
            row is not None
            and not row.held(self._clock.now())
            and row.selection == claim.selection
            and claim.goes_on is None
        )
        if row is None or not same:
            return await self._consumers.claim(claim._replace(holds=False))
        if claim.acknowledges is None or not is_ahead(claim.acknowledges, row.cursor):
            return row
        move = Move(
            at=self._clock.now(), generation=row.generation, cursor=claim.acknowledges,
            sent=claim.acknowledges,
        )  # fmt: skip
        after = _there(await self._consumers.move(row.key, move))
        if after.generation == row.generation:
            return after
        # It was rewound or changed meanwhile: come as a newcomer, who acknowledges nothing.
        return await self._consumers.claim(claim._replace(holds=False, acknowledges=None))

    async def read_next(self, claim: ConsumerClaim, connection: PeerConnection) -> ConsumerRow:
        """Row from which the next page of a connection begins; acknowledges the page before."""
        hold, lease = self._holds.get(claim.key), self._lease(claim.key, connection)
        if hold is not None and hold.connection is connection:
            move = Move(
                at=self._clock.now(), generation=hold.generation, cursor=hold.cursor,
                sent=hold.cursor, lease_until=self._clock.now() + lease,
            )  # fmt: skip
            row = await self._consumers.move(claim.key, move)
            if row is not None and row.generation == hold.generation:
                if row.selection == claim.selection:
                    renewed_at = self._clock.monotonic()
                    waiting = hold._replace(renewed_at=renewed_at, lease=lease, waits=True)
                    self._hold(claim.key, waiting)
                    return row
                claim = claim._replace(silent=hold.generation)
            else:
                # Somebody else has it now, or it was rewound: come as a newcomer.
                self._holds.pop(claim.key, None)
        elif hold is not None and hold.connection.is_closing():
            claim = claim._replace(silent=hold.generation)
        row = await self._consumers.claim(claim)
        mono = self._clock.monotonic()
        hold = _PageHold(connection, row.generation, row.cursor, mono, lease, waits=True)
        self._hold(claim.key, hold)
        return row

    def _lease(self, key: ConsumerKey, connection: PeerConnection) -> float:
        """For how long a claim lasts from one page to the next: twice as long as the connection
        took to ask for this one."""
        now = self._clock.monotonic()
        pause = now - self._given_at.get((key, connection), now)
        return min(_MOST_LEASE_SECONDS, max(LEASE_SECONDS, 2 * pause))

    def _hold(self, key: ConsumerKey, hold: _PageHold) -> bool:
        """Note who reads; False if another connection has taken over while a page was waited
        for."""
        known = self._holds.get(key)
        if known is not None and known.generation > hold.generation:
            return False
        self._holds[key] = hold
        return True

    async def given(
        self, row: ConsumerRow, page: GivenPage, connection: PeerConnection | None
    ) -> None:
        """Note that a page was given: on a `connection` whose next page acknowledges it, if there
        is one."""
        now, cursor = self._clock.now(), page.cursor
        if connection is None:
            if not (page.again or is_ahead(cursor, row.sent)):
                return
            # After a rewind it may not be acknowledged any more.
            move = Move(
                at=now, generation=row.generation, sent=cursor, unacknowledged=page.events,
                redelivered=row.redelivered + page.again,
            )  # fmt: skip
        else:
            known, mono = self._holds.get(row.key), self._clock.monotonic()
            lease = LEASE_SECONDS if known is None else known.lease
            self._given_at[row.key, connection] = mono
            hold = _PageHold(connection, row.generation, cursor, mono, lease, waits=False)
            if not self._hold(row.key, hold):
                return
            move = Move(
                at=now, generation=row.generation, sent=cursor, lease_until=now + lease,
                unacknowledged=page.events, redelivered=row.redelivered + page.again,
            )  # fmt: skip
        await self._consumers.move_later(row.key, move)

    async def tick(self) -> None:
        """Renew the claims of connections that wait for a page, and give up those of closed
        ones. Of others each page renews them: who asks for none lets another take over."""
        now, mono = self._clock.now(), self._clock.monotonic()
        for place in [place for place in self._given_at if place[1].is_closing()]:
            del self._given_at[place]
        for key, hold in list(self._holds.items()):
            if hold.connection.is_closing():
                del self._holds[key]
                lease = 0.0
            elif hold.waits and mono - hold.renewed_at >= RENEW_SECONDS:
                self._holds[key] = hold._replace(renewed_at=mono)
                lease = now + hold.lease
            else:
                continue
            move = Move(at=now, generation=hold.generation, lease_until=lease)
            await self._consumers.move_later(key, move)

    async def run(self) -> None:
        """Call `tick` twice a second, until cancelled."""
        while True:
            await self._clock.sleep(0.5)
            await self.tick()


def is_repeated(row: ConsumerRow) -> bool:
    """Whether connection after connection is given the same page."""
    return len(reader_of(row).begins) >= REPEATED


def _there(row: ConsumerRow | None) -> ConsumerRow:
    if row is None:
        raise Conflict("the consumer was deleted meanwhile", code="consumer_deleted")
    return row
