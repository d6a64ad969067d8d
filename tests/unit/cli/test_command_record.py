"""Who administers by the command line is recorded, whatever they do there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from gateway.access.keys.change import Change
from gateway.access.keys.lifecycle import revoke
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.cli.base import operator as operator_module
from gateway.cli.base.operator import this_operator
from gateway.cli.main import cli
from gateway.errors import GatewayError, Unavailable

Run = Callable[..., str]
NOBODY = 65534
GRANT = '{"actions":["stream","pull"],"categories":["auth"]}'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SUDO_USER", "eve")

    def command(*arguments: str) -> str:
        found = CliRunner().invoke(cli, [*arguments, "--data", str(data)], standalone_mode=False)
        if found.exception is not None:
            raise found.exception
        return found.stdout

    return command


def created(run: Run, *arguments: str) -> str:
    shown = run(
        "keys", "create", "--name", "n", "--purpose", "p", "--expires", "1d", "--json", *arguments
    )
    key_id: str = json.loads(shown)["id"]
    return key_id


def waiting(data: Path) -> list[Change]:
    """What waits to be written into the log."""

    async def unrecorded() -> list[Change]:
        store = SqliteKeys(data / "keys.db")
        try:
            return list((await store.unrecorded(1_000)).values())
        finally:
            await store.close()

    return asyncio.run(unrecorded())


LOOKS = {
    "keys list": (), "keys show": ("KID",), "keys explain": ("KID", "--action", "pull"),
    "keys document": ("KID",), "keys history": ("KID",), "keys usage": ("KID",),
    "keys simulate": ("KID", "--grant", GRANT), "roles list": (), "roles show": ("auditor",),
    "pepper status": (),
}  # fmt: skip


@pytest.mark.parametrize("command", LOOKS)
def test_every_look_is_a_use(run: Run, data: Path, command: str) -> None:
    key_id = created(run, "--grant", GRANT)
    arguments = [key_id if one == "KID" else one for one in LOOKS[command]]
    run(*command.split(), *arguments)
    [look] = [one for one in waiting(data) if one.action == "requested"]
    assert look.by == this_operator().actor
    assert look.operator == this_operator()
    assert look.data["route"] == command
    assert look.about == ((f"key:{key_id}",) if key_id in arguments else ())
    assert look.at > 0


CHANGES = {
    "keys suspend": "key.suspended", "keys revoke": "key.revoked", "keys rotate": "key.rotated",
}  # fmt: skip


@pytest.mark.parametrize("command", CHANGES)
def test_every_change_says_who_made_it_and_from_where(run: Run, data: Path, command: str) -> None:
    key_id = created(run, "--grant", GRANT)
    run(*command.split(), key_id)
    changes = waiting(data)
    assert CHANGES[command] in [one.action for one in changes]
    for one in changes:
        assert (one.by, one.operator) == (this_operator().actor, this_operator())
        assert one.operator is not None
        assert (one.operator.sudo_user, one.operator.host) == ("eve", os.uname().nodename)


def test_changes_of_roles_say_so_too(run: Run, data: Path) -> None:
    run("roles", "put", "team", "--grant", GRANT)
    key_id = created(run, "--role", "team")
    assert key_id in run("roles", "delete", "team")
    assert {one.action for one in waiting(data)} == {
        "role.put", "key.created", "key.role_removed", "role.deleted",
    }  # fmt: skip
    assert {one.operator for one in waiting(data)} == {this_operator()}


def test_who_backs_up_the_log_is_recorded_and_in_the_backup_too(
    run: Run, data: Path, tmp_path: Path
) -> None:
    created(run, "--grant", GRANT)
    (tmp_path / "one.json").write_text('{"category":"auth","action":"login"}\n')
    run("import", str(tmp_path / "one.json"))
    run("log", "backup", str(tmp_path / "backup"))
    for folder in (data, tmp_path / "backup"):
        look = waiting(folder)[-1]
        assert (look.action, look.data["route"]) == ("requested", "log backup")
        assert (look.by, look.operator) == (this_operator().actor, this_operator())
        assert look.data["parameters"] == [{"target": str(tmp_path / "backup")}]


def test_who_writes_into_the_log_without_a_gateway_is_recorded(
    run: Run, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "two.json").write_text('{"category":"auth","action":"login","id":"a"}\n' * 2)
    run("import", str(tmp_path / "two.json"))
    run("log", "new-epoch")
    imported, epoch = waiting(data)[-2:]
    assert (imported.action, imported.about) == ("log.imported", ("log",))
    assert imported.data == {"accepted": 1, "duplicates": 1, "refused": 0}
    assert (epoch.action, len(epoch.data["epoch"])) == ("log.new_epoch", 10)
    assert {imported.operator, epoch.operator} == {this_operator()}


def test_a_change_that_somebody_else_makes_later_does_not_keep_the_operator(
    run: Run, data: Path
) -> None:
    key_id = created(run, "--grant", GRANT)

    async def changed() -> None:
        store = SqliteKeys(data / "keys.db")
        try:
            await store.change(key_id, lambda key: revoke(key, 1.0, "r", "A" * 12))
        finally:
            await store.close()

    asyncio.run(changed())
    assert (waiting(data)[-1].by, waiting(data)[-1].operator) == ("A" * 12, None)


def test_a_key_says_that_it_was_made_by_the_command_line(run: Run) -> None:
    key_id = created(run, "--grant", GRANT)
    actor = this_operator().actor
    assert actor.startswith("cli:")
    assert json.loads(run("keys", "show", key_id))["created_by"] == actor
    rotated = json.loads(run("keys", "rotate", key_id, "--json"))
    assert rotated["created_by"] == actor
    assert actor in run("keys", "document", key_id)


def test_characters_that_a_terminal_obeys_are_not_kept(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "eve\x1b[2J\x9b1m\u202e" + "x" * 5_000)
    run("roles", "put", "team")
    [change] = waiting(data)
    assert change.operator is not None
    assert change.operator.sudo_user.isprintable()
    assert change.operator.sudo_user.startswith("eve\ufffd[2J\ufffd1m\ufffd")
    assert len(change.operator.sudo_user) == 256


def test_who_runs_it_is_what_the_system_says_and_not_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert this_operator().user != "somebody-else"


def test_what_cannot_be_recorded_is_not_shown(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = created(run, "--grant", GRANT)

    async def failing(self: SqliteKeys, change: Change) -> None:
        raise Unavailable("the change was not kept: readonly database")

    monkeypatch.setattr(SqliteKeys, "record_later", failing)
    with pytest.raises(GatewayError, match="nothing is shown, because") as refused:
        run("keys", "explain", key_id, "--action", "pull")
    assert refused.value.code == "look_not_recorded"


@contextmanager
def without_rights(data: Path) -> Iterator[None]:
    """Whoever is root writes everywhere, and so becomes somebody else, whose folder it is."""
    root = os.geteuid() == 0
    files = (data, *data.iterdir())
    for path in files:
        if root:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(0o500)
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in files:
            path.chmod(0o700)


def test_a_folder_that_cannot_be_written_to_is_not_looked_at() -> None:
    # Not below the folder of pytest, into which root alone can look.
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        data = Path(folder, "data")
        looks = ["keys", "list", "--data", str(data)]
        grant = ["--name", "n", "--purpose", "p", "--grant", GRANT]
        runner = CliRunner()
        made = runner.invoke(cli, ["keys", "create", *grant, "--data", str(data)])
        assert made.exit_code == 0, made.output
        assert "n" in runner.invoke(cli, looks, standalone_mode=False).stdout
        with without_rights(data):
            refused = runner.invoke(cli, looks, standalone_mode=False)
        assert isinstance(refused.exception, GatewayError), refused.output
        assert not refused.stdout


def test_revoking_with_descendants_names_them(run: Run, data: Path) -> None:
    first = created(run, "--grant", GRANT)
    second = created(run, "--grant", GRANT)

    async def adopted() -> None:
        store = SqliteKeys(data / "keys.db")
        try:
            import msgspec

            await store.change(second, lambda key: msgspec.structs.replace(key, created_by=first))
        finally:
            await store.close()

    asyncio.run(adopted())
    said = run("keys", "revoke", first)
    assert second in said
    assert "--with-descendants" in said
    shown = json.loads(run("keys", "revoke", first, "--with-descendants", "--json"))
    assert shown["revoked_descendants"] == [second]
    assert json.loads(run("keys", "show", second))["state"] == "revoked"


def test_commands_find_who_runs_them_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(descriptor: int) -> str:
        raise OSError("not a terminal")

    monkeypatch.setattr(operator_module.os, "ttyname", no_terminal)
    assert this_operator().terminal == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--expires", ""),
        ("--grant", '{"actions":["pull"],"categories":["auth"],"categories":["**"]}'),
        ("--grant", '{"actions":["pull"],"categories":["a"],"when":{"tz":"UTC","tz":"EST"}}'),
    ],
)
def test_what_came_out_empty_or_stands_twice_makes_no_key(
    run: Run, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(GatewayError, match=r"duration|stands twice"):
        run("keys", "create", "--name", "n", "--purpose", "p", *arguments)
