"""Begin and end of a stream or page: from what was requested to offsets of the log."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.cursor import advance, distance, earlier, format_cursor, later
from gateway.errors import CursorGone
from gateway.http.query.query import Query
from gateway.http.query.range import Ending
from gateway.log.gap import Reason, gap_message
from gateway.log.ports import Log, RetentionExceeded
from gateway.streaming.event_selector import EventSelector

_READ_EVENTS = 1000


class Begin(msgspec.Struct, frozen=True):
    """Offset to begin after, and the `gap` and the `notice` to report first, if any."""

    offset: int
    gap: dict[str, Any] | None = None
    notice: dict[str, Any] | None = None


async def find_begin(log: Log, query: Query, not_before: int = 0) -> Begin:
    """Begin of a query. Raises `CursorGone` if resuming would silently skip events.

    Events up to the offset `not_before` may not be seen, and are not read.
    """
    begin = await _find(log, query)
    return msgspec.structs.replace(begin, offset=later(begin.offset, not_before))


async def _find(log: Log, query: Query) -> Begin:
    # The cursor may come from another worker or replica, which knows newer events.
    await log.catch_up()
    position = query.position
    if position.after is not None:
        return _resume(log, position.after, query.skip_gaps)
    if position.since is not None:
        return Begin(await log.last_before(position.since))
    return Begin(log.floor if position.start == "start" else log.head)


async def end_of(log: Log, ending: Ending) -> int:
    """Offset up to which events are wanted. Raises `CursorGone` if what lies before the cursor is
    gone, or is not known here.

    The log has caught up, as for the begin.
    """
    end = log.head
    if ending.before is not None:
        end = earlier(end, _before(log, ending.before))
    if ending.until is not None:
        end = earlier(end, await log.last_before(ending.until))
    return end


async def find_least(log: Log, query: Query, not_before: int = 0) -> int:
    """Offset behind which a page that is read backwards ends, as for `find_begin`."""
    since = query.position.since
    return later(log.floor if since is None else await log.last_before(since), not_before)


async def count_events(log: Log, selector: EventSelector, after: int, until: int, most: int) -> int:
    """Number of chosen events in `after < offset <= until`, up to `most` or the filter's budget."""
    hint = selector.query.scan_hint()
    count = 0
    while after < until and count < most and not selector.exhausted:
        try:
            page = await log.read(after, until, limit=_READ_EVENTS, hint=hint)
        except RetentionExceeded:
            after = later(after, log.floor)
            continue
        chosen, looked = await selector.select(page.events)
        count += len(chosen)
        after = page.reached_by(looked)
    return count


def _resume(log: Log, after: tuple[str, int], skip_gaps: bool) -> Begin:
    epoch, offset = after
    code: Reason = "cursor_unknown"
    if epoch != log.epoch:
        begin = log.floor
        detail = "the cursor is of another log, or of one that was recreated or restored"
    elif offset > log.head:
        begin = log.head
        detail = "the cursor is ahead of the log"
    elif offset < log.floor:
        begin, code = log.floor, "cursor_expired"
        detail = "events behind the cursor have been deleted by retention"
    else:
        return Begin(offset)
    if not skip_gaps:
        advice = "begin again at `earliest`, or send on_gap=skip to be told of the gap and go on"
        raise _gone(log, code, f"{detail}; {advice}")
    return Begin(begin, gap_message(log, code, after, begin))


def _before(log: Log, before: tuple[str, int]) -> int:
    """Newest offset before a cursor."""
    epoch, offset = before
    code: Reason = "cursor_unknown"
    if epoch != log.epoch:
        detail = "the cursor is of another log, or of one that was recreated or restored"
    elif distance(log.head, offset) > 1:
        # A page of an empty log ends before the first event to come.
        detail = "the cursor is ahead of the log"
    elif log.floor and offset <= log.floor:
        code = "cursor_expired"
        detail = "all events before the cursor have been deleted by retention"
    else:
        return advance(offset, -1)
    raise _gone(log, code, f"{detail}; leave `before` out to begin again at the head")


def _gone(log: Log, code: Reason, detail: str) -> CursorGone:
    return CursorGone(
        detail,
        code=code,
        earliest=format_cursor(log.epoch, log.floor),
        latest=format_cursor(log.epoch, log.head),
    )
