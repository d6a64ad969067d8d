"""Times of records as RFC 3339 in UTC with microseconds. Pure.

Recognised are, in text: RFC 3339, also with a space for the `T`, without a zone (read as UTC) and
with up to nine digits of fraction; the basic forms of ISO 8601 `20131102T010628Z` and
`20131102010628.123`; RFC 2822; that of access logs, `10/Oct/2000:13:55:36 -0700`. Numbers, also
in text, are seconds, milliseconds, microseconds or nanoseconds since 1970, as their size allows.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from gateway.clock import format_rfc3339, parse_rfc3339

_SECOND = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", re.ASCII)
_UTC = ("Z", "+00:00", "")
# Characters of a fraction of a second that needs no rounding.
_MICROSECONDS = 7
_TIME = re.compile(
    r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)(?:[Tt ]|(?=\d{6}(?:\D|\Z)))"
    r"(?P<hour>\d\d):?(?P<minute>\d\d):?(?P<second>\d\d)(?P<fraction>[.,]\d{1,9})?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"-?\d{1,19}(?:\.\d{1,9})?", re.ASCII)
_ACCESS_LOG = re.compile(r"\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}", re.ASCII)
# Digits of all nanoseconds since 1970 from 2001 on.
_NANOSECONDS = 19
_FIRST = parse_rfc3339("0001-01-01T00:00:00Z")
_LAST = parse_rfc3339("9999-12-31T23:59:59.999999Z")
# Each unit reaches from March 1973 on; the one before it to the year 5138.
_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))


def rfc3339(value: Any) -> str:
    """A time of a record in UTC with microseconds. Raises `ValueError` if it is none."""
    if type(value) is str and len(value) == _NANOSECONDS and value.isdigit():
        return format_rfc3339(int(value) // 1000)
    if type(value) is str and (second := _second(value[:19])) is not None:
        rest = value[19:]
        if rest in _UTC:
            return f"{second}.000000Z"
        if rest[-1] == "Z":
            fraction = rest[:-1]
        else:
            fraction = rest[:-6] if rest[-6:] == "+00:00" else rest
        if (
            1 < len(fraction) <= _MICROSECONDS
            and fraction[0] == "."
            and fraction.isascii()
            and fraction[1:].isdigit()
        ):
            return f"{second}{fraction.ljust(_MICROSECONDS, '0')}Z"
    if isinstance(value, str):
        return format_rfc3339(_micros_of_text(value.strip()))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a time")
    return format_rfc3339(_micros_of_number(value))


@lru_cache(maxsize=4096)
def _second(value: str) -> str | None:
    """A time to the second as most records have it, None if it is none; many records share one."""
    if _SECOND.fullmatch(value) is None:
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return f"{value[:10]}T{value[11:]}"


def _micros_of_number(value: float) -> int:
    try:
        size = abs(value)
        for least, factor in _UNITS:
            if size < least:
                return _checked(round(value * factor))
        return _checked(round(value / 1000) if isinstance(value, float) else value // 1000)
    except OverflowError:
        raise ValueError("not a time") from None


def _checked(micros: int) -> int:
    if not _FIRST <= micros <= _LAST:
        raise ValueError("not a time")
    return micros


def _micros_of_text(value: str) -> int:
    match = _TIME.fullmatch(value)
    if match is None:
        return _micros_of_rare_text(value)
    part = match.groupdict(default="")
    zone = part["zone"]
    if zone in ("", "UTC", "GMT"):
        zone = "Z"
    elif zone not in "Zz":
        zone = f"{zone[:3]}:{zone[3:].strip(':') or '00'}"
    fraction = part["fraction"].replace(",", ".")
    return parse_rfc3339(
        f"{part['year']}-{part['month']}-{part['day']}"
        f"T{part['hour']}:{part['minute']}:{part['second']}{fraction}{zone}"
    )


def _micros_of_rare_text(value: str) -> int:
    if _NUMBER.fullmatch(value):
        return _micros_of_number(float(value) if "." in value else int(value))
    if _ACCESS_LOG.fullmatch(value):
        moment = datetime.strptime(value, "%d/%b/%Y:%H:%M:%S %z")
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            raise ValueError("not a time") from None
        if moment.tzinfo is None:
            return parse_rfc3339(moment.isoformat() + "Z")
    return parse_rfc3339(moment.isoformat())
