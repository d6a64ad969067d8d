"""A destination that comes back after very many events, beside live streams.

    python tests/shippers/soak.py backlog [EVENTS]

The receiver of `http` is away, and `file` is paused, while the log gets its events; then one comes
back, and the other after it. What is printed is a table of deploy/destinations.md.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import crowd
from crowd import Watched, level, make, resident
from scene import Scene

from tests.support.loaded_program import end_loader
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

EVENTS, STREAMS, RATE = 1_000_000, 10, 100
_FILLING = 5_000
_SECONDS = 10.0
_CATEGORY = "billing"


class Beside(NamedTuple):
    """What was measured meanwhile: quantiles of live events in milliseconds, and most MiB that the
    gateway had."""

    p50: float
    p99: float
    most: int


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with crowd.scene() as scene:
        grant = {"actions": ["ingest", "stream"], "categories": ["auth", _CATEGORY]}
        wanted = {"name": "test", "purpose": "test", "owner": "tests", "grants": [grant]}
        made = scene.ask("POST", "/v1/keys", wanted)
        scene.key = made["key"]
        port, received = free_port(), scene.folder / "received.ndjson"
        select = {"category": [_CATEGORY]}
        make(scene, "http", port, select=select, retry={"max": "1s"})
        make(scene, "file", 0, type="file", select=select, settings={"folder": "out"})
        scene.ask("POST", "/v1/destinations/file/pause", {"reason": "it is away"})
        _fill(scene, count)
        streams = [Watched(scene) for _ in range(STREAMS)]
        before = _measured(scene, streams, lambda: False, _SECONDS)
        print(f"{count} events; live before: {_told(before)}", flush=True)
        began = time.monotonic()
        sink = [sys.executable, str(Path(__file__).with_name("sink.py")), str(port), str(received)]
        scene.run(sink, {})
        _come_back(scene, "http", streams, began)
        _check("http", received.read_bytes(), count)
        began = time.monotonic()
        scene.ask("POST", "/v1/destinations/file/resume", {"reason": "it is back"})
        _come_back(scene, "file", streams, began)
        folder = scene.folder / "data" / "destinations" / "out"
        _check("file", b"".join(_contents(folder)), count)
    end_loader()


def _fill(scene: Scene, count: int) -> None:
    for first in range(0, count, _FILLING):
        numbers = range(first, min(first + _FILLING, count))
        body = b"\n".join(_posted(number) for number in numbers)
        status, said = scene.gateway.ask(
            "POST", "/v1/events", scene.key, body, "application/x-ndjson"
        )
        assert status == 201, said


def _posted(number: int) -> bytes:
    user = f"u-{number % 977}"
    return json.dumps({
        "id": f"e{number}", "category": _CATEGORY, "action": "invoice.read", "outcome": "success",
        "actor": {"type": "user", "id": user, "name": f"{user}@example.org"},
        "source": {"ip": f"203.0.113.{number % 250}", "service": "billing"},
        "targets": [{"urn": f"app:invoice/{number}"}], "data": {"session": "x" * 40},
    }).encode()  # fmt: skip


def _come_back(scene: Scene, name: str, streams: list[Watched], began: float) -> None:
    ended = threading.Event()
    taken = [0.0]

    def done() -> bool:
        if not ended.is_set() and level(scene, name):
            taken[0] = time.monotonic() - began
            ended.set()
        return ended.is_set()

    beside = _measured(scene, streams, done, patience(120))
    shown = scene.ask("GET", f"/v1/destinations/{name}")
    assert ended.is_set(), shown
    events = shown["delivered"]["events"]
    print(f"{name}: {taken[0]:.0f} s, {events / taken[0]:,.0f} events/s; live: {_told(beside)}")


@contextmanager
def _watched_memory(scene: Scene) -> Iterator[list[int]]:
    """Resident MiB of the gateway, again and again."""
    seen, ended = [resident(scene)], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(resident(scene))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _measured(
    scene: Scene, streams: list[Watched], done: Callable[[], bool], most: float
) -> Beside:
    """Send live events, one second's after the other's, until it is done."""
    producer, *others = streams
    latencies: list[float] = []
    began = time.monotonic()
    with _watched_memory(scene) as memory:
        while not done() and time.monotonic() - began < most:
            for one in streams:
                one.latencies = []
            sent = producer.produce(1.0, RATE)
            latencies += producer.latencies
            for one in others:
                latencies += one.latencies_of(sent)
    cuts = statistics.quantiles(latencies, n=100)
    return Beside(1000 * cuts[49], 1000 * cuts[98], max(memory))


def _told(beside: Beside) -> str:
    return f"p50 {beside.p50:.1f} ms, p99 {beside.p99:.1f} ms; at most {beside.most} MiB"


def _contents(folder: Path) -> Iterator[bytes]:
    """What is in the files, in the order of their names, which is that of their cursors."""
    for path in sorted(folder.glob("file-*.ndjson*"), key=lambda one: one.name.partition(".")[0]):
        yield gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _check(name: str, content: bytes, count: int) -> None:
    """Print what is lost, repeated, and in another order than in the log."""
    numbers = [int(json.loads(line)["id"][1:]) for line in content.splitlines()]
    known = len(set(numbers))
    unordered = sum(one > after for one, after in pairwise(numbers))
    print(
        f"{name}: {len(numbers)} arrived, {count - known} lost, {len(numbers) - known} repeated, "
        f"{unordered} out of order"
    )
