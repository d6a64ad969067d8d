"""What every store of positions does: in a file, in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from gateway.adapters.postgres.consumers import PostgresConsumers
from gateway.adapters.sqlite.consumers import SqliteConsumers
from gateway.cursor import format_cursor
from gateway.errors import Conflict
from gateway.streaming.consumers.ports import Consumers, RowChange
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move
from tests.contract.conftest import POSTGRES
from tests.support.consumer_process import PassingClock, Process
from tests.support.examples import examples
from tests.support.services.postgres import PostgresServer
from tests.support.store_connections import connections

_MANY = examples(1000, share=20)
OWNER = "7kQ2mZ0aB1cD"
SIEM = ConsumerKey(OWNER, "siem")
Connect = Callable[[], Awaitable[Consumers]]


@pytest.fixture(params=["sqlite", *POSTGRES])
async def connect(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> AsyncIterator[Connect]:
    """Connects to one and the same store, as each process does for itself."""
    sqlite = partial(SqliteConsumers, tmp_path / "consumers.db")
    async with connections(request.param, server_of, sqlite, PostgresConsumers.open) as connect:
        yield connect


@pytest.fixture
async def consumers(connect: Connect) -> Consumers:
    return await connect()


def cursor(offset: int, epoch: str = "abcdefghjk") -> str:
    return format_cursor(epoch, offset)


def row(key: ConsumerKey = SIEM, **members: object) -> ConsumerRow:
    known = ConsumerRow(
        owner=key.owner, name=key.name, cursor=cursor(10), sent=cursor(20), generation=3,
        created_at=1.0, updated_at=1.0,
    )  # fmt: skip
    return structs.replace(known, **members)


def putting(after: ConsumerRow | None) -> RowChange:
    return lambda before, others: after


async def put(consumers: Consumers, *rows: ConsumerRow) -> None:
    for one in rows:
        await consumers.change(one.owner, one.name, putting(one))


def commits(consumers: Consumers) -> float:
    return sum(consumers.commit_seconds.cells[:-1])


async def test_a_row_comes_back_as_it_was_stored(connect: Connect) -> None:
    whole = row(
        mode="pong", reader='{"address":"::1"}', lease_until=1795946400.25, selection='{"a":["ü"]}',
        ranges="[[30,40]]", options="{}", unacknowledged=7, redelivered=2**40, acked_at=2.5,
    )  # fmt: skip
    await put(await connect(), whole)
    another = await connect()
    assert await another.get(*SIEM) == whole
    assert await another.all() == [whole]
    assert await another.get(OWNER, "other") is None


async def test_rows_are_listed_by_owner_and_name(consumers: Consumers) -> None:
    keys = [ConsumerKey("b", "x"), ConsumerKey("a", "y"), ConsumerKey("a", "x")]
    await put(consumers, *map(row, keys))
    assert [one.key for one in await consumers.all()] == sorted(keys)
    assert [one.name for one in await consumers.all("a")] == ["x", "y"]
    assert await consumers.all("c") == []


async def test_a_change_sees_the_row_and_how_many_others_its_owner_has(
    consumers: Consumers,
) -> None:
    await put(consumers, row(), row(ConsumerKey(OWNER, "b")), row(ConsumerKey("another", "c")))
    seen: list[tuple[ConsumerRow | None, int]] = []

    def look(before: ConsumerRow | None, others: int) -> ConsumerRow | None:
        seen.append((before, others))
        return before

    before = commits(consumers)
    assert await consumers.change(*SIEM, look) == row()
    assert await consumers.change(OWNER, "new", look) is None
    assert seen == [(row(), 1), (None, 2)]
    assert commits(consumers) == before, "nothing has changed"


async def test_a_change_that_raises_changes_nothing(consumers: Consumers) -> None:
    await put(consumers, row())

    def refuse(before: ConsumerRow | None, others: int) -> ConsumerRow | None:
        raise Conflict("no", code="consumer_in_use")

    with pytest.raises(Conflict, match="no"):
        await consumers.change(*SIEM, refuse)
    assert await consumers.get(*SIEM) == row()


async def test_a_row_can_be_deleted(consumers: Consumers) -> None:
    await put(consumers, row())
    assert await consumers.change(*SIEM, putting(None)) is None
    assert await consumers.get(*SIEM) is None
    assert await consumers.change(*SIEM, putting(None)) is None


async def test_of_claims_at_once_each_has_a_generation_of_its_own(connect: Connect) -> None:
    stores = [await connect() for _ in range(3)]
    await put(stores[0], row(generation=0))

    def claim(before: ConsumerRow | None, others: int) -> ConsumerRow | None:
        assert before is not None
        return structs.replace(before, generation=before.generation + 1)

    rows = await asyncio.gather(*(store.change(*SIEM, claim) for store in stores for _ in range(5)))
    assert sorted(one.generation for one in rows if one is not None) == list(range(1, 16))


async def test_owners_that_create_at_once_do_not_get_more_than_their_limit(
    connect: Connect,
) -> None:
    stores = [await connect() for _ in range(2)]

    def creating(name: str) -> RowChange:
        def create(before: ConsumerRow | None, others: int) -> ConsumerRow | None:
            return row(ConsumerKey(OWNER, name)) if others < 4 else None

        return create

    names = [f"n{number}" for number in range(8)]
    await asyncio.gather(
        *(stores[place % 2].change(OWNER, name, creating(name)) for place, name in enumerate(names))
    )
    assert len(await stores[0].all(OWNER)) == 4


async def test_one_transaction_stores_all_moves(consumers: Consumers) -> None:
    keys = [ConsumerKey(f"owner{number % 7}", f"n{number}") for number in range(40)]
    await put(consumers, *map(row, keys))
    before = commits(consumers)
    move = Move(at=5.0, generation=3, cursor=cursor(15), lease_until=12.0, unacknowledged=4)
    after = await consumers.commit(dict.fromkeys(keys, move))
    assert commits(consumers) == before + 1
    expected = [
        row(
            key, cursor=cursor(15), lease_until=12.0, unacknowledged=4, acked_at=5.0, updated_at=5.0
        )
        for key in sorted(keys)
    ]
    assert [after[key] for key in sorted(keys)] == expected
    assert await consumers.all() == expected


async def test_many_consumers_that_acknowledge_are_one_transaction_a_second(
    consumers: Consumers,
) -> None:
    process = Process(consumers, PassingClock())
    keys = [ConsumerKey(f"owner{number % 70}", f"c{number}") for number in range(_MANY)]
    readers = [(await process.read(key))[0] for key in keys]
    before = commits(consumers)
    for second in range(1, 4):
        for reader in readers:
            for offset in range(10 * second, 10 * second + 5):
                reader.delivered(offset, [offset], 100)
                reader.acknowledge(offset)
        await process.second()
        assert commits(consumers) == before + second
    rows = await consumers.all()
    assert {row.cursor for row in rows} == {cursor(34)}
    # Nothing moves, and no claim is to be renewed: nothing is written.
    await process.second()
    await process.claims.flush(watch=True)
    assert commits(consumers) <= before + 4


async def test_a_move_of_an_earlier_generation_changes_nothing(consumers: Consumers) -> None:
    await put(consumers, row())
    before = commits(consumers)
    stale = Move(at=5.0, generation=2, cursor=cursor(18), sent=cursor(30), lease_until=99.0)
    assert await consumers.commit({SIEM: stale}) == {SIEM: row()}
    assert await consumers.get(*SIEM) == row()
    assert commits(consumers) == before


async def test_a_move_without_a_generation_is_anybodys(consumers: Consumers) -> None:
    await put(consumers, row())
    after = await consumers.commit({SIEM: Move(at=5.0, generation=None, cursor=cursor(12))})
    assert after[SIEM].cursor == cursor(12)


async def test_positions_only_go_forwards_and_never_beyond_what_was_sent(
    consumers: Consumers,
) -> None:
    await put(consumers, row())
    for moving, expected in (
        ({"cursor": cursor(9)}, (10, 20)),
        ({"cursor": cursor(21)}, (10, 20)),
        ({"sent": cursor(19)}, (10, 20)),
        ({"cursor": cursor(19), "sent": cursor(18)}, (19, 20)),
        ({"cursor": cursor(100), "sent": cursor(100)}, (100, 100)),
        # As numbers, and within one epoch.
        ({"cursor": cursor(200, "zzzzzzzzzz"), "sent": cursor(200, "zzzzzzzzzz")}, (100, 100)),
    ):
        await consumers.commit({SIEM: Move(at=5.0, generation=3, **moving)})
        known = await consumers.get(*SIEM)
        assert known is not None
        assert (known.cursor, known.sent) == tuple(map(cursor, expected)), moving


async def test_what_is_moved_and_what_is_watched_comes_back_as_it_is_now(
    connect: Connect,
) -> None:
    one, other = await connect(), await connect()
    watched, gone = ConsumerKey(OWNER, "watched"), ConsumerKey(OWNER, "gone")
    await put(one, row(), row(watched))
    await other.change(*watched, putting(row(watched, generation=4)))
    move = Move(at=5.0, generation=3, unacknowledged=1)
    assert await one.commit({SIEM: move, gone: move}, [watched, gone]) == {
        SIEM: row(unacknowledged=1, updated_at=5.0),
        watched: row(watched, generation=4),
    }
    before = commits(one)
    assert await one.commit({}, [watched]) == {watched: row(watched, generation=4)}
    assert commits(one) == before


async def test_what_two_processes_move_at_once_goes_forwards_only(connect: Connect) -> None:
    stores = [await connect() for _ in range(2)]
    keys = [ConsumerKey(OWNER, f"n{number}") for number in range(10)]
    await put(stores[0], *(row(key, sent=cursor(1000)) for key in keys))

    def moves(offset: int) -> dict[ConsumerKey, Move]:
        ordered = keys if offset % 2 else keys[::-1]
        return {key: Move(at=5.0, generation=None, cursor=cursor(offset)) for key in ordered}

    await asyncio.gather(*(stores[n % 2].commit(moves(11 + n)) for n in range(30)))
    assert {one.cursor for one in await stores[0].all()} == {cursor(40)}


async def test_a_destination_keeps_position_and_lease_under_an_owner_of_its_own(
    connect: Connect,
) -> None:
    """As what is no consumer of a key does: the lease is renewed, and only its holder moves."""
    holder, other = await connect(), await connect()
    key = ConsumerKey("destination", "siem")

    def claiming(reader: str, now: float) -> RowChange:
        def claim(before: ConsumerRow | None, others: int) -> ConsumerRow | None:
            if before is None:
                return row(key, generation=1, reader=reader, lease_until=now + 10)
            if before.held(now):
                return before
            return structs.replace(
                before, generation=before.generation + 1, reader=reader, lease_until=now + 10
            )

        return claim

    await holder.change(*key, claiming("one", 100.0))
    refused = await other.change(*key, claiming("two", 109.0))
    assert refused is not None
    assert refused.reader == "one"
    taken = await other.change(*key, claiming("two", 110.0))
    assert taken is not None
    assert (taken.reader, taken.generation) == ("two", 2)
    paused = Move(at=111.0, generation=1, cursor=cursor(50), sent=cursor(50), lease_until=121.0)
    assert await holder.commit({key: paused}) == {key: taken}
    working = structs.replace(paused, generation=2)
    assert (await other.commit({key: working}))[key].cursor == cursor(50)
