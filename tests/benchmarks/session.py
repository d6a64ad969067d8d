"""One target with its subscribers connected, and steps of load on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.programs import BenchmarkError, Program, compile_program
from tests.benchmarks.targets import Target, Way

P99_LIMIT_MS = 100
DRAIN_SECONDS = 4
OPEN_SECONDS = 120
SATURATED = 0.9  # of the clients' core
LATENESS = 0.1  # seconds that the answer to the last event may take, besides 5 % of the time


@dataclass(frozen=True, slots=True)
class Step:
    """What one stretch of load showed. Times in milliseconds, rates per second."""

    rate_asked: float
    rate_achieved: float
    deliveries_per_second: float
    delivered: int
    missing: int
    duplicates: int
    reordered: int
    closed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_us_per_delivery: float
    server_cpu_us_per_event: float
    server_cpu_share: float
    bytes_per_delivery: float
    client_cpu_share: float  # of the subscribers and, where it is apart, of the producer
    client_saturated: bool
    producer_late: bool
    refusal: str
    notice: str
    disturbed: str

    @property
    def sustained(self) -> bool:
        """Everything was taken at the rate that was asked for, and arrived once and in time."""
        lost = self.missing or self.duplicates or self.closed
        return not (lost or self.producer_late) and self.p99_ms < P99_LIMIT_MS

    @property
    def overloaded(self) -> bool:
        """More of it would only be worse: it did not keep up, rather than being a bit late."""
        lost = self.missing or self.duplicates or self.closed
        return bool(lost or self.producer_late or self.p99_ms > 5 * P99_LIMIT_MS)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sustained": self.sustained}


class Session:
    """Starts `target` and connects `subscribers` of one mode to it.

    `matches`: how many of the subscribers get an event; all where not given. `way`: how events
    come in; the target's best where not given.
    """

    def __init__(
        self,
        target: Target,
        mode: str,
        subscribers: int,
        folder: Path,
        matches: int = 0,
        way: Way | None = None,
    ) -> None:
        self.target, self.mode, self.subscribers = target, mode, subscribers
        self.way = way or target.ways[0]
        self._matches = matches or subscribers
        self._folder = folder
        self._stack = ExitStack()
        self._next = 1

    def __enter__(self) -> Session:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._stack.callback(self.target.close)
        self.target.start()
        self.memory_before = machine.resident_bytes(self.target.pids())
        self._client = subscribers(
            self._folder, self.target.port, self.target.requests(self.mode), self.subscribers
        )
        self._stack.callback(self._client.close)
        self._client.ask("open", OPEN_SECONDS)
        self._publisher = self.target.publisher(self.way)
        self._stack.callback(self._publisher.close)
        for _ in range(3):
            if self.step(25, 0.2).missing == 0:
                return
        raise BenchmarkError(f"{self.target.name}: not every subscriber receives")

    def close(self) -> None:
        self._stack.close()

    def step(self, rate: float, seconds: float) -> Step:
        """Publish `rate` events per second and wait until they arrived, in bounded time."""
        count = max(int(rate * seconds), 5)
        total = count * self._matches
        patience = seconds * 1.25 + 1 + DRAIN_SECONDS
        servers, clients = self.target.pids(), [*self._client.pids, *self._publisher.pids]
        first, self._next = self._next, self._next + count
        self._client.ask(f"count {first} {count} {total} {patience:.3f}")
        watch = machine.LoadWatch({*servers, *clients})
        before, begun = machine.cpu_seconds(servers), time.monotonic()
        run = f"run {first} {count} {rate:.3f} {self.way.batch} {seconds * 1.25 + 1:.3f}"
        posted = self._publisher.ask(run, patience + 60)
        if posted["posted"] < count:
            self._client.send(f"expect {posted['posted'] * self._matches}")
        got = self._client.answer(patience + 60)
        cpu, elapsed = machine.cpu_seconds(servers) - before, time.monotonic() - begun
        producing = 0.0 if self._publisher.pids == servers else posted["cpu_share"]
        busy = got["cpu_share"] + producing
        return _step(rate, count, posted, got, busy, cpu, elapsed, watch.verdict())


def _step(
    rate: float,
    count: int,
    posted: dict[str, Any],
    got: dict[str, Any],
    busy: float,
    cpu: float,
    elapsed: float,
    disturbed: str,
) -> Step:
    delivered, seconds = got["delivered"], max(got["seconds"], 1e-6)
    share = delivered / max(got["expected"], 1)
    late = posted["seconds"] > count / rate * 1.05 + LATENESS
    return Step(
        rate_asked=rate,
        rate_achieved=max(posted["posted"] - 1, 0) * share / seconds,
        deliveries_per_second=delivered / seconds,
        delivered=delivered,
        missing=got["expected"] - delivered,
        duplicates=got["duplicates"],
        reordered=got["reordered"],
        closed=got["closed"],
        p50_ms=got["p50_us"] / 1000,
        p99_ms=got["p99_us"] / 1000,
        max_ms=got["max_us"] / 1000,
        server_cpu_us_per_delivery=cpu * 1e6 / max(delivered, 1),
        server_cpu_us_per_event=cpu * 1e6 / max(posted["posted"], 1),
        server_cpu_share=cpu / elapsed,
        bytes_per_delivery=got["bytes"] / max(delivered, 1),
        client_cpu_share=busy,
        client_saturated=busy > SATURATED,
        producer_late=late or posted["posted"] < count or posted["refused"] > 0,
        refusal=posted["refusal"],
        notice=got["notice"],
        disturbed=disturbed,
    )


def subscribers(
    folder: Path,
    port: int,
    requests: Sequence[str],
    count: int,
    *options: str | int,
    niceness: int = 0,
) -> Program:
    """A started load_client.c, not yet connected."""
    number = len(list(folder.glob("requests*")))
    path = folder / f"requests{number}"
    path.write_bytes("\0".join(requests).encode())
    return Program(
        compile_program("load_client", folder),
        *("--port", port, "--count", count, "--requests", path, *options),
        niceness=niceness,
    )
