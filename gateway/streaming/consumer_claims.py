"""Consumers that this process reads: their claims, and what of them is stored in batches.

Acknowledgements gather in memory. Once a second, or soon where somebody waits for one to be
durable, one transaction stores all rows that have moved, renewed claims included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from gateway.clock import Clock, until_next_poll
from gateway.cursor import parse_cursor
from gateway.errors import Conflict, GatewayError
from gateway.notifier import Notifier
from gateway.streaming.consumer_reader import ConsumerReader, ack_ahead
from gateway.streaming.consumers import claims
from gateway.streaming.consumers.claims import (
    ConsumerClaim,
    claimed,
    has_claimed,
    in_use,
    reader_of,
)
from gateway.streaming.consumers.ports import Consumers, RowChange
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move, further, is_ahead
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import CONSUMER_DELETED, REWOUND, TAKEN_OVER, End

_TICK_SECONDS = 1.0
# For how long an acknowledgement waits for others, and least from one transaction to the next: so
# that there are at most twenty a second, however many readers wait for an answer.
_TOGETHER_SECONDS = 0.04
_BETWEEN_SECONDS = 0.05
_POLL_SECONDS = 0.25
# For how long what was sent by another process may not be stored yet: of a page it is within a
# second, of a stream with the renewal of its claim, at the latest.
_PAGE_SECONDS = _TICK_SECONDS + 1.5
_SENT_SECONDS = claims.RENEW_SECONDS + 1.5
_AT_RISK = {
    "code": "position_at_risk",
    "detail": "retention is near to deleting events behind the position of this consumer; "
    "acknowledge, or read faster",
}
GapListener = Callable[[ConsumerRow, dict[str, Any]], Awaitable[None]]


class ConsumerClaims:
    """All consumers that are read in this process."""

    def __init__(self, store: Consumers, clock: Clock, most: int) -> None:
        """`most` is the number of consumers of one owner."""
        self.store = store
        self.readers: dict[ConsumerKey, ConsumerReader] = {}
        self._clock = clock
        self._most = most
        self._gap_listeners: list[GapListener] = []
        # Gaps of which they are not told yet.
        self._gaps: list[tuple[ConsumerRow, dict[str, Any]]] = []
        # Moves of consumers without a reader here, and who waits for the next transaction.
        self._pending: dict[ConsumerKey, Move] = {}
        self._waiting: list[tuple[ConsumerKey, asyncio.Future[ConsumerRow | None]]] = []
        self._storing = asyncio.Lock()
        self._hurried = Notifier()
        self._hurries = False

    def on_gap(self, listener: GapListener) -> None:
        """Call `listener` when a stream has gone on behind events that are gone, before that
        position is stored. While it raises `Unavailable`, nothing is."""
        self._gap_listeners.append(listener)

    # Claims

    async def claim(self, claim: ConsumerClaim) -> ConsumerRow:
        """Claim a consumer, and create it if there is none; waits for the answer of a reader that
        holds it. Raises `Conflict`."""
        local = self.readers.get(claim.key)
        if local is not None and local.answers and not claim.takeover:
            if await local.is_alive(claims.ANSWER_SECONDS):
                raise in_use(local.row)
            claim = claim._replace(silent=local.row.generation)
        elif not claim.takeover:
            await self._refuse_while_acknowledged(claim)
        row = await self._claim(claim)
        if not has_claimed(row, claim):
            row = await self._ask_elsewhere(row, claim)
        self.end_earlier(row, TAKEN_OVER)
        return row

    async def _claim(self, claim: ConsumerClaim) -> ConsumerRow:
        if claim.key in self._pending:
            # The reader before has left just now.
            await self.flush()
        now = self._clock.now()

        def change(row: ConsumerRow | None, others: int) -> ConsumerRow:
            return claimed(row, others, claim, now, self._most)

        row = await self.store.change(*claim.key, change)
        assert row is not None
        return row

    async def _refuse_while_acknowledged(self, claim: ConsumerClaim) -> None:
        """Watch a holder that acknowledges by calls for a while. Raises `Conflict` if it is
        alive."""
        first = row = await self.store.get(*claim.key)
        deadline = self._clock.monotonic() + claims.ANSWER_SECONDS + claims.ELSEWHERE_SECONDS
        while first is not None and row is not None and row.held(self._clock.now()):
            if row.generation != first.generation or not claims.acknowledges_by_calls(row):
                return
            if claims.shows_life(row, first):
                raise in_use(row)
            if self._clock.monotonic() >= deadline:
                return
            await self._clock.sleep(_POLL_SECONDS)
            row = await self.store.get(*claim.key)

    async def _ask_elsewhere(self, asked: ConsumerRow, claim: ConsumerClaim) -> ConsumerRow:
        """Wait until the holder at another process was asked, and claim if it does not answer."""
        answered_before = reader_of(asked).answered_at
        deadline = self._clock.monotonic() + claims.ANSWER_SECONDS + claims.ELSEWHERE_SECONDS
        while self._clock.monotonic() < deadline:
            await self._clock.sleep(_POLL_SECONDS)
            row = await self.store.get(*claim.key)
            if row is None or row.generation != asked.generation:
                break
            if reader_of(row).answered_at != answered_before:
                raise in_use(row)
            if not row.held(self._clock.now()):
                break
        row = await self._claim(claim._replace(silent=asked.generation))
        if not has_claimed(row, claim):
            raise in_use(row)
        return row

    def hold(self, reader: ConsumerReader) -> None:
        """Take in a reader whose claim was stored."""
        self.readers[reader.key] = reader

    def refuse_overtaken(self, reader: ConsumerReader) -> None:
        """Raise `Conflict` if another reader here has taken over since the claim was stored."""
        known = self.readers.get(reader.key)
        if known is not None and known.row.generation > reader.row.generation:
            raise in_use(known.row)

    def give_up(self, row: ConsumerRow) -> None:
        """End a claim whose reader never began."""
        self._pending[row.key] = Move(
            at=self._clock.now(), generation=row.generation, lease_until=0.0
        )
        self.hurry()

    def stream_closed(self, subscription: Subscription, end: End | None) -> None:
        """Note that a stream has ended."""
        reader = subscription.consumer
        if isinstance(reader, ConsumerReader) and self.readers.get(reader.key) is reader:
            del self.readers[reader.key]
            self._leave(reader)

    def _leave(self, reader: ConsumerReader) -> None:
        reader.close()
        self._take_gaps(reader)
        self._pending[reader.key] = reader.last_move()
        self.hurry()

    def end_earlier(self, row: ConsumerRow, end: End) -> None:
        """End the reader here whose generation is over."""
        local = self.readers.get(row.key)
        if local is not None and local.row.generation != row.generation:
            local.end(end)

    # Acknowledgements by calls

    async def acknowledge(self, key: ConsumerKey, cursor: str) -> ConsumerRow:
        """Store an acknowledgement durably; return the row after it. One behind the position moves
        nothing. Raises `Conflict` if the cursor is ahead of what was sent."""
        began = self._clock.monotonic()
        while True:
            row = await self._acknowledge(key, cursor)
            if not is_ahead(cursor, row.cursor):
                return row
            most = _SENT_SECONDS if row.held(self._clock.now()) else _PAGE_SECONDS
            if self._clock.monotonic() - began >= most:
                said = ack_ahead(cursor, row.sent)
                raise Conflict(said["detail"], code="ack_ahead", sent=row.sent)
            # It may have been sent by another process, which stores it soon.
            await self._clock.sleep(_POLL_SECONDS)

    async def _acknowledge(self, key: ConsumerKey, cursor: str) -> ConsumerRow:
        local = self.readers.get(key)
        if local is not None:
            _, position = parse_cursor(cursor)
            if local.is_ahead(position):
                raise Conflict(
                    ack_ahead(cursor, local.sent_cursor)["detail"],
                    code="ack_ahead", sent=local.sent_cursor,
                )  # fmt: skip
            local.acknowledge(position)
            row = await self._stored(key)
        else:
            known = self._pending.get(key)
            # With the page that it is about, if that is not stored yet.
            generation = None if known is None else known.generation
            move = Move(at=self._clock.now(), generation=generation, cursor=cursor)
            row = await self.move(key, move)
        if row is None:
            raise Conflict("the consumer was deleted meanwhile", code="consumer_deleted")
        return row

    async def move(self, key: ConsumerKey, move: Move) -> ConsumerRow | None:
        """Store a move of a consumer that is not read here, together with others; return its
        row."""
        await self.move_later(key, move)
        return await self._stored(key)

    async def move_later(self, key: ConsumerKey, move: Move) -> None:
        """Have a move of a consumer that is not read here stored within a second."""
        known = self._pending.get(key)
        if known is not None and known.generation != move.generation:
            await self.flush()
            known = self._pending.get(key)
        self._pending[key] = move if known is None else _joined(known, move)

    async def _stored(self, key: ConsumerKey) -> ConsumerRow | None:
        """Wait for the next transaction; the row after it."""
        future: asyncio.Future[ConsumerRow | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        self.hurry()
        return await future

    # Changes by calls

    async def rewind(self, key: ConsumerKey, cursor: str) -> ConsumerRow | None:
        """Set the position; the reader has to come back. None if there is no such consumer."""
        now = self._clock.now()
        return await self.change(
            key, lambda row, _: None if row is None else claims.rewound(row, cursor, now)
        )

    async def change(self, key: ConsumerKey, change: RowChange) -> ConsumerRow | None:
        """Store a changed row; if its generation is another one, its reader has to come back."""
        if key in self._pending:
            await self.flush()
        row = await self.store.change(*key, change)
        if row is not None:
            self.end_earlier(row, REWOUND)
        return row

    async def delete(self, key: ConsumerKey) -> bool:
        """Delete a consumer, and end its reader; False if there is none."""
        found: list[ConsumerRow] = []

        def change(row: ConsumerRow | None, others: int) -> None:
            if row is not None:
                found.append(row)

        await self.store.change(*key, change)
        local = self.readers.get(key)
        if local is not None:
            local.end(CONSUMER_DELETED)
        self._pending.pop(key, None)
        return bool(found)

    def warn(self, keys: Collection[ConsumerKey]) -> None:
        """Tell the readers here that retention comes near to their positions."""
        for key in keys:
            if (reader := self.readers.get(key)) is not None:
                reader.tell("notice", dict(_AT_RISK))

    # Storing

    def hurry(self) -> None:
        """Store what has moved soon, together with what moves until then."""
        self._hurries = True
        self._hurried.notify()

    async def run(self) -> None:
        """Store what moves, until cancelled."""
        ticked_at = stored_at = self._clock.monotonic()
        while True:
            seconds = until_next_poll(self._clock, _TICK_SECONDS)
            await self._hurried.until(lambda: self._hurries, seconds)
            pause = stored_at + _BETWEEN_SECONDS - self._clock.monotonic()
            if self._hurries:
                pause = max(pause, _TOGETHER_SECONDS)
            if pause > 0:
                await self._clock.sleep(pause)
            tick = self._clock.monotonic() - ticked_at >= _TICK_SECONDS
            if tick:
                ticked_at = self._clock.monotonic()
                self.tick()
            if tick or self._hurries:
                stored_at = self._clock.monotonic()
                await self.flush(watch=tick)

    def tick(self) -> None:
        """Ping peers, and end those that acknowledge nothing. Call about once a second."""
        for reader in list(self.readers.values()):
            reader.tick()

    async def flush(self, *, watch: bool = False) -> None:
        """Store what has moved in one transaction; `watch`: see what other processes have changed
        of the consumers that are read here, too."""
        async with self._storing:
            self._hurries = False
            pending, self._pending = self._pending, {}
            waiting, self._waiting = self._waiting, []
            readers = dict(self.readers)
            moves = dict(pending)
            for key, reader in readers.items():
                self._take_gaps(reader)
                if key not in moves and (move := reader.move()) is not None:
                    moves[key] = move
            gaps, self._gaps = self._gaps, []
            # Where another move goes first, what the reader has is stored the next time.
            answering = {
                key: [] if key in pending else reader.take_answers()
                for key, reader in readers.items()
            }
            try:
                for gap in gaps:
                    for listener in self._gap_listeners:
                        await listener(*gap)
                watched = readers if watch else [key for key, _ in waiting]
                rows = await self.store.commit(moves, watched) if moves or watched else {}
            except GatewayError as error:
                self._gaps = gaps + self._gaps
                self._put_back(pending, waiting, error)
                for key, reader in readers.items():
                    reader.not_stored(answering[key])
                return
            except asyncio.CancelledError:
                # What is stored twice moves nothing.
                self._gaps = gaps + self._gaps
                self._put_back(pending, [], None)
                self._waiting = waiting + self._waiting
                for key, reader in readers.items():
                    reader.not_stored(answering[key])
                raise
            if not pending.keys().isdisjoint(readers):
                self.hurry()
            for key, future in waiting:
                if not future.done():
                    future.set_result(rows.get(key))
            for key, reader in readers.items():
                if key in rows or key not in moves:
                    reader.answer(answering[key], rows.get(key))
                if watch or key in moves:
                    reader.stored(rows.get(key))

    def _put_back(
        self,
        pending: dict[ConsumerKey, Move],
        waiting: list[tuple[ConsumerKey, asyncio.Future[ConsumerRow | None]]],
        error: GatewayError | None,
    ) -> None:
        """Keep for the next time what could not be stored, and tell those who wait."""
        for key, move in pending.items():
            known = self._pending.get(key)
            if known is None:
                self._pending[key] = move
            elif known.generation == move.generation:
                self._pending[key] = _joined(move, known)
        for _, future in waiting:
            if error is not None and not future.done():
                future.set_exception(error)

    async def close(self) -> None:
        """Store a last time what has moved, before the store is closed."""
        for key, reader in list(self.readers.items()):
            del self.readers[key]
            self._leave(reader)
        await self.flush()

    def _take_gaps(self, reader: ConsumerReader) -> None:
        self._gaps += [(reader.row, gap) for gap in reader.gaps]
        reader.gaps = []


def _joined(first: Move, second: Move) -> Move:
    """Both moves of one row as one; they are of one generation."""
    return Move(
        at=second.at,
        generation=second.generation,
        cursor=_furthest(first.cursor, second.cursor),
        sent=_furthest(first.sent, second.sent),
        reader=first.reader if second.reader is None else second.reader,
        lease_until=first.lease_until if second.lease_until is None else second.lease_until,
        ranges=first.ranges if second.ranges is None else second.ranges,
        unacknowledged=(
            first.unacknowledged if second.unacknowledged is None else second.unacknowledged
        ),
        redelivered=first.redelivered if second.redelivered is None else second.redelivered,
    )


def _furthest(first: str | None, second: str | None) -> str | None:
    return second if first is None else further(first, second)
