"""What every store of destinations promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.adapters.postgres.destinations import PostgresDestinations
from gateway.adapters.sqlite.delivery.destinations import SqliteDestinations
from gateway.delivery.definition import Definition
from gateway.delivery.destination import Destination, SealedSecret
from gateway.delivery.ports import DeadLetter, Destinations
from gateway.errors import Conflict
from tests.contract.conftest import POSTGRES
from tests.support.services.postgres import PostgresServer
from tests.support.store_connections import connections

Connect = Callable[[], Awaitable[Destinations]]


def destination(name: str = "siem") -> Destination:
    definition = Definition(name=name, type="http", key="k" * 12, settings={"url": "https://x"})
    secret = SealedSecret(pepper="p", sealed=b"\x00\xff", set_at=1.5, fingerprint="f")
    return Destination(
        definition=definition, secrets={"token": (secret,)}, since=1.0, created_at=1.0
    )


class NewerDefinition(Definition, frozen=True, kw_only=True):
    """As a newer version of the gateway may have it."""

    novel: str = ""


def letter(number: int) -> DeadLetter:
    return DeadLetter(
        cursor=f"abc-{number:020d}", event_id=f"e{number}", tenant="acme", reason="no",
        status=400, attempts=4, at=2.0,
    )  # fmt: skip


@pytest.fixture(params=["sqlite", *POSTGRES])
async def connect(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> AsyncIterator[Connect]:
    """Connects to one and the same store, as each process does for itself."""
    sqlite = partial(SqliteDestinations, tmp_path / "destinations.db")
    async with connections(request.param, server_of, sqlite, PostgresDestinations.open) as connect:
        yield connect


async def test_what_one_process_stores_another_reads_with_its_revision(connect: Connect) -> None:
    one, other = await connect(), await connect()
    assert await other.version() == 0
    assert await other.all() == []
    stored = await one.change("siem", lambda before, others: destination())
    assert stored == replace(destination(), revision=1)
    assert await other.get("siem") == stored
    await one.change("audit", lambda before, others: destination("audit"))
    assert [found.name for found in await other.all()] == ["audit", "siem"]
    assert await other.version() == 2


async def test_a_change_that_raises_or_changes_nothing_writes_nothing(connect: Connect) -> None:
    store = await connect()
    kept = await store.change("siem", lambda before, others: destination())

    def refuse(before: Destination | None, others: int) -> Destination | None:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.change("siem", refuse)
    assert await store.change("siem", lambda before, others: before) == kept
    assert await store.version() == 1


async def test_changes_exclude_each_other_and_know_the_number_of_others(connect: Connect) -> None:
    stores = [await connect() for _ in range(3)]
    seen: list[int] = []

    def unless_two(before: Destination | None, others: int) -> Destination | None:
        seen.append(others)
        return before if others >= 2 else destination(f"d{len(seen)}")

    for number in range(4):
        await stores[number % 3].change(f"d{number + 1}", unless_two)
    assert seen == [0, 1, 2, 2]

    def count(before: Destination | None, others: int) -> Destination | None:
        assert before is not None
        return replace(before, since=before.since + 1)

    await asyncio.gather(*(store.change("d1", count) for store in stores for _ in range(5)))
    found = await stores[0].get("d1")
    assert found is not None
    assert found.since == 16.0


async def test_dead_letters_are_kept_once_in_the_order_of_the_log(connect: Connect) -> None:
    store = await connect()
    assert await store.add_dead_letters("siem", [letter(1)]) == 0
    await store.change("siem", lambda before, others: destination())
    assert await store.add_dead_letters("siem", [letter(30), letter(4), letter(12)]) == 3
    assert await store.add_dead_letters("siem", [letter(4)]) == 3
    assert await store.dead_letters("siem", "", 2) == [letter(4), letter(12)]
    assert await store.dead_letters("siem", letter(12).cursor, 2) == [letter(30)]
    assert await store.delete_dead_letters("siem", [letter(4).cursor, letter(5).cursor]) == 1
    assert await store.count_dead_letters("siem") == 2
    assert await store.delete_dead_letters("siem", None) == 2
    assert await store.dead_letters("siem", "", 2) == []


async def test_with_a_destination_all_that_belongs_to_it_goes(connect: Connect) -> None:
    store = await connect()
    await store.put_statuses({"siem": b"lost"})
    assert await store.status("siem") is None
    await store.change("siem", lambda before, others: destination())
    await store.change("other", lambda before, others: destination("other"))
    await store.put_statuses({"siem": b"old", "other": b"old"})
    await store.put_statuses({"siem": b"new", "gone": b"lost", "other": b"new"})
    for name in ("siem", "other"):
        await store.add_dead_letters(name, [letter(1)])
    assert await store.change("siem", lambda before, others: None) is None
    assert await store.get("siem") is None
    assert await store.version() == 3
    await store.change("siem", lambda before, others: destination())
    assert await store.status("siem") is None
    assert await store.dead_letters("siem", "", 10) == []
    assert await store.status("other") == b"new"
    assert await store.statuses() == {"other": b"new"}
    assert await store.count_dead_letters("other") == 1


async def test_what_a_newer_version_stores_is_left_to_it_and_holds_up_no_other(
    connect: Connect,
) -> None:
    store = await connect()
    await store.change("siem", lambda before, others: destination())
    definition = NewerDefinition(name="novel", type="http", key="k" * 12, novel="x")
    newer = replace(destination("novel"), definition=definition)
    await store.change("novel", lambda before, others: newer)
    assert [found.name for found in await store.all()] == ["siem"]
    for use in (store.get("novel"), store.change("novel", lambda before, others: before)):
        with pytest.raises(Conflict) as caught:
            await use
        assert caught.value.code == "unreadable_destination"
