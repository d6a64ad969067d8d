"""Values of parameters: each is given once, or its repetition is refused."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.clock import parse_duration, parse_rfc3339
from gateway.errors import InvalidRequest

Pairs = Iterable[tuple[str, str]]
Values = dict[str, list[str]]


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
