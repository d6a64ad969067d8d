"""The figures of several workers: together, and over the deaths of those that counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway import __version__
from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.limits.ports import Health
from gateway.histogram import Histogram
from gateway.http.connection.loop_delay import LoopDelay
from gateway.http.metrics.declarations import LABELLED, METRICS
from gateway.http.metrics.metrics import Metrics
from gateway.http.response.request_metrics import RequestMetrics
from gateway.looking.bounds import LookBounds
from gateway.looking.looks import Looks
from gateway.scheduling.loop_work import WorkTotals
from gateway.settings.declarations import DECLARED
from gateway.streaming.live.totals import Totals
from tests.conftest import FakeClock
from tests.support import metrics_page

LABELS = {
    "code", "kind", "le", "reason", "result", "route", "signal", "state", "status", "store", "task",
    "transport", "version", "within", "worker",
}  # fmt: skip
PLAIN, OPENMETRICS = "text/plain", "application/openmetrics-text"


def context(
    streams: int = 0,
    opened: int = 0,
    head: int = 0,
    position: int = 0,
    errors: dict[str, int] | None = None,
) -> Any:
    hub = SimpleNamespace(
        subscriptions=range(streams),
        totals=Totals(opened=opened),
        position=position,
        overdue=lambda: 0,
    )
    writer = SimpleNamespace(conflicts=0, commit_seconds=Histogram())
    access_log = SimpleNamespace(accesses=0, written=0, waiting=0)
    detector = SimpleNamespace(findings=SimpleNamespace(found=Counter()))
    log = SimpleNamespace(
        head=head, floor=1, renamed=0, degraded_reason=None, read_seconds=Histogram()
    )
    key_store = SimpleNamespace(commit_seconds=Histogram(), read_seconds=Histogram())
    limits = SimpleNamespace(refusals=0)
    work = SimpleNamespace(totals=WorkTotals())
    shared = SimpleNamespace(health=Health)
    keyring = SimpleNamespace(peppers=Peppers((Pepper(b"p" * 32),)))
    return SimpleNamespace(
        keyring=keyring,
        hub=hub,
        canary=SimpleNamespace(seconds=Histogram(), behind=0.0),
        log=log,
        key_store=key_store,
        inventory=SimpleNamespace(
            states=Counter(),
            expiring=Counter(),
            unused=0,
            open_findings=Counter(),
            sessions=0,
            rotation_due=0,
        ),
        access_log=access_log,
        detector=detector,
        limits=limits,
        work=work,
        certificates=None,
        connections=SimpleNamespace(open=0, refused=0, unfinished=0, refused_heads=0),
        in_flight=SimpleNamespace(held=0, refused=0),
        looks=Looks(LookBounds(), FakeClock()),
        loop_delay=LoopDelay(),
        requests=RequestMetrics(),
        shared=shared,
        followed=None,
        writer=writer,
        tasks=SimpleNamespace(errors=errors or {}),
        clock=SimpleNamespace(offset=0.0, steps=0, monotonic=lambda: 0.0),
        degraded_reason=None,
    )


def families(metrics: Metrics) -> list[Family]:
    return list(text_string_to_metric_families(metrics.exposition(PLAIN)[0].decode()))


def samples_of(read: Iterable[Family]) -> Iterator[Sample]:
    return (sample for family in read for sample in family.samples)


def said(metrics: Metrics) -> dict[str, float]:
    lines = metrics.exposition(PLAIN)[0].decode().splitlines()
    rows = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("audit_gateway_"): float(value) for name, value in rows.items()}


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


def test_delays_of_all_workers_make_one_histogram_that_outlives_them() -> None:
    metrics = Metrics(2)
    for number in (0, 1, 1):
        now = context()
        for seconds in (0.001, 0.3, 60.0):
            now.loop_delay.observe(seconds, 0.0)
        as_worker(metrics, number, now)
    known, name = said(metrics), "loop_delay_seconds"
    assert known[f'{name}_bucket{{le="0.001"}}'] == known[f'{name}_bucket{{le="0.25"}}'] == 3
    assert known[f'{name}_bucket{{le="0.5"}}'] == known[f'{name}_bucket{{le="10.0"}}'] == 6
    assert known[f'{name}_bucket{{le="+Inf"}}'] == known[f"{name}_count"] == 9
    assert known[f"{name}_sum"] == pytest.approx(180.903)
    assert known['loop_delay_max_seconds{worker="1"}'] == 60
    metrics.end(1)
    known = said(metrics)
    assert (known['loop_delay_max_seconds{worker="1"}'], known[f"{name}_count"]) == (0, 9)


def test_streams_of_all_workers_add_up_by_transport_and_code_and_only_counts_outlive_them() -> None:
    metrics = Metrics(2)
    for number in (0, 1):
        now = context()
        totals, sse = now.hub.totals, now.hub.totals.transports["sse"]
        totals.stalled, totals.ends["4501"], sse.open, sse.events = 1, 2, 3, 4
        sse.seconds.observe(0.2, times=4)
        totals.lag.observe(7.0, times=3)
        as_worker(metrics, number, now)
    of_sse = '{transport="sse"}'
    expected = {
        "stalled_streams": 2, f"open_streams{of_sse}": 6, 'open_streams{transport="ndjson"}': 0,
        f"stream_events_total{of_sse}": 8, 'stream_ends_total{code="4501"}': 4,
        'stream_ends_total{code="client_gone"}': 0, "streams_ended_total": 4,
        f"delivery_seconds_count{of_sse}": 8, "stream_lag_seconds_count": 6,
        'stream_lag_seconds_bucket{le="5.0"}': 0, 'stream_lag_seconds_bucket{le="10.0"}': 6,
    }  # fmt: skip
    known = said(metrics)
    assert {name: known[name] for name in expected} == expected
    metrics.end(1)
    known = said(metrics)
    expected |= {"stalled_streams": 1, f"open_streams{of_sse}": 3}
    assert {name: known[name] for name in expected} == expected


def test_both_formats_are_read_by_their_parsers_and_say_the_same() -> None:
    metrics = Metrics(2)
    metrics.update(context(streams=1, opened=7, errors={"tail": 2}))
    text, kind = metrics.exposition(PLAIN)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert text.decode().splitlines()[:3] == [
        "# HELP audit_gateway_streams Open streams.",
        "# TYPE audit_gateway_streams gauge",
        "audit_gateway_streams 1.0",
    ]
    assert f'\naudit_gateway_build_info{{version="{__version__}"}} 1.0\n'.encode() in text
    assert b'\naudit_gateway_internal_errors_total{task="tail"} 2.0\n' in text
    open_text, kind = metrics.exposition(OPENMETRICS)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert open_text.endswith(b"# EOF\n")
    plain, opened = (
        {(sample.name, *sample.labels.items()): sample.value for sample in samples_of(read)}
        for read in (
            text_string_to_metric_families(text.decode()),
            openmetrics_families(open_text.decode()),
        )
    )
    assert plain == opened
    assert plain[("audit_gateway_streams_opened_total",)] == 7


def test_names_tell_the_kind_of_a_metric() -> None:
    metrics = Metrics()
    metrics.update(context())
    for family in families(metrics):
        assert re.fullmatch(r"audit_gateway_[a-z_]+", family.name)
        assert family.documentation
        assert family.name.endswith(("_seconds", "_offsets")) or family.type != "histogram"
    for metric in METRICS:
        assert metric.kind == ("counter" if metric.name.endswith("_total") else "gauge")


def test_there_are_never_more_than_900_series_nor_labels_that_clients_choose() -> None:
    most = DECLARED["server.workers"].most
    assert most is not None
    metrics = Metrics(int(str(most[0])))
    metrics.update(context(errors={f"task {number}": 1 for number in range(1000)}))
    series = list(samples_of(families(metrics)))
    assert len(series) <= 900
    assert {name for sample in series for name in sample.labels} == LABELS


def test_buckets_that_are_left_out_change_nothing_of_the_others() -> None:
    shared, metrics = context(), Metrics()
    for seconds in (0.002, 0.004, 0.2, 0.3, 70.0):
        shared.requests.observe("GET /v1/events", 200, "", seconds)
    metrics.update(shared)
    found = {
        sample.labels["le"]: sample.value
        for sample in samples_of(families(metrics))
        if sample.name == "audit_gateway_request_seconds_bucket" and sample.labels["kind"] == "page"
    }
    assert found == {
        "0.005": 2, "0.025": 2, "0.1": 2, "0.5": 4, "2.5": 4, "10.0": 4, "+Inf": 5,
    }  # fmt: skip


def test_redirects_and_paths_with_a_version_of_hec_are_counted() -> None:
    shared, metrics = context(), Metrics()
    shared.requests.observe("GET /v1/session/oidc", 303, "", 0.1)
    shared.requests.observe("POST /services/collector/event", 200, "", 0.1)
    shared.requests.observe("POST /services/collector/event/1.0", 200, "", 0.1)
    metrics.update(shared)
    counted = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in samples_of(families(metrics))
        if sample.name == "audit_gateway_requests_total" and sample.value
    }
    assert counted == {
        ("/v1/session/oidc", "3xx"): 1, ("/services/collector/event", "2xx"): 2,
    }  # fmt: skip


def test_the_page_of_the_metrics_has_each_of_them() -> None:
    """If not: `python -m tests.support.metrics_page` writes it."""
    text = metrics_page.PAGE.read_text(encoding="utf-8")
    assert text == metrics_page.page(text)


def test_no_label_has_a_value_with_a_space() -> None:
    values = [value for metric in LABELLED for labels in metric.values for value in labels]
    assert values
    assert not [value for value in values if " " in value]
