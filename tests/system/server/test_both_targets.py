"""Administrative commands on the folder of a gateway and over its HTTP interface: one output, one
JSON and one exit code for each."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from gateways import Gateway

from gateway.access.grants.grant import parse_grant
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.cli.main import cli
from gateway.errors import GatewayError

GRANT = '{"actions":["stream","pull"],"categories":["auth.*"],"tenants":["acme"]}'
WIDE = '{"actions":["pull"],"categories":["**"]}'
# What differs by the moment of a call, and by what another name is given to.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?|\d{4}-\d\d-\d\d")
TOKEN = re.compile(r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
TOOK = re.compile(
    r'(?<=\bin )\d+(?= ms)|(?<="took_ms": )\d+|(?<="seconds": )[\d.]+|(?<="revision": )\d+'
)
# The record of the looks before is read, too.
LOOKED = re.compile(r'(?<="looked_at": )\d+|\d+(?= events were looked at)')
MAKER = re.compile(r'(?<="created_by": )"[^"]*"')
CURSOR = re.compile(r"[0-9a-z]{10}-\d{20}")


class Done(NamedTuple):
    """Output, error output and exit code of a command."""

    output: str
    errors: str
    status: int


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


class Both:
    """Runs a command on the folder of a gateway, and over its interface."""

    def __init__(self, gateway: Gateway, profile: Path) -> None:
        folder = str(gateway.context.settings.data)
        self.targets = {
            "folder": ["--data", folder], "http": ["--profile", "here"],
        }  # fmt: skip
        profile.write_text(
            f'[here]\nurl = "{gateway.url}"\nkey_command = ["echo", "{gateway.admin}"]\n'
        )
        profile.chmod(0o600)

    async def run(self, target: str, *arguments: str, typed: str = "") -> Done:
        command = [*arguments, *self.targets[target]]
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, command, input=typed, standalone_mode=False
        )
        if isinstance(done.exception, GatewayError):
            return Done(done.stdout, done.exception.detail, done.exception.exit_code)
        if isinstance(done.exception, SystemExit):
            return Done(done.stdout, done.stderr, done.exit_code)
        assert done.exception is None, done.exception
        return Done(done.stdout, done.stderr, 0)


@pytest.fixture
def both(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    profiles = tmp_path / "profiles.toml"
    monkeypatch.setenv("AUDIT_GATEWAY_PROFILES", str(profiles))
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    return Both(gateway, profiles)


async def subject(gateway: Gateway, state: str = "active") -> tuple[str, str]:
    """Ids of a key, and of another one that it has made."""
    now, store = gateway.context.clock.now(), gateway.context.key_store
    given: dict[str, Any] = {
        "now": now, "life": 3600.0, "purpose": "p", "owner": "o",
        "pepper": gateway.context.keyring.peppers.current.secret,
    }  # fmt: skip
    key, _ = new_key(name="subject", grants=(parse_grant(json.loads(GRANT)),), **given)
    below, _ = new_key(name="below", grants=(), by=key.id, **given)
    await store.create(key)
    await store.create(below)
    if state == "suspended":
        await store.change(key.id, lambda one: lifecycle.suspend(one, now, "odd"))
    return key.id, below.id


def alike(text: str, *names: str) -> str:
    """Output without what differs by the moment and the subject of a call."""
    for place, name in enumerate(names):
        text = text.replace(name, f"<{place}>")
    # Only a gateway that runs knows how it delivers to a destination.
    text = re.sub(r', "(replica|confirmation)": "[^"]*"', "", text)
    text = re.sub(r"\b[0-9A-Za-z]{12}\b(?=[,\" ])", "<id>", TOKEN.sub("<token>", text))
    text = LOOKED.sub("<n>", text)
    return MAKER.sub("<maker>", CURSOR.sub("<cursor>", TOOK.sub("<n>", MOMENT.sub("<time>", text))))


LOOKS = [
    "keys list", "keys show KID", "keys show 000000000000", "keys document KID",
    "keys document KID --format html", "keys document KID --format json",
    "keys explain KID --action pull --tenant acme --category auth.login",
    "keys explain KID --action stream --tenant other --category auth.login",
    "keys explain KID --action fly", "keys explain 000000000000 --action pull",
    f"keys simulate KID --grant {WIDE}", "keys simulate KID", "keys simulate KID --role none",
    "keys usage KID", "keys usage KID --window 2h --step 30m", "keys usage KID --step 1x",
    "keys check", "roles list", "roles show auditor", "roles show none",
    "destinations list", "destinations show none", "destinations dead-letters none",
    "keys history 000000000000",
]  # fmt: skip


@pytest.mark.parametrize("command", LOOKS)
async def test_a_look_says_the_same_of_both(gateway: Gateway, both: Both, command: str) -> None:
    names = await subject(gateway)
    arguments = [names[0] if one == "KID" else one for one in command.split()]
    for extra in ([], ["--json"]):
        if extra and "document" in command:
            continue
        done = [await both.run(target, *arguments, *extra) for target in both.targets]
        first, second = (Done(alike(one.output), one.errors, one.status) for one in done)
        assert first == second


CHANGES = [
    f"keys create --name n --purpose p --owner o --grant {GRANT}",
    "keys create --name n --purpose p", "keys create --name n --purpose p --role none",
    "keys create --name n --purpose p --copy-of KID --expires 1h",
    "keys create --name n --purpose p --limit x=1",
    "keys change KID --owner soc --expires-in 2h", "keys change KID", "keys change KID --role none",
    f"keys change KID --grant {GRANT} --without limits --rotate-every 30d",
    "keys change KID --without rotate --rotate-every 30d", "keys change 000000000000 --name n",
    "keys rotate KID", "keys rotate KID --overlap 2h", "keys rotate KID --overlap 90d",
    "keys rotate KID --hold", "keys confirm KID",
    "keys suspend KID --reason odd", "keys suspend 000000000000", "keys resume KID",
    "keys resume SUSPENDED", "keys revoke KID --reason left", "keys revoke KID --with-descendants",
    "keys revoke 000000000000", f"roles put team --description d --grant {GRANT}",
    "roles put auditor", "roles put Team", "roles delete none", "roles delete auditor",
    "destinations pause none", "destinations resume none", "destinations delete none",
    "destinations test none", "destinations replay none --from 1h",
    "destinations replay none --cancel",
    "destinations create siem --type http --key KID --set url=https://siem.example.org/in",
    "destinations create siem --type none --key KID",
]  # fmt: skip


WITHOUT_JSON = re.compile("roles delete|destinations (pause|resume|delete|replay)")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("command", CHANGES)
async def test_a_change_does_and_says_the_same_on_both(
    gateway: Gateway, both: Both, command: str, *, as_json: bool
) -> None:
    options = ["--json"] if as_json and not WITHOUT_JSON.match(command) else []
    found = []
    for target in both.targets:
        names = await subject(gateway, "suspended" if "SUSPENDED" in command else "active")
        arguments = [names[0] if one in ("KID", "SUSPENDED") else one for one in command.split()]
        done = await both.run(target, *arguments, *options)
        stored = [await gateway.context.key_store.get(name) for name in names]
        states = [one and one.state(gateway.context.clock.now()) for one in stored]
        found.append((alike(done.output, *names), alike(done.errors, *names), done.status, states))
        for name in ("destinations/siem", "roles/team"):
            await gateway.request("DELETE", f"/v1/{name}", key=gateway.admin)
    first, second = found
    assert first == second


async def test_a_gateway_that_refuses_or_is_away_has_an_exit_code_of_its_own(
    gateway: Gateway, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await gateway.mint({"actions": ["pull"], "categories": ["**"]})
    away = "http://127.0.0.1:9"
    for url, key, status in (
        (gateway.url, reader, 3), (gateway.url, "alpk_none", 3), (away, gateway.admin, 5),
    ):  # fmt: skip
        monkeypatch.setenv("AUDIT_GATEWAY_KEY", key)
        both.targets["http"] = ["--url", url]
        for command in ("keys list", "roles delete none", "destinations list"):
            assert (await both.run("http", *command.split())).status == status


async def test_the_reason_of_a_change_stands_in_the_record_with_who_made_it(
    gateway: Gateway, both: Both
) -> None:
    reason = "ticket 12, für Ann"
    for target in both.targets:
        team = f"team-{target}"
        put = ("roles", "put", team, "--grant", GRANT, "--reason", reason)
        assert (await both.run(target, *put)).status == 0
    await gateway.context.access_log.flush()
    found: list[Any] = []
    while not {"role.put", "requested"} <= {one["action"] for one in found}:
        page = await gateway.pull(gateway.admin, category="gateway.**", limit="1000")
        found = [one for one in page["events"] if "ticket" in str(one)]
        await asyncio.sleep(0.01)
    [on_folder] = [one for one in found if one["action"] == "role.put"]
    [over_http] = [one for one in found if one["action"] == "requested"]
    assert on_folder["reason"] == reason
    assert on_folder["actor"]["id"].startswith("cli:")
    assert "reason" not in on_folder["data"]["command_line"]
    assert over_http["data"]["parameters"] == [{"reason": [reason]}]
    assert over_http["actor"]["id"] == gateway.admin.split("_")[1]
    assert over_http["data"]["route"].startswith("PUT ")


async def test_a_reason_that_is_too_long_is_refused(gateway: Gateway, both: Both) -> None:
    for target in both.targets:
        put = ("roles", "put", "long", "--grant", GRANT, "--reason", "x" * 257)
        assert (await both.run(target, *put)).status == 2
        assert "long" not in await gateway.context.key_store.roles()
