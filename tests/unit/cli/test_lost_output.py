"""Commands whose output goes nowhere: nothing is lost without a word."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main as program
from gateway.cli.base import terminal
from gateway.cli.main import cli
from gateway.errors import GatewayError
from tests.support.gateway_process import PROGRAM, ROOT, environment
from tests.support.machine_time import patience

CREATE = ("keys", "create", "--name", "n", "--purpose", "p")
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)

    def run(*arguments: str) -> str:
        where = ["--data", str(tmp_path / "data")]
        result = CliRunner().invoke(cli, [*arguments, *where], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_key_that_could_not_be_printed_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    arguments = CREATE
    if command == "rotate":
        run(*CREATE)
        arguments = ("keys", "rotate", run("keys", "list").split()[0])
    with monkeypatch.context() as patch:
        patch.setattr(terminal.click, "echo", full)
        with pytest.raises(GatewayError) as refused:
            run(*arguments, "--json")
    lost = refused.value.detail.split()[2]
    assert f"`audit-gateway keys revoke {lost}`" in refused.value.detail
    assert lost in run("keys", "list")


def test_where_output_is_closed_no_key_is_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [*PROGRAM, *CREATE, "--data", str(data)]
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, env=environment(),
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (made.returncode, made.stderr.count("\n")) == (1, 1)
    assert "standard output is closed" in made.stderr
    assert not data.exists()


def test_output_that_does_not_fit_is_one_line_of_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program.cli, "main", full)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_grants_on_the_command_line_are_checked_together_as_over_http(run: Run) -> None:
    named = '{"id":"g","actions":["pull"],"categories":["auth"]}'
    plain = '{"actions":["pull"],"categories":["auth"]}'
    for command in (CREATE, ("roles", "put", "team")):
        with pytest.raises(GatewayError, match="the same id"):
            run(*command, "--grant", named, "--grant", named)
        with pytest.raises(GatewayError, match="at most 64"):
            run(*command, *["--grant", plain] * 65)


@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_a_first_key_that_cannot_be_printed_is_kept_in_the_folder(tmp_path: Path, to: str) -> None:
    data = tmp_path / "data"
    command = [*PROGRAM, "serve", "--data", str(data), "--port", "0"]
    with subprocess.Popen(
        ["sh", "-c", f'exec "$@" >{to}', "sh", *command], cwd=ROOT, env=environment(),
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        watchdog = threading.Timer(patience(30), process.kill)
        watchdog.start()
        try:
            lines = list(islice(process.stderr, 2))
        finally:
            watchdog.cancel()
            process.terminate()
        process.stderr.read()
    assert "standard output takes nothing" in lines[0]
    key = data / "first-admin-key"
    assert f"first admin key, to be taken away from there: {key} " in lines[1]
    assert (key.read_text()[:5], key.stat().st_mode & 0o777) == ("alpk_", 0o600)
    assert process.returncode == 0
