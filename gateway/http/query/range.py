"""Range and order of a read: where it begins, where it ends, and from which end it comes."""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.http.query.values import Values, moment, one

POSITION = ("after", "since", "from")
RANGE = ("until", "order", "before")
ORDERS = ("asc", "desc")
_CLOCKS_APART_SECONDS = 60


class Position(msgspec.Struct, frozen=True):
    """Begin: after a cursor, at a time (microseconds since 1970), or at an end of the log."""

    after: tuple[str, int] | None = None
    since: int | None = None
    start: Literal["start", "now"] = "now"


class Ending(msgspec.Struct, frozen=True):
    """Events recorded before a time (microseconds since 1970), and before the event of a cursor, if
    they are given; the newest come first if it is so."""

    until: int | None = None
    before: tuple[str, int] | None = None
    newest_first: bool = False


OPEN = Ending()


def position_of(values: Values, now: float, *, default: Literal["start", "now"]) -> Position:
    """Begin of a read; `default` is the end of the log at which it begins without parameters."""
    given = [name for name in POSITION if name in values]
    if len(given) > 1:
        raise InvalidRequest(f"send only one of {' and '.join(given)}", parameter=given[1])
    after = one(values, "after")
    if after is not None:
        return Position(after=parse_cursor(after))
    since = one(values, "since")
    if since is not None:
        time = moment("since", since, now)
        if time > (now + _CLOCKS_APART_SECONDS) * 1_000_000:
            # A stream that begins now would show earlier events.
            raise InvalidRequest("since: this time is still to come", parameter="since")
        return Position(since=time)
    start = one(values, "from")
    if start is None:
        start = default
    if start == "start":
        return Position(start="start")
    if start == "now":
        return Position(start="now")
    raise InvalidRequest("from: start or now", parameter="from")


def ending_of(values: Values, position: Position, now: float) -> Ending:
    """Where a page ends, and its order. Raises `InvalidRequest` for what does not go together."""
    order, before = one(values, "order"), one(values, "before")
    if order not in (None, *ORDERS):
        raise InvalidRequest("order: asc or desc", parameter="order")
    ending = Ending(
        until_of(values, position, now),
        None if before is None else parse_cursor(before),
        order == "desc",
    )
    if ending.newest_first:
        _refuse_forwards(values, position)
    if "consumer" in values:
        for name in RANGE:
            if name in values:
                raise InvalidRequest(
                    f"{name}: a consumer reads on from its position to the head; leave one of "
                    "them out",
                    parameter=name,
                )
    return ending


def until_of(values: Values, position: Position, now: float) -> int | None:
    """Time before which events are wanted; None if it is not given."""
    text = one(values, "until")
    if text is None:
        return None
    until = moment("until", text, now)
    if position.since is not None and until <= position.since:
        raise InvalidRequest(
            "until: this is not later than since, so that nothing lies between them",
            parameter="until",
        )
    return until


def refuse_following(values: Values) -> None:
    """Raise `InvalidRequest` if a stream without an end has an `until`."""
    if "until" in values:
        raise InvalidRequest(
            "until: a stream that follows the log has no end; send follow=false for the events "
            "that are there now, or leave until out",
            parameter="until",
        )


def _refuse_forwards(values: Values, position: Position) -> None:
    """Refuse what only reads forwards have."""
    begins = "a page in the order desc begins at the head, or before until or before"
    refused = {
        "after": f"{begins}; send the cursor as before, or leave order out",
        "wait": f"{begins}, and does not wait for newer events; leave one of them out",
        "consumer": "a consumer reads forwards from its position; leave one of them out",
    }
    for name, detail in refused.items():
        if name in values:
            raise InvalidRequest(f"{name}: {detail}", parameter=name)
    if one(values, "on_gap") == "skip":
        raise InvalidRequest(
            f"on_gap: {begins}, and so has no gap in front of it; leave on_gap out",
            parameter="on_gap",
        )
    if "from" in values and position.start == "now":
        raise InvalidRequest(f"from: {begins}; leave from out", parameter="from")
