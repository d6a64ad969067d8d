"""Durations of store calls, for metrics and traces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.histogram import Histogram
from gateway.tracing.spans import within


@contextmanager
def timed(seconds: Histogram | None, span: str = "store.read") -> Iterator[None]:
    """Observe the duration of the block, unless it fails or `seconds` is None; in a trace it is a
    span of that name."""
    began = time.perf_counter()
    with within(span):
        yield
    if seconds is not None:
        seconds.observe(time.perf_counter() - began)
