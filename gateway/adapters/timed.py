"""Durations of store calls, for metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.histogram import Histogram


@contextmanager
def timed(seconds: Histogram | None) -> Iterator[None]:
    """Observe the duration of the block, unless it fails or `seconds` is None."""
    began = time.perf_counter()
    yield
    if seconds is not None:
        seconds.observe(time.perf_counter() - began)
