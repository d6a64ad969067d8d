"""Grants that are stored and would be refused today: how they are read, kept and named."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import suspend
from gateway.access.keys.stored_grant import (
    StoredGrant,
    category_heads,
    decode_key,
    decode_role,
    encode_key,
    encode_role,
    read_grant,
)
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.cli.main import cli as program
from gateway.filters.scope import Described, Scope

LEAST: dict[str, Any] = {"actions": ["stream", "pull"], "categories": ["auth.login"]}
DENY = {**LEAST, "effect": "deny"}
ALLOW_ALL = parse_grant({"actions": ["stream", "pull"], "categories": ["**", "gateway.**"]})


class Seen(msgspec.Struct):
    category: str
    tenant: str = "acme"
    action: str = "a"
    outcome: str = "success"
    severity: int = 1
    actor: str = ""
    resources: str = ""


def stored(raw: Any) -> Grant:
    return read_grant(json.dumps(raw).encode())


def sees(event: Described, *grants: Grant, address: str | None = "192.0.2.1") -> bool:
    decision = decide_grants(grants, "stream", address=address)
    return isinstance(decision, Allowed) and decision.view.compile()(event)


WRONG: list[dict[str, Any]] = [
    {"tenants": []}, {"resources": []}, {"when": {"cidr": []}}, {"when": {}}, {"tenants": ["ACME"]},
    {"tenants": None}, {"resources": ["k8s:prod//pods"]}, {"when": {"cidr": ["10.0.0.1/8"]}},
    {"categories": ["Auth.login"]}, {"categories": ["auth..login"]}, {"categories": ["auth "]},
    {"min_severity": 0}, {"surprise": True}, {"when": {"hours": "6-20"}}, {"when": []},
    {"when": {"cidr": ["fe80::1%eth0"]}},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_a_stored_allow_that_would_be_refused_reaches_nothing(change: dict[str, Any]) -> None:
    grant = stored({**LEAST, **change})
    assert isinstance(grant, StoredGrant)
    for category in ("auth.login", "auth", "billing"):
        assert not sees(Seen(category), grant)
        assert sees(Seen(category), grant, ALLOW_ALL)
    assert grant.defects()


@pytest.mark.parametrize("change", WRONG)
def test_a_stored_denial_that_would_be_refused_denies_its_whole_category_head(
    change: dict[str, Any],
) -> None:
    grant = stored({**DENY, **change})
    for category in ("auth", "auth.login", "auth.other"):
        assert not sees(Seen(category, tenant="globex"), ALLOW_ALL, grant)
        assert not sees(Seen(category), ALLOW_ALL, grant, address=None)
    assert sees(Seen("billing"), ALLOW_ALL, grant)


@pytest.mark.parametrize(
    ("patterns", "heads"),
    [
        (["auth.login", "Auth.*"], ["auth.**"]), (["k8s..x", " Billing"], ["k8s.**", "billing.**"]),
        (["auth,billing"], ["**"]), ([".auth"], ["**"]), (["*.x"], ["**"]), ([], ["**"]),
        (None, ["**"]), ([7], ["**"]), (["ünder.x"], ["**"]), ("auth", ["**"]),
    ],
)  # fmt: skip
def test_a_category_head_is_all_that_can_have_been_meant(patterns: Any, heads: list[str]) -> None:
    assert category_heads(patterns) == heads


def test_what_is_right_in_a_list_that_allows_goes_on() -> None:
    when = {"cidr": ["10.0.0.1/8", "192.0.2.0/24"]}
    grant = stored({**LEAST, "categories": ["Auth", "auth.*", "x..y"], "tenants": ["acme", "B"],
                    "when": when})  # fmt: skip
    assert sees(Seen("auth.login"), grant)
    assert not sees(Seen("auth.login", tenant="b"), grant)
    assert not sees(Seen("auth.login"), grant, address="10.0.0.1")
    assert [problem.place for problem, _ in grant.defects()] == [
        "tenants[1]", "categories[0]", "categories[2]", "when.cidr[0]",
    ]  # fmt: skip


@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_a_stored_action_without_a_call_costs_a_grant_nothing_else(effect: str) -> None:
    grant = stored({**LEAST, "effect": effect, "actions": ["erase", "stream"], "tenants": ["acme"]})
    assert grant.actions == ("stream",)
    assert grant.scope() == parse_grant(
        {**LEAST, "effect": effect, "actions": ["stream"], "tenants": ["acme"]}
    ).scope()  # fmt: skip
    [(problem, means)] = grant.defects()
    assert (problem.code, means) == ("unsupported_action", "it counts without that")
    assert stored({**LEAST, "effect": effect, "actions": ["erase"]}).actions == ()


@pytest.mark.parametrize("raw", [None, 3, [], "x", {}, {"effect": "Deny"}])
def test_what_is_no_grant_denies_everything_or_allows_nothing(raw: Any) -> None:
    grant = stored(raw)
    assert sees(Seen("auth"), ALLOW_ALL, grant) == (raw == {})
    assert not sees(Seen("auth"), grant)


def key_with(*grants: Any) -> Key:
    document = {
        "id": "k" * 12, "digest": "", "name": "n", "purpose": "p", "created_at": 0.0,
        "expires_at": 1e10, "grants": list(grants),
    }  # fmt: skip
    return decode_key(json.dumps(document).encode(), b"d", 3)


def test_a_key_that_changes_keeps_what_was_stored_and_gains_nothing() -> None:
    key = key_with({**LEAST, "tenants": []}, {**DENY, "tenants": ["ACME"]}, LEAST)
    assert (key.digest, key.revision) == (b"d", 3)
    again = decode_key(encode_key(suspend(key, 1.0, "r")), b"d", 4)
    assert again.grants == key.grants
    raw = json.loads(encode_key(again))
    assert raw["grants"][0]["tenants"] == []
    assert raw["grants"][1] == {**DENY, "tenants": ["ACME"]}
    shown = msgspec.to_builtins(again.public(0.0))
    assert shown["grants"][0] == {**LEAST, "tenants": []}
    assert [one["path"] for one in shown["problems"]] == [
        "grants[0].tenants", "grants[1].tenants[0]",
    ]  # fmt: skip
    assert "problems" not in msgspec.to_builtins(key_with(LEAST).public(0.0))


def test_a_role_keeps_what_was_stored_too() -> None:
    raw = {"name": "r", "grants": [{**DENY, "resources": []}]}
    role = decode_role(json.dumps(raw).encode())
    assert role.grants[0].scope() == Scope(category=("auth.**",))
    assert decode_role(encode_role(role)) == role
    assert role.public().problems[0]["path"] == "grants[0].resources"
    plain = Role(name="r", grants=(parse_grant(LEAST),))
    assert encode_role(plain) == msgspec.json.encode(plain)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(program, arguments, catch_exceptions=False)


def test_keys_check_names_what_is_wrong_and_changes_nothing(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    grant = json.dumps(LEAST)
    made = run("keys", "create", "--data", data, "--name", "n", "--purpose", "p", "--owner", "o",
               "--expires", "1d", "--grant", grant, "--json")  # fmt: skip
    key_id = json.loads(made.stdout)["id"]
    run("roles", "put", "team", "--data", data, "--grant", grant)
    assert run("keys", "check", "--data", data).exit_code == 0
    database = sqlite3.connect(tmp_path / "data" / "keys.db")
    with database:
        for table, change in (("key", '"tenants":[]'), ("role", '"when":{}')):
            [document] = database.execute(f"SELECT document FROM {table}").fetchone()
            text = bytes(document).replace(b'"categories"', change.encode() + b',"categories"')
            database.execute(f"UPDATE {table} SET document = ?", (text,))
    database.close()
    found = run("keys", "check", "--data", data)
    assert found.exit_code == 1
    assert f"key {key_id}  grant 1  grants[0].tenants: an empty list" in found.stdout
    assert "role team  grant 1  grants[0].when: an empty object" in found.stdout
    assert found.stdout.count("now: it allows nothing; to do: ") == 2
    as_json = json.loads(run("keys", "check", "--data", data, "--json").stdout)
    assert [one["path"] for one in as_json["problems"]] == ["grants[0].tenants", "grants[0].when"]
    for command in (("keys", "list"), ("roles", "list")):
        assert "! grants[0]." in run(*command, "--data", data).stdout
