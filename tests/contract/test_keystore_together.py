"""Several changes of keys and roles in one: alike in every key store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import other_change
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import DecidingTogether, KeyChanges, KeyStore
from gateway.errors import ChangedMeanwhile, Conflict, InvalidRequest

NOW = 1_700_000_000.0
GRANT = parse_grant({"actions": ["stream"], "categories": ["auth"]})
A, B, C = "A" * 12, "B" * 12, "C" * 12


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=bytes(32), name="n", purpose="p", owner="o", created_at=NOW,
        expires_at=NOW + 60,
    )  # fmt: skip
    return replace(made, **members)


def always(**changes: Any) -> DecidingTogether:
    return lambda roles, keys: KeyChanges(**changes)


async def everything(keys: KeyStore) -> tuple[list[Key], dict[str, Role], int]:
    return await keys.all(), await keys.roles(), len(await keys.unrecorded(1000))


async def test_roles_keys_and_records_change_together(keys: KeyStore) -> None:
    await keys.put_role(Role(name="old", grants=(GRANT,)))
    await keys.create(key(A, roles=("old",)))
    await keys.create(key(B))
    revision, (version, _) = await keys.newest_revision(), await keys.roles_since(-1)
    given: list[tuple[Mapping[str, Role], Sequence[Key]]] = []
    record = other_change("declaration.applied", ["declaration:prod"], by="a", at=NOW, data={})

    def decide(roles: Mapping[str, Role], there: Sequence[Key]) -> KeyChanges:
        given.append((dict(roles), list(there)))
        before = {one.id: one for one in there}
        return KeyChanges(
            roles=[Role(name="new", grants=(GRANT,))],
            replaced=[
                lifecycle.without_role(before[A], "old", NOW + 1, "a"),
                lifecycle.revoke(before[B], NOW + 1, "", "a"),
            ],
            added=[key(C, roles=("new",), created_by="a")],
            deleted_roles={"old": [A]},
            records=[record],
        )

    await keys.change_together(decide, "a", NOW + 1)
    [(roles, there)] = given
    assert (set(roles), {one.id for one in there}) == ({"old"}, {A, B})
    assert set(await keys.roles()) == {"new"}
    newest, changed = await keys.changed_since(revision)
    assert {one.id: one.change for one in changed} == {
        A: "role_removed", B: "revoked", C: "created"
    }  # fmt: skip
    assert sorted(one.revision for one in changed) == [revision + 1, revision + 2, revision + 3]
    assert newest == revision + 3
    _, told = await keys.roles_since(version)
    assert {name: role and role.name for name, role in told.items()} == {"new": "new", "old": None}
    records = list((await keys.unrecorded(100)).values())[-6:]
    assert [one.action for one in records] == [
        "role.put", "key.role_removed", "key.revoked", "key.created", "role.deleted",
        "declaration.applied",
    ]  # fmt: skip
    assert records[4].data["keys"] == [A]


async def test_nothing_changes_if_one_of_the_changes_cannot_be_made(keys: KeyStore) -> None:
    await keys.put_role(Role(name="r", grants=(GRANT,)))
    await keys.create(key(A))
    before = await everything(keys)
    [there] = await keys.all()
    changes = {
        "roles": [Role(name="new")], "deleted_roles": {"r": []},
        "replaced": [lifecycle.revoke(there, NOW, "", "a")],
    }  # fmt: skip

    def refuse(roles: Mapping[str, Role], there: Sequence[Key]) -> KeyChanges:
        raise ChangedMeanwhile("it has moved")

    for decide, error in (
        (refuse, ChangedMeanwhile),
        (always(**changes, added=[key(A)]), Conflict),
        (always(**changes, added=[key(B), key(C, roles=("unknown",))]), InvalidRequest),
    ):
        with pytest.raises(error):
            await keys.change_together(decide, "a", NOW)
        assert await everything(keys) == before


async def test_what_was_decided_on_does_not_change_before_it_is_stored(
    connect_keys: Callable[[], Awaitable[KeyStore]],
) -> None:
    """Both add a key for each that is there; one of them sees what the other did."""
    one, other = await connect_keys(), await connect_keys()
    await one.create(key(A))

    async def double(keys: KeyStore, prefix: str) -> None:
        await keys.change_together(
            lambda roles, there: KeyChanges(
                added=[key(f"{prefix}{number:011d}") for number, _ in enumerate(there)]
            )
        )

    await asyncio.gather(double(one, "x"), double(other, "y"))
    assert len(await one.all()) == 4
    revisions = [found.revision for found in await one.all()]
    assert len(set(revisions)) == len(revisions)


async def test_what_cannot_be_read_is_not_replaced(keys: KeyStore) -> None:
    await keys.create(key(A))
    [there] = await keys.all()
    await keys.change_together(always(replaced=[replace(there, created_at=-1.0)]))
    [unreadable] = await keys.all()
    assert unreadable.unreadable
    with pytest.raises(Conflict):
        await keys.change_together(always(replaced=[replace(unreadable, name="x")]))
