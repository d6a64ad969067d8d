"""What every key store promises: one truth for all processes, and changes that can be followed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.access.keys.rotation_schedule import RotationSchedule
from gateway.access.keys.stored_grant import read_grant
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Conflict, GatewayError
from tests.support.examples import examples
from tests.support.machine_time import patience

Connect = Callable[[], Awaitable[KeyStore]]
ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000.123456
GRANT = parse_grant(
    {
        "id": "g",
        "actions": ["stream", "pull"],
        "categories": ["auth.**"],
        "resources": ["ü/x"],
        "min_severity": 3,
    }
)


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=bytes(range(32)), name="Größe", purpose="a 'test'", owner="o",
        grants=(GRANT,), created_at=NOW, expires_at=NOW + 60,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


def unnumbered(found: Key | None) -> Key:
    assert found is not None
    assert found.revision > 0
    return msgspec.structs.replace(found, revision=0)


async def test_an_empty_store_has_nothing(keys: KeyStore) -> None:
    assert await keys.all() == []
    assert await keys.ids() == set()
    assert await keys.get("a") is None
    assert await keys.change("a", lambda found: lifecycle.revoke(found, NOW, "why")) is None
    assert await keys.changed_since(0) == (0, [])
    assert await keys.changed_since(7) == (0, []), "there were more once, as it seems"
    assert (await keys.roles_since(7))[0] == 0
    assert await keys.newest_revision() == 0


async def test_a_key_is_kept_member_by_member(keys: KeyStore) -> None:
    made = key(
        "a", revoked_at=None, roles=("auditor",), suspended_at=NOW, suspended_reason="pause",
        rotate=RotationSchedule("30d", "1d"), managed_by="prod/siem",
    )  # fmt: skip
    await keys.create(made)
    assert unnumbered(await keys.get("a")) == made
    assert [unnumbered(found) for found in await keys.all()] == [made]
    assert await keys.get("A") is None


async def test_changes_and_reads_are_timed_apart(keys: KeyStore) -> None:
    def counts() -> list[float]:
        return [sum(one.cells[:-1]) for one in (keys.commit_seconds, keys.read_seconds)]

    commits, reads = counts()
    await keys.create(key("a"))
    assert counts() == [commits + 1, reads]
    await keys.get("a")
    assert counts() == [commits + 1, reads + 1]
    await keys.update_notes("kind", {"a": lambda before: b"note"})
    assert counts() == [commits + 1, reads + 1], "notes need not be durable at once"


async def test_a_grant_that_would_be_refused_today_is_kept_as_it_was_stored(keys: KeyStore) -> None:
    empty = read_grant(b'{"actions":["stream"],"categories":["auth"],"tenants":[]}')
    await keys.create(key("a", grants=(GRANT, empty)))
    await keys.put_role(Role(name="r", grants=(empty,)))
    changed = await keys.change("a", lambda found: msgspec.structs.replace(found, name="new"))
    assert changed is not None
    for found in (changed, await keys.get("a"), *await keys.all()):
        assert found is not None
        assert found.grants == (GRANT, empty)
    assert (await keys.roles())["r"].grants == (empty,)


async def test_of_several_first_keys_one_is_made(connect_keys: Connect) -> None:
    stores = [await connect_keys() for _ in range(4)]
    made = await asyncio.gather(
        *(store.create_first(key(name)) for store, name in zip(stores, "abcd", strict=True))
    )
    assert sorted(made) == [False, False, False, True]
    [first] = await stores[0].all()
    assert first.id == "abcd"[made.index(True)]
    assert [change.about for change in (await stores[0].unrecorded(9)).values()] == [
        (f"key:{first.id}",)
    ]
    await stores[0].change(first.id, lambda found: lifecycle.revoke(found, NOW, "over"))
    assert await stores[1].create_first(key("e")) is False, "there was one"


async def test_an_id_is_taken_once(keys: KeyStore) -> None:
    await keys.create(key("a"))
    with pytest.raises(Conflict) as caught:
        await keys.create(key("a", name="another"))
    assert caught.value.status == 409
    assert unnumbered(await keys.get("a")).name == "Größe"
    assert (await keys.changed_since(0))[0] == 1, "what failed is no change"


async def test_all_keys_come_oldest_first(keys: KeyStore) -> None:
    for name, age in (("c", 5), ("a", 0), ("b", 5), ("d", 9)):
        await keys.create(key(name, created_at=NOW - age))
    assert [found.id for found in await keys.all()] == ["d", "b", "c", "a"]
    assert await keys.ids() == {"a", "b", "c", "d"}


async def test_all_keys_come_in_parts_and_some_by_their_ids(
    keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for adapter in ("adapters.sqlite.keys", "adapters.postgres.keys"):
        monkeypatch.setattr(f"gateway.{adapter}.PART_KEYS", 2)
    for name in "dbeac":
        await keys.create(key(name))
    parts = [[found.id for found in part] async for part in keys.parts()]
    assert parts == [["a", "b"], ["c", "d"], ["e"]]
    found = await keys.some(["e", "x", "a\x00", "b", "b"])
    assert sorted(one.id for one in found) == ["b", "e"]
    assert await keys.some([]) == []
    seen = []
    async for part in keys.parts():
        seen += [one.id for one in part]
        if len(seen) == 2:
            await keys.create(key("cc"))
    assert set("abcde") <= set(seen), "whatever is there from begin to end"


async def test_many_keys_are_changed_and_read_as_few_are(keys: KeyStore) -> None:
    """More than is read at once."""
    names = [f"k{number:03}" for number in range(300)]
    for name in names:
        await keys.create(key(name))
    newest, changed = await keys.changed_since(0)
    assert (newest, [one.id for one in changed]) == (300, names)
    ended = await keys.change_many(
        lambda all_keys: [lifecycle.revoke(one, NOW, "over") for one in all_keys[:5]]
    )
    assert len(ended) == 5
    assert sum(one.revoked_at is not None for one in await keys.all()) == 5

    def fails(all_keys: list[Key]) -> list[Key]:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await keys.change_many(fails)


async def test_a_revocation_stands_with_its_first_reason(keys: KeyStore) -> None:
    await keys.create(key("a"))
    await keys.create(key("b"))
    first = await keys.change(
        "a", lambda found: lifecycle.revoke(found, NOW + 1, "left the project")
    )
    assert first is not None
    assert (first.revoked_at, first.revoked_reason) == (NOW + 1, "left the project")
    assert first == await keys.get("a"), "as it is now, with its revision"
    revision = (await keys.changed_since(0))[0]
    assert (
        await keys.change("a", lambda found: lifecycle.revoke(found, NOW + 2, "another reason"))
        == first
    )
    assert await keys.changed_since(revision) == (revision, []), "nothing has changed"
    other = await keys.get("b")
    assert other is not None
    assert other.revoked_at is None


async def test_changes_are_told_once_in_their_order(keys: KeyStore) -> None:
    await keys.create(key("a"))
    await keys.create(key("b"))
    revision, changed = await keys.changed_since(0)
    assert [found.id for found in changed] == ["a", "b"]
    assert await keys.newest_revision() == revision
    await keys.change("a", lambda found: lifecycle.revoke(found, NOW, ""))
    await keys.create(key("c"))
    later, changed = await keys.changed_since(revision)
    assert later > revision
    assert [(found.id, found.revoked_at is not None) for found in changed] == [
        ("a", True), ("c", False),
    ]  # fmt: skip
    assert [found.revision for found in changed] == sorted(found.revision for found in changed)
    assert await keys.changed_since(later) == (later, [])


async def test_some_keys_are_changed_together_or_not_at_all(keys: KeyStore) -> None:
    for name in ("a", "b", "c"):
        await keys.create(key(name))
    seen: list[str] = []

    def rename(found: list[Key]) -> list[Key]:
        seen.extend(sorted(one.id for one in found))
        return [msgspec.structs.replace(one, name=f"new {one.id}") for one in found]

    changed = await keys.change_many(rename, among=["b", "a", "unknown"])
    assert seen == ["a", "b"]
    assert {one.id: one.name for one in changed} == {"a": "new a", "b": "new b"}
    assert {one.name for one in await keys.all()} == {"new a", "new b", "Größe"}
    revision = await keys.newest_revision()

    def refuse(found: list[Key]) -> list[Key]:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await keys.change_many(refuse, among=["a", "b"])
    assert await keys.newest_revision() == revision


async def test_a_change_and_the_key_it_makes_are_one(keys: KeyStore) -> None:
    await keys.create(key("a"))

    def rename(found: Key) -> Key:
        return msgspec.structs.replace(found, successor="b")

    changed = await keys.change("a", rename, create=key("b", predecessor="a"))
    assert changed == await keys.get("a")
    assert unnumbered(changed).successor == "b"
    assert unnumbered(await keys.get("b")).predecessor == "a"
    revision = await keys.newest_revision()

    def refuse(found: Key) -> Key:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await keys.change("a", refuse, create=key("c"))
    with pytest.raises(Conflict):
        await keys.change("a", lambda found: key("a", successor="x"), create=key("b"))
    assert await keys.change("nobody", rename, create=key("c")) is None
    assert await keys.change("a", lambda found: found) == changed
    assert await keys.newest_revision() == revision
    assert await keys.get("c") is None
    assert await keys.get("a") == changed


async def test_a_change_may_give_a_key_another_digest(keys: KeyStore) -> None:
    await keys.create(key("a"))
    again = key("a", digest=b"another", pepper="p2")
    await keys.change("a", lambda found: again)
    assert unnumbered(await keys.get("a")) == again
    assert [unnumbered(found) for found in (await keys.changed_since(0))[1]] == [again]


async def test_changes_of_one_connection_are_seen_by_the_others(connect_keys: Connect) -> None:
    one, other = await connect_keys(), await connect_keys()
    await one.create(key("a"))
    revision, changed = await other.changed_since(0)
    assert [found.id for found in changed] == ["a"]
    assert await other.get("a") == await one.get("a")
    with pytest.raises(Conflict):
        await other.create(key("a"))
    await other.change("a", lambda found: lifecycle.revoke(found, NOW, "seen elsewhere"))
    _, changed = await one.changed_since(revision)
    assert [found.revoked_reason for found in changed] == ["seen elsewhere"]
    assert await one.change(
        "a", lambda found: lifecycle.revoke(found, NOW + 9, "too late")
    ) == await other.get("a")


async def test_roles_are_put_replaced_and_removed_and_their_version_rises(
    connect_keys: Connect,
) -> None:
    one, other = await connect_keys(), await connect_keys()
    versions = [(await one.roles_since(-1))[0]]

    async def changed(store: KeyStore) -> dict[str, Role | None]:
        """What has changed since the last time."""
        version, roles = await store.roles_since(versions[-1])
        versions.append(version)
        assert await store.roles_since(version) == (version, {})
        return roles

    assert await one.roles() == {}
    role = Role(name="soc", grants=(GRANT,))
    await one.put_role(role)
    assert await changed(other) == {"soc": role}
    assert await other.roles() == {"soc": role}
    await one.put_role(msgspec.structs.replace(role, name="other"))
    assert list(await changed(other)) == ["other"]
    await other.put_role(msgspec.structs.replace(role, grants=()))
    assert await changed(one) == {"soc": msgspec.structs.replace(role, grants=())}
    assert await one.delete_role("soc") == []
    assert await changed(other) == {"soc": None}
    assert list(await other.roles()) == ["other"]
    assert versions == sorted(set(versions))
    assert await one.delete_role("soc") is None
    assert await one.delete_role("never") is None
    assert await one.roles_since(versions[-1]) == (versions[-1], {})
    await other.put_role(role)
    assert await changed(one) == {"soc": role}
    assert set((await one.roles_since(-1))[1]) == {"soc", "other"}


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["make", "revoke", "look"]), st.integers(0, 4))))
async def test_whoever_follows_the_changes_knows_every_key_as_it_is(
    connect_keys: Connect, steps: list[tuple[str, int]]
) -> None:
    writer, follower = await connect_keys(), await connect_keys()
    known = {found.id: found for found in await follower.all()}
    revision = await follower.newest_revision()
    for number, (step, name) in enumerate([*steps, ("look", 0)]):
        if step == "make":
            try:
                await writer.create(key(f"k{name}"))
            except Conflict:
                continue
        elif step == "revoke":
            revoke = partial(lifecycle.revoke, now=NOW + number, reason=f"reason {number}")
            await writer.change(f"k{name}", revoke)
        else:
            revision, changed = await follower.changed_since(revision)
            known.update((found.id, found) for found in changed)
            assert known == {found.id: found for found in await writer.all()}


OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from gateway.access.keys import lifecycle
from gateway.adapters.sqlite.keys import SqliteKeys

async def main():
    store = SqliteKeys(Path(sys.argv[1]))
    print(*(key.id for key in await store.all()))
    await store.change("a", lambda found: lifecycle.revoke(found, 7.0, "by another process"))
    await store.close()

asyncio.run(main())
"""


async def test_another_process_sees_and_makes_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.create(key("a"))
    revision = await store.newest_revision()
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", OTHER_PROCESS, str(path)],
        capture_output=True, text=True, check=True,
        timeout=patience(60), env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "a\n"
    _, changed = await store.changed_since(revision)
    assert [(found.revoked_at, found.revoked_reason) for found in changed] == [
        (7.0, "by another process")
    ]
    await store.close()


COUNTER = """
import asyncio, sys
from pathlib import Path
import msgspec
from gateway.access.keys import lifecycle
from gateway.adapters.sqlite.keys import SqliteKeys

async def main():
    store = SqliteKeys(Path(sys.argv[1]))
    for _ in range(40):
        await store.change(
            "a", lambda found: msgspec.structs.replace(found, name=str(int(found.name) + 1))
        )
    await store.close()

asyncio.run(main())
"""


async def test_changes_of_several_processes_at_once_are_all_made(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.create(key("a", name="0"))
    command = [sys.executable, "-c", COUNTER, str(path)]
    processes = [
        subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)})  # noqa: ASYNC220
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert unnumbered(await store.get("a")).name == "120"
    await store.close()


async def test_the_file_holds_digests_and_no_document_repeats_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.create(key("a"))
    await store.close()
    connection = apsw.Connection(str(path))
    rows: Any = connection.execute("SELECT digest, document FROM key").fetchall()
    [(digest, document)] = rows
    connection.close()
    assert digest == bytes(range(32))
    assert msgspec.json.decode(document)["digest"] == ""


def test_a_file_that_holds_no_keys_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(GatewayError, match="cannot be opened"):
        SqliteKeys(path)
