"""Catch-up: readers from the first event over a log that is already there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, payload
from tests.benchmarks.gateway import FILLING, HISTORY, Gateway, Parameters
from tests.benchmarks.session import subscribers

SHARE = 100  # one event of so many is of the category that the filtered readers want
DRAIN: Parameters = (("from", "start"), ("follow", "false"))
FILTERED: Parameters = (*DRAIN, ("category", "bench.rare"))


def prepared(folder: Path, events: int) -> Gateway:
    """The gateway, not yet started, whose log will hold that many events."""
    texts = [payload.posted() for _ in range(SHARE - 1)]
    wanted = payload.posted(category="bench.rare")
    return Gateway(folder, events=[*texts, wanted], history=events)


def read(
    target: Gateway, folder: Path, events: int, readers: int, filtered: bool, limit: float
) -> dict[str, Any]:
    """Drain the log with so many readers at once, for at most `limit` seconds."""
    request = target.stream("ndjson", FILTERED if filtered else DRAIN)
    expected = events // SHARE if filtered else events
    client = subscribers(folder, target.port, [request], readers, "--sleep-us", 50)
    with closing(client):
        watch = machine.LoadWatch({*target.pids(), *client.pids})
        before = machine.cpu_seconds(target.pids())
        client.ask(f"count {HISTORY} {events} {expected * readers} {limit}")
        client.ask("open")
        got = client.answer(limit + 30)
        cpu = machine.cpu_seconds(target.pids()) - before
        disturbed = watch.verdict()
    return {
        "readers": readers,
        "came_in": FILLING.text,
        "filtered": filtered,
        "log": events,
        "seconds": got["elapsed"],
        "delivered": got["delivered"],
        "complete": got["delivered"] == expected * readers and not got["duplicates"],
        "events_per_second": got["delivered"] / max(got["elapsed"], 1e-6),
        "server_cpu_us_per_delivery": cpu * 1e6 / max(got["delivered"], 1),
        "bytes_per_delivery": got["bytes"] / max(got["delivered"], 1),
        "client_saturated": got["saturated"],
        "notice": got["notice"],
        "disturbed": disturbed,
    }
