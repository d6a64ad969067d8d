"""The program as users run it: `audit-gateway serve` in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.loaded_program import LoadedProgram
from tests.support.log_secrets import assert_no_secrets
from tests.support.machine_time import patience

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "gateway")
START_SECONDS = 30
STOP_SECONDS = 20
_OF_THE_LOADER = ("LD_", "PYTHON")


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without settings of the gateway, then `settings` by their names in the environment."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**ours, "PYTHONPATH": path, **(settings or {})}


def run_program(
    *arguments: str,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
    seconds: float = 60,
    executed: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    with TemporaryFile() as out, TemporaryFile() as errors:
        process = start(arguments, settings, executed=executed, cwd=cwd, stdout=out, stderr=errors)
        try:
            process.wait(patience(seconds))
        finally:
            process.kill()
            process.wait()
        said = []
        for file in (out, errors):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess([*PROGRAM, *arguments], process.returncode or 0, *said)


def start(
    arguments: Sequence[str],
    settings: Mapping[str, str] | None,
    *,
    executed: bool = False,
    **options: Any,
) -> LoadedProgram | subprocess.Popen[str]:
    """Start the program: as a fork of one that is loaded, unless it is to be `executed` as users
    do it, or what loads it is to heed the settings."""
    if executed or any(name.startswith(_OF_THE_LOADER) for name in settings or {}):
        return subprocess.Popen(
            [*PROGRAM, *arguments], env=environment(settings), stdin=subprocess.DEVNULL,
            text=True, start_new_session=True, **options,
        )  # fmt: skip
    return LoadedProgram(arguments, env=environment(settings), **options)


class GatewayProcess:
    """A running gateway on a port of its own.

    `said` is what it printed while starting; `first_key` is "" unless this was the
    first start on the folder. `settings` are environment variables; `shows_key` says
    whether it will print a key, where that cannot be told from the folder; for `executed`
    see `start`. Leaving the context stops it, unless that has been done.
    """

    def __init__(
        self,
        data: Path,
        *options: str,
        settings: Mapping[str, str] | None = None,
        port: int = 0,
        shows_key: bool | None = None,
        executed: bool = False,
    ) -> None:
        self._errors_path = data.with_name(data.name + ".stderr")
        if shows_key is None:
            shows_key = "--demo" in options or not (data / "keys.db").exists()
        with self._errors_path.open("ab") as errors:
            self._process = start(
                ["serve", "--data", str(data), "--port", str(port), *options],
                settings, executed=executed, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self.data = data
        self.said: list[str] = []
        self._read_greeting("curl " if shows_key else "audit-gateway is listening")
        self.url = next(
            word
            for line in self.said
            for word in line.split()
            if word.startswith(("http://", "https://"))
        )
        parts = urlsplit(self.url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.first_key = next(
            (line.partition(": ")[2] for line in self.said if line.startswith("first admin key")),
            "",
        )
        if self.first_key.startswith("/"):
            # It is in no log: it was written to that file.
            self.first_key = Path(self.first_key).read_text().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._process.returncode is None:
                self.stop()
        finally:
            self.kill()

    def _read_greeting(self, last: str) -> None:
        """Read up to the line with `last`."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience(START_SECONDS), self._process.kill)
        watchdog.start()
        try:
            for line in self._process.stdout:
                self.said.append(line.rstrip("\n"))
                if last in line:
                    return
        finally:
            watchdog.cancel()
        self.kill()
        raise AssertionError(f"the gateway did not start:\n{self.errors}")

    @property
    def errors(self) -> str:
        """What it has written to standard error, over all starts on this folder."""
        return self._errors_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> str:
        """Ask it to stop; return what it printed since the greeting. It must end well, in time."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop in {STOP_SECONDS} s:\n{self.errors}") from None
        assert self._process.returncode == 0, self.errors
        assert "Traceback" not in self.errors, self.errors
        return self._rest()

    def ended(self) -> int:
        """Wait until it ends by itself; the exit code."""
        return self._process.wait(patience(STOP_SECONDS))

    def kill(self) -> None:
        """SIGKILL: it gets no chance to do anything more. Does nothing if it has ended."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert_no_secrets(self.errors)

    def _rest(self) -> str:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            return stdout.read()

    # Requests

    def ask(
        self, method: str, path: str, key: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, Any]:
        """One request on a connection of its own: status and decoded body of the answer.

        `body` is encoded as JSON unless it is bytes. Like any client it asks again while the
        machine is too busy for the gateway to look at its keys once a second, which is told by 503.
        """
        deadline = time.monotonic() + patience()
        while True:
            status, answer = self._ask(method, path, key, body, kind)
            if status != 503 or answer.get("code") != "keys_unavailable":
                return status, answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)

    def _ask(self, method: str, path: str, key: str, body: object, kind: str) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=patience(30))
        try:
            connection.request(method, path, raw or None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def make_key(self, *grants: dict[str, Any]) -> str:
        """A key with these grants, made with the first key."""
        wanted = {"name": "test", "purpose": "test", "owner": "tests", "grants": list(grants)}
        status, answer = self.ask("POST", "/v1/keys", self.first_key, wanted)
        assert status == 201, answer
        key: str = answer["key"]
        return key

    def post(self, events: Iterable[dict[str, Any]], key: str) -> None:
        """Send events; all of them are durable when this returns."""
        wanted = list(events)
        status, answer = self.ask("POST", "/v1/events", key, wanted)
        assert (status, answer.get("accepted")) == (201, len(wanted)), answer
