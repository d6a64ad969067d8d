"""Counters of all streams of one process."""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.histogram import Histogram
from gateway.wire.framing import TRANSPORTS, Wire


class TransportTotals(msgspec.Struct):
    """Counters of one transport. `seconds`: from the recording of an event to its live delivery."""

    open: int = 0
    events: int = 0
    bytes: int = 0
    seconds: Histogram = msgspec.field(default_factory=Histogram)


class Totals(msgspec.Struct):
    """Counters since the start, for metrics. `ends` are by code, or `CLIENT_GONE`; `stalled` and
    `lag` are what `gateway.streaming.live.lags` has seen."""

    opened: int = 0
    demotions: int = 0
    stalled: int = 0
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    lag: Histogram = msgspec.field(default_factory=Histogram)
    transports: dict[str, TransportTotals] = msgspec.field(
        default_factory=lambda: {name: TransportTotals() for name in TRANSPORTS}
    )

    def of(self, wire: Wire) -> TransportTotals:
        return self.transports[wire.transport]

    @property
    def ended(self) -> int:
        return self.ends.total()

    @property
    def events(self) -> int:
        return sum(one.events for one in self.transports.values())

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.transports.values())
