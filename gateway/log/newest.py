"""Time of the newest event of a log."""

from __future__ import annotations

from gateway.cursor import advance
from gateway.log.ports import Log


async def newest_recorded(log: Log) -> int:
    """When the newest event was recorded, in microseconds since 1970; 0 if there is none."""
    if log.head <= log.floor:
        return 0
    page = await log.read(advance(log.head, -1), log.head, limit=1)
    return page.events[-1].recorded_at() if page.events else 0
