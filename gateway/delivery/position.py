"""Positions of destinations in the log, and how far they are behind it. Pure."""

from __future__ import annotations

from gateway.cursor import advance, distance, format_cursor, parse_cursor
from gateway.delivery.definition import Start
from gateway.errors import CursorGone
from gateway.log.ports import Log, RetentionExceeded


def start_of(log: Log, cursor: str) -> int:
    """Offset behind which to go on from a stored cursor; one of another log begins anew."""
    epoch, offset = parse_cursor(cursor)
    return offset if epoch == log.epoch else log.floor


def before(offset: int) -> int:
    """Position behind which the event at an offset comes next."""
    return advance(offset, -1)


async def recorded_behind(log: Log, position: int) -> float | None:
    """When the first event behind a position was recorded, in seconds since 1970; None without."""
    if not distance(position, log.head):
        return None
    try:
        page = await log.read(position, log.head, limit=1)
    except RetentionExceeded:
        return None
    return page.events[0].recorded_at() / 1e6 if page.events else None


async def start_cursor(log: Log, start: Start) -> str:
    """Cursor of a begin. Raises `CursorGone` for one that is not in the log."""
    await log.catch_up()
    if start.after is not None:
        epoch, offset = parse_cursor(start.after)
        if epoch != log.epoch or not log.floor <= offset <= log.head:
            raise CursorGone(
                "from: the cursor is not in the log (any more)",
                code="cursor_unknown",
                earliest=format_cursor(log.epoch, log.floor),
                latest=format_cursor(log.epoch, log.head),
            )
        return start.after
    if start.since is not None:
        return format_cursor(log.epoch, await log.last_before(start.since))
    return format_cursor(log.epoch, log.head if start.head else log.floor)
