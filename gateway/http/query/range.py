"""Range and order of a page: where it ends, and from which end it comes."""

from __future__ import annotations

import msgspec

from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.http.query.values import Position, Values, one, until_of

RANGE = ("until", "order", "before")
ORDERS = ("asc", "desc")


class Ending(msgspec.Struct, frozen=True):
    """Events recorded before a time (microseconds since 1970), and before the event of a cursor, if
    they are given; the newest come first if it is so."""

    until: int | None = None
    before: tuple[str, int] | None = None
    newest_first: bool = False


OPEN = Ending()


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
