"""Conversion of a source's times to RFC 3339 in UTC with microseconds.

Accepted are RFC 3339, also with a space for the `T`, without a zone (read as
UTC) and with up to nine digits of fraction; ISO 8601's basic form
`20131102T010628Z`; numbers as milliseconds since 1970, or as seconds where
they are too small for milliseconds.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.clock import format_rfc3339, parse_rfc3339
from gateway.ingest.sources.native import Unmappable

_TIME = re.compile(
    r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)[Tt ]"
    r"(?P<hour>\d\d):?(?P<minute>\d\d):?(?P<second>\d\d)(?P<fraction>\.\d{1,9})?"
    r" ?(?P<zone>[Zz]|UTC|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
# As milliseconds this is March 1973, as seconds the year 5138.
_LEAST_MILLISECONDS = 100_000_000_000


def utc_time(record: dict[str, Any], *members: str) -> str | None:
    """Time in the first of `members` that the record has; None if it has none of them.

    Raises `Unmappable` if the value is not a time: a record with a broken time
    must not pass as one that happened when it was imported.
    """
    for member in members:
        value = record.get(member)
        if value is None or value == "":
            continue
        try:
            return format_rfc3339(_micros(value))
        except (ValueError, OverflowError):
            raise Unmappable(member, f"not a time: {str(value)[:64]!r}") from None
    return None


def _micros(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("not a time")
    if isinstance(value, int | float):
        micros = round(value * (1000 if abs(value) >= _LEAST_MILLISECONDS else 1_000_000))
        return parse_rfc3339(format_rfc3339(micros))
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time")
    part = match.groupdict(default="")
    zone = part["zone"]
    if zone in ("", "UTC"):
        zone = "Z"
    elif zone not in "Zz":
        zone = f"{zone[:3]}:{zone[-2:]}"
    return parse_rfc3339(
        f"{part['year']}-{part['month']}-{part['day']}"
        f"T{part['hour']}:{part['minute']}:{part['second']}{part['fraction']}{zone}"
    )
