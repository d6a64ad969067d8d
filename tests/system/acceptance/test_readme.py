"""README.md's commands, run as printed but for the port, in a clean copy with the program.

In blocks marked `console`, lines that begin with `$ ` are commands, in one shell
session from the first to the last; other lines are what they print.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway_process import ROOT, environment
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

_SECONDS = 30
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STAYS = re.compile(r"(\w+=\S+ )*(audit-gateway serve|make run|go run)\b")
# What programs that stay print once they can be used.
_READY = re.compile(r"^\s*(sed .* \| )?curl |started server at http")
_STREAMS = re.compile(r"curl\b.* (-N|--no-buffer)\b|audit-gateway tail\b(?!.* --no-follow)")
_NOT_COPIED = (
    ".*", "audit-data", "victoria-logs-data", "node_modules", "programs", "build", "dist",
    "*.egg-info", "__pycache__",
)  # fmt: skip
# Its commands need VictoriaLogs, and are run by `make test-shippers`.
VICTORIA_LOGS = "Events in VictoriaLogs"
# What an event looks like in an SSE stream, as NDJSON, and as `tail` shows it.
_EVENT = re.compile(r'^(data: )?\{.*"category":|^\d{4}-\d\d-\d\d\S* .')


def commands(text: str) -> list[str]:
    """The commands of a README, in order; a `\\` at the end of a line joins the next."""
    found: list[str] = []
    for block in _BLOCK.findall(text):
        joined = re.sub(r"\\\n(> )?", "", block)
        found += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return found


def parted(text: str, heading: str) -> tuple[str, str]:
    """The section with a heading, and the text without it."""
    before, section = text.split(f"\n## {heading}\n")
    section, after = section.split("\n## ", 1)
    return section, f"{before}\n## {after}"


class Session:
    """A user's shell in a folder: what is exported stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exported = environment()
        self._exported["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._staying: list[subprocess.Popen[str]] = []
        self.listening: list[str] = []

    def run(self, command: str) -> str:
        """Run a command to its end, or as long as a user would; return what it printed."""
        if _STAYS.match(command):
            return self._stay(command)
        if _STREAMS.match(command):
            return self._first_event(command)
        return self._to_the_end(command)

    def close(self) -> None:
        for process in self._staying:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._staying:
            process.communicate(timeout=patience(_SECONDS))

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-c", command], cwd=self._folder, env=self._exported, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def _stay(self, command: str) -> str:
        """Leave it running, once it says where it listens and how to see events."""
        process = self._start(command)
        self._staying.append(process)
        said = read_until(process, _READY)
        self.listening += re.findall(r"listening on (\S+)", said)
        return said

    def _first_event(self, command: str) -> str:
        process = self._start(command)
        try:
            return read_until(process, _EVENT)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=patience(_SECONDS))

    def _to_the_end(self, command: str) -> str:
        kept = self._folder / "exported"
        process = self._start(f"{command}\nstatus=$?; env -0 > '{kept}'; exit $status")
        said, _ = process.communicate(timeout=patience(_SECONDS))
        assert process.returncode == 0, f"{command}\n{said}"
        before, self._exported = (
            self._exported,
            dict(item.split("=", 1) for item in kept.read_text().split("\0") if item),
        )
        kept.unlink()
        for name in self._exported.keys() - before.keys():
            assert self._exported[name], f"{name} is empty after: {command}\n{said}"
        return said


def read_until(process: subprocess.Popen[str], wanted: re.Pattern[str]) -> str:
    """What it prints, up to the first line with `wanted`, which must come in time."""
    assert process.stdout is not None
    watchdog = threading.Timer(patience(_SECONDS), os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    said = ""
    try:
        for line in process.stdout:
            said += line
            if wanted.search(line):
                return said
    finally:
        watchdog.cancel()
    raise AssertionError(f"nothing like {wanted.pattern!r} was printed in time, but:\n{said}")


@pytest.fixture
def clean_copy(tmp_path: Path) -> Path:
    """The checkout with the program in `.venv`, as the first `make` leaves it."""
    folder = tmp_path / "audit-gateway"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, arguments in (("audit-gateway", "-m gateway"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    (folder / ".venv" / ".made").touch()
    return folder


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    opened = Session(folder)
    try:
        yield opened
    finally:
        opened.close()


def elsewhere(command: str, port: int) -> str:
    """A command for a gateway on another port than 8080, which something else may have."""
    address = f"127.0.0.1:{port}"
    command = command.replace("127.0.0.1:8080", address)
    command = command.replace("audit-gateway serve", f"audit-gateway serve --port {port}")
    return command.replace("audit-gateway tail", f"audit-gateway tail --url http://{address}")


def refused(said: str) -> bool:
    """Whether the gateway answered with a problem: curl itself ends well then."""
    try:
        answer = json.loads(said[said.index("{") :])
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("status", 0) >= 400


def test_the_commands_of_the_readme_work_as_printed(clean_copy: Path) -> None:
    _, text = parted((ROOT / "README.md").read_text(), VICTORIA_LOGS)
    port = free_port()
    printed = [elsewhere(command, port) for command in commands(text)]
    assert any(_STAYS.match(command) for command in printed)
    assert sum(bool(_STREAMS.match(command)) for command in printed) >= 2
    with session(clean_copy) as user:
        for command in printed:
            said = user.run(command)
            assert not refused(said), f"{command}\n{said}"
    assert user.listening


def test_make_run_shows_made_up_events_with_the_line_that_it_prints(clean_copy: Path) -> None:
    with session(clean_copy) as user:
        said = user.run("make run ARGS='--port 0'")
        [curl] = [line.strip() for line in said.splitlines() if "curl " in line]
        assert '"category":' in user.run(curl)
        assert (clean_copy / "audit-data" / "keys.db").exists()


def test_commands_are_found_over_blocks_and_joined_lines() -> None:
    text = "```console\n$ a \\\n> b\nout\n$ c\n```\n\n```sh\n$ no\n```\n```console\n$ d\n```\n"
    assert commands(text) == ["a b", "c", "d"]
