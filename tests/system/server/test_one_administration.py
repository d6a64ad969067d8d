"""Keys and roles through HTTP and through the command line: one outcome for each case.

Both shells work on the keys of one running gateway. A case is done through each of them, to a key
or role of its own, and leads to the same refusal, or to the same stored key or role and the same
record of it, but for ids, times and who it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from gateways import Gateway

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import key_change
from gateway.access.keys.issuance import new_key
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.cli.main import cli
from gateway.errors import GatewayError

GRANT = {"actions": ["stream"], "categories": ["auth.*"]}
ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
MANY = {**GRANT, "resources": [f"k8s:prod/ns/{number}/**" for number in range(256)]}
WHOLE_KEY = "alpk_" + "a" * 12 + "_" + "b" * 49
Refusal = tuple[str, str]


async def stored_role(store: KeyStore, name: str) -> Role | None:
    """A role, but for who changed it and when."""
    role = (await store.roles()).get(name)
    return role and msgspec.structs.replace(role, changed_by="", changed_at=0.0)


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


async def by_http(gateway: Gateway, method: str, path: str, body: Any = None) -> Any | Refusal:
    """The answer, or the code and detail of the refusal."""
    options = {} if body is None else {"json": body}
    answer = await gateway.request(method, path, key=gateway.admin, **options)
    shown = answer.json() if answer.body else {}
    return (shown["code"], shown["detail"]) if answer.status >= 400 else shown


async def by_cli(gateway: Gateway, *arguments: str) -> Any | Refusal:
    """The answer, or the code and detail of the refusal."""
    folder = str(gateway.context.settings.data)
    command = [*arguments, "--data", folder]
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, standalone_mode=False)
    if isinstance(result.exception, GatewayError):
        return (result.exception.code, result.exception.detail)
    assert result.exception is None, result.exception
    return json.loads(result.stdout) if "--json" in arguments else {}


def unnamed(text: str, *names: str) -> str:
    """The text of one shell's case without what is of that case alone."""
    for place, name in enumerate(names):
        text = text.replace(name, f"<{place}>")
    return text


def stored(key: Key, *names: str) -> str:
    """A key as it stands in the store and as the record tells of it, but for ids, times and who
    has changed it."""
    # A life that was changed is counted from then.
    life = round(key.expires_at - key.created_at, -2 if key.change == "changed" else 3)
    began = key.changed_at if key.change == "rotated" else key.created_at
    drains = None if key.drains_until is None else round(key.drains_until - began, 3)
    of_key = msgspec.structs.replace(
        key, digest=b"", created_at=0, expires_at=0, created_by="", changed_by="",
        changed_from=None, changed_at=0, revision=0, drains_until=drains,
        revoked_at=key.revoked_at and 1.0, suspended_at=key.suspended_at and 1.0,
    )  # fmt: skip
    told = key_change(of_key)
    return unnamed(repr((life, of_key, told)), *names)


CREATED: list[dict[str, Any]] = [
    {},
    {"grants": [GRANT, ADMIN], "roles": ["producer", "auditor", "producer"], "expires_in": "1d"},
    {"limits": {"events_per_second": 100, "concurrent_streams": 0}, "expires_in": "36h"},
    {"expires_in": ""},
    {"expires_in": "soon"},
    {"expires_in": "0s"},
    {"expires_in": "91d"},
    {"name": ""},
    {"name": "x" * 257},
    {"name": WHOLE_KEY},
    {"purpose": " "},
    {"owner": ""},
    {"grants": [GRANT, {"actions": ["stream"]}]},
    {"grants": [{**GRANT, "id": "one"}, {**GRANT, "id": "one"}]},
    {"grants": [MANY] * 8, "roles": ["auditor"]},
    {"roles": ["auditr"]},
    {"roles": ["Auditor"]},
    {"roles": [f"role-{number}" for number in range(17)]},
    {"limits": {"events_per_secnd": 1}},
    {"rotate": {"every": "30d", "overlap": "1d"}},
    {"rotate": {"every": "soon"}},
    {"rotate": {"overlap": "1d"}},
    {"copy_of": "0" * 12},
    {"limits": {"events_per_second": 10**16}},
    {"expires_in": "soon", "roles": ["auditr"]},
]


def brief(case: object) -> str:
    return str(case)[:60]


def options_of(body: dict[str, Any]) -> list[str]:
    """The options of `keys create` that say the same as a body."""
    options = ["--name", body["name"], "--purpose", body["purpose"], "--owner", body["owner"]]
    for grant in body.get("grants", ()):
        options += ["--grant", json.dumps(grant)]
    for role in body.get("roles", ()):
        options += ["--role", role]
    for name, value in body.get("limits", {}).items():
        options += ["--limit", f"{name}={value}"]
    for name, value in body.get("rotate", {}).items():
        options += [f"--rotate-{name}", value]
    options += ["--copy-of", body["copy_of"]] if "copy_of" in body else []
    return options + (["--expires", body["expires_in"]] if "expires_in" in body else [])


@pytest.mark.parametrize("asked", CREATED, ids=brief)
async def test_a_key_is_made_or_refused_alike(gateway: Gateway, asked: dict[str, Any]) -> None:
    body = {"name": "siem", "purpose": "forwarding", "owner": "ops", **asked}
    shown = [
        await by_http(gateway, "POST", "/v1/keys", body),
        await by_cli(gateway, "keys", "create", *options_of(body), "--json"),
    ]
    if isinstance(shown[0], tuple):
        assert shown[0] == shown[1]
        return
    keys = [await gateway.context.key_store.get(one["id"]) for one in shown]
    assert None not in keys
    assert len({stored(key, key.id) for key in keys if key is not None}) == 1
    assert shown[0].keys() == shown[1].keys()


STATES: dict[str, Callable[[Key], Key]] = {
    "active": lambda key: key,
    "suspended": lambda key: lifecycle.suspend(key, key.created_at, "odd"),
    "revoked": lambda key: lifecycle.revoke(key, key.created_at, "left"),
    "expired": lambda key: msgspec.structs.replace(key, expires_at=key.created_at),
    "draining": lambda key: lifecycle.rotate(
        key, key.created_at, overlap=3600, max_life=86400, pepper=b"p" * 32
    )[0],
    "unknown": lambda key: key,
}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("rotate", {}),
    ("rotate", {"overlap": "2h"}),
    ("rotate", {"overlap": "0s"}),
    ("rotate", {"overlap": "8d"}),
    ("rotate", {"overlap": "soon"}),
    ("suspend", {}),
    ("suspend", {"reason": f"seen \u00e9 {WHOLE_KEY}"}),
    ("suspend", {"reason": "x" * 257}),
    ("resume", {}),
    ("revoke", {"reason": "left"}),
    ("revoke", {"reason": "x" * 257}),
    ("revoke", {"with_descendants": True}),
]


async def made(gateway: Gateway, state: str) -> tuple[Key, Key]:
    """A key in that state, and another that it has made."""
    now, store = gateway.context.clock.now(), gateway.context.key_store
    pepper = gateway.context.keyring.peppers.current.secret
    given: dict[str, Any] = {"now": now, "life": 3600.0, "pepper": pepper, "purpose": "p"}
    key, _ = new_key(name="k", owner="o", grants=(parse_grant(ADMIN),), **given)
    below, _ = new_key(name="below", owner="o", grants=(), by=key.id, **given)
    if state != "unknown":
        await store.create(key)
        await store.create(below)
        await store.change(key.id, STATES[state])
    return key, below


async def outcome(
    gateway: Gateway, state: str, change: Callable[[str], Awaitable[Any]]
) -> tuple[Any, ...]:
    """What a change leads to: the refusal, or what is shown; and the keys afterwards."""
    store = gateway.context.key_store
    key, below = await made(gateway, state)
    shown = await change(key.id)
    names = [key.id, below.id]
    if isinstance(shown, dict) and shown.get("predecessor") == key.id:
        names.append(shown["id"])
    found = [one for name in names if (one := await store.get(name)) is not None]
    after = [stored(one, *names, *filter(None, [one.successor])) for one in found]
    if isinstance(shown, dict):
        members = ("state", "revoked_descendants", "living_descendants", "suspended_reason")
        shown = [sorted(shown), [shown.get(name) for name in members]]
    return unnamed(json.dumps(shown), *names), after


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("what", "body"), CHANGES, ids=brief)
async def test_a_key_is_changed_or_refused_alike(
    gateway: Gateway, what: str, body: dict[str, Any], state: str
) -> None:
    options = ["--json"]
    for name, value in body.items():
        option = f"--{name.replace('_', '-')}"
        options += [option] if value is True else [option, value]

    def http(key_id: str) -> Awaitable[Any]:
        return by_http(gateway, "POST", f"/v1/keys/{key_id}/{what}", body)

    def command(key_id: str) -> Awaitable[Any]:
        return by_cli(gateway, "keys", what, key_id, *options)

    assert await outcome(gateway, state, http) == await outcome(gateway, state, command)


PATCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": "siem", "purpose": "new", "owner": "soc"},
     ["--name", "siem", "--purpose", "new", "--owner", "soc"]),
    ({"grants": [GRANT, ADMIN], "roles": ["auditor"]},
     ["--grant", json.dumps(GRANT), "--grant", json.dumps(ADMIN), "--role", "auditor"]),
    ({"expires_in": "30d"}, ["--expires-in", "30d"]),
    ({"expires_in": "91d"}, ["--expires", "91d"]),
    ({"limits": {"events_per_second": 5}, "rotate": {"every": "30d"}},
     ["--limit", "events_per_second=5", "--rotate-every", "30d"]),
    ({"rotate": {"overlap": "1d"}}, ["--rotate-overlap", "1d"]),
    ({"grants": None, "roles": None, "limits": None, "rotate": None},
     ["--without", "grants", "--without", "roles", "--without", "limits", "--without", "rotate"]),
    ({"roles": ["auditr"]}, ["--role", "auditr"]),
    ({"grants": [MANY] * 9}, ["--grant", json.dumps(MANY)] * 9),
    ({"owner": WHOLE_KEY}, ["--owner", WHOLE_KEY]),
    ({"owner": "o"}, ["--owner", "o"]),
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
async def test_members_of_a_key_are_changed_or_refused_alike(gateway: Gateway, state: str) -> None:
    for patch, options in PATCHES:

        async def http(key_id: str, patch: Any = patch) -> Any:
            answer = await gateway.request(
                "PATCH", f"/v1/keys/{key_id}", key=gateway.admin, json=patch,
                headers={"If-Match": "*"},
            )  # fmt: skip
            shown = answer.json()
            return (shown["code"], shown["detail"]) if answer.status >= 400 else shown

        async def command(key_id: str, options: Any = options) -> Any:
            return await by_cli(gateway, "keys", "change", key_id, *options, "--json")

        first, second = await outcome(gateway, state, http), await outcome(gateway, state, command)
        assert first == second, patch


ROLES: list[tuple[str, dict[str, Any]]] = [
    ("team-{}", {"grants": [GRANT], "description": "of the team"}),
    ("team-{}", {"grants": []}),
    ("auditor", {"grants": [GRANT]}),
    ("Team-{}", {"grants": [GRANT]}),
    ("team-{}", {"grants": [{"actions": ["stream"]}]}),
    ("team-{}", {"grants": [GRANT], "description": "x" * 1025}),
    ("team-{}", {"grants": [GRANT], "description": WHOLE_KEY}),
    ("team-{}", {"grants": [MANY] * 9}),
]


@pytest.mark.parametrize(("named", "body"), ROLES, ids=brief)
async def test_a_role_is_put_shown_and_deleted_or_refused_alike(
    gateway: Gateway, named: str, body: dict[str, Any]
) -> None:
    options = ["--description", body.get("description", "")]
    for grant in body["grants"]:
        options += ["--grant", json.dumps(grant)]
    store, shown = gateway.context.key_store, []
    for shell in ("http", "cli"):
        name = named.format(shell)
        path, steps = f"/v1/roles/{name}", []
        if shell == "http":
            steps += [await by_http(gateway, "PUT", path, body)]
            steps += [await by_http(gateway, "GET", path), repr(await stored_role(store, name))]
            steps += [await by_http(gateway, "DELETE", path) for _ in range(2)]
        else:
            steps += [await by_cli(gateway, "roles", "put", name, *options, "--json")]
            steps += [await by_cli(gateway, "roles", "show", name, "--json")]
            steps += [repr(await stored_role(store, name))]
            steps += [await by_cli(gateway, "roles", "delete", name) for _ in range(2)]
        shown.append([unnamed(json.dumps(step), name) for step in steps])
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", ["0" * 12, "siem"])
async def test_a_key_that_is_not_there_is_refused_alike(gateway: Gateway, name: str) -> None:
    refused = await by_http(gateway, "GET", f"/v1/keys/{name}")
    assert refused == await by_cli(gateway, "keys", "show", name)
    assert refused[0] == "unknown_key"


async def test_both_list_the_same_keys_in_the_same_order(gateway: Gateway) -> None:
    first, second = (
        await by_http(gateway, "GET", "/v1/keys"), await by_cli(gateway, "keys", "list", "--json")
    )  # fmt: skip
    for key in first["keys"]:
        # What the interface adds is of the use of keys, and of the gateway's findings.
        for name in ("scope", "last_used", "unused_grants", "age_days", "findings_open"):
            key.pop(name, None)
    assert first == second
    assert first["keys"]


async def test_the_record_of_both_is_the_same_but_for_who_it_was(gateway: Gateway) -> None:
    body = {"name": "told", "purpose": "p", "owner": "o", "grants": [GRANT]}
    made = [
        await by_http(gateway, "POST", "/v1/keys", body),
        await by_cli(gateway, "keys", "create", *options_of(body), "--json"),
    ]
    await by_http(gateway, "POST", f"/v1/keys/{made[0]['id']}/revoke", {"reason": "left"})
    await by_cli(gateway, "keys", "revoke", made[1]["id"], "--reason", "left")
    told: dict[str, list[Any]] = {one["id"]: [] for one in made}
    while not all(len(events) == 2 for events in told.values()):
        page = await gateway.pull(gateway.admin, category="gateway.keys", limit="1000")
        for key_id, events in told.items():
            events[:] = [one for one in page["events"] if one["data"].get("key") == key_id]
        await asyncio.sleep(0.01)
    by_who = []
    for key_id, events in told.items():
        assert [one["action"] for one in events] == ["key.created", "key.revoked"]
        for one in events:
            for name in ("id", "time", "recorded_at", "cursor", "actor"):
                one.pop(name)
            one["data"].pop("expires_at", None)
            one["data"].pop("created_by", None)
        by_who.append([one["data"].pop("command_line", None) is not None for one in events])
        told[key_id] = json.loads(unnamed(json.dumps(events), key_id))
    assert by_who == [[False, False], [True, True]]
    first, second = told.values()
    assert first == second
