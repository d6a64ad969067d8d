"""Exposition of the shared metrics in the text formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.delivery.running.meter import DestinationNumbers
from gateway.histogram import SECONDS
from gateway.http.metrics.declarations import (
    BUILD,
    CONSUMERS,
    DESTINATION_SECONDS,
    DESTINATION_SHOWN,
    DESTINATIONS,
    HISTOGRAMS,
    INTERNAL_ERRORS,
    LABELLED,
    METRICS,
    WORKER_METRICS,
    NamedMetric,
)
from gateway.oversight.consumer_watch import ConsumerNumbers

_PREFIX = "audit_gateway_"
_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class MetricsCollector(Collector):
    """Declared metrics, from a row of values per worker."""

    def __init__(
        self,
        rows: Sequence[Sequence[float]],
        errors: Mapping[str, int],
        consumers: Sequence[ConsumerNumbers] = (),
        destinations: Sequence[DestinationNumbers] = (),
    ) -> None:
        self._columns = list(zip(*rows, strict=True))
        self._errors = errors
        self._consumers = [((one.consumer, one.key), one) for one in consumers]
        self._destinations = [((one.name,), one) for one in destinations]

    def collect(self) -> Iterator[Family]:
        columns = iter(self._columns)
        for metric in METRICS:
            value = metric.together(next(columns))
            yield _KINDS[metric.kind](_PREFIX + metric.name, metric.about, value=value)
        for of_worker in WORKER_METRICS:
            workers = GaugeMetricFamily(
                _PREFIX + of_worker.name, of_worker.about, labels=("worker",)
            )
            for worker, value in enumerate(next(columns)):
                workers.add_metric((str(worker),), value)
            yield workers
        for labelled in LABELLED:
            numbers = _KINDS[labelled.kind](
                _PREFIX + labelled.name, labelled.about, labels=labelled.labels
            )
            for values in labelled.values:
                numbers.add_metric(values, sum(next(columns)))
            yield numbers
        yield from (_named(one, self._consumers) for one in CONSUMERS)
        yield from (_named(one, self._destinations) for one in DESTINATIONS)
        for histogram in HISTOGRAMS:
            labels = (histogram.label,) if histogram.label else ()
            family = HistogramMetricFamily(_PREFIX + histogram.name, histogram.about, labels=labels)
            for label in histogram.values:
                cells = [sum(next(columns)) for _ in range(histogram.width)]
                named = (label,) if labels else ()
                _add(family, named, cells, histogram.bounds, histogram.shown)
            yield family
        name, about = DESTINATION_SECONDS
        seconds = HistogramMetricFamily(_PREFIX + name, about, labels=("destination",))
        for called, of_destination in self._destinations:
            cells = of_destination.status.seconds
            _add(seconds, called, cells, SECONDS, DESTINATION_SHOWN)
        yield seconds
        errors = CounterMetricFamily(
            _PREFIX + INTERNAL_ERRORS,
            "Unexpected exceptions by the task that they ended: each is a bug.",
            labels=("task",),
        )
        for name, count in sorted(self._errors.items()):
            errors.add_metric((name,), count)
        yield errors
        yield InfoMetricFamily(
            _PREFIX + BUILD, "The program that runs.", value={"version": __version__}
        )


def _named(metric: NamedMetric[Any], things: Iterable[tuple[tuple[str, ...], Any]]) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily = _KINDS[metric.kind](
        _PREFIX + metric.name, metric.about, labels=metric.labels
    )
    ends: list[tuple[str, ...]] = [(value,) for value in metric.values] or [()]
    for labels, one in things:
        for end, number in zip(ends, metric.of(one), strict=True):
            family.add_metric((*labels, *end), number)
    return family


def _add(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    cells: Sequence[float],
    bounds: Sequence[float],
    shown: Sequence[float],
) -> None:
    """Add the cells of a `gateway.histogram.Histogram`, with buckets up to the bounds that are
    shown; up to all if none are named."""
    *counts, total = cells
    ends = (*bounds, float("inf"))
    kept = {*(shown or bounds), ends[-1]}
    buckets = [
        ("+Inf" if end == ends[-1] else str(end), number)
        for end, number in zip(ends, accumulate(counts), strict=True)
        if end in kept
    ]
    family.add_metric(labels, buckets, total)


def exposition(
    rows: Sequence[Sequence[float]],
    errors: Mapping[str, int],
    consumers: Sequence[ConsumerNumbers],
    destinations: Sequence[DestinationNumbers],
    kind: str,
) -> tuple[bytes, str]:
    """All metrics in the format of a media type, and that type in full."""
    # `kind` is a bare type: the library fails on an invalid version.
    encode, whole = choose_encoder(kind)
    return encode(MetricsCollector(rows, errors, consumers, destinations)), whole
