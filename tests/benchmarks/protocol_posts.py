"""Requests of HEC and bulk beside requests of `POST /v1/events` with such events, to one gateway on
one connection: with all that a request costs, the write to the disk included."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

from tests.benchmarks import protocol_bodies
from tests.benchmarks.gateway import Gateway
from tests.benchmarks.programs import BenchmarkError

BATCH = 500
CAME_IN = f"1 producer, {BATCH} per request"
# Records name their own categories.
WRITES = {"actions": ["ingest"], "categories": ["**"]}
_PATHS = {protocol_bodies.HEC: "/services/collector/event", protocol_bodies.BULK: "/_bulk"}
Post = Callable[[str, bytes], None]


def cost(target: Gateway, shape: str, turns: int) -> dict[str, Any]:
    """Microseconds of an event in requests of a protocol and of the native form, in turns; medians.

    Both are events of their own: the native ones have other ids.
    """
    target.writes = WRITES
    with closing(target):
        target.start()
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        with closing(connection):
            post = _poster(connection, target.writer)
            pairs = [_pair(shape, turn, post) for turn in range(turns + 1)]
    # In the first turn all is new to the gateway.
    posted, native = zip(*pairs[1:], strict=True)
    ratios = [one / other for one, other in zip(native, posted, strict=True)]
    return {
        "source": shape,
        "posted_us": median(posted) / BATCH * 1e6,
        "native_us": median(native) / BATCH * 1e6,
        "throughput_of_native": median(ratios),
    }


def _pair(shape: str, turn: int, post: Post) -> tuple[float, float]:
    """Seconds of a request of the protocol, and of one with its events in the native form."""
    first = 2 * turn * BATCH
    protocol, records = protocol_bodies.shapes(BATCH, first)[shape]
    other, others = protocol_bodies.shapes(BATCH, first + BATCH)[shape]
    events = [b"{" + one.draft.tail for one in other.mapped(other.body_of(others, first + BATCH))]
    assert len(events) == BATCH
    works = [
        (_PATHS[protocol], protocol.body_of(records, first)),
        ("/v1/events", b"[" + b",".join(events) + b"]"),
    ]
    found = {}
    # Each goes first in every second turn.
    for path, body in works if turn % 2 else reversed(works):
        begun = time.perf_counter()
        post(path, body)
        found[path] = time.perf_counter() - begun
    return found[works[0][0]], found[works[1][0]]


def _poster(connection: http.client.HTTPConnection, key: str) -> Post:
    def post(path: str, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if path.startswith("/services"):
            headers["Authorization"] = f"Splunk {key}"
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 201) or b'"errors":true' in said:
            raise BenchmarkError(f"{path}: {answer.status} {said[:200]!r}")

    return post
