"""How often streams hear something, and how long things may take."""

from __future__ import annotations

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Seconds: how often a quiet stream hears something, how long its last bytes may take, how
    long it may live (0: for ever), and how long events under load wait to be joined."""

    heartbeat: float = 15.0
    scanning: float = 5.0
    ping: float = 20.0
    finish: float = 0.5
    lifetime: float = 0.0
    flush: float = 0.01
