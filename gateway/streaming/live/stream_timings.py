"""Timings of streams: their heartbeat, their lifetime and their last bytes."""

from __future__ import annotations

import msgspec


class StreamTimings(msgspec.Struct, frozen=True):
    """Intervals of streams in seconds.

    `heartbeat`, `scanning` and `ping`: how often a quiet stream gets a sign of life. `finish`: how
    long its last bytes may take. `lifetime`: how long it may live (0: for ever). `flush`: how long
    events under load wait to be joined.
    """

    heartbeat: float = 15.0
    scanning: float = 5.0
    ping: float = 20.0
    finish: float = 0.5
    lifetime: float = 0.0
    flush: float = 0.025
