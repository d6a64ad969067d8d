"""Fan-out: the highest sustained rate, the cost at a moderate rate, memory when idle."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.benchmarks import ingest, machine
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.session import Session, Step, subscribers
from tests.benchmarks.targets import SINGLE, Target, Way

MODERATE_RATE = 20
# More than a page of the log holds.
APART = 500
MOST_STEPS = 24


def highest_rate(
    target: Target,
    mode: str,
    subscribers: int,
    folder: Path,
    seconds: float,
    precision: float,
    start: float | None = None,
    way: Way | None = None,
    most_steps: int = MOST_STEPS,
) -> dict[str, Any]:
    """Events per second that are sustained: doubled until overload, then bisected.

    `precision`: ratio of the lowest failing to the highest sustained rate at the end.
    A late step alone does not end the doubling: a server that joins what is waiting
    gets cheaper per delivery as the rate grows, and may be in time again.
    """
    steps: list[Step] = []
    rate: float | None = start or target.first_guess / subscribers
    way = way or target.ways[0]
    session: Session | None = None
    try:
        while rate and len(steps) < most_steps:
            session = session or Session(target, mode, subscribers, folder, way=way).__enter__()
            steps.append(_try(session, rate, seconds))
            if steps[-1].missing or steps[-1].closed:
                session.close()
                session = None
            rate = _next_rate(steps, precision)
    finally:
        if session is not None:
            session.close()
    best = max((s for s in steps if s.sustained), key=lambda s: s.rate_asked, default=None)
    return {
        "target": target.name,
        "mode": mode,
        "subscribers": subscribers,
        "way": way.name,
        "came_in": way.text,
        "best": best.as_dict() if best else None,
        "steps": [step.as_dict() for step in steps],
    }


def _next_rate(steps: list[Step], precision: float) -> float | None:
    """What to try after these steps; None at the end."""
    last = max(step.rate_asked for step in steps)
    if not any(step.overloaded for step in steps):
        return last * 2
    best = max((step.rate_asked for step in steps if step.sustained), default=0.0)
    if not best:
        lowest = min(step.rate_asked for step in steps)
        return lowest / 2 if lowest > 2 else None
    failing = min((s.rate_asked for s in steps if s.rate_asked > best), default=best * 2)
    return None if failing / best <= precision else (best * failing) ** 0.5


def _try(session: Session, rate: float, seconds: float) -> Step:
    step = session.step(rate, seconds)
    if step.disturbed and not step.sustained and not step.overloaded:
        step = session.step(rate, seconds)
    return step


def moderate(
    target: Target, mode: str, subscribers: int, folder: Path, seconds: float, rounds: int
) -> dict[str, Any]:
    """Latency and server CPU per delivery where there is nothing to join; median of `rounds`."""
    way = SINGLE if SINGLE in target.ways else target.ways[0]
    commit = ingest.commit_ms(folder)
    with Session(target, mode, subscribers, folder, way=way) as session:
        steps = [session.step(MODERATE_RATE, seconds) for _ in range(rounds)]
    return {
        "target": target.name,
        "mode": mode,
        "subscribers": subscribers,
        "came_in": way.text,
        "commit_ms": commit,
        "median": median(steps, "server_cpu_us_per_delivery", "p50_ms", "p99_ms"),
        "steps": [step.as_dict() for step in steps],
    }


def idle_memory(
    target: Target, mode: str, few: int, many: int, folder: Path, settle: float
) -> dict[str, Any]:
    """Resident bytes of the server per idle connection, from `few` to `many` of them."""
    sizes = {}
    for connections in (few, many):
        with Session(target, mode, connections, folder) as session:
            time.sleep(settle)
            sizes[connections] = machine.resident_bytes(session.target.pids())
    each = (sizes[many] - sizes[few]) / (many - few)
    return {"target": target.name, "mode": mode, "resident": sizes, "bytes_each": each}


def stalled_memory(mode: str, streams: int, folder: Path, settle: float) -> dict[str, Any]:
    """Bytes of memory of its own that the gateway has for each stream that is not read.

    Each stands at a place of its own, so that nothing which is kept for them is shared.
    """
    target = Gateway(folder, history=(streams + 2) * APART)
    with closing(target), ExitStack() as stack:
        target.start()
        places = _cursors(target, streams)
        target.restart()
        before = machine.own_bytes(target.pids())
        requests = [target.stream(mode, [("after", place)]) for place in places]
        program = subscribers(folder, target.port, requests, streams, "--stalled", streams)
        stack.callback(program.close)
        program.ask("open")
        time.sleep(settle * 4)
        after = machine.own_bytes(target.pids())
    return {
        "target": target.name,
        "mode": f"{mode}, stalled",
        "resident": {0: before, streams: after},
        "bytes_each": (after - before) / streams,
    }


def _cursors(target: Gateway, count: int) -> list[str]:
    """Cursors that are `APART` events from each other."""
    found: list[str] = []
    while len(found) < count:
        after = f"&after={found[-1]}" if found else ""
        page = target.ask(f"/v1/events?limit={APART}{after}", target.readers[0])
        found.append(page["cursor"])
    return found


def median(steps: list[Step], *names: str) -> dict[str, float]:
    """Median of each named member over the steps."""
    return {name: statistics.median(getattr(step, name) for step in steps) for name in names}
