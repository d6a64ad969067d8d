"""How long calls of a store take, for metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.histogram import Histogram


@contextmanager
def timed(seconds: Histogram | None) -> Iterator[None]:
    """Count how long the block takes, unless it fails or nobody asks."""
    began = time.perf_counter()
    yield
    if seconds is not None:
        seconds.observe(time.perf_counter() - began)
