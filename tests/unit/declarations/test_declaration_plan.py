"""Plans: what is made, changed, ended and left, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.access.grants.role import Role, parse_role
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import key_from_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS
from gateway.access.keys.unreadable import read_key, read_role
from gateway.access.policy.subsumption import run_steps
from gateway.declarations.comparison import digest_of, members_of_key
from gateway.declarations.plan import DeclarationPlan, PlannedChange
from gateway.declarations.planned_destinations import KnownDestinations
from gateway.declarations.planning import StoredState, plan_of
from gateway.declarations.wanted import parse_set
from gateway.errors import CannotDecide, GatewayError
from gateway.settings.load import load

NOW = 1_800_000_000.0
DAY = 86400.0
TERMS = load(None, {}, {}).keys
PEPPER = b"p" * 32
AUTH = {"actions": ["stream"], "categories": ["auth.**"], "tenants": ["acme"]}
BOTH = {**AUTH, "tenants": ["acme", "globex"]}


class World:
    """Roles and keys that are there."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.keys: dict[str, Key] = {}
        self.now = NOW

    def plan(self, raw: dict[str, Any], *, prune: bool = False) -> DeclarationPlan:
        there = StoredState(
            roles=self.roles, keys=list(self.keys.values()), destinations=KnownDestinations(),
            now=self.now, limits=NO_LIMITS,
        )  # fmt: skip
        wanted = run_steps(parse_set({"set": "prod", **raw}, TERMS))
        return run_steps(plan_of(wanted, there, prune=prune))

    def apply(self, raw: dict[str, Any], *, prune: bool = False) -> DeclarationPlan:
        """Plan, and do what it says."""
        plan = self.plan(raw, prune=prune)
        wanted = run_steps(parse_set({"set": "prod", **raw}, TERMS))
        self.roles |= {role.name: role for role in plan.roles}
        for name in plan.deleted_roles:
            del self.roles[name]
        for name in plan.made:
            request = replace(wanted.keys[name].request, managed_by=f"prod/{name}")
            key, _ = key_from_request(
                request, now=self.now, max_life=TERMS.max_life, pepper=PEPPER, by="maker"
            )
            self.put(replace(key, declared=digest_of(members_of_key(key))))
        for _, changed in plan.keys:
            self.put(changed)
        for key in plan.revoked:
            self.put(lifecycle.revoke(key, self.now, "", "maker"))
        return plan

    def put(self, key: Key) -> None:
        self.keys[key.id] = replace(key, revision=len(self.keys) + key.revision + 1)

    def key(self, name: str) -> Key:
        return max(
            (key for key in self.keys.values() if key.managed_by == f"prod/{name}"),
            key=lambda key: key.created_at,
        )


def key(**members: Any) -> dict[str, Any]:
    return {"purpose": "alerts", "owner": "soc", "grants": [AUTH], **members}


def lines(plan: DeclarationPlan) -> list[tuple[str, str, str]]:
    return [(one.mark, one.kind, one.name) for one in plan.changes]


def only(plan: DeclarationPlan) -> PlannedChange:
    [change] = plan.changes
    return change


def test_what_is_missing_is_made_and_a_second_plan_is_empty() -> None:
    world = World()
    raw = {"roles": {"r": {"grants": [AUTH]}}, "keys": {"siem": key(grants=[], roles=["r"])}}
    plan = world.apply(raw)
    assert lines(plan) == [("+", "key", "siem"), ("+", "role", "r")]
    assert plan.changes[0].newly == ["May stream events of category auth.** of the tenant acme."], (
        "with what its new role grants"
    )
    again = world.plan(raw)
    assert again.empty
    assert lines(again) == [("=", "role", "r"), ("=", "key", "siem")]


def test_a_change_says_what_is_newly_seen_and_what_not_any_more() -> None:
    world = World()
    world.apply({"keys": {"siem": key()}})
    wider = only(world.plan({"keys": {"siem": key(grants=[BOTH])}}))
    assert (wider.mark, wider.widens, wider.no_more) == ("~", True, [])
    assert wider.newly == ["May stream events of category auth.** of the tenant globex."]
    assert set(wider.members) == {"grants"}
    world.apply({"keys": {"siem": key(grants=[BOTH])}})
    narrower = world.plan({"keys": {"siem": key()}})
    assert only(narrower).no_more == wider.newly
    assert not only(narrower).widens
    assert narrower.narrowed == {world.key("siem").id}


def test_a_mask_that_goes_widens() -> None:
    world = World()
    world.apply({"keys": {"siem": key(grants=[{**AUTH, "fields": {"drop": ["data"]}}])}})
    plan = world.plan({"keys": {"siem": key()}})
    assert only(plan).widens
    assert not plan.narrowed


def test_a_role_that_shrinks_narrows_the_keys_that_have_it() -> None:
    world = World()
    raw = {"roles": {"r": {"grants": [BOTH]}}, "keys": {"siem": key(grants=[], roles=["r"])}}
    world.apply(raw)
    plan = world.plan({**raw, "roles": {"r": {"grants": [AUTH]}}})
    change = plan.changes[0]
    assert (change.kind, change.holders, change.holders_count) == (
        "role", [world.key("siem").id], 1
    )  # fmt: skip
    assert plan.narrowed == {world.key("siem").id}
    wider = {"grants": [{**BOTH, "tenants": ["acme", "globex", "umbrella"]}]}
    assert world.plan({**raw, "roles": {"r": wider}}).changes[0].widens


def test_what_widens_comes_first() -> None:
    world = World()
    world.apply({"keys": {"a": key(grants=[BOTH]), "b": key(), "c": key(), "d": key()}})
    plan = world.plan(
        {"keys": {"a": key(), "b": key(grants=[BOTH]), "c": key(owner="x"), "d": key()}}
    )
    assert [(one.mark, one.name) for one in plan.changes] == [
        ("~", "b"), ("~", "a"), ("~", "c"), ("=", "d")
    ]  # fmt: skip


def test_the_life_of_a_key_is_counted_from_when_it_was_made() -> None:
    world = World()
    world.apply({"keys": {"siem": key(expires_in="30d")}})
    world.now += 5 * DAY
    assert world.plan({"keys": {"siem": key(expires_in="30d")}}).empty
    assert world.plan({"keys": {"siem": key()}}).empty, "what is not declared stays"
    longer = world.apply({"keys": {"siem": key(expires_in="40d")}})
    assert only(longer).widens
    assert only(longer).members == {"expires_in": {"old": "30d", "new": "40d"}}
    assert world.key("siem").expires_at == NOW + 40 * DAY


def test_a_key_that_is_older_than_a_shorter_life_is_made_anew_and_works_for_another_hour() -> None:
    world = World()
    world.apply({"keys": {"siem": key(expires_in="30d")}})
    first = world.key("siem")
    world.now += 5 * DAY
    shorter = {"keys": {"siem": key(expires_in="4d")}}
    plan = world.apply(shorter)
    assert [(one.mark, one.id) for one in plan.changes] == [("↻", first.id), ("~", first.id)]
    assert plan.changes[0].reason == f"{first.id} is older than the declared life"
    assert world.key("siem").expires_at == world.now + 4 * DAY
    assert world.keys[first.id].expires_at == world.now + 3600
    world.now += 60
    assert world.plan(shorter).empty


@pytest.mark.parametrize("how", ["expires", "is revoked"])
def test_a_key_that_has_ended_is_made_anew(how: str) -> None:
    world = World()
    world.apply({"keys": {"siem": key(expires_in="30d")}})
    first = world.key("siem")
    if how == "expires":
        world.now += 31 * DAY
    else:
        world.now += 1
        world.put(lifecycle.revoke(first, world.now, "leaked", "other"))
    change = only(world.apply({"keys": {"siem": key(expires_in="30d")}}))
    assert (change.mark, change.id) == ("↻", first.id)
    assert change.reason.startswith(
        f"{first.id} expired at" if how == "expires" else f"{first.id} was revoked by other at"
    )
    assert world.key("siem").id != first.id
    assert world.plan({"keys": {"siem": key(expires_in="30d")}}).empty


def test_a_suspended_key_stays_suspended() -> None:
    world = World()
    world.apply({"keys": {"siem": key()}})
    world.put(lifecycle.suspend(world.key("siem"), NOW, "looks odd"))
    assert world.plan({"keys": {"siem": key()}}).empty


def test_a_successor_is_the_declared_key_and_both_change_while_the_old_one_drains() -> None:
    world = World()
    world.apply({"keys": {"siem": key()}})
    world.now += 1
    old, new, _ = lifecycle.rotate(
        world.key("siem"), world.now, overlap=3600, max_life=TERMS.max_life, pepper=PEPPER
    )
    world.put(old)
    world.put(new)
    assert world.plan({"keys": {"siem": key()}}).empty
    plan = world.plan({"keys": {"siem": key(grants=[{**AUTH, "min_severity": 4}])}})
    assert {before.id for before, _ in plan.keys} == {old.id, new.id}
    assert plan.narrowed == {old.id, new.id}


def test_a_key_whose_successor_was_revoked_is_made_anew_while_it_drains() -> None:
    world = World()
    world.apply({"keys": {"siem": key()}})
    world.now += 1
    old, new, _ = lifecycle.rotate(
        world.key("siem"), world.now, overlap=3600, max_life=TERMS.max_life, pepper=PEPPER
    )
    world.put(old)
    world.put(lifecycle.revoke(new, world.now, "leaked", "other"))
    plan = world.apply({"keys": {"siem": key()}})
    assert [one.mark for one in plan.changes] == ["↻", "="]
    assert world.plan({"keys": {"siem": key()}}).empty


def test_what_somebody_else_has_changed_is_shown_with_who_and_when() -> None:
    world = World()
    raw = {"keys": {"siem": key()}, "roles": {"r": {"grants": [AUTH]}}}
    world.apply(raw)
    siem, role = world.key("siem"), world.roles["r"]
    world.put(replace(siem, owner="eve", changed_by="other", changed_at=NOW))
    world.roles["r"] = replace(role, description="x", changed_by="cli:eve", changed_at=NOW)
    of_role, of_key = world.apply(raw).changes
    assert of_key.drift is not None
    assert (of_key.drift.by, of_key.drift.at) == ("other", "2027-01-15T08:00:00.000000Z")
    assert of_role.drift is not None
    assert of_role.drift.by == "cli:eve"
    assert world.plan(raw).empty
    [_, changed] = world.plan({**raw, "keys": {"siem": key(owner="ann")}}).changes[::-1]
    assert changed.drift is None, "the file has changed, and nobody else"


def test_only_what_the_set_has_made_is_pruned_and_without_that_it_is_named() -> None:
    world = World()
    world.apply({"keys": {"a": key(), "b": key()}, "roles": {"r": {"grants": [AUTH]}, "s": {}}})
    other, _ = key_from_request(
        replace(
            run_steps(parse_set({"set": "x", "keys": {"c": key()}}, TERMS)).keys["c"].request,
            managed_by="production/c",
        ),
        now=NOW, max_life=TERMS.max_life, pepper=PEPPER,
    )  # fmt: skip
    world.put(other)
    world.roles["t"] = parse_role("t", {"grants": [AUTH]})
    left = {"keys": {"a": key()}, "roles": {"s": {}}}
    plan = world.plan(left)
    assert plan.empty
    assert lines(plan) == [
        ("!", "role", "r"), ("!", "key", "b"), ("=", "role", "s"), ("=", "key", "a")
    ]  # fmt: skip
    pruned = world.apply(left, prune=True)
    assert lines(pruned) == [
        ("-", "role", "r"), ("-", "key", "b"), ("=", "role", "s"), ("=", "key", "a")
    ]  # fmt: skip
    assert pruned.ended == {world.key("b").id}
    assert world.keys[other.id].revoked_at is None
    assert set(world.roles) == {"s", "t"}
    assert world.plan(left, prune=True).empty


def refused(world: World, raw: dict[str, Any], *, prune: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        world.plan(raw, prune=prune)
    return caught.value


def test_what_others_have_is_refused_and_not_taken_over() -> None:
    world = World()
    world.roles["r"] = parse_role("r", {"grants": [AUTH]})
    error = refused(world, {"roles": {"r": {"grants": []}}})
    assert (error.code, error.members["path"]) == ("name_taken", "roles.r")
    world.roles["r"] = replace(world.roles["r"], managed_by="test/r")
    assert refused(world, {"roles": {"r": {"grants": []}}}).code == "name_taken"


def test_a_role_is_not_pruned_while_keys_of_others_have_it() -> None:
    world = World()
    world.apply({"roles": {"r": {"grants": [AUTH]}}, "keys": {"a": key(roles=["r"])}})
    assert world.plan({}, prune=True).deleted_roles == ["r"], "its keys end with it"
    world.put(replace(world.key("a"), managed_by=""))
    assert refused(world, {}, prune=True).code == "role_in_use"


def test_what_cannot_be_read_cannot_be_planned() -> None:
    world = World()
    world.put(read_key("K" * 12, b'{"managed_by": "prod/a", "created_at": "?"}', b"", 1))
    error = refused(world, {"keys": {"b": key()}})
    assert (type(error), error.exit_code) == (CannotDecide, 7)
    world = World()
    world.roles["r"] = read_role("r", b"{")
    assert refused(world, {"roles": {"r": {}}}).exit_code == 7


def test_the_digest_is_of_the_plan_and_of_what_it_was_made_from() -> None:
    world = World()
    raw = {"keys": {"a": key(), "b": key()}}
    world.apply(raw)
    changed = {"keys": {"a": key(owner="x"), "b": key()}}
    first = world.plan(changed).digest
    assert world.plan(changed).digest == first
    assert world.plan(changed, prune=True).digest != first
    assert world.plan(raw).digest != first
    # A rehash changes nothing that is declared, but the revision.
    world.put(world.key("b"))
    assert world.plan(changed).digest != first


def test_a_key_that_is_widened_is_shown_with_who_has_made_it() -> None:
    """Whoever uses the names of a set first has the secrets of the keys that it then widens."""
    world = World()
    world.apply({"keys": {"siem": key(), "other": key()}})
    plan = world.plan({"keys": {"siem": key(grants=[BOTH]), "other": key(owner="x")}})
    said = {one.name: (one.widens, one.reason) for one in plan.changes}
    assert said == {
        "siem": (True, "it was made by maker, and keeps its secret"),
        "other": (False, ""),
    }
