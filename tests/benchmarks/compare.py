"""Two checkouts of the gateway, measured in turns in one run: what each costs, and the ratio.

`python -m tests.benchmarks.compare --tree ../before [--only ingest,catchup] [--rounds 7]` measures
the gateway of another checkout ("before") and this one. Both run all the time on one core, and are
given the same work by turns, the order changing each time, so that what else the machine does falls
on both. Compare the processor times: rates and latencies are those of a busy machine where it is
one, unless with `--first`. The other checkout runs with this interpreter, or with `--python`.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import catchup, fanout, ingest, machine
from tests.benchmarks.gateway import ROOT, Gateway
from tests.benchmarks.programs import BenchmarkError
from tests.benchmarks.session import Session
from tests.benchmarks.targets import BURSTS, SINGLE, Way

Figures = dict[str, float]
# Events per second to every subscriber, by the ways in: either none are written together or as many
# as come in together, however busy the machine is.
RATES = ((BURSTS, 1000.0), (SINGLE, 20.0))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything is done."""

    rounds: int = 7
    seconds: float = 1.0
    subscribers: int = 1000
    log: int = 100_000
    settle: float = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two checkouts."""

    name: str
    source: Path
    python: str
    folder: Path

    def check(self) -> None:
        """Raises `BenchmarkError` unless it is this checkout that would be started."""
        done = subprocess.run(
            [self.python, "-c", "import gateway; print(gateway.__file__)"],
            cwd=self.source, env=os.environ | {"PYTHONPATH": str(self.source)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if not done.stdout.startswith(f"{self.source}/"):
            said = (done.stdout + done.stderr).strip()[-300:]
            raise BenchmarkError(f"there is no gateway to be started in {self.source}: {said}")

    def gateway(self, **options: Any) -> Gateway:
        found = Gateway(self.folder, source=self.source, name=self.name, **options)
        found.python = self.python
        return found


# Something that can be measured again and again, once it has been opened for a side.
Measure = Callable[[], Figures]
Open = Callable[[Side, Sizes, ExitStack], Measure]


def _ingest(way: Way, side: Side, sizes: Sizes, stack: ExitStack) -> Measure:
    target = stack.enter_context(closing(side.gateway()))
    target.start()
    producer = stack.enter_context(closing(target.publisher(way)))
    producer.ask(f"run 1 {way.batch * way.producers * 4} 0 {way.batch} 30")

    def measure() -> Figures:
        run = ingest.run(target, producer, way, sizes.seconds)
        return {
            "cpu us per event": run["server_cpu_us_per_event"],
            "events/s": run["events_per_second"],
        }

    return measure


def _catchup(side: Side, sizes: Sizes, stack: ExitStack) -> Measure:
    target = stack.enter_context(closing(side.gateway(history=sizes.log)))
    target.start()

    def measure() -> Figures:
        read = catchup.read(target, side.folder, sizes.log, 1, False, 120)
        if not read["complete"]:
            raise BenchmarkError(f"{side.name}: not all of the log was read: {read}")
        return {
            "cpu us per event": read["server_cpu_us_per_delivery"],
            "events/s": read["events_per_second"],
        }

    return measure


def _fanout(
    mode: str, way: Way, rate: float, side: Side, sizes: Sizes, stack: ExitStack
) -> Measure:
    session = Session(side.gateway(), mode, sizes.subscribers, side.folder, way=way)
    stack.enter_context(session)

    def measure() -> Figures:
        step = session.step(rate, sizes.seconds)
        if step.missing or step.duplicates or step.closed:
            raise BenchmarkError(f"{side.name}: deliveries are missing: {step}")
        return {
            "cpu us per delivery": step.server_cpu_us_per_delivery,
            "p50 ms": step.p50_ms,
            "p99 ms": step.p99_ms,
        }

    return measure


def _memory(mode: str, side: Side, sizes: Sizes, stack: ExitStack) -> Measure:
    few = max(sizes.subscribers // 10, 1)

    def measure() -> Figures:
        found = fanout.idle_memory(
            side.gateway(), mode, few, sizes.subscribers, side.folder, sizes.settle
        )
        return {"KiB per idle stream": found["bytes_each"] / 1024}

    return measure


MEASURES: dict[str, dict[str, Open]] = {
    "ingest": {way.text: partial(_ingest, way) for way in (*ingest.SINGLES, *ingest.BATCHES)},
    "catchup": {"a log that is there, 1 reader": _catchup},
    "fanout": {
        f"{mode}, {way.text}, {rate:.0f} events/s": partial(_fanout, mode, way, rate)
        for mode in ("ws", "sse")
        for way, rate in RATES
    },
    "memory": {mode: partial(_memory, mode) for mode in ("ws", "sse")},
}


def compared(
    sides: Sequence[Side], sizes: Sizes, only: Sequence[str], say: Callable[[str], None]
) -> Iterator[str]:
    """A line for each figure, when it is there."""
    yield f"{'':78} {sides[0].name:>11} {sides[1].name:>11}  ratio (least to most), of the best"
    for name in only:
        for what, opened in MEASURES[name].items():
            say(f"{name}: {what}")
            with ExitStack() as stack:
                measures = [opened(side, sizes, stack) for side in sides]
                rounds = [_round(measures, turn) for turn in range(sizes.rounds)]
            for figure in rounds[0][0]:
                label = f"{name} {what}: {figure}"
                yield _line(label, [[one[figure] for one in pair] for pair in rounds])


def _round(measures: Sequence[Measure], turn: int) -> list[Figures]:
    """One measurement of each side; the second goes first in every other round."""
    found: dict[int, Figures] = {}
    for i in (0, 1) if turn % 2 else (1, 0):
        found[i] = measures[i]()
    return [found[0], found[1]]


def _line(label: str, pairs: Sequence[Sequence[float]]) -> str:
    before, after = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratios = sorted(pair[1] / max(pair[0], 1e-9) for pair in pairs)
    # What disturbs only makes worse: the best of each side are the least disturbed.
    best = max if label.endswith("/s") else min
    first, second = (best(pair[i] for pair in pairs) for i in (0, 1))
    return (
        f"{label:78} {before:11,.4g} {after:11,.4g}  {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}), {second / max(first, 1e-9):.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, required=True, help="the other checkout")
    parser.add_argument("--python", default=sys.executable, help="its interpreter")
    parser.add_argument("--only", default=",".join(MEASURES), help="with commas between")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--first", action="store_true", help=machine.FIRST)
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; one of {', '.join(MEASURES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.first:
        machine.go_first()
    machine.enter_network_namespace()
    machine.raise_file_limit(65_536)
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes())})
    with tempfile.TemporaryDirectory(prefix="gateway-compare-") as name:
        sides = [
            Side("before", options.tree.resolve(), options.python, Path(name)),
            Side("after", ROOT, sys.executable, Path(name)),
        ]
        try:
            for side in sides:
                side.check()
            for line in compared(sides, sizes, options.only.split(","), _say):
                print(line, flush=True)
        except BenchmarkError as error:
            _say(str(error))
            return 1
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
