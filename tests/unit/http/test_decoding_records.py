"""Records of sources are mapped in slices, and what is large in another process."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.errors import PayloadTooLarge
from gateway.http.request.decoding import Decoder
from gateway.ingest.sources.catalog import make_source, shipped
from gateway.ingest.sources.source import Mapped, Owner
from gateway.scheduling.loop_work import LoopWork


def record(number: int, **members: Any) -> dict[str, Any]:
    return {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": f"a-{number}", "verb": "get",
        "stageTimestamp": "2026-01-01T00:00:00Z", "requestURI": "/x", **members,
    }  # fmt: skip


class Apart:
    """Does work as another process does, and counts it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        try:
            return pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(work))()))
        except PayloadTooLarge as error:
            raise pickle.loads(pickle.dumps(error)) from None


async def test_a_large_record_is_mapped_in_another_process_to_the_same_event() -> None:
    apart, clock = Apart(), SystemClock()
    decoder = Decoder(clock, LoopWork(clock, in_process=apart))
    source = make_source(shipped("kubernetes"), {"cluster": "prod"})
    small, large = record(1), record(2, deep="x" * 100_000)
    body = b"\n".join(json.dumps(one).encode() for one in (small, large, {"x": "y" * 70_000}))
    found = await decoder.map_records(body, "k", source, Owner("acme"), most=10)
    assert apart.calls == 2
    assert [index for index, _ in found.drafts] == [0, 1]
    assert [(index, refused.reason[:12]) for index, _, refused in found.refused] == [
        (2, "not a record")
    ]
    [alone] = source.map(json.dumps(large).encode(), Owner("acme"))
    assert isinstance(alone, Mapped)
    assert found.drafts[1][1] == alone.draft
    assert b"k8s:prod/" in alone.draft.tail


async def test_too_many_records_in_a_large_envelope_are_refused() -> None:
    clock = SystemClock()
    decoder = Decoder(clock, LoopWork(clock, in_process=Apart()))
    source = make_source(shipped("kubernetes"))
    body = json.dumps({"items": [record(n, pad="x" * 10_000) for n in range(11)]}).encode()
    with pytest.raises(PayloadTooLarge, match="more than 10 events"):
        await decoder.map_records(body, "k", source, Owner("acme"), most=10)
