"""Mixed: live readers beside others that stall and others that read the whole log."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, payload
from tests.benchmarks.fanout import median
from tests.benchmarks.gateway import HISTORY, SELECTIONS, Gateway
from tests.benchmarks.programs import Program
from tests.benchmarks.session import Session, Step, subscribers

RATE = 50
STALLED_SHARE = CATCHING_UP_SHARE = 0.05


def live_latency(
    folder: Path, readers: int, history: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Live p99 without, then with the readers that should not matter; medians of `rounds`.

    The log holds `history` events from the start, so that catching up lasts. The same live
    readers are measured both times. The other readers' client has a lower priority: it shares
    the clients' core, and its work is not the server's latency.
    """
    stalled = math.ceil(readers * STALLED_SHARE)
    behind = math.ceil(readers * CATCHING_UP_SHARE)
    target = Gateway(folder, history=history)
    with ExitStack() as stack:
        stack.enter_context(machine.go_as_others())
        live = stack.enter_context(Session(target, "ws", readers - stalled - behind, folder))
        alone = [live.step(RATE, seconds) for _ in range(rounds)]
        asleep = _others(target, folder, stack, stalled, "now", "--stalled", stalled)
        asleep.ask("open")
        slow = _others(target, folder, stack, behind, "start", "--sleep-us", 5000)
        slow.ask(f"count {HISTORY} {history} {history * behind} 600")
        slow.ask("open")
        crowded = [live.step(RATE, seconds) for _ in range(rounds)]
        slow.send("expect 0")
        read = slow.answer()
    without, beside = _summary(alone), _summary(crowded)
    return {
        "readers": readers,
        "came_in": live.way.text,
        "stalled": stalled,
        "catching_up": behind,
        "history": history,
        "without": without,
        "with": beside,
        "ratio": beside["p99_ms"] / max(without["p99_ms"], 1e-3),
        "still_catching_up": read["delivered"] < history * behind,
        "caught_up_per_second": read["delivered"] / max(read["elapsed"], 1e-6),
    }


def _others(
    target: Gateway, folder: Path, stack: ExitStack, count: int, start: str, *options: str | int
) -> Program:
    parameters = [*SELECTIONS[0], ("from", start)]
    request = payload.subscription("ws", "/v1/stream", target.readers[0], parameters)
    program = subscribers(folder, target.port, [request], count, *options, niceness=15)
    stack.callback(program.close)
    return program


def _summary(steps: list[Step]) -> dict[str, Any]:
    return median(steps, "p50_ms", "p99_ms", "server_cpu_share") | {
        "missing": sum(step.missing for step in steps),
        "steps": [step.as_dict() for step in steps],
    }
