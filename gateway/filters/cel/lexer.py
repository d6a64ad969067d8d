"""Lexer of filter text: the tokens of CEL, with a column for every error."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from gateway.errors import InvalidFilter
from gateway.filters.cel.tree import Scalar
from gateway.filters.cel.values import MAX_UINT, Uint

MAX_SOURCE = 4096

_SPACE = re.compile(r"(?:[\t\n\f\r ]|//[^\n]*)+")
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_DOUBLE = re.compile(r"(?:[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)")
_INTEGER = re.compile(r"(?:0x([0-9a-fA-F]+)|([0-9]+))([uU]?)")
_OPERATOR = re.compile(r"\|\||&&|[=!<>]=|[-+*/%!<>?:.,()\[\]{}]")
_PREFIX = re.compile(r"(?:[rR]|[bB][rR]?|[rR][bB])?(?=[\"'])")
_STRINGS = {  # (delimiter, raw) -> what follows the opening delimiter, with the closing one
    ('"', False): re.compile(r'((?:[^"\\\r\n]|\\[^\r\n])*)"'),
    ("'", False): re.compile(r"((?:[^'\\\r\n]|\\[^\r\n])*)'"),
    ('"', True): re.compile(r'([^"\r\n]*)"'),
    ("'", True): re.compile(r"([^'\r\n]*)'"),
    ('"""', False): re.compile(r'((?:[^\\]|\\.)*?)"""', re.DOTALL),
    ("'''", False): re.compile(r"((?:[^\\]|\\.)*?)'''", re.DOTALL),
    ('"""', True): re.compile(r'(.*?)"""', re.DOTALL),
    ("'''", True): re.compile(r"(.*?)'''", re.DOTALL),
}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    r"|([0-3][0-7]{2})|.?)",
    re.DOTALL,
)
_SIMPLE_ESCAPES = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_HINTS = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    "~": 'write actor.name.matches("...") for a regular expression',
    "`": 'write data["some-name"] for a member whose name is no identifier',
    "“": 'write strings between " and "',
    "”": 'write strings between " and "',
    "’": "write strings between ' and '",
    "‘": "write strings between ' and '",
}


class Token(NamedTuple):
    """Token: `kind` is `name`, `constant`, `operator` or `end`; `value` is set for a constant."""

    kind: str
    text: str
    column: int
    value: Scalar = None


def tokens(source: str) -> list[Token]:
    """Tokens of a filter; the last one is `end`. Raises `InvalidFilter`."""
    if len(source) > MAX_SOURCE:
        detail = f"the filter has {len(source)} characters; at most {MAX_SOURCE} are allowed"
        raise InvalidFilter(detail, column=MAX_SOURCE + 1)
    surrogate = _SURROGATE.search(source)
    if surrogate:
        raise InvalidFilter("half of a surrogate pair is no text", column=surrogate.start() + 1)
    found: list[Token] = []
    position = 0
    while position < len(source):
        space = _SPACE.match(source, position)
        if space:
            position = space.end()
            continue
        token, position = _token(source, position)
        found.append(token)
    found.append(Token("end", "", len(source) + 1))
    return found


def _token(source: str, start: int) -> tuple[Token, int]:
    """Token that begins at `start`, and where it ends."""
    column = start + 1
    prefix = _PREFIX.match(source, start)
    if prefix:
        return _string(source, start, prefix[0].lower())
    name = _NAME.match(source, start)
    if name:
        word = name[0]
        if word in _WORDS:
            return Token("constant", word, column, _WORDS[word]), name.end()
        return Token("operator" if word == "in" else "name", word, column), name.end()
    number = _DOUBLE.match(source, start)
    if number:
        value = float(number[0])
        if math.isinf(value):
            raise InvalidFilter(f"{number[0]} is beyond what a double can hold", column=column)
        return Token("constant", number[0], column, value), number.end()
    number = _INTEGER.match(source, start)
    if number:
        return Token("constant", number[0], column, _integer(number, column)), number.end()
    operator = _OPERATOR.match(source, start)
    if operator:
        return Token("operator", operator[0], column), operator.end()
    detail = f"unexpected {source[start]!r}"
    hint = _HINTS.get(source[start])
    raise InvalidFilter(f"{detail}; {hint}" if hint else detail, column=column)


def _integer(match: re.Match[str], column: int) -> int:
    """Integer of up to 64 bits; the parser checks the range, which depends on a sign before it."""
    digits = match[1] or match[2]
    value = int(digits, 16 if match[1] else 10)
    if value > MAX_UINT:
        raise InvalidFilter("a whole number has at most 64 bits", column=column)
    return Uint(value) if match[3] else value


def _string(source: str, start: int, prefix: str) -> tuple[Token, int]:
    column = start + 1
    if "b" in prefix:
        detail = "filters have no bytes; events hold strings only"
        raise InvalidFilter(detail, column=column)
    opening = start + len(prefix)
    quote = source[opening]
    delimiter = quote * 3 if source.startswith(quote * 3, opening) else quote
    raw = prefix == "r"
    inside = _STRINGS[delimiter, raw].match(source, opening + len(delimiter))
    if inside is None:
        raise InvalidFilter(f"the string is not closed; end it with {delimiter}", column=column)
    value = inside[1] if raw else _unescaped(inside[1], inside.start() + 1)
    return Token("constant", source[start : inside.end()], column, value), inside.end()


def _unescaped(text: str, column: int) -> str:
    """Replace the escape sequences of `text`, which begins at `column`."""

    def replace(match: re.Match[str]) -> str:
        simple = match[1]
        if simple:
            return _SIMPLE_ESCAPES.get(simple, simple)
        digits = match[2] or match[3] or match[4] or match[5]
        code = int(digits, 8 if match[5] else 16) if digits else None
        if code is None or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            detail = f"{match[0]} is not an escape sequence; write \\\\ for a backslash"
            raise InvalidFilter(detail, column=column + match.start())
        return chr(code)

    return _ESCAPE.sub(replace, text) if "\\" in text else text
