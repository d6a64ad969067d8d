"""What every key store promises of changes that wait to be recorded, and of notes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import other_change
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Conflict
from tests.support.examples import examples

Connect = Callable[[], Awaitable[KeyStore]]
ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000.5
GRANT = parse_grant({"id": "g", "actions": ["stream"], "categories": ["auth.**"]})

SHOWN = [{"id": "g", "actions": ["stream"], "categories": ["auth.**"]}]


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=b"d", name="n", purpose="p", owner="o", grants=(GRANT,),
        created_at=NOW, expires_at=NOW + 60, changed_by="someone",
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


async def waiting(keys: KeyStore) -> list[str]:
    return [change.id for change in (await keys.unrecorded(1000)).values()]


async def test_every_change_of_a_key_waits_with_what_it_was_and_who_made_it(
    keys: KeyStore,
) -> None:
    await keys.create(key("a"))
    await keys.change("a", lambda found: lifecycle.suspend(found, NOW + 1, "pause", by="admin"))
    await keys.change("a", lambda found: lifecycle.resume(found, NOW + 2, by="admin"))
    await keys.change("a", lambda found: lifecycle.revoke(found, NOW + 3, "left"))
    changes = list((await keys.unrecorded(10)).values())
    assert [(one.id, one.action, one.by, one.at, one.reason) for one in changes] == [
        ("key-a-1", "key.created", "someone", NOW, ""),
        ("key-a-2", "key.suspended", "admin", NOW + 1, "pause"),
        ("key-a-3", "key.resumed", "admin", NOW + 2, ""),
        ("key-a-4", "key.revoked", "", NOW + 3, "left"),
    ]
    assert all(one.about == ("key:a",) for one in changes)
    assert changes[0].data["grants"] == SHOWN
    assert "d" not in changes[0].data.values(), "no digest"


async def test_a_rotation_is_two_changes_that_name_each_other(keys: KeyStore) -> None:
    await keys.create(key("a"))
    found = await keys.get("a")
    assert found is not None
    old, successor, _ = lifecycle.rotate(
        found, NOW, overlap=10, max_life=60, pepper=b"p", by="admin"
    )
    await keys.change("a", lambda current: old, create=successor)
    [_, rotated, created] = (await keys.unrecorded(10)).values()
    assert (rotated.id, rotated.action) == ("key-a-2", "key.rotated")
    assert rotated.about == ("key:a", f"key:{successor.id}")
    assert (created.id, created.action) == (f"key-{successor.id}-3", "key.created")
    assert created.about == (f"key:{successor.id}", "key:a")
    assert rotated.by == created.by == "admin"


async def test_what_failed_or_changed_nothing_does_not_wait(keys: KeyStore) -> None:
    await keys.create(key("a"))
    with pytest.raises(Conflict):
        await keys.create(key("a"))
    with pytest.raises(Conflict):
        await keys.change("a", lambda found: key("a", name="x"), create=key("a"))
    await keys.change("a", lambda found: found)
    await keys.change("nobody", lambda found: lifecycle.revoke(found, NOW, ""))
    assert await keys.delete_role("nothing", "admin") is None
    assert await waiting(keys) == ["key-a-1"]


async def test_every_change_of_a_role_waits(keys: KeyStore) -> None:
    await keys.put_role(Role(name="soc", description="d", grants=(GRANT,)), "admin")
    await keys.put_role(Role(name="soc"), "other")
    await keys.delete_role("soc", "third")
    changes = list((await keys.unrecorded(10)).values())
    assert [(one.id, one.action, one.by, one.about) for one in changes] == [
        ("role-soc-1", "role.put", "admin", ("role:soc",)),
        ("role-soc-2", "role.put", "other", ("role:soc",)),
        ("role-soc-3", "role.deleted", "third", ("role:soc",)),
    ]
    assert changes[0].data["grants"] == SHOWN
    assert "grants" not in changes[2].data


async def test_changes_are_given_oldest_first_until_they_are_marked(
    connect_keys: Connect,
) -> None:
    one, other = await connect_keys(), await connect_keys()
    for name in "abcde":
        await one.create(key(name))
    first = await other.unrecorded(2)
    assert [change.id for change in first.values()] == ["key-a-1", "key-b-2"]
    assert list(first) == sorted(first)
    assert await other.unrecorded(2) == first, "until they are marked"
    await other.mark_recorded(list(first))
    assert await waiting(one) == ["key-c-3", "key-d-4", "key-e-5"]
    await one.mark_recorded([])
    await one.mark_recorded([*first, 999])
    assert await waiting(one) == ["key-c-3", "key-d-4", "key-e-5"]


async def test_a_number_is_never_given_to_another_change(keys: KeyStore) -> None:
    """Whoever marks late what somebody else marked already must not mark a change made since."""
    await keys.create(key("a"))
    numbers = list(await keys.unrecorded(10))
    await keys.mark_recorded(numbers)
    await keys.create(key("b"))
    await keys.mark_recorded(numbers)
    assert await waiting(keys) == ["key-b-2"]


async def test_a_change_of_something_else_waits_among_those_of_keys(
    connect_keys: Connect,
) -> None:
    one, other = await connect_keys(), await connect_keys()
    forgotten = other_change(
        "pepper.forgotten", ["pepper:x"], by="program", at=NOW, reason="old", data={"pepper": "x"}
    )
    await one.create(key("a"))
    await one.record_later(forgotten)
    await one.create(key("b"))
    changes = list((await other.unrecorded(10)).values())
    assert [change.id for change in changes] == ["key-a-1", forgotten.id, "key-b-2"]
    assert changes[1] == forgotten


OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from gateway.access.keys import lifecycle
from gateway.adapters.sqlite.keys import SqliteKeys

async def main():
    store = SqliteKeys(Path(sys.argv[1]))
    await store.change("a", lambda found: lifecycle.revoke(found, 7.0, "by another process"))
    await store.close()

asyncio.run(main())
"""


async def test_a_change_of_another_process_waits_for_whoever_records(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.create(key("a"))
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER_PROCESS, str(path), env={"PYTHONPATH": str(ROOT)}
    )
    assert await other.wait() == 0
    assert await waiting(store) == ["key-a-1", "key-a-2"]
    await store.close()


# Notes


async def test_a_note_is_what_was_made_of_the_one_before(connect_keys: Connect) -> None:
    one, other = await connect_keys(), await connect_keys()
    assert await one.note("trace", "a") is None
    await one.update_notes("trace", {"a": lambda before: (before or b"") + b"1"})
    await other.update_notes("trace", {"a": lambda before: (before or b"") + b"2"})
    assert await one.note("trace", "a") == b"12"
    await one.update_notes("trace", {"a": lambda before: None, "b": lambda before: None})
    assert await other.note("trace", "a") is None


async def test_notes_are_told_apart_by_kind_and_name(keys: KeyStore) -> None:
    await keys.update_notes("x", {"a": lambda _: b"xa", "b": lambda _: b"xb\x00\xff"})
    await keys.update_notes("y", {"a": lambda _: b"ya"})
    assert await keys.notes("x") == {"a": b"xa", "b": b"xb\x00\xff"}
    assert await keys.notes("y") == {"a": b"ya"}
    assert await keys.notes("z") == {}
    assert list(await keys.notes("x", most=1)) == ["a"]
    assert await keys.notes("x", "a", 9) == {"b": b"xb\x00\xff"}
    assert await keys.notes("x", "b", 9) == {}
    assert await keys.note("y", "b") is None
    await keys.update_notes("x", {})
    assert len(await keys.notes("x")) == 2


async def test_notes_are_replaced_together_or_not_at_all(keys: KeyStore) -> None:
    await keys.update_notes("x", {"a": lambda _: b"1", "b": lambda _: b"1"})

    def fail(before: bytes | None) -> bytes:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await keys.update_notes("x", {"a": lambda _: b"2", "b": fail})
    assert await keys.notes("x") == {"a": b"1", "b": b"1"}


async def test_notes_change_no_key_and_wait_for_no_record(keys: KeyStore) -> None:
    await keys.create(key("a"))
    revision = await keys.newest_revision()
    await keys.update_notes("trace", {"a": lambda _: b"1"})
    assert await keys.newest_revision() == revision
    assert await waiting(keys) == ["key-a-1"]


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(1, 9))))
async def test_nobody_elses_addition_to_a_note_is_lost(
    connect_keys: Connect, steps: list[tuple[int, str, int]]
) -> None:
    stores = [await connect_keys(), await connect_keys()]
    await stores[0].update_notes("sum", {"a": lambda _: None, "b": lambda _: None})
    sums = {"a": 0, "b": 0}
    for which, name, number in steps:
        sums[name] += number

        def added(before: bytes | None, number: int = number) -> bytes:
            return str(int(before or b"0") + number).encode()

        await stores[which].update_notes("sum", {name: added})
    found = await stores[0].notes("sum")
    assert {name: int(found.get(name, b"0")) for name in sums} == sums


async def test_additions_at_the_same_time_come_one_after_the_other(connect_keys: Connect) -> None:
    stores = [await connect_keys(), await connect_keys()]

    def added(before: bytes | None) -> bytes:
        return str(int(before or b"0") + 1).encode()

    await asyncio.gather(
        *(stores[number % 2].update_notes("sum", {"a": added, "b": added}) for number in range(40))
    )
    assert await stores[0].notes("sum") == {"a": b"40", "b": b"40"}


async def test_a_watched_note_is_the_note(keys: KeyStore) -> None:
    assert await keys.watched_note("k", "n") is None
    await keys.update_notes("k", {"n": lambda before: b"one"})
    assert await keys.watched_note("k", "n") == await keys.note("k", "n") == b"one"
    await keys.update_notes("k", {"n": lambda before: None})
    assert await keys.watched_note("k", "n") is None
