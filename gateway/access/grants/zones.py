"""Time zones by name, each opened once.

Zones come from the package `tzdata`, not from the machine, where names such as `localtime` or
`posixrules` differ, and so would the hours of one key.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_KNOWN: dict[str, tzinfo] = {"UTC": UTC}
# The zone of a machine that was not set up.
_NO_ZONES = {"Factory"}


def zone_of(name: str) -> tzinfo | None:
    """The time zone; None if the name is unknown, or the zone cannot be opened now. Grants call it
    when they are read, so that decisions open no file."""
    zone = _KNOWN.get(name)
    if zone is None:
        try:
            if name not in _names():
                return None
            zone = _KNOWN[name] = _read(name)
        except (ValueError, OSError):
            return None
    return zone


@cache
def _names() -> frozenset[str]:
    return frozenset((files("tzdata") / "zones").read_text("utf-8").split()) - _NO_ZONES


def _read(name: str) -> ZoneInfo:
    with (files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
