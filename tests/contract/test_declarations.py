"""Declared sets in a real store: what applying one makes, refuses, and leaves."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import CommandLine
from gateway.access.credentials.token import digest
from gateway.access.grants.role import BUILTIN, parse_role
from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key_store import KeyStore
from gateway.access.keys.operator import Operator
from gateway.declarations.administration import DeclarationAdministration
from gateway.declarations.checking import SetCheck
from gateway.errors import GatewayError, PreconditionFailed
from gateway.scheduling.loop_work import LoopWork, Slices
from gateway.settings.declarations import KeySettings

PEPPER = b"p" * 32
CATEGORIES = ("auth.**", "k8s.audit", "data.*", "billing.invoices")
TENANTS = ("acme", "globex", "umbrella")
Connect = Callable[[], Awaitable[KeyStore]]


class Desk:
    """Administration of one store by an operator."""

    def __init__(self, store: KeyStore, clock: Any) -> None:
        async def pepper() -> bytes:
            return PEPPER

        self.store, self.clock = store, clock
        caller, slices = CommandLine(Operator("ada")), LoopWork(clock).slices("")
        self.admin = Administration(caller, store, clock, KeySettings(), pepper, slices)
        self.sets = DeclarationAdministration(
            caller, self.admin, store, clock, KeySettings(), None, slices
        )

    async def apply(self, raw: dict[str, Any], *, prune: bool = False, expect: str = "") -> Any:
        return await self.sets.apply({"set": "prod", **raw}, prune=prune, expect=expect)

    async def plan(self, raw: dict[str, Any], *, prune: bool = False) -> Any:
        return await self.sets.plan({"set": "prod", **raw}, prune=prune)

    async def whole(self) -> tuple[Any, Any]:
        return await self.store.all(), await self.store.roles()


@pytest.fixture
def desk(keys: KeyStore, clock: Any) -> Desk:
    return Desk(keys, clock)


def grant(**members: Any) -> dict[str, Any]:
    return {"actions": ["stream"], "categories": ["auth.**"], "tenants": ["acme"], **members}


def key(**members: Any) -> dict[str, Any]:
    return {"purpose": "alerts", "owner": "soc", "grants": [grant()], **members}


async def test_keys_work_with_the_secrets_that_are_told_once(desk: Desk) -> None:
    raw = {"roles": {"r": {"grants": [grant()]}}, "keys": {"siem": key(roles=["r"])}}
    applied = await desk.apply(raw)
    [made] = applied.made
    [stored] = await desk.store.all()
    assert (made.name, made.id) == ("siem", stored.id)
    assert stored.digest == digest(PEPPER, made.key)
    assert (stored.managed_by, stored.created_by) == ("prod/siem", "cli:ada")
    role = (await desk.store.roles())["r"]
    assert (role.managed_by, role.changed_by) == ("prod/r", "cli:ada")
    records = list((await desk.store.unrecorded(10)).values())
    assert [one.action for one in records] == ["role.put", "key.created", "declaration.applied"]
    assert records[-1].data["counts"] == {"+": 2}
    assert made.key not in repr(records)


async def test_applying_twice_changes_and_records_nothing(desk: Desk) -> None:
    raw = {"roles": {"r": {"grants": [grant()]}}, "keys": {"siem": key(roles=["r"])}}
    await desk.apply(raw)
    before, records = await desk.whole(), await desk.store.unrecorded(10)
    again = await desk.apply(raw)
    assert (again.plan.empty, again.made) == (True, [])
    assert await desk.whole() == before
    assert await desk.store.unrecorded(10) == records


async def test_a_plan_changes_nothing_and_is_refused_as_its_application_is(desk: Desk) -> None:
    before = await desk.whole()
    plan = await desk.plan({"keys": {"siem": key()}})
    assert not plan.empty
    assert await desk.whole() == before
    for raw, code in (
        ({"keys": {"a": key(), "b": key(roles=["unknown"])}}, "unknown_role"),
        ({"keys": {"a": key(), "b": key(pseudonym_domain="?")}}, "invalid_key_request"),
        ({"roles": {"auditor": {}}}, "invalid_request"),
        ({"destinations": {"d": {"type": "http", "key": "a"}}}, "no_destinations"),
    ):
        for act in (desk.plan, desk.apply):
            with pytest.raises(GatewayError) as caught:
                await act(raw)
            assert caught.value.code == code, raw
            assert await desk.whole() == before, "all or nothing"


async def test_what_has_moved_since_the_plan_is_not_applied(
    connect_keys: Connect, clock: Any
) -> None:
    desk, other = Desk(await connect_keys(), clock), Desk(await connect_keys(), clock)
    await desk.apply({"keys": {"siem": key()}, "roles": {"r": {"grants": [grant()]}}})
    changed = {"keys": {"siem": key(owner="x")}, "roles": {"r": {"grants": [grant()]}}}
    plan = await desk.plan(changed)
    [stored] = await other.store.all()
    await other.admin.suspend(stored.id, "odd")
    before = await desk.whole()
    with pytest.raises(PreconditionFailed) as caught:
        await desk.apply(changed, expect=plan.digest)
    assert (caught.value.status, caught.value.code) == (412, "plan_changed")
    assert await desk.whole() == before
    newer = await desk.plan(changed)
    assert caught.value.members["etag"] == newer.digest
    await desk.apply(changed, expect=newer.digest)
    assert (await desk.plan(changed)).empty


async def test_a_change_in_the_middle_has_it_planned_anew(
    connect_keys: Connect, clock: Any
) -> None:
    """Between the plan and the change somebody else changes the key: none of both is lost."""
    desk, other = Desk(await connect_keys(), clock), Desk(await connect_keys(), clock)
    await desk.apply({"keys": {"siem": key()}})
    [stored] = await other.store.all()
    together, times = desk.store.change_together, 0

    async def late(*given: Any) -> None:
        nonlocal times
        times += 1
        if times == 1:
            await other.admin.suspend(stored.id, "odd")
        await together(*given)

    desk.store.change_together = late  # type: ignore[method-assign]
    await desk.apply({"keys": {"siem": key(owner="x")}})
    [after] = await other.store.all()
    assert (times, after.owner, after.suspended_reason) == (2, "x", "odd")


async def test_what_somebody_changes_stays_of_the_set_and_is_put_right(desk: Desk) -> None:
    raw = {"roles": {"r": {"grants": [grant()]}}, "keys": {"siem": key(roles=["r"])}}
    await desk.apply(raw)
    await desk.admin.put_role(parse_role("r", {"description": "mine", "grants": []}))
    assert (await desk.store.roles())["r"].managed_by == "prod/r"
    [change] = [one for one in (await desk.plan(raw)).changes if one.mark == "~"]
    assert (change.name, change.drift.by) == ("r", "cli:ada")
    assert set(change.members) == {"description", "grants"}
    await desk.apply(raw)
    assert (await desk.plan(raw)).empty


async def test_a_deleted_role_comes_back_for_the_keys_that_are_declared_with_it(
    desk: Desk,
) -> None:
    raw = {"roles": {"r": {"grants": [grant()]}}, "keys": {"siem": key(roles=["r"])}}
    await desk.apply(raw)
    await desk.admin.delete_role("r")
    await desk.apply(raw)
    assert (await desk.plan(raw)).empty
    assert [one.roles for one in await desk.store.all()] == [("r",)]


async def test_ended_keys_lose_a_pruned_role_and_living_ones_of_others_keep_it(desk: Desk) -> None:
    raw = {"roles": {"r": {"grants": [grant()]}}, "keys": {"siem": key(roles=["r"])}}
    await desk.apply(raw)
    body = {"name": "n", "purpose": "p", "owner": "o", "roles": ["r"]}
    issued = await desk.admin.create(parse_key_request(body, KeySettings()))
    before = await desk.whole()
    with pytest.raises(GatewayError) as caught:
        await desk.apply({}, prune=True)
    assert caught.value.code == "role_in_use"
    assert await desk.whole() == before
    await desk.admin.revoke(issued.key.id, "", with_descendants=False)
    await desk.apply({}, prune=True)
    assert await desk.store.roles() == {}
    stored = {one.id: one for one in await desk.store.all()}
    assert (stored[issued.key.id].roles, stored[issued.key.id].revoked_reason) == ((), "")
    assert all(one.revoked_at for one in stored.values())


# Random sets and states


def some_grants(chance: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "actions": chance.sample(["stream", "pull"], chance.randint(1, 2)),
            "categories": chance.sample(CATEGORIES, chance.randint(1, 2)),
            **({"tenants": chance.sample(TENANTS, 2)} if chance.random() < 0.7 else {}),
            **chance.choice([{}, {}, {}, {"fields": {"drop": ["data"]}}, {"effect": "deny"}]),
        }
        for _ in range(chance.randint(0, 2))
    ]


def some_set(chance: random.Random) -> dict[str, Any]:
    roles = {
        name: {"description": chance.choice("ab"), "grants": some_grants(chance)}
        for name in chance.sample(["r1", "r2", "r3"], chance.randint(0, 3))
    }
    keys = {}
    for name in chance.sample(["k1", "k2", "k3", "k4"], chance.randint(0, 4)):
        keys[name] = {
            "purpose": chance.choice("ab"), "owner": chance.choice("ab"),
            "grants": some_grants(chance),
            "roles": chance.sample(sorted(roles), min(len(roles), chance.randint(0, 2))),
        }  # fmt: skip
        if chance.random() < 0.5:
            keys[name]["expires_in"] = chance.choice(["30d", "60d"])
        if chance.random() < 0.3:
            keys[name]["limits"] = {"events_per_second": chance.choice([10, 100])}
        if chance.random() < 0.3:
            keys[name]["rotate"] = {"every": "30d", "overlap": "1h"}
    return {"roles": roles, "keys": keys}


async def disturb(desk: Desk, chance: random.Random) -> None:
    """Do what people do to keys and roles meanwhile."""
    for stored in sorted(await desk.store.all(), key=lambda one: (one.managed_by, one.revision)):
        act, state = chance.random(), stored.state(desk.clock.now())
        if state == "active" and act < 0.2:
            await desk.admin.rotate(stored.id, "1h")
        elif act < 0.3:
            await desk.admin.revoke(stored.id, "", with_descendants=False)
        elif state == "active" and act < 0.4:
            await desk.admin.suspend(stored.id, "odd")
        elif state == "active" and act < 0.6:
            changed = replace(stored, owner="eve", expires_at=stored.expires_at + 60)
            await desk.store.change(stored.id, lambda _, changed=changed: changed)  # type: ignore[misc]
    for name in await desk.store.roles():
        act = chance.random()
        if act < 0.2:
            await desk.admin.delete_role(name)
        elif act < 0.4:
            await desk.admin.put_role(parse_role(name, {"grants": some_grants(chance)}))
    if chance.random() < 0.3:
        await desk.clock.advance(3600 * 24 * 20)


async def test_any_set_is_reached_from_any_state(desk: Desk) -> None:
    chance = random.Random(20260401)
    others = {"name": "n", "purpose": "p", "owner": "o", "grants": some_grants(chance)}
    mine = (await desk.admin.create(parse_key_request(others, KeySettings()))).key
    await desk.admin.put_role(parse_role("mine", {"grants": some_grants(chance)}))
    for _ in range(50):
        await disturb(desk, chance)
        raw = some_set(chance)
        plan = await desk.plan(raw, prune=True)
        applied = await desk.apply(raw, prune=True, expect=plan.digest)
        assert {one.name for one in applied.made} == {
            one.name for one in plan.changes if one.mark in "+↻" and one.kind == "key"
        }
        again = await desk.plan(raw, prune=True)
        assert again.empty, (raw, again.changes)
        living = {
            one.managed_by for one in await desk.store.all()
            if one.state(desk.clock.now()) in ("active", "suspended") and one.managed_by
        }  # fmt: skip
        assert living == {f"prod/{name}" for name in raw["keys"]}
        roles = await desk.store.roles()
        assert roles.keys() - {"mine"} == raw["roles"].keys()
        left = await desk.store.get(mine.id)
        assert left is not None
        assert (left.grants, left.managed_by) == (mine.grants, "")


async def test_keys_of_a_set_name_the_person_who_has_applied_it(desk: Desk) -> None:
    desk.sets._caller.person = "ada@example.org"  # type: ignore[misc]
    await desk.apply({"keys": {"siem": key()}})
    [stored] = await desk.store.all()
    assert stored.created_by_name == "ada@example.org"


async def test_changed_keys_of_a_set_are_compared_in_slices(desk: Desk) -> None:
    """What a key may do after the change is compared with what it may before, many by many."""
    grants = [grant(tenants=[f"t{number}"]) for number in range(12)]
    there = {name: key(grants=grants) for name in ("a", "b", "c")}
    await desk.apply({"keys": there})
    rests = 0

    class Counted(Slices):
        async def rest(self) -> None:
            nonlocal rests
            rests += 1
            await super().rest()

    counted = Counted(LoopWork(desk.clock), "")
    check = SetCheck(CommandLine(Operator("ada")), desk.admin, BUILTIN, counted)
    for stored in await desk.store.all():
        await check.changed_key(stored, replace(stored, grants=stored.grants[1:]))
    assert rests >= 3 * len(grants)
