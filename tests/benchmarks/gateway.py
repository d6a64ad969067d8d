"""The gateway as a target: its own process, its own data folder, real keys."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.benchmarks import payload
from tests.benchmarks.programs import BenchmarkError, Program, Server
from tests.benchmarks.targets import answers, free_port, producer

GATEWAY = [sys.executable, "-m", "gateway"]
ROOT = Path(__file__).parents[2]
READER_KEYS = 5
HISTORY = 4_000_000_000
TICK_US = 5000
READS = {"effect": "allow", "actions": ["stream", "pull"], "categories": ["bench.**"]}
WRITES = {"effect": "allow", "actions": ["ingest"], "categories": ["bench.**"]}
Parameters = Sequence[tuple[str, str]]

# Every subscriber selects something; all of these select the usual event.
SELECTIONS: tuple[Parameters, ...] = (
    (("category", "bench.load"),),
    (("category", "bench.*"),),
    (("tenant", "bench"),),
    (("action", "bench.tick"), ("actor", "svc-1")),
    (("tenant", "bench"), ("category", "bench.load"), ("min_severity", "1")),
)


class Gateway:
    """`python -m gateway serve` on the embedded store, published to over one connection.

    What falls due while a request is being answered goes into the next one, at most 1,000
    events of it. `selections`: parameters of the streams, one after the other; `events`:
    what is posted, in turns; `history`: how many of them the log holds from the start,
    numbered from `HISTORY`.
    """

    name = "gateway"
    batch = 1000
    first_guess = 200_000

    def __init__(
        self,
        folder: Path,
        selections: Sequence[Parameters] = SELECTIONS,
        events: Sequence[str] = (),
        history: int = 0,
    ) -> None:
        self._folder = folder
        self._selections = selections
        self._events = events or [payload.posted()]
        self._history = history
        self._server: Server | None = None
        self.prepared = folder / "gateway-keys"
        # Settings, by their names in the environment, and more of the command line.
        self.settings: dict[str, str] = {}
        self.options: tuple[str, ...] = ()
        self.cores: Sequence[int] = ()
        self.data = folder / "gateway-data"
        self.port = 0
        self.writer = ""
        self.readers: list[str] = []

    def start(self) -> None:
        if not self.prepared.exists():
            self._prepare(self.prepared)
        self.writer, *self.readers = json.loads((self.prepared / "bench.json").read_text())
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.prepared / "data", self.data)
        self._serve()
        if self._history:
            self._fill()

    def restart(self) -> None:
        """Another process on the same log, with nothing of the past in its memory."""
        if self._server:
            self._server.close()
        self._serve()

    def _serve(self) -> None:
        self.port = free_port()
        self._server = Server(
            [*GATEWAY, "serve", "--data", str(self.data), "--port", str(self.port), *self.options],
            self._folder / "gateway.log",
            _environment(self.settings),
            self.cores,
        )
        self._server.wait_until(lambda: answers(self.port, "/readyz"))

    def _fill(self) -> None:
        with closing(self.producer("--connections", 4)) as program:
            posted = program.ask(f"run {HISTORY} {self._history} 0 1000 300", 330)
        if posted["accepted"] != self._history:
            raise BenchmarkError(f"the log could not be filled: {posted}")

    def _prepare(self, folder: Path) -> None:
        """Make the keys once: a producer's, and the readers'."""
        folder.mkdir()
        named = [("bench-writer", WRITES), *((f"bench-{i}", READS) for i in range(READER_KEYS))]
        keys = [self._key(folder / "data", name, grant) for name, grant in named]
        (folder / "bench.json").write_text(json.dumps(keys))

    def _key(self, data: Path, name: str, grant: Mapping[str, object]) -> str:
        arguments = ["--data", str(data), "--name", name, "--purpose", "benchmark", "--json"]
        done = subprocess.run(
            [*GATEWAY, "keys", "create", *arguments, "--grant", json.dumps(grant)],
            capture_output=True,
            text=True,
            timeout=30,
            env=dict(os.environ) | _environment(self.settings),
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"no key could be made: {done.stderr.strip()[-1500:]}")
        key: str = json.loads(done.stdout)["key"]
        return key

    def pids(self) -> list[int]:
        return self._server.pids if self._server else []

    def publisher(self) -> Program:
        return self.producer("--tick-us", TICK_US)

    def producer(self, *options: str | int) -> Program:
        """A producer.c that posts to /v1/events."""
        head = payload.post_head("/v1/events", "application/x-ndjson", self.writer)
        return producer(self._folder, self.port, head, self._events, *options)

    def requests(self, mode: str) -> list[str]:
        keys = itertools.cycle(self.readers)
        turns = self._selections
        if len(turns) < READER_KEYS * len(SELECTIONS):  # every key with every selection
            return [self.stream(mode, p, key) for key in self.readers for p in turns]
        return [self.stream(mode, parameters, next(keys)) for parameters in turns]

    def stream(self, mode: str, parameters: Parameters, key: str = "") -> str:
        """The request of one stream."""
        return payload.subscription(mode, "/v1/stream", key or self.readers[0], parameters)

    def close(self) -> None:
        if self._server:
            self._server.close()
        self._server = None
        shutil.rmtree(self.data, ignore_errors=True)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {
        **settings,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "AUDIT_GATEWAY_LOG__LEVEL": "warning",
    }
