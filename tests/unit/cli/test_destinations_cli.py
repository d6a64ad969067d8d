"""`audit-gateway destinations` on a data folder, without a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.adapters.files.folder import DataFolder
from gateway.adapters.sqlite.delivery.destinations import SqliteDestinations
from gateway.cli import pepper
from gateway.cli.main import cli
from gateway.delivery.destination import Destination
from gateway.delivery.sealing import unseal
from gateway.errors import Conflict, InvalidRequest, NotFound

GRANT = '{"actions":["stream"],"categories":["auth.*"]}'
URL = "url=https://siem.example.org/in"
Run = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a folder of its own; standard output. Raises what the command raises."""
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)

    def run(*arguments: str, input: str = "") -> str:
        command = [*arguments, "--data", str(data)]
        result = CliRunner().invoke(cli, command, input=input, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


@pytest.fixture
def key(run: Run) -> str:
    made = run("keys", "create", "--name", "n", "--purpose", "p", "--grant", GRANT, "--json")
    return str(json.loads(made)["id"])


def create(run: Run, key: str, *options: str, name: str = "siem", input: str = "") -> Any:
    command = ("destinations", "create", name, "--type", "http", "--key", key, "--set", URL)
    return json.loads(run(*command, *options, "--json", input=input))


def stored(data: Path) -> Destination:
    async def read() -> Destination:
        store = SqliteDestinations(data / "destinations.db")
        found = await store.get("siem")
        await store.close()
        assert found is not None
        return found

    return asyncio.run(read())


def test_one_is_made_listed_paused_and_deleted(run: Run, key: str) -> None:
    made = create(run, key, "--select", '{"category":"auth.*"}', "--with", '{"on_gap":"fail"}')
    assert (made["state"], made["on_gap"], made["select"]) == (
        "active", "fail", {"category": "auth.*"},
    )  # fmt: skip
    with pytest.raises(Conflict):
        create(run, key)
    assert "siem" in run("destinations", "list")
    run("destinations", "pause", "siem", "--reason", "night")
    shown = json.loads(run("destinations", "show", "siem", "--json"))
    assert (shown["state"], shown["reason"]) == ("paused", "night")
    with pytest.raises(Conflict):
        run("destinations", "replay", "siem", "--from", "start")
    run("destinations", "resume", "siem")
    run("destinations", "replay", "siem", "--from", "start")
    run("destinations", "replay", "siem", "--cancel")
    shown = json.loads(run("destinations", "show", "siem", "--json"))
    assert shown["replay"]["state"] == "cancelled"
    with pytest.raises(Conflict, match="no replay"):
        run("destinations", "replay", "siem", "--cancel")
    assert run("destinations", "dead-letters", "siem") == ""
    run("destinations", "delete", "siem")
    with pytest.raises(NotFound):
        run("destinations", "show", "siem")


def test_secrets_are_read_from_standard_input_and_sealed_anew_with_the_pepper(
    run: Run, key: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(run, key, "--secret", "token", input="first\n")
    assert made["secrets"]["token"]["set"] is True
    run("destinations", "set-secret", "siem", "token", "--overlap", "1h", input="second\n")
    before = stored(data).secrets["token"]
    monkeypatch.setattr(pepper, "_LEARN_SECONDS", 0.0)
    run("pepper", "rotate")
    after, peppers = stored(data).secrets["token"], DataFolder(data).peppers.read()
    assert {one.pepper for one in after} == {peppers.current.id}
    assert {one.pepper for one in before} != {peppers.current.id}
    opened = [unseal(one, "siem", "token", peppers) for one in after]
    assert opened == ["second", "first"]
    with pytest.raises(InvalidRequest):
        run("destinations", "set-secret", "siem", "token", input="\n")
    with pytest.raises(InvalidRequest):
        run("destinations", "set-secret", "siem", "no_such", input="x\n")


def test_what_cannot_work_is_refused_before_anything_is_made(run: Run, key: str) -> None:
    for options in (
        ("--set", "colour"),
        ("--select", "["),
        ("--set", "url=https://169.254.169.254/"),
        ("--set", "url=http://siem.example.org/"),
        ("--with", '{"tls":{"ca":"no certificate"}}'),
        ("--with", '{"tls":{"server_name":"a..b"}}'),
    ):
        with pytest.raises(InvalidRequest):
            create(run, key, *options)
    assert json.loads(run("destinations", "list", "--json")) == {"destinations": []}


def test_a_test_event_that_is_not_taken_is_exit_code_1(run: Run, key: str) -> None:
    run("destinations", "create", "files", "--type", "file", "--key", key)
    assert run("destinations", "test", "files").startswith("success")
