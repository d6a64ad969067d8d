"""README.md's way from a clean clone to events in VictoriaLogs, run as printed but for ports."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from scene import MissingProgram, found

from tests.setup_shippers import VICTORIA_LOGS as MODULE
from tests.support.gateway_process import ROOT
from tests.support.machine_time import patience
from tests.system.acceptance import test_readme as readme

MOST_COMMANDS = 5
VICTORIA_LOGS_PORT = ":9428"
# Where it has been built before it is built again only if Go has forgotten it.
BUILD_SECONDS = 900

clean_copy = readme.clean_copy


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VictoriaLogs, ready for `go run` to start at once."""
    if shutil.which("go") is None:
        pytest.skip("go is not on this machine, so README.md's VictoriaLogs was not run")
    try:
        found("victoria-logs")
    except MissingProgram as missing:
        pytest.skip(str(missing))
    # A `go run` that is terminated leaves files.
    leavings = tmp_path / "go"
    leavings.mkdir()
    monkeypatch.setenv("GOTMPDIR", str(leavings))
    command = ["go", "run", MODULE, "-version"]
    subprocess.run(command, check=True, capture_output=True, timeout=patience(BUILD_SECONDS))


def printed() -> list[str]:
    section, _ = readme.parted((ROOT / "README.md").read_text(), readme.VICTORIA_LOGS)
    return readme.commands(section)


def test_the_readme_brings_events_into_victorialogs(built: None, clean_copy: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = f":{unused.getsockname()[1]}"
    said = ""
    with readme.session(clean_copy) as user:
        for command in printed():
            here = command.replace(VICTORIA_LOGS_PORT, port)
            said = user.run(here.replace("make run", "make run ARGS='--port 0'"))
            assert not readme.refused(said), f"{command}\n{said}"
    event = json.loads(said.splitlines()[-1])
    assert event.keys() >= {"_time", "category", "action", "actor.id", "outcome"}
    assert user.listening


def test_the_readme_brings_events_into_victorialogs_in_five_commands() -> None:
    commands = printed()
    assert 0 < len(commands) <= MOST_COMMANDS
    assert MODULE in commands[0]
    assert sum(VICTORIA_LOGS_PORT in command for command in commands) == 3
    assert sum("make run" in command for command in commands) == 1
