"""Exposition of the shared metrics in the text formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

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
from gateway.http.metrics.declarations import (
    BUILD,
    CONSUMERS,
    HISTOGRAMS,
    INTERNAL_ERRORS,
    LABELLED,
    METRICS,
    WORKER_METRICS,
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
    ) -> None:
        self._columns = list(zip(*rows, strict=True))
        self._errors = errors
        self._consumers = consumers

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
        for of_consumers in CONSUMERS:
            named = _KINDS[of_consumers.kind](
                _PREFIX + of_consumers.name, of_consumers.about, labels=of_consumers.labels
            )
            for one in self._consumers:
                named.add_metric((one.consumer, one.key), of_consumers.of(one))
            yield named
        for histogram in HISTOGRAMS:
            labels = (histogram.label,) if histogram.label else ()
            family = HistogramMetricFamily(_PREFIX + histogram.name, histogram.about, labels=labels)
            bounds = (*map(str, histogram.bounds), "+Inf")
            for label in histogram.values:
                *counts, total = (sum(next(columns)) for _ in range(histogram.width))
                buckets = list(zip(bounds, accumulate(counts), strict=True))
                family.add_metric((label,) if labels else (), buckets, total)
            yield family
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


def exposition(
    rows: Sequence[Sequence[float]],
    errors: Mapping[str, int],
    consumers: Sequence[ConsumerNumbers],
    kind: str,
) -> tuple[bytes, str]:
    """All metrics in the format of a media type, and that type in full."""
    # `kind` is a bare type: the library fails on an invalid version.
    encode, whole = choose_encoder(kind)
    return encode(MetricsCollector(rows, errors, consumers)), whole
