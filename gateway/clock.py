"""Clocks, durations and RFC 3339 times.

Pure code takes `now`: seconds since 1970 as float, or microseconds as int where documented. Acting
code takes a `Clock`, so that tests control the time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Annotated, Protocol

from gateway.errors import InvalidRequest
from gateway.json_members import about

# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC passes during a suspension.
_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(?:\d{1,9}[smhd])+", re.ASCII)
_PART = re.compile(r"(\d+)([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
# Declarations of times and durations in bodies and answers.
MomentText = Annotated[str, about(format="date-time")]
Moment = Annotated[MomentText, about("RFC 3339 in UTC with microseconds.")]
Duration = Annotated[
    str, about("Such as `30s`, `15m`, `24h`, `30d`.", pattern=r"^(\d{1,9}[smhd])+$")
]


class Clock(Protocol):
    """Clock of acting code. `began`: value of `monotonic` from which periodic polls are counted."""

    began: float

    def now(self) -> float:
        """Wall clock, seconds since 1970-01-01T00:00Z."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    def boottime(self) -> float:
        """Like `monotonic`, but also passes while the machine is suspended (CLOCK_BOOTTIME)."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""


class SystemClock:
    """The machine's own time."""

    began = 0.0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        # Commands that never wait start about 50 ms sooner without it.
        import asyncio

        await asyncio.sleep(seconds)


def until_next_poll(clock: Clock, seconds: float) -> float:
    """Seconds to sleep before the next poll of a task that polls every `seconds`.

    All polls of one interval fall on its multiples, so that they wake the process together: waking
    an idle process costs more than most polls.
    """
    left = seconds - (clock.monotonic() - clock.began) % seconds
    # A sleep may end early, or the poll take nearly as long as the pause.
    return left if left > seconds / 10 else left + seconds


def boottime_of(clock: Clock) -> Callable[[], float]:
    """`boottime` of a clock; for the system's clock without a call in between."""
    if type(clock) is SystemClock:
        return partial(time.clock_gettime, _BOOTTIME)
    return clock.boottime


def boot_id() -> str:
    """Id of this boot of the machine, within which `boottime` counts; empty if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def parse_duration(text: str) -> int:
    """Seconds of a duration such as `30s`, `15m`, `24h`, `30d`, `1h30m`."""
    if not _DURATION.fullmatch(text):
        raise InvalidRequest(f"not a duration: {text!r}; write it like 30s, 15m, 24h or 30d")
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: int) -> str:
    """Duration in its largest units, such as `30d` or `1d12h`, as `parse_duration` reads it."""
    parts = []
    for unit, size in reversed(_SECONDS.items()):
        number, seconds = divmod(seconds, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"


def parse_rfc3339(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 date-time; finer digits are cut off.

    A leap second (`:60`) counts as the second after it.
    Raises `ValueError` with a reason fit for the sender.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time such as 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"not a date-time that exists: {error}") from None
    micros = (moment - _EPOCH) // timedelta(microseconds=1) + leap * 1_000_000
    fraction = match[7]
    if fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    zone = match[8]
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 23 or minutes > 59:
            raise ValueError("not a time zone offset that exists")
        shift = (hours * 60 + minutes) * 60_000_000
        micros += -shift if zone[0] == "+" else shift
    if not _FIRST <= micros <= _LAST:
        raise ValueError("not a date-time between the years 1 and 9999 in UTC")
    return micros


def format_rfc3339(micros: int) -> str:
    """RFC 3339 in UTC with six digits of fraction."""
    second, fraction = divmod(micros, 1_000_000)
    return f"{_to_the_second(second)}.{fraction:06d}Z"


def format_time(seconds: float) -> str:
    """RFC 3339 of seconds since 1970, as by `format_rfc3339`."""
    return format_rfc3339(round(seconds * 1_000_000))


def parse_formatted(text: bytes) -> int:
    """Microseconds since 1970 of what `format_rfc3339` wrote, some ten times as fast as
    `parse_rfc3339` where that is of a few seconds. Raises `ValueError` for other text."""
    fraction = int(text[20:26])
    return _from_the_second(text[:19]) + fraction


# Most that is written and read is of a few seconds.
@lru_cache(256)
def _from_the_second(text: bytes) -> int:
    return parse_rfc3339(f"{text.decode()}Z")


@lru_cache(256)
def _to_the_second(second: int) -> str:
    moment = _EPOCH + timedelta(seconds=second)
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // timedelta(
    microseconds=1
)
