"""Limits of one key, which replace those of the settings. Pure.

They have the same names in the section `[limits]` of the settings, in the body of `POST /v1/keys`
and on the command line. 0 is no limit.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.json_members import about

_MOST = 10**15
_Limit = Annotated[int, about(minimum=0)]


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of one key; None leaves a limit to the settings."""

    requests_per_second: _Limit | None = None
    requests_burst: _Limit | None = None
    new_streams_per_minute: _Limit | None = None
    concurrent_streams: _Limit | None = None
    events_per_second: _Limit | None = None
    bytes_per_second: _Limit | None = None
    events_per_day: _Limit | None = None
    bytes_per_day: _Limit | None = None

    def public(self) -> dict[str, int]:
        """Limits that are given, by name."""
        said: dict[str, int] = msgspec.to_builtins(self)
        return said


NO_LIMITS = KeyLimits()
NAMES = KeyLimits.__struct_fields__
LIMITS = about("In place of the settings'; 0 is no limit.")


def parse_limits(raw: Any) -> KeyLimits:
    """Parse limits from a decoded JSON object. Raises `InvalidRequest` that names what is wrong."""
    if raw is None:
        return NO_LIMITS
    if not isinstance(raw, dict):
        raise _invalid('limits: an object is needed, such as {"events_per_second": 100}')
    for name, value in raw.items():
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise _invalid(
                f"limits: there is no {name[:64]!r}; there are {', '.join(NAMES)}{meant}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            raise _invalid(f"limits.{name}: a whole number from 0 (no limit) is needed")
    return KeyLimits(**raw)


def parse_limit_texts(texts: tuple[str, ...]) -> KeyLimits:
    """Parse limits from texts such as `events_per_second=100`."""
    raw: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in raw:
            raise _invalid(f"limits.{name[:64]}: given twice, and nobody could tell which is meant")
        raw[name] = int(value) if value.isascii() and value.isdecimal() else value
    return parse_limits(raw)


def inherited(own: KeyLimits, wanted: KeyLimits) -> KeyLimits:
    """Limits of a key whose issuer has its `own`, which apply where none are wanted."""
    return KeyLimits(**{**own.public(), **wanted.public()})


def exceeded(own: KeyLimits, wanted: KeyLimits) -> str | None:
    """Name of a limit by which `wanted` allows more than `own`; None if there is none."""
    said = wanted.public()
    for name, most in own.public().items():
        # The rate beside a burst counts, not the burst.
        if most and name != "requests_burst" and not 0 < said.get(name, 0) <= most:
            return name
    return None


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_limits")
