"""The `gap` message: the events that a stream will never have."""

from __future__ import annotations

from typing import Any

from gateway.cursor import format_cursor
from gateway.log.ports import LogExtent


def gap_message(log: LogExtent, reason: str, after: tuple[str, int], begin: int) -> dict[str, Any]:
    """What lies behind the cursor `after` is missing up to `cursor`, where the stream goes on.

    `missing` counts the log's events in between, where that is known.
    """
    epoch, offset = after
    message: dict[str, Any] = {
        "reason": reason,
        "after": format_cursor(epoch, offset),
        "cursor": format_cursor(log.epoch, begin),
        "earliest": format_cursor(log.epoch, log.floor),
        "latest": format_cursor(log.epoch, log.head),
    }
    if epoch == log.epoch and begin > offset:
        message["missing"] = begin - offset
    return message
