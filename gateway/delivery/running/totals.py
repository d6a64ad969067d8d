"""Counters of all deliveries of one process, for metrics."""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.delivery.outlets.outlet import DeliveryResult
from gateway.histogram import Histogram

RESULTS = tuple(result.value for result in DeliveryResult)
STATES = ("active", "failing", "paused", "disabled")


class DeliveryTotals(msgspec.Struct):
    """Counters since the start; `states`, `lag_events` and `lag_seconds` are as of now, the lags
    those of the destination that is furthest behind."""

    events: int = 0
    rejected: int = 0
    retries: int = 0
    requests: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: Histogram = msgspec.field(default_factory=Histogram)
    states: Counter[str] = msgspec.field(default_factory=Counter)
    lag_events: int = 0
    lag_seconds: float = 0.0
