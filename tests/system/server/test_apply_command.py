"""`audit-gateway apply` on a folder and over HTTP: plans, secrets in their places, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from gateway_client import key_id
from gateways import Gateway

from gateway.access.credentials.token import looks_like_token
from gateway.cli.main import cli
from gateway.clock import parse_rfc3339
from gateway.errors import GatewayError
from tests.support.machine_time import eventually

GRANT = '{ actions = ["pull"], categories = ["auth.**"], tenants = ["acme"] }'
BOTH = GRANT.replace('["acme"]', '["acme", "globex"]')


class Done(NamedTuple):
    output: str
    errors: str
    status: int


Apply = Callable[..., Awaitable[Done]]


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


@pytest.fixture(params=["folder", "http"])
def apply(
    request: pytest.FixtureRequest,
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Apply:
    """Runs the command with a set of its own."""
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", gateway.admin)
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    place = (
        ["--data", str(gateway.context.settings.data)]
        if request.param == "folder"
        else ["--url", gateway.url]
    )
    name = f"{request.param}-{abs(hash(request.node.name)) % 10**9}"

    async def run(text: str, *options: str) -> Done:
        file = tmp_path / "access.toml"
        file.write_text(f'set = "{name}"\n{text}')
        command = ["apply", str(file), *options, *place]
        done = await asyncio.to_thread(CliRunner().invoke, cli, command, standalone_mode=False)
        error = done.exception
        if isinstance(error, GatewayError):
            return Done(done.stdout, f"{done.stderr}{error.detail}", error.exit_code)
        assert error is None, error
        status = done.return_value
        return Done(done.stdout, done.stderr, status if isinstance(status, int) else 0)

    return run


def key(place: str, grant: str = GRANT) -> str:
    return f'[keys.siem]\npurpose = "alerts"\nowner = "soc"\ngrants = [{grant}]\nsecret = {place}\n'


async def living(gateway: Gateway) -> dict[str, Any]:
    listed = (await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"]
    return {one["id"]: one for one in listed if one.get("managed_by") and one["state"] == "active"}


async def test_a_plan_writes_nothing_and_its_exit_code_says_whether_something_would_change(
    apply: Apply, gateway: Gateway, tmp_path: Path
) -> None:
    place = tmp_path / "secret"
    text = key(f'{{ file = "{place}", mode = "0640" }}')
    before = await living(gateway)
    plan = await apply(text, "--plan")
    assert plan.status == 6
    first, newly, counts, digest = plan.output.splitlines()
    assert first == "+ key siem, widens"
    assert newly == "    newly: May pull events of category auth.** of the tenant acme."
    assert counts.endswith(": 1 to be made")
    assert digest.startswith("digest ")
    assert (await living(gateway), place.exists()) == (before, False)
    wrong = await apply(text, "--expect", "0" * 64)
    assert (wrong.status, "something has changed" in wrong.errors) == (1, True)
    done = await apply(text, "--expect", digest.split()[1])
    assert (done.status, done.output.splitlines()[-1]) == (0, "applied")
    secret = place.read_text().strip()
    assert looks_like_token(secret)
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert (await gateway.get("/v1/events", key=secret)).status == 200
    again = await apply(text, "--plan")
    assert (again.status, again.errors) == (0, "")
    assert (await apply(text)).output.splitlines()[-1] == "nothing to do"
    assert place.read_text().strip() == secret
    for shown in (plan, done, again):
        assert secret not in shown.output + shown.errors


async def test_a_wider_set_says_what_is_newly_seen_and_json_has_the_same(
    apply: Apply, tmp_path: Path
) -> None:
    place = f'{{ file = "{tmp_path / "secret"}" }}'
    await apply(key(place))
    wider = await apply(key(place, BOTH), "--plan")
    assert "    newly: May pull events of category auth.** of the tenant globex." in (
        wider.output.splitlines()
    )
    plan = json.loads((await apply(key(place, BOTH), "--plan", "--json")).output)
    assert (plan["applied"], plan["counts"], plan["changes"][0]["widens"]) == (
        False, {"~": 1}, True
    )  # fmt: skip
    done = json.loads((await apply(key(place, BOTH), "--json")).output)
    assert (done["applied"], "made" in done) == (True, False)


@pytest.mark.parametrize("how", ["fails", "is missing", "has no folder"])
async def test_a_key_whose_secret_cannot_be_placed_is_revoked_and_made_again(
    apply: Apply, gateway: Gateway, tmp_path: Path, how: str
) -> None:
    kept = tmp_path / "kept"
    place = {
        "fails": '{ command = ["sh", "-c", "cat > /dev/null; exit 3"] }',
        "is missing": '{ command = ["/nowhere/vault"] }',
        "has no folder": f'{{ file = "{tmp_path}/none/secret" }}',
    }[how]
    before = await living(gateway)
    failed = await apply(key(place))
    assert failed.status == 1
    assert "keys.siem:" in failed.errors
    assert "was revoked, and the next apply makes another" in failed.errors
    assert "alpk_" not in failed.output + failed.errors
    assert await living(gateway) == before
    mended = key(f'{{ command = ["sh", "-c", "cat > {kept}"] }}')
    plan = await apply(mended, "--plan")
    assert plan.output.startswith("↻ key siem")
    assert "its secret could not be placed" in plan.output
    assert (await apply(mended)).status == 0
    assert (await gateway.get("/v1/events", key=kept.read_text().strip())).status == 200


async def test_what_a_place_says_and_what_it_is_given_is_shown_nowhere(
    apply: Apply, gateway: Gateway
) -> None:
    """A place that prints what it was given, and fails."""
    failed = await apply(key('{ command = ["sh", "-c", "tee /dev/stderr; env; exit 1"] }'))
    assert "alpk_" not in failed.output + failed.errors
    records = await gateway.pull(gateway.admin, category="gateway.**", limit="10000")
    assert not [one for one in records["events"] if looks_like_token(json.dumps(one))]


async def test_a_file_that_is_wrong_is_named_with_the_member(apply: Apply) -> None:
    place = '{ file = "/x" }'
    for text, said in (
        ("[keys.a]\n", "keys.a.purpose: it is required"),
        ("[policies]\n", "policies cannot be declared"),
        ("keys = 5\n", "keys: a table"),
        (key(place, '{ actions = ["read"], categories = ["**"] }'), "grants[0].actions[0]"),
        (key('{ file = "/x", command = ["y"] }'), "give one of file or command"),
        ('[keys.a]\npurpose = "p"\nowner = "o"\n', "keys.a.secret: it is needed"),
        ('[destinations.d]\ntype = "http"\nkey = "a"\nsecrets = { token = "x" }\n',
         "it stands nowhere in a file"),
    ):  # fmt: skip
        for options in ((), ("--plan",)):
            done = await apply(text, *options)
            assert done.status == 2, (text, done)
            assert said in done.errors
            assert "access.toml: " in done.errors


async def test_what_is_not_declared_any_more_is_named_and_pruned_when_asked(
    apply: Apply, gateway: Gateway, tmp_path: Path
) -> None:
    before = await living(gateway)
    await apply(key(f'{{ file = "{tmp_path / "secret"}" }}'))
    left = await apply("", "--plan")
    assert (left.status, left.output.startswith("! key siem")) == (0, True)
    pruned = await apply("", "--prune")
    assert (pruned.status, pruned.output.startswith("- key siem")) == (0, True)
    assert await living(gateway) == before


async def test_a_file_without_the_secret_of_the_key_that_is_there_is_warned_of(
    apply: Apply, tmp_path: Path
) -> None:
    """As after a crash between the change and the file."""
    place = tmp_path / "secret"
    await apply(key(f'{{ file = "{place}" }}'))
    os.unlink(place)
    plan = await apply(key(f'{{ file = "{place}" }}'), "--plan")
    assert (plan.status, "does not hold the secret of keys.siem" in plan.errors) == (0, True)


async def test_one_without_the_right_to_declare_is_refused(
    apply: Apply, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = {"actions": ["keys.admin"], "categories": ["**"]}
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", await gateway.mint(admin))
    done = await apply(key(f'{{ file = "{tmp_path / "secret"}" }}'), "--plan")
    if done.status != 6:
        assert (done.status, "cannot grant what it does not have" in done.errors) == (3, True)
        assert "access.toml: keys.siem" in done.errors


async def test_a_kill_while_a_secret_is_placed_is_mended_by_the_next_apply(
    gateway: Gateway, tmp_path: Path, apply: Apply
) -> None:
    began, kept, file = tmp_path / "began", tmp_path / "kept", tmp_path / "access.toml"
    hanging = key(f'{{ command = ["sh", "-c", "cat; touch {began}; sleep 3"] }}')
    before = await living(gateway)
    plan = json.loads((await apply(hanging, "--plan", "--json")).output)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "apply", str(file), "--url", gateway.url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await eventually(began.exists)
    process.kill()
    await process.wait()
    [lost] = (await living(gateway)).keys() - before.keys()
    mended = key(f'{{ command = ["sh", "-c", "cat > {kept}"] }}')
    again = await apply(mended, "--plan")
    assert again.output.startswith(f"↻ key siem ({lost}), widens")
    assert plan["digest"] not in again.output
    assert (await apply(mended)).status == 0
    secret = kept.read_text().strip()
    assert (await living(gateway)).keys() - before.keys() == {key_id(secret)}
    assert (await apply(mended, "--plan")).status == 0


async def test_declared_keys_that_are_due_are_rotated_into_their_places(
    gateway: Gateway, tmp_path: Path, apply: Apply, request: pytest.FixtureRequest
) -> None:
    place = tmp_path / "secret"
    due = key(f'{{ file = "{place}" }}') + 'rotate = { every = "1s", overlap = "1h" }\n'
    assert (await apply(due)).status == 0
    first = place.read_text().strip()
    made = (await gateway.get(f"/v1/keys/{key_id(first)}", key=gateway.admin)).json()
    late = parse_rfc3339(made["rotate_by"]) / 1_000_000
    await eventually(lambda: time.time() > late)
    where = (
        ["--data", str(gateway.context.settings.data)]
        if "folder" in request.node.name
        else ["--url", gateway.url]
    )
    command = ["keys", "rotate", str(tmp_path / "access.toml"), "--due", *where]
    done = await asyncio.to_thread(CliRunner().invoke, cli, command, standalone_mode=False)
    assert done.exception is None, done.exception
    second = place.read_text().strip()
    assert done.stdout == f"keys.siem: {key_id(first)} is rotated to {key_id(second)}\n"
    for secret in (first, second):
        assert (await gateway.get("/v1/events", key=secret)).status == 200
    assert (await apply(due, "--plan")).status == 0


async def test_the_first_set_makes_the_first_keys_of_a_folder(tmp_path: Path) -> None:
    file, place = tmp_path / "access.toml", tmp_path / "secret"
    file.write_text(f'set = "prod"\n{key(f"""{{ file = "{place}" }}""")}')
    command = ["apply", str(file), "--data", str(tmp_path / "data")]

    async def run(*options: str) -> Any:
        return await asyncio.to_thread(
            CliRunner().invoke, cli, [*command, *options], standalone_mode=False
        )

    mistyped = await run("--plan")
    assert isinstance(mistyped.exception, GatewayError)
    assert mistyped.exception.code == "no_keys"
    assert not (tmp_path / "data").exists(), "a plan writes nothing"
    assert (await run()).exception is None
    assert looks_like_token(place.read_text().strip())
    assert (await run("--plan")).return_value == 0
