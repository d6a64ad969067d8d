"""JSON values that follow each other, with or without space between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_RAW = msgspec.json.Decoder(msgspec.Raw)
# The decoder stops behind the first value, and counts bytes from 1.
_BEHIND = re.compile(r"trailing characters \(byte (\d+)\)")
_SPACE = re.compile(rb"[ \t\n\r]*+")
# Between two objects, or within a string.
_BETWEEN = re.compile(rb"\}([ \t\n\r]*+)\{")
# A line on which an object begins.
_NEXT = re.compile(rb"\n[ \t\r]*+(?=\{)")
# The closing quote is optional, so that no unclosed string is searched twice.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{\[]|[}\]]', re.DOTALL)


class BrokenValue(NamedTuple):
    """Bytes that are no JSON value, and why."""

    raw: bytes
    reason: str


def stacked_values(
    body: bytes, decode: Callable[[memoryview], T]
) -> Iterator[tuple[bytes, T | None] | BrokenValue]:
    """The values in a body, each with what `decode` makes of it: None where it was not asked, or
    raised an error of decoders. Nothing is read over and over again.

    From the first broken one on, an object ends before the next line that begins with one: so what
    is broken costs no more than its own lines.
    """
    at, stop, begin = _skip(body, 0), 0, 0
    view, places = memoryview(body), _BETWEEN.finditer(body)
    while at < len(body):
        while stop <= at:
            place = next(places, None)
            stop, begin = (len(body), len(body)) if place is None else place.span(1)
        try:
            # What begins here and can be decoded is one value; it is quicker to try than to ask
            # where a value ends.
            decoded = decode(view[at:stop])
        except _ERRORS:
            end, reason = _end_of_value(view, at, len(body))
            if reason:
                break
            yield body[at:end].rstrip(), None
            at = _skip(body, end)
        else:
            yield body[at:stop].rstrip(), decoded
            at = begin
    while at < len(body):
        found = _NEXT.search(body, at)
        stop = len(body) if found is None else found.start()
        while at < stop:
            end, reason = _end_of_value(view, at, stop)
            if reason:
                yield BrokenValue(body[at:stop], reason)
                break
            yield body[at:end].rstrip(), None
            at = _skip(body, end)
        at = _skip(body, stop)


def is_json(text: bytes) -> bool:
    """Whether a text is one JSON value."""
    end, reason = _end_of_value(memoryview(text), 0, len(text))
    return not reason and not text[end:].strip()


def _end_of_value(body: memoryview, at: int, stop: int) -> tuple[int, str]:
    """Where the value that begins at `at` ends, before `stop`; or what is wrong with it."""
    try:
        _RAW.decode(body[at:stop])
    except RecursionError:
        end = _end_by_brackets(body, at, stop)
        return (end, "") if end else (stop, "not valid JSON: it ends within an object or a list")
    except msgspec.DecodeError as error:
        found = _BEHIND.search(str(error))
        return (stop, f"not valid JSON: {error}") if found is None else (at + int(found[1]) - 1, "")
    except UnicodeDecodeError as error:
        return stop, f"not valid UTF-8 at byte {error.start}"
    return stop, ""


def _end_by_brackets(body: memoryview, at: int, stop: int) -> int:
    """End of a value that is nested deeper than decoders go; 0 if it has none."""
    depth = 0
    for token in _TOKENS.finditer(body, at, stop):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return 0


def _skip(body: bytes, at: int) -> int:
    found = _SPACE.match(body, at)
    return found.end() if found else at
