"""A gateway with a producer, programs that are killed at random, and what came out of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest

from tests.setup_shippers import FOLDER
from tests.support import gateway_process
from tests.support.examples import examples
from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.loaded_program import LoadedProgram
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

RECIPES = ROOT / "deploy" / "shippers"
EVENTS = 400
ROUNDS = examples(10, least=2)
# Where the configurations say that the events and their receivers are.
EVENTS_FILE, RECEIVED_FILE = "/var/log/audit/events.ndjson", "/var/log/audit/received.ndjson"
BEGIN = b'{"cursor":'
# Least and most seconds between two faults.
PAUSES = (0.05, 0.5)
_BATCH = 10
_LIBRARIES = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/syslog-ng")


class MissingProgram(Exception):
    """A program is neither on the machine nor unpacked."""


def found(name: str) -> tuple[Path, dict[str, str]]:
    """A program, and the variables that it needs."""
    if (FOLDER / name).exists():
        return FOLDER / name, {}
    unpacked = next(iter(FOLDER.glob(f"usr/*bin/{name}")), None)
    if unpacked is not None:
        places = os.pathsep.join(str(one) for place in _LIBRARIES for one in FOLDER.glob(place))
        return unpacked, {"LD_LIBRARY_PATH": places}
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise MissingProgram(f"{name} is not on this machine: python tests/setup_shippers.py")
    return Path(path), {}


def program_of(name: str) -> tuple[Path, dict[str, str]]:
    """As `found`; the test is skipped where it is missing."""
    try:
        return found(name)
    except MissingProgram as missing:
        pytest.skip(str(missing))


class Killable:
    """A program that is started anew whenever it was killed, in a process group of its own."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes] | LoadedProgram]) -> None:
        self._start = start
        self._process = start()

    def kill(self) -> None:
        self.end()
        self._process = self._start()

    def restart(self) -> None:
        """Stop it in its own way, and start it again."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(patience())
        self._process = self._start()

    def end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(patience())


class Scene:
    """What a test of a recipe has: `sent` are the ids of the events that the log holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seed = random.randrange(2**32)
        self.chance = random.Random(self.seed)
        self.options: list[str] = []
        # Seconds between two requests that send events.
        self.between = 0.01
        # One that nobody is given while the gateway is away.
        self.gateway = GatewayProcess(folder / "data", port=free_port())
        grant = {"actions": ["ingest", "pull", "stream"], "categories": ["auth"]}
        self.admin = self.gateway.first_key
        self.key = self.gateway.make_key(grant)
        self.header = folder / "header"
        self.header.write_text(f"Authorization: Bearer {self.key}\n")
        self.sent: set[str] = set()
        self._number = 0
        self._programs: list[Killable] = []
        self._said = (folder / "said").open("wb")

    def __enter__(self) -> Self:
        print(f"seed {self.seed}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in self._programs:
            program.end()
        self.gateway.kill()
        self._said.close()
        if error is not None:
            print((self.folder / "said").read_text(errors="replace")[-3000:])

    def run(
        self,
        command: Sequence[str | Path],
        settings: Mapping[str, str],
        stale: Sequence[Path] = (),
    ) -> Killable:
        """Run a program of the machine, each time without what a kill of it has left."""

        def start() -> subprocess.Popen[bytes]:
            for path in stale:
                path.unlink(missing_ok=True)
            return subprocess.Popen(
                command, env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
                stdout=self._said, stderr=self._said, start_new_session=True,
            )  # fmt: skip

        return self._kept(start)

    def configured(self, recipe: str, other: Mapping[str, str], name: str = "audit.*") -> Path:
        """A configuration of a recipe, with places in the scene."""
        [path] = (RECIPES / recipe).glob(name)
        text = path.read_text()
        places = dict(other)
        if EVENTS_FILE in text:
            places.setdefault(EVENTS_FILE, str(self.folder / "events.ndjson"))
        for place, here in places.items():
            assert place in text
            text = text.replace(place, here)
        path = self.folder / f"{recipe}-{path.name}"
        path.write_text(text)
        return path

    def tail(self, output: Path) -> Killable:
        """Run `audit-gateway tail` into a file."""
        arguments = ["tail", "--url", self.gateway.url, "--from", "start", "--output", str(output)]

        def start() -> LoadedProgram:
            process = gateway_process.start(
                arguments, {"AUDIT_GATEWAY_KEY": self.key}, stdout=self._said, stderr=self._said
            )
            assert isinstance(process, LoadedProgram)
            return process

        return self._kept(start)

    def kill_gateway(self) -> None:
        self.gateway.kill()
        self._start_gateway()

    def restart_gateway(self) -> None:
        """Stop it in its own way, and start it again."""
        self.gateway.stop()
        self._start_gateway()

    def _start_gateway(self) -> None:
        port = self.gateway.port
        self.gateway = GatewayProcess(self.folder / "data", *self.options, port=port)

    def produce(
        self,
        count: int,
        faults: Iterable[Callable[[], object]],
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        """Send events, and let each fault happen at a random moment meanwhile."""
        done = threading.Event()

        def fail() -> None:
            for fault in faults:
                done.wait(self.chance.uniform(*pauses))
                fault()

        failing = threading.Thread(target=fail)
        failing.start()
        enough = self._number + count
        while self._number < enough or failing.is_alive():
            ids = [f"e{self._number + place}" for place in range(_BATCH)]
            events = [{"id": one, "category": "auth", "action": "login"} for one in ids]
            try:
                status, _ = self.gateway.ask("POST", "/v1/events", self.key, events)
            except (OSError, HTTPException, ValueError):
                # It was killed; the same is sent again.
                time.sleep(0.05)
                continue
            assert status in (200, 201)
            self.sent.update(ids)
            self._number += _BATCH
            time.sleep(self.between)
        failing.join()

    def kill_while_reading(self, program: Killable, received: Path) -> None:
        """Kill a program when it has received something more."""
        before, deadline = len(content(received)), time.monotonic() + patience()
        while len(content(received)) == before:
            assert time.monotonic() < deadline, "nothing more is received"
            time.sleep(0.01)
        program.kill()

    def await_all(self, received: Callable[[], bytes]) -> Counter[str]:
        """Wait until every event was received; how often each was. Each line is a whole event."""
        deadline = time.monotonic() + patience()
        while True:
            counts = Counter(ids_in(received()))
            missing = self.sent - counts.keys()
            if not missing:
                return counts
            assert time.monotonic() < deadline, f"{len(missing)} of {len(self.sent)} are lost"
            time.sleep(0.05)

    def log_lines(self) -> bytes:
        """The events of the log but for the gateway's own."""
        path = "/v1/events?from=start&limit=5000&category=auth"
        _, page = self.gateway.ask("GET", path, self.key)
        return b"".join(msgspec.json.encode(one) + b"\n" for one in page["events"])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the gateway as an administrator."""
        status, answer = self.gateway.ask(method, path, self.admin, body)
        assert status < 300, answer
        return answer

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + patience(60)
        while not holds():
            assert time.monotonic() < deadline, f"waited too long for {what}"
            time.sleep(0.1)

    def _kept(self, start: Callable[[], subprocess.Popen[bytes] | LoadedProgram]) -> Killable:
        program = Killable(start)
        self._programs.append(program)
        return program


def ids_in(received: bytes) -> list[str]:
    """The ids of whole lines that are no notices. What was torn when a receiver was killed stands
    before the next line, in the same one."""
    ids = []
    for line in received.split(b"\n")[:-1]:
        try:
            event: dict[str, Any] = json.loads(line[max(0, line.rfind(BEGIN)) :])
        except ValueError:
            # It was torn, and something else has ended the line.
            continue
        if "type" not in event:
            ids.append(event["id"])
    return ids


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
