"""Many filters: what one event costs the server as the number of distinct streams grows.

Every event matches exactly one stream, whatever their number, so that what grows is the
search for it. The cost is the server's processor time, ingest included; the rates are high
enough for events to share requests, or that would be most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import payload
from tests.benchmarks.fanout import median
from tests.benchmarks.gateway import Gateway, Parameters
from tests.benchmarks.session import Session

FEW = 10  # the events are made for the first of the streams


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be distinct. `stream(i)` is the only one that gets `event(i)`."""

    name: str
    rate: float
    stream: Callable[[int], Parameters]
    event: Callable[[int], str]


def _scope(i: int) -> Parameters:
    return (
        ("tenant", f"tenant-{i}"),
        ("category", f"bench.c{i % 100}"),
        ("actor", f"svc-{i}"),
    )


def _scoped_event(i: int) -> str:
    return payload.posted(
        tenant=f"tenant-{i}",
        category=f"bench.c{i % 100}",
        actor={"type": "service", "id": f"svc-{i}"},
    )


def _numbered_event(i: int) -> str:
    return payload.posted(data={"n": i + 1, "customer": f"c{i}"})


KINDS: Sequence[Kind] = (
    Kind("scopes", 1000, _scope, _scoped_event),
    Kind(
        "cel, equality parts",
        400,
        lambda i: (("filter", f'actor.id == "svc-{i}" && severity < 4'),),
        _scoped_event,
    ),
    Kind(
        "cel, equality in data",
        400,
        lambda i: (("filter", f'data.customer == "c{i}" && data.n > 0'),),
        _numbered_event,
    ),
    Kind(
        # Almost every expression is evaluated to its end before it says no.
        "cel, no equality",
        20,
        lambda i: (("filter", f"data.n < {i + 2} && data.n > {i}"),),
        _numbered_event,
    ),
)


def cost(kind: Kind, streams: int, folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Server microseconds per event with so many distinct streams; median of `rounds`."""
    target = Gateway(
        folder,
        selections=[kind.stream(i) for i in range(streams)],
        events=[kind.event(i) for i in range(FEW)],
    )
    with Session(target, "ws", streams, folder, matches=1) as session:
        steps = [session.step(kind.rate, seconds) for _ in range(rounds)]
    return {
        "kind": kind.name,
        "came_in": session.way.text,
        "streams": streams,
        "median": median(steps, "server_cpu_us_per_event", "p50_ms", "p99_ms"),
        "missing": sum(step.missing for step in steps),
        "steps": [step.as_dict() for step in steps],
    }
