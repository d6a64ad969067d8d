"""Settings of the limits of keys and addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.settings.kinds import DURATION, INTEGER, LIST, SIZE, Kind, setting

# Limits that are checked beforehand; deliveries are counted afterwards.
ASKED = ("requests", "addresses", "failures", "new_streams", "streams")
_MOST = 10**15


def check_asked(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of limits that may be closed."""
    for name in names:
        if name not in ASKED:
            raise ValueError(f"there is no limit {name!r}; there are {', '.join(ASKED)}")
    return tuple(dict.fromkeys(names))


def _limit(about: str, unit: str, default: int = 0, kind: Kind = INTEGER) -> Any:
    return setting(
        default,
        kind,
        about,
        unit=unit,
        least=(0, "0 is no limit"),
        most=(_MOST, "0 is no limit"),
    )


@dataclass(frozen=True)
class LimitSettings:
    """What keys and addresses may ask for and be sent; a key's own `limits` go before."""

    requests_per_second: int = _limit("Requests of a key, on average.", "requests")
    requests_burst: int = _limit("Requests of a key at once; 0 is those of a second.", "requests")
    new_streams_per_minute: int = _limit("Streams that a key may open.", "streams")
    concurrent_streams: int = _limit("Streams that a key may have open.", "streams")
    events_per_second: int = _limit(
        "Events delivered to a key; beyond that its streams are slowed.", "events"
    )
    bytes_per_second: int = _limit(
        "Bytes of events delivered to a key; beyond that its streams are slowed.", "bytes", 0, SIZE
    )
    events_per_day: int = _limit("Events delivered to a key in a day of UTC.", "events")
    bytes_per_day: int = _limit(
        "Bytes of events delivered to a key in a day of UTC.", "bytes", 0, SIZE
    )
    filter_percent: int = setting(
        10,
        INTEGER,
        "Part of one processor that the filters of a key may take on average, in requests and "
        "streams together, beyond what ordinary filters take; 0 is no limit.",
        unit="percent",
        least=(0, "0 is no limit"),
        most=(100, "filters are evaluated by one processor"),
    )
    address_requests_per_second: int = _limit("Requests from an address, on average.", "requests")
    address_requests_burst: int = _limit(
        "Requests from an address at once; 0 is those of a second.", "requests"
    )
    address_failures_per_minute: int = _limit(
        "Requests with a wrong key from an address; then they are answered with 429. Right keys "
        "pass.",
        "failures",
        600,
    )
    key_bytes_in_flight: int = setting(
        "64MiB",
        SIZE,
        "Bytes of bodies and pages that requests of one key may hold at once, in each process, and "
        "at least two bodies of the largest; beyond that 429.",
        least=("1MiB", "a page has to fit"),
        most=("1TiB", "it is held in memory"),
    )
    bytes_in_flight: int = setting(
        "256MiB",
        SIZE,
        "The same of all keys together; beyond that 503.",
        least=("1MiB", "a page has to fit"),
        most=("1TiB", "it is held in memory"),
    )
    quota_wait: int = setting(
        "1m",
        DURATION,
        "How long a stream whose key has used up its day stays open and waits, before it ends "
        "with 4001.",
        most=("24h", "by then another day has begun"),
    )
    consumers: int = setting(
        16,
        INTEGER,
        "Durable consumers that a key and its successors may have.",
        unit="consumers",
        least=(0, "there are no fewer than none"),
        most=(10_000, "each is a row that is written again and again"),
    )
    closed_without_redis: tuple[str, ...] = setting(
        [],
        LIST,
        "Limits that refuse everything with 503 while redis.url does not answer, instead of going "
        f"on in each process alone; any of {', '.join(ASKED)}.",
        check=check_asked,
    )
