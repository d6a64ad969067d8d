"""JSON values that follow each other, with or without space between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_RAW = msgspec.json.Decoder(msgspec.Raw)
# The decoder stops behind the first value, and counts bytes from 1.
_BEHIND = re.compile(r"trailing characters \(byte (\d+)\)")
_SPACE = re.compile(rb"[ \t\n\r]*+")
# A line on which an object begins.
_NEXT = re.compile(rb"\n[ \t\r]*+(?=\{)")
# The closing quote is optional, so that no unclosed string is searched twice.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{\[]|[}\]]', re.DOTALL)


class BrokenValue(NamedTuple):
    """Bytes that are no JSON value, and why."""

    raw: bytes
    reason: str


def stacked_values(body: bytes) -> Iterator[bytes | BrokenValue]:
    """The values in a body; nothing is read over and over again.

    From the first broken one on, an object ends before the next line that begins with one: so what
    is broken costs no more than its own lines.
    """
    at = _skip(body, 0)
    while at < len(body):
        end, reason = _end_of_value(body, at, len(body))
        if reason:
            break
        yield body[at:end].rstrip()
        at = _skip(body, end)
    while at < len(body):
        found = _NEXT.search(body, at)
        stop = len(body) if found is None else found.start()
        while at < stop:
            end, reason = _end_of_value(body, at, stop)
            if reason:
                yield BrokenValue(body[at:stop], reason)
                break
            yield body[at:end].rstrip()
            at = _skip(body, end)
        at = _skip(body, stop)


def is_json(text: bytes) -> bool:
    """Whether a text is one JSON value."""
    end, reason = _end_of_value(text, 0, len(text))
    return not reason and not text[end:].strip()


def _end_of_value(body: bytes, at: int, stop: int) -> tuple[int, str]:
    """Where the value that begins at `at` ends, before `stop`; or what is wrong with it."""
    try:
        _RAW.decode(memoryview(body)[at:stop])
    except RecursionError:
        end = _end_by_brackets(body, at, stop)
        return (end, "") if end else (stop, "not valid JSON: it ends within an object or a list")
    except msgspec.DecodeError as error:
        found = _BEHIND.search(str(error))
        return (stop, f"not valid JSON: {error}") if found is None else (at + int(found[1]) - 1, "")
    except UnicodeDecodeError as error:
        return stop, f"not valid UTF-8 at byte {error.start}"
    return stop, ""


def _end_by_brackets(body: bytes, at: int, stop: int) -> int:
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
