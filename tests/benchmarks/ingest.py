"""Ingest: events per second that are on the disk when they are answered."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.programs import Program

SHAPES = ((1, 64), (100, 8), (1000, 4))  # events in a request, producers at the same time


def durable_rate(
    target: Gateway, batch: int, producers: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Every producer posts, waits for 201 and posts again; median of `rounds`."""
    with closing(target):
        target.start()
        with closing(target.producer("--connections", producers)) as producer:
            producer.ask(f"run 1 {batch * producers * 4} 0 {batch} 30", 60)
            runs = [run(target, producer, batch, seconds) for _ in range(rounds)]
    runs.sort(key=lambda run: float(run["events_per_second"]))
    middle = runs[len(runs) // 2]
    return {"batch": batch, "producers": producers, "median": middle, "runs": runs}


def run(target: Gateway, producer: Program, batch: int, seconds: float) -> dict[str, Any]:
    """One run, with what it cost the target."""
    watch = machine.LoadWatch({*target.pids(), *producer.pids})
    before = machine.cpu_seconds(target.pids())
    run = producer.ask(f"run 1 1000000000 0 {batch} {seconds}", seconds + 60)
    cpu = machine.cpu_seconds(target.pids()) - before
    return run | {
        "events_per_second": run["accepted"] / max(run["seconds"], 1e-6),
        "server_cpu_us_per_event": cpu * 1e6 / max(run["accepted"], 1),
        "server_cpu_share": cpu / max(run["seconds"], 1e-6),
        "disturbed": watch.verdict(),
    }
