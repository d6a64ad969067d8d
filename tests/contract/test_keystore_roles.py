"""Roles and the keys that name them, and several keys in one change: alike in every key store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys import descent, lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.access.keys.operator import Operator
from gateway.errors import Conflict, InvalidRequest

Connect = Callable[[], Awaitable[KeyStore]]
NOW = 1_700_000_000.0
GRANT = parse_grant({"actions": ["stream"], "categories": ["auth"]})
OPERATOR = Operator("ada", sudo_user="eve", host="h", terminal="/dev/pts/1")
A, B, C = "A" * 12, "B" * 12, "C" * 12


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=bytes(32), name="n", purpose="p", owner="o", created_at=NOW,
        expires_at=NOW + 60,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


async def roles_of(keys: KeyStore, key_id: str) -> tuple[str, ...]:
    found = await keys.get(key_id)
    assert found is not None
    return found.roles


async def test_a_deleted_role_is_taken_out_of_its_keys_in_the_same_change(keys: KeyStore) -> None:
    await keys.put_role(Role(name="soc", grants=(GRANT,)))
    await keys.put_role(Role(name="other", grants=(GRANT,)))
    await keys.create(key(A, roles=("soc", "other", "auditor")))
    await keys.create(key(B, roles=("other",)))
    revision = await keys.newest_revision()
    assert await keys.delete_role("soc", "admin", NOW + 1) == [A]
    assert await roles_of(keys, A) == ("other", "auditor")
    _, changed = await keys.changed_since(revision)
    assert [one.id for one in changed] == [A], "whoever follows the changes hears of it"
    # What is made later under its name is another role.
    assert await keys.put_role(Role(name="soc", grants=(GRANT,))) == []
    assert await roles_of(keys, A) == ("other", "auditor")


async def test_that_a_role_was_taken_out_is_recorded_of_the_role_and_of_each_key(
    keys: KeyStore,
) -> None:
    await keys.put_role(Role(name="soc", grants=(GRANT,)))
    await keys.create(key(A, roles=("soc",)))
    await keys.delete_role("soc", OPERATOR, NOW + 1)
    of_key, of_role = list((await keys.unrecorded(10)).values())[-2:]
    assert (of_key.action, of_key.about, of_key.data["roles"]) == (
        "key.role_removed", (f"key:{A}",), [],
    )  # fmt: skip
    assert (of_role.action, of_role.data["keys"]) == ("role.deleted", [A])
    assert of_key.by == of_role.by == "cli:ada"
    assert of_key.operator == of_role.operator == OPERATOR
    assert of_key.at == of_role.at == NOW + 1


@pytest.mark.parametrize("deleted", [True, False])
async def test_whether_a_role_may_change_is_looked_at_in_the_same_change(
    keys: KeyStore, deleted: bool
) -> None:
    await keys.put_role(Role(name="soc", grants=(GRANT,)))
    await keys.put_role(Role(name="other"))
    await keys.create(key(A, roles=("soc",)))
    await keys.create(key(B, roles=("other",)))
    seen: list[tuple[set[str], list[str]]] = []

    def refuse(roles: Mapping[str, Role], having: Sequence[Key]) -> None:
        seen.append((set(roles), [one.id for one in having]))
        assert roles["soc"].grants == (GRANT,)
        raise Conflict("not this one")

    version, _ = await keys.roles_since(-1)
    changing = (
        keys.delete_role("soc", check=refuse)
        if deleted
        else keys.put_role(Role(name="soc"), check=refuse)
    )
    with pytest.raises(Conflict, match="not this one"):
        await changing
    assert seen == [({"soc", "other"}, [A])]
    assert await keys.roles_since(version) == (version, {})
    assert await roles_of(keys, A) == ("soc",)


async def test_a_key_that_names_a_role_that_is_not_there_is_refused(keys: KeyStore) -> None:
    with pytest.raises(InvalidRequest, match="no role 'never'"):
        await keys.create(key(A, roles=("auditor", "never")))
    await keys.put_role(Role(name="soc"))
    await keys.delete_role("soc")
    with pytest.raises(InvalidRequest, match="no role 'soc'"):
        await keys.create_first(key(A, roles=("soc",)))
    await keys.create(key(B))
    with pytest.raises(InvalidRequest):
        await keys.change(
            B, lambda one: msgspec.structs.replace(one, name="x"), create=key(A, roles=("soc",))
        )
    assert (await keys.get(A), (await keys.all())[0].name) == (None, "n")


async def test_names_that_stand_in_keys_without_a_role_get_nothing_of_a_new_one(
    keys: KeyStore,
) -> None:
    """As keys do that were made before deleted roles were taken out, or were restored."""
    await keys.create(key(A))
    await keys.change(A, lambda one: msgspec.structs.replace(one, roles=("ghost",)))
    assert await keys.put_role(Role(name="ghost", grants=(GRANT,))) == [A]
    assert await roles_of(keys, A) == ()
    await keys.change(A, lambda one: msgspec.structs.replace(one, roles=("ghost",)))
    assert await keys.put_role(Role(name="ghost")) == [], "replaced, it stays"
    assert await roles_of(keys, A) == ("ghost",)


async def test_whichever_comes_first_no_key_keeps_a_role_that_is_deleted(
    connect_keys: Connect,
) -> None:
    one, other = await connect_keys(), await connect_keys()
    for n in range(10):
        name, key_id = f"r{n}", f"{n}" * 12
        await one.put_role(Role(name=name, grants=(GRANT,)))
        await asyncio.gather(
            one.create(key(key_id, roles=(name,))), other.delete_role(name),
            return_exceptions=True,
        )  # fmt: skip
        found = await one.get(key_id)
        assert found is None or found.roles == ()


async def test_a_key_of_a_maker_that_was_revoked_meanwhile_is_not_added(keys: KeyStore) -> None:
    await keys.create(key(A))
    await keys.create(key(B, created_by=A))
    await keys.change(A, lambda found: lifecycle.revoke(found, NOW, "r"))
    with pytest.raises(Conflict, match="revoked at the same time"):
        await keys.create(key(C, created_by=A))
    assert await keys.ids() == {A, B}


async def test_a_key_is_revoked_with_all_that_came_of_it_in_one_change(keys: KeyStore) -> None:
    await keys.create(key(A))
    await keys.create(key(B, created_by=A))
    await keys.create(key(C, created_by=B))
    await keys.create(key("D" * 12))
    changed = await keys.change_many(
        lambda known: descent.revoke_with_descendants(known, A, NOW, "r", "me")
    )
    assert [one.id for one in changed] == [A, B, C]
    states = {one.id[0]: one.state(NOW) for one in await keys.all()}
    assert states == {"A": "revoked", "B": "revoked", "C": "revoked", "D": "active"}


async def test_what_a_change_of_many_raises_leaves_all_as_they_were(keys: KeyStore) -> None:
    await keys.create(key(A))

    def change(known: list[Key]) -> list[Key]:
        lifecycle.revoke(known[0], NOW, "r")
        raise Conflict("no")

    with pytest.raises(Conflict):
        await keys.change_many(change)
    assert (await keys.all())[0].state(NOW) == "active"
    assert await keys.change_many(lambda known: []) == []
