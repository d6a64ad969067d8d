"""Masks: what one event costs the server as its readers hide more different members of it.

The readers, their keys and the bytes of an event are the same in number; only the sets differ. The
events come in bursts: where each is written alone, the writes would hide what a set costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import payload
from tests.benchmarks.fanout import median
from tests.benchmarks.gateway import SELECTIONS, Gateway
from tests.benchmarks.session import Session
from tests.benchmarks.targets import BURSTS

SETS = 50
RATE = 500
KINDS = ("mask", "drop")
_MEMBERS = ("m0", "m1", "m2", "m3", "m4", "m5")


def cost(
    kind: str, sets: int, readers: int, folder: Path, seconds: float, rounds: int
) -> dict[str, Any]:
    """Server microseconds per event with so many different sets, or none; median of `rounds`."""
    target = Gateway(
        folder,
        selections=SELECTIONS[:1],
        events=[payload.posted(data=dict.fromkeys(_MEMBERS, "somebody"))],
        fields=[_fields(kind, i % sets) if sets else {} for i in range(SETS)],
    )
    with Session(target, "ws", readers, folder, way=BURSTS) as session:
        steps = [session.step(RATE, seconds) for _ in range(rounds)]
    return {
        "kind": kind,
        "sets": sets,
        "readers": readers,
        "came_in": session.way.text,
        "median": median(steps, "server_cpu_us_per_event", "p50_ms", "p99_ms"),
        "steps": [step.as_dict() for step in steps],
    }


def _fields(kind: str, number: int) -> Mapping[str, Sequence[str]]:
    """One of 63 sets, by the bits of its number."""
    return {kind: [f"data.{name}" for i, name in enumerate(_MEMBERS) if number + 1 & 1 << i]}
