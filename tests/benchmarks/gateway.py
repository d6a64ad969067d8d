"""The gateway as a target: its own process, its own data folder, real keys."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks import payload
from tests.benchmarks.programs import BenchmarkError, Program, Server
from tests.benchmarks.targets import (
    JOINED,
    PIPELINED,
    SINGLE,
    Way,
    answers,
    free_port,
    producer,
)

SERVE = ("-m", "gateway", "serve")
ROOT = Path(__file__).parents[2]
READER_KEYS = 5
HISTORY = 4_000_000_000
FILLING = Way("filling", "4 producers, 1,000 per request", producers=4, batch=1000)
READS = {"actions": ["stream", "pull"], "categories": ["bench.**"]}
WRITES = {"actions": ["ingest"], "categories": ["bench.**"]}
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
    """`python -m gateway serve` on the embedded store, with keys made over HTTP.

    `selections`: parameters of the streams, one after the other; `events`: what is posted, in
    turns; `history`: how many of them the log holds from the start, numbered from `HISTORY`;
    `fields`: what the grant of each reader hides; `source`: the checkout that is served.
    """

    ways = (JOINED, SINGLE, PIPELINED)
    first_guess = 200_000
    server = Server  # the tests start it in another way

    def __init__(
        self,
        folder: Path,
        selections: Sequence[Parameters] = SELECTIONS,
        events: Sequence[str] = (),
        history: int = 0,
        fields: Sequence[Mapping[str, Any]] = ({},) * READER_KEYS,
        source: Path = ROOT,
        name: str = "gateway",
    ) -> None:
        self.name = name
        self._folder = folder
        self._selections = selections
        self._events = events or [payload.posted()]
        self._history = history
        self._fields = fields
        self._source = source
        self._server: Server | None = None
        self.python = sys.executable
        # Settings, by their names in the environment, and more of the command line.
        self.settings: dict[str, str] = {}
        self.options: tuple[str, ...] = ()
        self.cores: Sequence[int] = ()
        self.data = folder / f"{name}-data"
        # What the key of the producers may do.
        self.writes: Mapping[str, object] = WRITES
        self.port = 0
        self.writer = ""
        self.readers: list[str] = []

    def start(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        log = self._folder / f"{self.name}.log"
        log.unlink(missing_ok=True)
        server = self._serve()
        server.wait_until(lambda: bool(re.search(r"first admin key.*\n", log.read_text())))
        [admin] = re.findall(r"first admin key.*(alpk_\w+)", log.read_text())
        self.writer = self._key(admin, self.writes)
        self.readers = [
            self._key(admin, READS | ({"fields": one} if one else {})) for one in self._fields
        ]
        if self._history:
            self._fill()

    def restart(self) -> None:
        """Another process on the same log, with nothing of the past in its memory."""
        if self._server:
            self._server.close()
        self._serve()

    def _serve(self) -> Server:
        self.port = free_port()
        settings = {"PYTHONPATH": str(self._source), "AUDIT_GATEWAY_LOG__LEVEL": "warning"}
        self._server = server = self.server(
            [
                self.python,
                *SERVE,
                "--data",
                str(self.data),
                "--port",
                str(self.port),
                *self.options,
            ],
            self._folder / f"{self.name}.log",
            settings | self.settings,
            self.cores,
            self._source,
        )
        server.wait_until(lambda: answers(self.port, "/readyz"))
        return server

    def _fill(self) -> None:
        with closing(self.publisher(FILLING)) as program:
            posted = program.ask(f"run {HISTORY} {self._history} 0 {FILLING.batch} 300", 330)
        if posted["accepted"] != self._history:
            raise BenchmarkError(f"the log could not be filled: {posted}")

    def _key(self, admin: str, grant: Mapping[str, object]) -> str:
        body = {"name": "bench", "purpose": "benchmark", "owner": "bench", "grants": [grant]}
        made: dict[str, str] = self.ask("/v1/keys", admin, body)
        return made["key"]

    def ask(self, path: str, key: str, body: object = None) -> Any:
        """The answer to a GET, or to a POST of `body`."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode() if body else None,
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def pids(self) -> list[int]:
        return self._server.pids if self._server else []

    def publisher(self, way: Way) -> Program:
        kind = "application/json" if way.batch == 1 else "application/x-ndjson"
        if way.streamed:
            head = payload.streamed_head("/v1/events", self.writer)
        else:
            head = payload.post_head("/v1/events", kind, self.writer)
        return producer(self._folder, self.port, head, self._events, way)

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
