"""`gap` message: the events that a stream will never get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct, to_builtins

from gateway.cursor import Cursor, format_cursor
from gateway.json_members import about
from gateway.log.ports import LogExtent

Reason = Literal["cursor_expired", "cursor_unknown"]


class Gap(Struct, omit_defaults=True):
    """Members of a `gap` message."""

    reason: Reason
    after: Cursor
    cursor: Annotated[Cursor, about("Where it goes on.")]
    earliest: Cursor
    latest: Cursor
    missing: Annotated[int, about("Events of the log in between, if known.")] = 0


def gap_message(log: LogExtent, why: Reason, after: tuple[str, int], begin: int) -> dict[str, Any]:
    """Members for events missing from the cursor `after` to `cursor`, where the stream goes on."""
    epoch, offset = after
    here, first, last = [format_cursor(log.epoch, at) for at in (begin, log.floor, log.head)]
    missing = max(0, begin - offset) if epoch == log.epoch else 0
    gap = Gap(why, format_cursor(epoch, offset), here, first, last, missing)
    members: dict[str, Any] = to_builtins(gap)
    return members
