"""Keys and the domains of their pseudonyms: whose are equal, and from which moment on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import CommandLine
from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.mask import Masks, domain_of
from gateway.access.grants.role import parse_role
from gateway.access.keyring import Keyring
from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Operator
from gateway.access.policy.decision import Allowed
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import InvalidRequest
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import KeySettings

PEPPERS = Peppers((Pepper(b"p" * 32),))
NAMED = {
    "actions": ["stream", "pull"], "categories": ["**"], "tenants": ["acme"],
    "fields": {"pseudonymize": ["actor.id"]},
}  # fmt: skip
PLAIN = {"actions": ["stream"], "categories": ["**"]}
SENDING = {"actions": ["ingest"], "categories": ["**"]}


class World:
    """A store, its administration, and a gateway's keyring."""

    def __init__(self, store: SqliteKeys, clock: Any) -> None:
        async def pepper() -> bytes:
            return PEPPERS.current.secret

        self.store = store
        self.admin = Administration(
            CommandLine(Operator("somebody")), store, clock, KeySettings(), pepper,
            LoopWork(clock).slices(""),
        )  # fmt: skip
        self.keyring = Keyring(store, lambda: PEPPERS, clock)

    async def create(self, *grants: dict[str, Any], **members: Any) -> Key:
        body = {"name": "n", "purpose": "p", "owner": "o", "expires_in": "1h",
                "grants": list(grants), **members}  # fmt: skip
        return (await self.admin.create(parse_key_request(body, KeySettings()))).key

    async def put_role(self, name: str, *grants: dict[str, Any]) -> None:
        await self.admin.put_role(parse_role(name, {"grants": list(grants)}))

    async def masks_of(self, key: Key) -> Masks:
        """Masks that the key streams under, by the decision of a gateway."""
        known = await self.keyring.get(key.id)
        assert known is not None
        decision = self.keyring.decide(known, "stream", None)
        assert isinstance(decision, Allowed)
        return decision.view.rules[0].masks

    async def domain_of(self, key: Key) -> str | None:
        domain = domain_of(await self.masks_of(key))
        return None if domain is None else domain.name

    async def changes(self) -> list[str]:
        return [one.action for one in (await self.store.unrecorded(100)).values()]


@pytest.fixture
async def world(tmp_path: Path, clock: Any) -> AsyncIterator[World]:
    store = SqliteKeys(tmp_path / "keys.db")
    world = World(store, clock)
    await world.keyring.refresh()
    yield world
    await store.close()


async def test_the_secret_is_made_before_the_first_key_that_needs_it(world: World) -> None:
    plain = await world.create(PLAIN)
    assert await world.admin.pseudonym_versions() == []
    key = await world.create(NAMED)
    # No refresh tells the gateway of it.
    assert await world.domain_of(key) == f"key:{key.id}"
    assert await world.domain_of(plain) is None
    assert await world.changes() == ["key.created", "pseudonyms.begun", "key.created"]
    await world.create(NAMED)
    assert len(await world.admin.pseudonym_versions()) == 1


async def test_the_secret_is_made_before_the_first_role_that_needs_it(world: World) -> None:
    await world.put_role("r", PLAIN)
    await world.keyring.refresh_roles()
    key = await world.create(roles=["r"])
    assert await world.domain_of(key) is None
    await world.put_role("r", NAMED)
    await world.keyring.refresh_roles()
    assert await world.domain_of(key) == f"key:{key.id}"


async def test_successors_have_the_domain_of_their_lineage_and_others_one_of_their_own(
    world: World,
) -> None:
    key, other = await world.create(NAMED), await world.create(NAMED)
    second = (await world.admin.rotate(key.id, "1h")).key
    third = (await world.admin.rotate(second.id, "1h")).key
    names = [await world.domain_of(one) for one in (key, second, third, other)]
    assert names == [f"key:{key.id}"] * 3 + [f"key:{other.id}"]
    # It is nothing that was asked for, and not shown.
    assert third.public(0.0).pseudonym_domain == ""


async def test_keys_share_a_domain_that_they_were_made_with(world: World) -> None:
    keys = [await world.create(NAMED, pseudonym_domain="siem") for _ in range(2)]
    keys.append((await world.admin.rotate(keys[0].id, "1h")).key)
    masks = [await world.masks_of(key) for key in keys]
    assert masks[0] == masks[1] == masks[2]
    assert {key.public(0.0).pseudonym_domain for key in keys} == {"siem"}


@pytest.mark.parametrize("name", ["", "Siem", "a b", "key:abc", "-a", "x" * 65, "a\n"])
async def test_a_domain_has_a_plain_name_and_never_that_of_a_lineage(
    world: World, name: str
) -> None:
    with pytest.raises(InvalidRequest, match="pseudonym_domain"):
        await world.create(NAMED, pseudonym_domain=name)


async def test_a_key_that_would_be_an_oracle_is_refused(world: World) -> None:
    await world.put_role("sender", SENDING)
    for grants, roles in (([NAMED, SENDING], []), ([NAMED], ["sender"])):
        with pytest.raises(InvalidRequest) as refused:
            await world.create(*grants, roles=roles)
        assert refused.value.code == "pseudonym_oracle"
    with pytest.raises(InvalidRequest, match="a key with this role"):
        await world.put_role("both", NAMED, SENDING)


async def test_a_role_makes_no_key_an_oracle(world: World) -> None:
    await world.put_role("reader", PLAIN)
    key = await world.create(SENDING, roles=["reader"])
    with pytest.raises(InvalidRequest, match=key.id):
        await world.put_role("reader", NAMED)
    assert (await world.admin.role("reader")).grants[0].fields is None
    await world.put_role("other", NAMED)


async def test_an_oracle_that_there_is_nevertheless_sees_members_masked(world: World) -> None:
    """Another version may have stored it."""
    key = await world.create(NAMED)
    sending = await world.create(SENDING)
    await world.store.change(
        key.id, lambda found: replace(found, grants=(*found.grants, *sending.grants))
    )
    assert await world.masks_of(key) == Masks(pseudonymize=("actor.id",))


async def test_a_gateway_learns_of_a_rotation_and_of_what_is_forgotten(
    world: World, clock: Any
) -> None:
    key = await world.create(NAMED)
    before = domain_of(await world.masks_of(key))
    made = await world.admin.rotate_pseudonyms(0)
    await world.keyring.refresh()
    after = domain_of(await world.masks_of(key))
    assert before is not None
    assert after is not None
    for at, version in ((0, 1), (made.begins - 1, 1), (made.begins, 2)):
        pseudonyms = after.at(at)
        assert pseudonyms is not None
        assert pseudonyms.version == version
    old, new = before.at(0), after.at(0)
    assert old is not None
    assert new is not None
    assert old.of("id", "acme", "u") == new.of("id", "acme", "u")
    await clock.advance(made.begins / 1_000_000 - clock.now() + 1)
    await world.admin.forget_pseudonyms(1)
    await world.keyring.refresh()
    left = domain_of(await world.masks_of(key))
    assert left is not None
    assert left.at(0) is None
    assert (await world.changes())[-2:] == ["pseudonyms.rotated", "pseudonyms.forgotten"]


async def test_a_version_begins_after_all_that_was_recorded(world: World, clock: Any) -> None:
    await world.admin.rotate_pseudonyms(0)
    ahead = int(clock.now() * 1_000_000) + 3_600_000_000
    assert (await world.admin.rotate_pseudonyms(ahead)).begins > ahead


async def test_of_two_readings_at_once_the_later_one_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, done, held = world.store.watched_note, asyncio.Event(), asyncio.Event()

    async def late(kind: str, name: str) -> bytes | None:
        found = await read(kind, name)
        done.set()
        await held.wait()
        return found

    monkeypatch.setattr(world.store, "watched_note", late)
    earlier = asyncio.create_task(world.keyring.refresh_pseudonyms())
    await done.wait()
    monkeypatch.setattr(world.store, "watched_note", read)
    key = await world.create(NAMED)
    assert await world.domain_of(key) == f"key:{key.id}"
    held.set()
    await earlier
    assert await world.domain_of(key) == f"key:{key.id}"
