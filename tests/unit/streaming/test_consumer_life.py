"""Readers that cannot be asked if they are alive, and show it: by pages, and by acknowledgements.

The store is a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.consumers import SqliteConsumers
from gateway.clock import SystemClock
from gateway.cursor import format_cursor
from gateway.errors import Conflict
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumer_pages import ConsumerPages, GivenPage
from gateway.streaming.consumers.claims import ClaimingReader, ConsumerClaim
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move

KEY = ConsumerKey("k" * 12, "siem")


def cursor(offset: int) -> str:
    return format_cursor("abcdefghjk", offset)


async def nothing() -> None:
    """What happens meanwhile, unless a test says something else."""


class TurningClock(SystemClock):
    """Clock that sleeps take forward, and what happens while somebody sleeps."""

    passed = 0.0
    meanwhile: Callable[[], Awaitable[None]] = staticmethod(nothing)

    def now(self) -> float:
        return super().now() + self.passed

    def monotonic(self) -> float:
        return super().monotonic() + self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await self.meanwhile()
        await asyncio.sleep(0)


class Connection:
    """Connection of a peer that asks for pages."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing


class Pages:
    """Peers that ask for pages of one consumer."""

    def __init__(self, claims: ConsumerClaims, clock: TurningClock) -> None:
        self.pages = ConsumerPages(claims, clock)
        self.claims = claims
        self._number = 0

    async def ask(self, connection: Connection) -> ConsumerRow:
        self._number += 1
        reader = ClaimingReader(id=f"r{self._number}", transport="page", ack="next")
        claim = ConsumerClaim(KEY, reader, "{}", cursor(0))
        asked = asyncio.ensure_future(self.pages.read_next(claim, connection))
        while not asked.done():
            await asyncio.sleep(0)
            await self.claims.flush()
        return await asked

    async def give(self, connection: Connection) -> ConsumerRow:
        """Ask for a page, and give one more event than before."""
        row = await self.ask(connection)
        _, _, offset = row.cursor.partition("-")
        await self.pages.given(row, GivenPage(cursor(int(offset) + 1), 1, 0), connection)
        await self.claims.flush()
        return row


@pytest.fixture
def clock() -> TurningClock:
    return TurningClock()


@pytest.fixture
async def claims(tmp_path: Path, clock: TurningClock) -> AsyncIterator[ConsumerClaims]:
    store = SqliteConsumers(tmp_path / "consumers.db")
    yield ConsumerClaims(store, clock, 16)
    await store.close()


@pytest.fixture
def pages(claims: ConsumerClaims, clock: TurningClock) -> Pages:
    return Pages(claims, clock)


async def test_whoever_asks_for_pages_keeps_them_and_loses_them_when_it_is_silent(
    pages: Pages, clock: TurningClock
) -> None:
    one, other = Connection(), Connection()
    for number in range(30):
        assert (await pages.give(one)).cursor == cursor(number)
        with pytest.raises(Conflict, match="is alive"):
            await pages.give(other)
        clock.passed += 4.0
        await pages.pages.tick()
    clock.passed += 6.1
    await pages.pages.tick()
    assert (await pages.give(other)).cursor == cursor(29)
    with pytest.raises(Conflict, match="is alive"):
        await pages.give(one)
    assert (await pages.give(other)).cursor == cursor(30)


async def test_two_that_ask_rarely_do_not_take_every_page_from_each_other(
    pages: Pages, clock: TurningClock
) -> None:
    one, other = Connection(), Connection()
    begun: list[str] = []
    for number in range(12):
        try:
            begun.append((await pages.give((one, other)[number % 2])).cursor)
        except Conflict:
            pass
        clock.passed += 20.0
        await pages.pages.tick()
    assert cursor(4) in begun


async def test_whoever_waits_for_a_page_is_not_silent(pages: Pages, clock: TurningClock) -> None:
    await pages.ask(Connection())
    for _ in range(10):
        clock.passed += 3.1
        await pages.pages.tick()
        await pages.claims.flush()
    with pytest.raises(Conflict, match="is alive"):
        await pages.ask(Connection())


async def test_a_closed_connection_is_nobody(pages: Pages, clock: TurningClock) -> None:
    one = Connection()
    await pages.give(one)
    one.closing = True
    assert (await pages.give(Connection())).cursor == cursor(0)
    await pages.pages.tick()
    assert one not in [connection for _, connection in pages.pages._given_at]


def lines(name: str) -> ConsumerClaim:
    """A stream of lines, whose acknowledgements are calls."""
    reader = ClaimingReader(id=name, transport="ndjson", ack="explicit")
    return ConsumerClaim(KEY, reader, "{}", cursor(0))


async def moved(claims: ConsumerClaims, clock: TurningClock, **members: Any) -> None:
    now = clock.now()
    await claims.move_later(KEY, Move(at=now, generation=None, lease_until=now + 10, **members))
    await claims.flush()


async def test_whoever_acknowledges_what_comes_keeps_its_consumer(
    claims: ConsumerClaims, clock: TurningClock
) -> None:
    await claims.claim(lines("one"))
    offset = 0

    async def goes_on() -> None:
        nonlocal offset
        offset += 1
        await moved(claims, clock, cursor=cursor(offset), sent=cursor(offset + 9), unacknowledged=9)

    clock.meanwhile = goes_on
    for _ in range(20):
        with pytest.raises(Conflict, match="is alive"):
            await claims.claim(lines("two"))
    taken = await claims.claim(lines("two")._replace(takeover=True))
    assert taken.cursor == cursor(offset)


async def test_where_nothing_is_out_a_renewed_claim_is_life_enough(
    claims: ConsumerClaims, clock: TurningClock
) -> None:
    await claims.claim(lines("one"))

    async def renewed() -> None:
        await moved(claims, clock)

    clock.meanwhile = renewed
    with pytest.raises(Conflict, match="is alive"):
        await claims.claim(lines("two"))


async def test_whoever_acknowledges_nothing_of_what_is_out_gives_way_within_seconds(
    claims: ConsumerClaims, clock: TurningClock
) -> None:
    first = await claims.claim(lines("one"))
    began = clock.monotonic()

    async def renewed() -> None:
        await moved(claims, clock, sent=cursor(9), unacknowledged=9)

    clock.meanwhile = renewed
    await renewed()
    taken = await claims.claim(lines("two"))
    assert taken.generation > first.generation
    assert clock.monotonic() - began < 6.0


async def test_a_claim_of_a_process_that_is_gone_is_waited_for_for_seconds_alone(
    claims: ConsumerClaims, clock: TurningClock
) -> None:
    first = await claims.claim(lines("one"))
    taken = await claims.claim(lines("two"))
    assert taken.generation > first.generation
