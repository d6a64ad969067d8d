"""`audit-gateway keys rotate --due`: the new secret is placed before the old one ends, or not at
all. Whatever becomes of the place, a key works at every moment."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.access.credentials.token import key_id_of
from gateway.cli.main import cli
from gateway.cli.secrets import secret_sink
from gateway.clock import SystemClock
from gateway.errors import Conflict, GatewayError, InvalidRequest

Run = Callable[..., Any]
DUE = ("--rotate-every", "1s", "--rotate-overlap", "1d")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder / "siem"


@pytest.fixture
def run(data: Path) -> Run:
    def run(*arguments: str) -> Any:
        command = ["keys", *arguments, "--json", "--data", str(data)]
        result = CliRunner().invoke(cli, command, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        assert "alpk_" not in result.stdout or arguments[0] in ("create",) or "--hold" in arguments
        return json.loads(result.stdout)

    return run


def made(run: Run, *options: str) -> Any:
    return run("create", "--name", "n", "--purpose", "p", *options)


def due(run: Run, key_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the schedule of a key be over."""
    real = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda self: real(self) + 10)
    assert run("show", key_id)["rotate_by"]


def states(run: Run) -> dict[str, str]:
    return {one["id"]: one["state"] for one in run("list")["keys"]}


def test_a_key_that_is_due_is_rotated_into_its_file_and_once(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made(run, "--rotate-every", "30d", "--rotate-overlap", "1d")
    place.write_text("old")
    into = ("rotate", key["id"], "--due", "--secret-file", str(place), "--secret-mode", "0640")
    assert run(*into) == {"rotated": []}
    assert place.read_text() == "old"
    run("change", key["id"], "--rotate-every", "1s")
    due(run, key["id"], monkeypatch)
    [done] = run(*into)["rotated"]
    assert key_id_of(place.read_text().strip()) == done["successor"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert os.listdir(place.parent) == ["siem"]
    assert states(run) == {key["id"]: "draining", done["successor"]: "active"}
    shown = run("show", done["successor"])
    assert ("confirm_by" in shown, shown["rotate"]["overlap"]) == (False, "1d")


def test_the_id_of_any_key_of_the_line_names_the_newest(run: Run, place: Path) -> None:
    key = made(run)
    into = ("rotate", key["id"], "--secret-file", str(place))
    lines = [run(*into)["rotated"][0] for _ in range(3)]
    assert [one["key"] for one in lines] == [key["id"], *(one["successor"] for one in lines[:2])]


@pytest.mark.parametrize("how", ["no folder", "not allowed", "a mode that is none"])
def test_a_file_that_cannot_be_written_leaves_the_old_key_and_no_other(
    run: Run, place: Path, how: str
) -> None:
    key = made(run, *DUE)
    options = ["--secret-file", str(place)]
    if how == "no folder":
        options = ["--secret-file", str(place / "in" / "none")]
    elif how == "not allowed":
        # Not even the administrator of the machine writes there.
        options = ["--secret-file", "/proc/version"]
    else:
        options += ["--secret-mode", "0999"]
    with pytest.raises((GatewayError, SystemExit)) as refused:
        run("rotate", key["id"], *options)
    assert states(run).pop(key["id"]) == "active"
    assert set(states(run).values()) <= {"active", "revoked"}
    assert list(states(run).values()).count("active") == 1
    assert "pending_successor" not in run("show", key["id"])
    if how == "a mode that is none":
        assert isinstance(refused.value, InvalidRequest)
        assert len(states(run)) == 1
    else:
        assert getattr(refused.value, "code", "") == "secret_not_placed"


SINKS = {
    "fails": "import sys; sys.stdin.read(); sys.exit(3)",
    "half-writes": "import sys; open(sys.argv[1], 'w').write(sys.stdin.read(9)); sys.exit(1)",
    "is not read": "import sys; sys.exit(1)",
    "hangs": "import sys, time; sys.stdin.read(); time.sleep(600)",
}


@pytest.mark.parametrize("how", SINKS)
def test_a_command_that_fails_leaves_the_old_key_and_no_other(
    run: Run, place: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_sink, "COMMAND_SECONDS", 5.0 if how != "hangs" else 0.2)
    key, program = made(run), place.with_name("program.py")
    program.write_text(SINKS[how])
    command = f"{sys.executable} {program} {place}"
    with pytest.raises(GatewayError) as refused:
        run("rotate", key["id"], "--secret-command", command)
    assert refused.value.code == "secret_not_placed"
    found = states(run)
    assert found.pop(key["id"]) == "active"
    assert list(found.values()) == ["revoked"]
    [again] = run("rotate", key["id"], "--secret-command", "sh -c 'cat >/dev/null'")["rotated"]
    assert states(run)[again["successor"]] == "active"


def test_a_command_gets_the_secret_on_its_input_and_nowhere_else(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_of_an_administrator")
    key, seen = made(run), place.with_name("seen")
    script = place.with_name("sink.sh")
    script.write_text(f'cat > {place}; echo "$@" > {seen}; env >> {seen}\n')
    [done] = run("rotate", key["id"], "--secret-command", f"sh {script} one")["rotated"]
    assert key_id_of(place.read_text().strip()) == done["successor"]
    assert "alpk_" not in seen.read_text()


def test_a_run_that_is_killed_leaves_a_working_key_and_the_next_goes_on(
    run: Run, data: Path, place: Path
) -> None:
    key = made(run)
    command = [sys.executable, "-m", "gateway", "keys", "rotate", key["id"], "--data", str(data)]
    killer = "sh -c 'cat >/dev/null; kill -9 $PPID'"
    ended = subprocess.run([*command, "--secret-command", killer], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    old = run("show", key["id"])
    pending = old["pending_successor"]
    assert (old["state"], states(run)[pending]) == ("active", "active")
    with pytest.raises(Conflict, match="waits to be confirmed"):
        run("rotate", key["id"], "--secret-command", "true")
    with pytest.raises(Conflict, match="waits to be confirmed"):
        run("rotate", key["id"])
    # The secret is in no file, so nobody can have it: it is given up for another one.
    [done] = run("rotate", key["id"], "--secret-file", str(place))["rotated"]
    assert done["successor"] != pending
    assert states(run)[pending] == "revoked"


def test_a_run_that_is_killed_behind_the_placing_is_finished_by_the_next(
    run: Run, place: Path
) -> None:
    key = made(run)
    held = run("rotate", key["id"], "--hold", "--overlap", "2h")
    place.write_text(held["key"] + "\n")
    assert states(run) == {key["id"]: "active", held["id"]: "active"}
    [done] = run("rotate", key["id"], "--secret-file", str(place))["rotated"]
    assert done == {"key": key["id"], "successor": held["id"]}
    assert states(run) == {key["id"]: "draining", held["id"]: "active"}
    assert place.read_text() == held["key"] + "\n"


def test_a_held_successor_is_confirmed_by_its_id_or_that_of_the_old_key(run: Run) -> None:
    for by in ("id", "predecessor"):
        key = made(run)
        held = run("rotate", key["id"], "--hold")
        assert run("confirm", held[by])["id"] == held["id"]
        assert states(run)[key["id"]] == "draining"
        assert run("confirm", held["id"])["id"] == held["id"], "it is confirmed already"
    with pytest.raises(Conflict, match="no rotation"):
        run("confirm", made(run)["id"])
