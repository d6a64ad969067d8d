"""The figures of several workers: together, and over the deaths of those that counted."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.limits.ports import Health
from gateway.access.limits.work import WorkTotals
from gateway.http.connection.loop_delay import LoopDelay
from gateway.http.metrics.metrics import METRICS, Metrics
from gateway.streaming.live.totals import Totals


def context(streams: int = 0, opened: int = 0, head: int = 0, position: int = 0) -> Any:
    hub = SimpleNamespace(
        subscriptions=range(streams),
        totals=Totals(opened=opened),
        position=position,
        overdue=lambda: 0,
    )
    writer = SimpleNamespace(conflicts=0)
    access_log = SimpleNamespace(accesses=0, written=0, waiting=0)
    detector = SimpleNamespace(findings=SimpleNamespace(found=0))
    log = SimpleNamespace(head=head, floor=1, degraded_reason=None)
    limits = SimpleNamespace(refusals=0)
    work = SimpleNamespace(totals=WorkTotals())
    shared = SimpleNamespace(health=Health)
    keyring = SimpleNamespace(peppers=Peppers((Pepper(b"p" * 32),)))
    return SimpleNamespace(
        keyring=keyring,
        hub=hub,
        log=log,
        access_log=access_log,
        detector=detector,
        limits=limits,
        work=work,
        connections=SimpleNamespace(open=0, refused=0, unfinished=0, refused_heads=0),
        in_flight=SimpleNamespace(held=0, refused=0),
        loop_delay=LoopDelay(),
        shared=shared,
        followed=None,
        writer=writer,
        tasks=SimpleNamespace(errors={}),
        clock=SimpleNamespace(offset=0.0, steps=0),
        degraded_reason=None,
    )


def said(metrics: Metrics) -> dict[str, int]:
    lines = metrics.text().splitlines()
    rows = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("audit_gateway_"): int(float(value)) for name, value in rows.items()}


def as_worker(metrics: Metrics, number: int, now: Any) -> None:
    """What the process of a worker does; here they share this one."""
    metrics.begin(number)
    metrics.update(now)


def test_streams_and_counters_add_up_and_offsets_do_not() -> None:
    metrics = Metrics(3)
    as_worker(metrics, 0, context(streams=2, opened=5, head=100, position=90))
    as_worker(metrics, 1, context(streams=3, opened=4, head=99, position=99))
    known = said(metrics)
    assert (known["streams"], known["streams_opened_total"]) == (5, 9)
    assert (known["log_head_offset"], known["tail_lag_events"]) == (100, 10)
    assert [known[f'worker_streams{{worker="{number}"}}'] for number in range(3)] == [2, 3, 0]


def test_a_worker_that_has_ended_has_no_streams_and_its_counters_go_on() -> None:
    metrics = Metrics(2)
    as_worker(metrics, 1, context(streams=2, opened=5))
    metrics.end(1)
    known = said(metrics)
    assert (known["streams"], known["streams_opened_total"]) == (0, 5)
    as_worker(metrics, 1, context(streams=1, opened=1))
    metrics.update(context(streams=2, opened=2))
    known = said(metrics)
    assert (known["streams"], known["streams_opened_total"]) == (2, 7)


def test_the_text_is_that_of_the_exposition_format() -> None:
    metrics = Metrics()
    metrics.update(context(streams=1))
    text = metrics.text()
    assert text.endswith("\n")
    assert text.splitlines()[:3] == [
        "# HELP audit_gateway_streams Open streams.",
        "# TYPE audit_gateway_streams gauge",
        "audit_gateway_streams 1",
    ]
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert metric.kind == ("counter" if metric.name.endswith("_total") else "gauge")
        assert re.search(rf"^audit_gateway_{metric.name} \d+$", text, re.MULTILINE)
