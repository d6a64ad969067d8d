"""What is run, in which sizes, and in which order."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import (
    authorize,
    catchup,
    declaring,
    fanout,
    filters,
    ingest,
    inventory,
    looking,
    machine,
    masks,
    mixed,
    postgres,
    protocol_bodies,
    protocol_posts,
    sources,
)
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.programs import BenchmarkError
from tests.benchmarks.targets import Ceiling, Centrifugo, Joining, Nchan, Target, Way

Results = dict[str, list[dict[str, Any]]]
FLUSH_MS = 10  # of the programs in C that join
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run."""

    rounds: int
    seconds: float  # of a step of the search for the highest rate
    posting: float  # seconds of ingest, and of a step that costs much
    paced: float  # seconds of a step whose latency matters
    precision: float  # of the search for the highest rate
    most_steps: int
    first_rate: float | None  # events per second; the target's guess where not given
    modes: tuple[str, ...]
    fanout: tuple[int, ...]
    every_way: int  # with so many subscribers at most, by every way in
    fanout_targets: tuple[str, ...]
    moderate: int
    idle: tuple[int, int]
    stalled: int
    settle: float  # seconds until memory is looked at
    streams: int
    log: int
    readers: tuple[int, ...]
    read_limit: float  # seconds that a crowd of readers may take
    mixed_readers: int
    history: int
    keys: int
    roles: int
    steps: int  # of the sequencer
    time_limit: float  # seconds; scenarios that have not begun by then are left out


FULL = Plan(
    rounds=3,
    seconds=2.0,
    posting=2.0,
    paced=4.0,
    precision=1.06,
    most_steps=fanout.MOST_STEPS,
    first_rate=None,
    modes=("ws", "sse"),
    fanout=(100, 1000, 5000),
    every_way=1000,
    fanout_targets=("gateway", "nchan", "centrifugo", "c-joined", "c-durable", "c-per-event"),
    moderate=1000,
    idle=(100, 10_000),
    stalled=500,
    settle=0.5,
    streams=10_000,
    log=1_000_000,
    readers=(1, 100),
    read_limit=240,
    mixed_readers=1000,
    history=1_000_000,
    keys=100_000,
    roles=1000,
    steps=30,
    time_limit=7200,
)
QUICK = Plan(
    rounds=1,
    seconds=0.7,
    posting=1.0,
    paced=2.0,
    precision=1.3,
    most_steps=fanout.MOST_STEPS,
    first_rate=None,
    modes=("ws",),
    fanout=(1000,),
    every_way=1000,
    fanout_targets=("gateway", "nchan", "centrifugo", "c-joined", "c-durable"),
    moderate=1000,
    idle=(100, 1000),
    stalled=100,
    settle=0.5,
    streams=1000,
    log=100_000,
    readers=(1,),
    read_limit=10,
    mixed_readers=400,
    history=300_000,
    keys=10_000,
    roles=1000,
    steps=30,
    time_limit=110,
)
# Everything that a run does, in a few seconds: its figures mean nothing.
MINIATURE = Plan(
    rounds=1,
    seconds=0.05,
    posting=0.05,
    paced=0.1,
    precision=1.3,
    most_steps=2,
    first_rate=100,
    modes=("ws", "sse"),
    fanout=(4,),
    every_way=4,
    fanout_targets=("gateway", "nchan", "centrifugo", "c-joined", "c-durable", "c-per-event"),
    moderate=4,
    idle=(2, 4),
    stalled=2,
    settle=0.01,
    streams=12,
    log=1000,
    readers=(1, 2),
    read_limit=60,
    mixed_readers=5,
    history=2000,
    keys=10,
    roles=20,
    steps=3,
    time_limit=600,
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
            except Exception as error:  # the other measurements are worth having
                self._say(traceback.format_exc())
                self.results[name].append({"failed": what, "error": f"{error!r}"})

    def targets(self) -> list[Target]:
        """The gateway and its peers, nothing started."""
        made: dict[str, Callable[[], Target]] = {
            "gateway": lambda: Gateway(self.folder),
            "nchan": lambda: Nchan(self.folder),
            "centrifugo": lambda: Centrifugo(self.folder),
            "c-joined": lambda: Ceiling(self.folder, FLUSH_MS),
            "c-durable": lambda: Joining(self.folder, FLUSH_MS),
            "c-per-event": lambda: Ceiling(self.folder, 0),
        }
        return [make() for name, make in made.items() if name in self._peers]


Measurements = list[tuple[str, Callable[[], dict[str, Any]]]]


def _fanout(run: Run) -> Measurements:
    plan = run.plan

    def measure(target: Target, mode: str, subscribers: int, way: Way) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        start = plan.first_rate
        for _ in range(plan.rounds):
            found.append(
                fanout.highest_rate(
                    target, mode, subscribers, run.folder, plan.seconds, plan.precision, start,
                    way, plan.most_steps,
                )
            )  # fmt: skip
            if best := found[0]["best"]:
                start = best["rate_asked"] * 0.7
        found.sort(key=lambda one: one["best"]["deliveries_per_second"] if one["best"] else 0)
        return found[len(found) // 2] | {"rounds": found}

    return [
        (f"{target.name} {mode} {n}, {way.text}", partial(measure, target, mode, n, way))
        for n in plan.fanout
        for mode in plan.modes
        for target in run.targets()
        if target.name in plan.fanout_targets
        for way in target.ways[: len(target.ways) if n <= plan.every_way else 1]
    ]


def _moderate(run: Run) -> Measurements:
    plan, n, folder = run.plan, run.plan.moderate, run.folder
    return [
        (
            f"{target.name} {mode} {n}",
            partial(fanout.moderate, target, mode, n, folder, plan.paced, plan.rounds),
        )
        for mode in ("ws", "sse")
        for target in run.targets()
        if target.name not in ("c-joined", "c-durable")
    ]


def _memory(run: Run) -> Measurements:
    plan, (few, many) = run.plan, run.plan.idle
    return [
        (
            f"{target.name} {mode}",
            partial(fanout.idle_memory, target, mode, few, many, run.folder, plan.settle),
        )
        for target in run.targets()
        if not target.name.startswith("c-")
        for mode in ("ws", "sse")
    ] + [
        (
            f"{mode}, stalled",
            partial(fanout.stalled_memory, mode, plan.stalled, run.folder, plan.settle),
        )
        for mode in ("ws", "sse")
    ]


def _masks(run: Run) -> Measurements:
    plan, n = run.plan, max(run.plan.moderate, masks.SETS)
    return [
        (
            f"{kind}, {sets} sets",
            partial(masks.cost, kind, sets, n, run.folder, plan.posting, plan.rounds),
        )
        for kind in masks.KINDS
        for sets in ((0, 1, masks.SETS) if kind == masks.KINDS[0] else (1, masks.SETS))
    ]


def _filters(run: Run) -> Measurements:
    plan = run.plan
    return [
        (
            f"{kind.name}, {streams} streams",
            partial(filters.cost, kind, streams, run.folder, plan.posting, plan.rounds),
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
    plan = run.plan

    def ways(target: Target) -> tuple[Way, ...]:
        return ingest.SINGLES + (ingest.BATCHES if target.name == "gateway" else ())

    return [
        (
            target.name,
            partial(ingest.rate, target, ways(target), plan.posting, plan.rounds),
        )
        for target in run.targets()
        if not target.name.startswith("c-")
    ]


def _mixed(run: Run) -> Measurements:
    plan = run.plan
    n, history = plan.mixed_readers, plan.history
    return [
        (
            f"{n} readers",
            partial(mixed.live_latency, run.folder, n, history, plan.paced, plan.rounds),
        )
    ]


def _authorize(run: Run) -> Measurements:
    plan = run.plan
    return [
        (
            f"{plan.keys} keys",
            partial(authorize.cost, run.folder, plan.keys, plan.roles, plan.rounds),
        )
    ]


def _declaring(run: Run) -> Measurements:
    plan = run.plan
    measure = partial(declaring.cost, run.folder, plan.keys, plan.roles, plan.rounds)
    return [("a declared set", measure)]


def _looking(run: Run) -> Measurements:
    plan = run.plan
    return [(f"{plan.log} events", partial(looking.cost, run.folder, plan.log, plan.rounds))]


def _inventory(run: Run) -> Measurements:
    keys = min(run.plan.keys, 10_000)
    return [(f"{keys} keys", partial(inventory.cost, run.folder, keys, 5 * keys, run.plan.rounds))]


def _sources(run: Run) -> Measurements:
    # In turns, so often that a busy machine slows both alike.
    seconds, turns = run.plan.posting / 10, 5 * run.plan.rounds
    return [
        *((name, partial(sources.cost, name, seconds, turns)) for name in sources.SAMPLES),
        ("rows of a table", partial(sources.row_cost, seconds, turns)),
        ("OTLP as protobuf", partial(sources.otlp_cost, seconds, turns)),
        *(
            (shape, partial(sources.protocol_cost, shape, seconds, turns))
            for shape in protocol_bodies.SHAPES
        ),
        *(
            (f"{shape}, posted", partial(protocol_posts.cost, Gateway(run.folder), shape, turns))
            for shape in protocol_bodies.SHAPES
        ),
    ]


def _postgres(run: Run) -> Measurements:
    plan, log, readers = run.plan, run.plan.log // 2, run.plan.moderate
    return [
        (
            f"a log of {log}, {readers} readers",
            partial(
                postgres.measured, run.folder, log, readers, plan.posting, plan.rounds,
                plan.read_limit, plan.steps,
            ),
        )
    ]  # fmt: skip


def _workers(run: Run) -> Measurements:
    plan, way = run.plan, ingest.BATCHES[-1]
    target = Gateway(run.folder)
    target.options, target.cores = ("--workers", str(WORKERS)), machine.serving_cores()
    n, folder = plan.moderate, run.folder
    return [
        (
            f"fan-out ws {n}",
            partial(
                fanout.highest_rate, target, "ws", n, folder, plan.seconds, plan.precision,
                plan.first_rate, most_steps=plan.most_steps,
            ),
        ),
        (
            f"ingest, {way.text}",
            partial(ingest.rate, target, (way,), plan.posting, plan.rounds),
        ),
    ]  # fmt: skip


SCENARIOS: dict[str, Callable[[Run], Measurements]] = {
    "moderate": _moderate,
    "ingest": _ingest,
    "fanout": _fanout,
    "memory": _memory,
    "catchup": _catchup,
    "mixed": _mixed,
    "filters": _filters,
    "masks": _masks,
    "authorize": _authorize,
    "declaring": _declaring,
    "looking": _looking,
    "inventory": _inventory,
    "sources": _sources,
    "postgres": _postgres,
    "workers": _workers,
}
