"""Positions of destinations in the log. Pure."""

from __future__ import annotations

from gateway.cursor import advance, format_cursor, parse_cursor
from gateway.delivery.definition import Start
from gateway.delivery.destination import OWNER
from gateway.errors import CursorGone
from gateway.log.ports import Log
from gateway.streaming.consumers.row import ConsumerRow


def start_of(log: Log, cursor: str) -> int:
    """Offset behind which to go on from a stored cursor; one of another log begins anew."""
    epoch, offset = parse_cursor(cursor)
    return offset if epoch == log.epoch else log.floor


def before(offset: int) -> int:
    """Position behind which the event at an offset comes next."""
    return advance(offset, -1)


def position_row(name: str, cursor: str, now: float) -> ConsumerRow:
    """Row of a new destination among those of consumers, with where it begins."""
    return ConsumerRow(
        owner=OWNER, name=name, cursor=cursor, sent=cursor, created_at=now, updated_at=now,
        # Above those of an earlier destination of that name, whose holder may not know yet.
        generation=int(now * 1000),
    )  # fmt: skip


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
