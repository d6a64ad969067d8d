"""How far a stored cursor is behind the log."""

from __future__ import annotations

from typing import NamedTuple

from gateway.cursor import advance, distance, later, parse_cursor
from gateway.log.ports import Log, RetentionExceeded


class LogLag(NamedTuple):
    """Events behind a cursor, whoever may see them, and for how many seconds the first of them has
    been in the log; 0 at the head."""

    events: int
    seconds: float


async def lag_behind(log: Log, cursor: str, now: float) -> LogLag:
    """LogLag of a cursor; of one that is gone, or of another log, that of the first event."""
    epoch, offset = parse_cursor(cursor)
    position = later(offset, log.floor) if epoch == log.epoch else log.floor
    events = distance(position, log.head)
    recorded = await recorded_behind(log, position) if events else None
    return LogLag(events, 0.0 if recorded is None else max(0.0, now - recorded))


async def recorded_behind(log: Log, position: int) -> float | None:
    """When the first event behind a position was recorded, in seconds since 1970; None without
    any, or if it is gone."""
    try:
        page = await log.read(position, advance(position, 1), limit=1)
    except RetentionExceeded:
        return None
    return page.events[0].recorded_at() / 1_000_000 if page.events else None
