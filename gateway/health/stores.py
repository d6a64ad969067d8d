"""Health of the log and of destinations, as the stores have them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from gateway.clock import format_time
from gateway.cursor import advance, distance, format_cursor
from gateway.delivery.running.meter import DestinationNumbers
from gateway.fleet.health import DestinationHealth, FailedAttempt, Fault, LogHealth
from gateway.log.lag import recorded_behind
from gateway.log.ports import Log
from gateway.settings.declarations import Settings

# Settings that replicas may have each for itself.
_OF_ONE_REPLICA = (
    "data", "log.", "server.host", "server.port", "server.workers", "server.tls.",
    "server.pepper", "server.log_secret", "metrics.", "traces.",
)  # fmt: skip
_STOPPED = {"failing": "destination_failing", "disabled": "destination_disabled"}
# When the newest and the oldest event were recorded, in seconds since 1970; None without any.
Ages = tuple[float | None, float | None]


async def log_ages(log: Log) -> Ages:
    """Ages of a log. Raises `Unavailable` where it cannot be read."""
    if log.head <= log.floor:
        return None, None
    newest = await recorded_behind(log, advance(log.head, -1))
    return newest, await recorded_behind(log, log.floor)


def log_health(log: Log, settings: Settings, ages: Ages) -> LogHealth:
    """The log, as far as this process knows it."""
    newest_at, oldest_at = ages
    return LogHealth(
        store="postgresql" if settings.on_postgres else "sqlite",
        takes_events=log.degraded_reason is None, events=distance(log.floor, log.head),
        head=format_cursor(log.epoch, log.head), newest_at=_moment(newest_at),
        oldest_at=_moment(oldest_at), retention_age=settings.store.retention_age or None,
        retention_bytes=settings.store.retention_bytes or None,
    )  # fmt: skip


def destination_faults(destinations: Sequence[DestinationNumbers]) -> list[Fault]:
    """Destinations that fail or were disabled."""
    found: list[Fault] = []
    for one in destinations:
        if (code := _STOPPED.get(one.state)) is not None:
            error = one.status.last_error
            why = f": {error.kind} {error.status or ''}".rstrip() if error else ""
            found.append(
                Fault(
                    code, f"{one.name} is {one.state}{why}", about=one.name,
                    since=one.status.failing_since,
                )
            )  # fmt: skip
    return found


def destination_health(one: DestinationNumbers) -> DestinationHealth:
    """One destination in a status."""
    error: Any = one.status.last_error
    return DestinationHealth(
        name=one.name, state=one.state, lag_events=one.lag.events,
        lag_seconds=round(one.lag.seconds, 3),
        failing_since=_moment(one.status.failing_since or None),
        last_error=error and FailedAttempt(
            at=error.at, kind=error.kind, status=error.status, message=error.message
        ),
    )  # fmt: skip


def settings_digest(settings: Settings) -> str:
    """Digest of the settings that all replicas share; secrets are in it as they are shown."""
    common = sorted(
        (path, str(one.shown))
        for path, one in settings.given.items()
        if not path.startswith(_OF_ONE_REPLICA)
    )
    return hashlib.sha256(repr(common).encode()).hexdigest()[:8]


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)
