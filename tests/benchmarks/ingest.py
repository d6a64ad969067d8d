"""Ingest: events per second that are taken; by the gateway, on the disk when it answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from tests.benchmarks import machine, payload
from tests.benchmarks.programs import Program
from tests.benchmarks.targets import PIPELINED, STREAMED, Target, Way

SINGLES = (
    Way("64", "64 producers, one per request", producers=64),
    Way("16", "16 producers, one per request", producers=16),
    Way("1", "1 producer, one per request"),
    PIPELINED,
)
# Ways of the gateway alone.
BATCHES = (
    STREAMED,
    Way("100s", "8 producers, 100 per request", producers=8, batch=100),
    Way("1000s", "4 producers, 1,000 per request", producers=4, batch=1000),
)
_COMMITS = 50


def rate(target: Target, ways: Sequence[Way], seconds: float, rounds: int) -> dict[str, Any]:
    """Every producer posts as often as it may; for each way the median of `rounds`."""
    with closing(target):
        target.start()
        found = [_one_way(target, way, seconds, rounds) for way in ways]
    return {"target": target.name, "ways": found}


def _one_way(target: Target, way: Way, seconds: float, rounds: int) -> dict[str, Any]:
    with closing(target.publisher(way)) as producer:
        producer.ask(f"run 1 {way.batch * way.producers * 4} 0 {way.batch} 30")
        runs = [run(target, producer, way, seconds) for _ in range(rounds)]
    runs.sort(key=lambda run: float(run["events_per_second"]))
    middle = runs[len(runs) // 2]
    return {"way": way.name, "came_in": way.text, "median": middle, "runs": runs}


def run(target: Target, producer: Program, way: Way, seconds: float) -> dict[str, Any]:
    """One run, with what it cost the target."""
    watch = machine.LoadWatch({*target.pids(), *producer.pids})
    before = machine.cpu_seconds(target.pids())
    run = producer.ask(f"run 1 1000000000 0 {way.batch} {seconds}", seconds + 60)
    cpu = machine.cpu_seconds(target.pids()) - before
    return run | {
        "events_per_second": run["accepted"] / max(run["seconds"], 1e-6),
        "server_cpu_us_per_event": cpu * 1e6 / max(run["accepted"], 1),
        "server_cpu_share": cpu / max(run["seconds"], 1e-6),
        "disturbed": watch.verdict(),
    }


def commit_ms(folder: Path) -> float:
    """Milliseconds of a commit of one event with its sync, by SQLite alone; the median."""
    path, event = folder / "commit.db", payload.event()
    taken = []
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("CREATE TABLE IF NOT EXISTS event (json TEXT)")
        for _ in range(_COMMITS):
            begun = time.perf_counter()
            connection.execute("INSERT INTO event VALUES (?)", (event,))
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000
