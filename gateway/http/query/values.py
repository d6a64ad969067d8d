"""Values of parameters, each given once, and the begin and the end that they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from gateway.clock import parse_duration, parse_rfc3339
from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest

Pairs = Iterable[tuple[str, str]]
Values = dict[str, list[str]]
POSITION = ("after", "since", "from")
_CLOCKS_APART_SECONDS = 60


class Position(msgspec.Struct, frozen=True):
    """Begin: after a cursor, at a time (microseconds since 1970), or at an end of the log."""

    after: tuple[str, int] | None = None
    since: int | None = None
    start: Literal["start", "now"] = "now"


def collect(pairs: Pairs) -> Values:
    """Values by name, in their order."""
    values: Values = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def one(values: Values, name: str) -> str | None:
    """The value of a parameter; None if it is not given."""
    given = values.get(name)
    if given is None:
        return None
    if len(given) > 1:
        raise InvalidRequest(f"{name}: given {len(given)} times; once is enough", parameter=name)
    return given[0]


def number(values: Values, name: str, least: int, most: int) -> int | None:
    """A whole number; None if it is not given."""
    text = one(values, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise InvalidRequest(f"{name}: a whole number from {least} to {most}", parameter=name)
    return int(text)


def flag(values: Values, name: str, default: bool) -> bool:
    """Whether a parameter is true."""
    text = one(values, name)
    if text is None:
        return default
    if text not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"{name}: true or false", parameter=name)
    return text in ("true", "1")


def moment(name: str, text: str, now: float) -> int:
    """Time in microseconds since 1970: RFC 3339, or so long before `now`."""
    if text[:1].isdigit() and text[-1:] in "smhd":
        try:
            return int((now - parse_duration(text)) * 1_000_000)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error.detail}", parameter=name) from None
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        # An unescaped `+` of a time zone arrives as a space.
        raise InvalidRequest(
            f"{name}: {error}, or a duration such as 15m (write `+` as %2B)", parameter=name
        ) from None


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


def until_of(values: Values, position: Position, now: float, *, follow: bool = False) -> int | None:
    """Time before which events are wanted; None if it is not given. Raises `InvalidRequest` if
    nothing can lie before it, or if the read follows the log."""
    text = one(values, "until")
    if text is None:
        return None
    if follow:
        raise InvalidRequest(
            "until: a stream that follows the log has no end; send follow=false for the events "
            "that are there now, or leave until out",
            parameter="until",
        )
    until = moment("until", text, now)
    if position.since is not None and until <= position.since:
        raise InvalidRequest(
            "until: this is not later than since, so that nothing lies between them",
            parameter="until",
        )
    return until
