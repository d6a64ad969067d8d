"""Time zones by name, each opened once."""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

_KNOWN: dict[str, tzinfo] = {"UTC": UTC}


def zone_of(name: str) -> tzinfo | None:
    """The time zone, or None where this machine lacks it, or cannot open it now.

    Called when a grant is read, so that its later evaluation has no file to open.
    """
    zone = _KNOWN.get(name)
    if zone is None:
        try:
            zone = _KNOWN[name] = ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            return None
    return zone
