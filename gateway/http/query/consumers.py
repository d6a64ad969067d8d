"""Parameters and bodies about durable consumers, beside those of the streams that they read."""

from __future__ import annotations

from typing import Any

from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.filters.expression import Filter
from gateway.filters.scope import Scope
from gateway.http.query.query import (
    SELECTORS,
    Query,
    pairs_of_body,
    parse_stream,
    refuse_unknown,
)
from gateway.http.query.values import Pairs

_ENDS = {"earliest": "start", "latest": "now"}


def parse_rewind(to: str, now: float) -> Query:
    """Position that a consumer is set to: a cursor, a time, a duration, `earliest` or `latest`."""
    if to in _ENDS:
        return parse_stream([("from", _ENDS[to])], None, now)
    try:
        parse_cursor(to)
    except InvalidRequest:
        try:
            return parse_stream([("since", to)], None, now)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"a cursor, a time, a duration, earliest or latest is needed: {error.detail}"
            ) from None
    return parse_stream([("after", to)], None, now)


def parse_consumer_begin(text: str, now: float) -> Query:
    """Begin of a consumer that is made: a cursor, a time, a duration, `start` or `now`."""
    return parse_rewind({"start": "earliest", "now": "latest"}.get(text, text), now)


def parse_selection(members: Any) -> tuple[Scope, Filter | None]:
    """Selection of a consumer in a body: the selectors and the filter of a stream."""
    pairs = pairs_of_body(members)
    refuse_unknown([name for name, _ in pairs], (*SELECTORS, "min_severity", "filter"))
    query = parse_stream(pairs, None, 0.0)
    return query.wanted, query.filter


def parse_owner(pairs: Pairs) -> str | None:
    """Id of the key whose consumers a request is about, if it is not the one that asks."""
    named = [value for name, value in pairs if name == "key"]
    if len(named) > 1:
        raise InvalidRequest(f"key: given {len(named)} times; once is enough", parameter="key")
    return named[0] if named else None
