"""What is run, in which sizes, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import authorize, catchup, fanout, filters, ingest, machine, mixed, postgres
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.programs import BenchmarkError
from tests.benchmarks.targets import Ceiling, Nchan, Target

Results = dict[str, list[dict[str, Any]]]
FLUSH_MS = 10  # of the ceiling that joins
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run. `seconds` is the length of one step of load."""

    rounds: int
    seconds: float
    precision: float  # of the search for the highest rate
    fanout: tuple[int, ...]
    fanout_targets: tuple[str, ...]
    moderate: int
    idle: int
    stalled: int
    streams: int
    log: int
    readers: tuple[int, ...]
    read_limit: float  # seconds that a crowd of readers may take
    mixed_readers: int
    history: int
    keys: int
    time_limit: float  # seconds; scenarios that have not begun by then are left out


FULL = Plan(
    rounds=3,
    seconds=2.0,
    precision=1.06,
    fanout=(100, 1000, 5000),
    fanout_targets=("gateway", "nchan", "c-joined", "c-per-event"),
    moderate=1000,
    idle=10_000,
    stalled=500,
    streams=10_000,
    log=1_000_000,
    readers=(1, 100),
    read_limit=240,
    mixed_readers=1000,
    history=500_000,
    keys=100_000,
    time_limit=5400,
)
QUICK = Plan(
    rounds=1,
    seconds=0.7,
    precision=1.3,
    fanout=(1000,),
    fanout_targets=("gateway", "nchan", "c-joined"),
    moderate=1000,
    idle=1000,
    stalled=100,
    streams=1000,
    log=100_000,
    readers=(1,),
    read_limit=10,
    mixed_readers=400,
    history=100_000,
    keys=10_000,
    time_limit=100,
)


class Run:
    """Carries out a plan, one measurement after the other, and keeps what came of each."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        peers: Sequence[str],
        patience: float,
        say: Callable[[str], None],
    ) -> None:
        self.plan, self.folder = plan, folder
        self.results: Results = {}
        self._peers = peers
        self._patience = patience  # seconds to wait for a quiet machine, each time
        self._say = say
        self._ends = time.monotonic() + plan.time_limit

    def scenario(self, name: str) -> None:
        """Run one of `SCENARIOS`. A measurement that fails is kept as its error."""
        self.results[name] = []
        for what, measure in SCENARIOS[name](self):
            if time.monotonic() > self._ends:
                self._say(f"{name}: {what}: left out")
                left_out = "left out, the time was up"
                self.results[name].append({"failed": what, "error": left_out, "left_out": True})
                continue
            self._say(f"{name}: {what}")
            self._ends += machine.wait_for_quiet(self._patience)
            try:
                self.results[name].append(measure())
            except BenchmarkError as error:
                self._say(f"  failed: {error}")
                self.results[name].append({"failed": what, "error": str(error)})

    def targets(self) -> list[Target]:
        """The gateway and its peers, nothing started."""
        made: dict[str, Callable[[], Target]] = {
            "gateway": lambda: Gateway(self.folder),
            "nchan": lambda: Nchan(self.folder),
            "c-joined": lambda: Ceiling(self.folder, FLUSH_MS),
            "c-per-event": lambda: Ceiling(self.folder, 0),
        }
        return [make() for name, make in made.items() if name in self._peers]


Measurements = list[tuple[str, Callable[[], dict[str, Any]]]]


def _fanout(run: Run) -> Measurements:
    plan = run.plan

    def measure(target: Target, mode: str, subscribers: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        start = None
        for _ in range(plan.rounds):
            found.append(
                fanout.highest_rate(
                    target, mode, subscribers, run.folder, plan.seconds, plan.precision, start
                )
            )
            if best := found[0]["best"]:
                start = best["rate_asked"] * 0.7
        found.sort(key=lambda one: one["best"]["deliveries_per_second"] if one["best"] else 0)
        return found[len(found) // 2] | {"rounds": found}

    return [
        (f"{target.name} {mode} {n}", partial(measure, target, mode, n))
        for n in plan.fanout
        for mode in ("ws", "sse")
        for target in run.targets()
        if target.name in plan.fanout_targets
    ]


def _moderate(run: Run) -> Measurements:
    plan, seconds = run.plan, max(run.plan.seconds * 2, 2)
    n, folder = plan.moderate, run.folder
    return [
        (
            f"{target.name} {mode} {n}",
            partial(fanout.moderate, target, mode, n, folder, seconds, plan.rounds),
        )
        for mode in ("ws", "sse")
        for target in run.targets()
        if target.name != "c-joined"
    ]


def _memory(run: Run) -> Measurements:
    return [
        (
            f"{target.name} {mode}",
            partial(fanout.idle_memory, target, mode, 100, run.plan.idle, run.folder),
        )
        for target in run.targets()
        if target.name in ("gateway", "nchan")
        for mode in ("ws", "sse")
    ] + [
        (f"{mode}, stalled", partial(fanout.stalled_memory, mode, run.plan.stalled, run.folder))
        for mode in ("ws", "sse")
    ]


def _filters(run: Run) -> Measurements:
    plan, seconds = run.plan, max(run.plan.seconds, 1)
    return [
        (
            f"{kind.name}, {streams} streams",
            partial(filters.cost, kind, streams, run.folder, seconds, plan.rounds),
        )
        for kind in filters.KINDS
        for streams in (filters.FEW, plan.streams)
    ]


def _catchup(run: Run) -> Measurements:
    plan = run.plan

    def median(target: Gateway, readers: int, filtered: bool) -> dict[str, Any]:
        rounds = plan.rounds if readers == 1 else 1
        found = [
            catchup.read(target, run.folder, plan.log, readers, filtered, plan.read_limit)
            for _ in range(rounds)
        ]
        return sorted(found, key=lambda one: float(one["seconds"]))[rounds // 2]

    def measure() -> dict[str, Any]:
        with closing(catchup.prepared(run.folder, plan.log)) as target:
            target.start()
            reads = [
                median(target, readers, filtered)
                for readers in plan.readers
                for filtered in (False, True)
            ]
        return {"log": plan.log, "reads": reads}

    return [(f"log of {plan.log}", measure)]


def _ingest(run: Run) -> Measurements:
    plan, seconds, target = run.plan, max(run.plan.seconds, 1), Gateway(run.folder)
    return [
        (
            f"{producers} producers, {batch} in a request",
            partial(ingest.durable_rate, target, batch, producers, seconds, plan.rounds),
        )
        for batch, producers in ingest.SHAPES
    ]


def _mixed(run: Run) -> Measurements:
    plan, seconds = run.plan, max(run.plan.seconds * 2, 2)
    n, history = plan.mixed_readers, plan.history
    return [
        (
            f"{n} readers",
            partial(mixed.live_latency, run.folder, n, history, seconds, plan.rounds),
        )
    ]


def _authorize(run: Run) -> Measurements:
    plan = run.plan
    return [
        (
            f"{plan.keys} keys",
            partial(authorize.cost, run.folder, plan.keys, plan.rounds),
        )
    ]


def _postgres(run: Run) -> Measurements:
    plan, seconds = run.plan, max(run.plan.seconds, 1)
    log, readers, limit = plan.log // 2, plan.moderate, plan.read_limit
    return [
        (
            f"a log of {log}, {readers} readers",
            partial(postgres.measured, run.folder, log, readers, seconds, plan.rounds, limit),
        )
    ]


def _workers(run: Run) -> Measurements:
    plan, (batch, producers) = run.plan, ingest.SHAPES[-1]
    target = Gateway(run.folder)
    target.options, target.cores = ("--workers", str(WORKERS)), machine.serving_cores()
    n, folder, seconds = plan.moderate, run.folder, plan.seconds
    return [
        (
            f"fan-out ws {n}",
            partial(fanout.highest_rate, target, "ws", n, folder, seconds, plan.precision),
        ),
        (
            f"ingest, {producers} producers, {batch} in a request",
            partial(ingest.durable_rate, target, batch, producers, max(seconds, 1), plan.rounds),
        ),
    ]


SCENARIOS: dict[str, Callable[[Run], Measurements]] = {
    "moderate": _moderate,
    "fanout": _fanout,
    "memory": _memory,
    "ingest": _ingest,
    "catchup": _catchup,
    "mixed": _mixed,
    "filters": _filters,
    "authorize": _authorize,
    "postgres": _postgres,
    "workers": _workers,
}
