"""Batches that are being filled: what is in each, and what is left for the next."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from gateway.delivery.definition import DestinationBatch
from gateway.delivery.outlets.http import HTTP
from gateway.delivery.running.encoded_batch import EncodedBatch, OpenBatch
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import new_outlet

MOST_BYTES, MOST_EVENTS = 64 << 10, 50


def batches(lines: list[bytes], verbatim: bool, chance: random.Random) -> list[EncodedBatch]:
    """The batches that lines come in, a few of which are taken at a time."""
    outlet: Any = new_outlet(HTTP, {"url": "https://siem.example.org"}, transport=object())
    assert outlet.verbatim
    outlet.verbatim = verbatim
    outlet.limits = outlet.limits._replace(max_event_bytes=20_000)
    opened = OpenBatch(outlet, DestinationBatch(max_events=MOST_EVENTS, max_bytes=MOST_BYTES))
    waiting, found = deque(lines), []
    while waiting:
        before = len(waiting)
        taken = opened.take(waiting, chance.randint(1, 30), 100.0)
        assert taken == before - len(waiting)
        if opened.full:
            found.append(opened.close())
    return [*found, opened.close()]


@every([*range(5)])
def test_native_events_that_are_taken_at_once_come_in_the_same_batches(seed: int) -> None:
    chance = random.Random(seed)
    # First short ones, then some too long for the type, and some of which few fill a batch.
    sizes = [10] * 110 + [chance.choice((10, 10, 10, 400, 15_000, 30_000)) for _ in range(100)]
    lines = [
        outbound_event(number, data={"x": "x" * size}).json for number, size in enumerate(sizes, 1)
    ]
    at_once = batches(lines, True, random.Random(seed))
    one_by_one = batches(lines, False, random.Random(seed))
    assert at_once == one_by_one
    assert [line for batch in at_once for line in batch.lines] == lines
    assert any(len(batch.lines) == MOST_EVENTS for batch in at_once)
    for batch in at_once:
        bodies = [event.body for event in batch.events if event is not None]
        assert sum(map(len, bodies)) <= MOST_BYTES
        assert max(map(len, bodies), default=0) <= 20_000


def test_events_that_are_taken_at_once_are_due_when_the_first_of_them_is() -> None:
    outlet = new_outlet(HTTP, {"url": "https://siem.example.org"}, transport=object())
    opened = OpenBatch(outlet, DestinationBatch(max_wait="8s"))
    line = outbound_event(1).json
    assert opened.take(deque([line, line]), 2, 100.0) == 2
    left = opened.left(100.0)
    assert opened.take(deque([line]), 1, 103.0) == 1
    assert opened.left(100.0) == left
