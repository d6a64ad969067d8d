"""Counters of all streams of one process."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct):
    """Counters since the start, for metrics."""

    opened: int = 0
    ended: int = 0
    events: int = 0
    bytes: int = 0
    demotions: int = 0
