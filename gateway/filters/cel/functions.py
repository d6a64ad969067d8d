"""Functions of filter expressions: strings, sizes, and conversions between types.

Each takes CEL values and the frame, and returns ERROR where CEL has an error.
Work that grows with the event is charged to the frame's budget.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import re2

from gateway.clock import format_rfc3339, parse_rfc3339
from gateway.errors import InvalidFilter
from gateway.filters.cel.values import (
    ERROR,
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    Duration,
    Frame,
    Timestamp,
    Uint,
    as_duration,
    as_timestamp,
    charge,
)

MAX_PROGRAM: Final = 2000  # instructions of a filter's compiled patterns together
_MAX_PATTERN_MEMORY = 512 * 1024  # RE2 gives up on a pattern that needs more
# Least instructions counted for a Unicode class: RE2 takes a tenth of a millisecond to look up each
# occurrence, even one that adds nothing to the program.
_UNICODE_CLASS = 40
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONVERSION, _TIME_CONVERSION = 20, 50  # units of the budget
_SECOND = 10**9
_UNITS = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_DOUBLE = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(h|ms|m|s|us|ns)")
_DURATION = re.compile(r"([+-]?)(0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:h|ms|m|s|us|ns))+)")
_BOOLS = dict.fromkeys(("true", "True", "TRUE", "t", "1"), True) | dict.fromkeys(
    ("false", "False", "FALSE", "f", "0"), False
)
Search = Callable[[str, Frame], bool]
# Bounds in characters of the part and the text, within which a search costs no more than charged.
_SHORT_PART = 16
_LONG_PART = 100
_SHORT_TEXT = 2500
_LINEAR_TEXT = 30_000
_LONGEST_NUMBER = 400  # characters of a string that is read as a number or a duration
_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_TO_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def compile_pattern(pattern: str, column: int, room: int) -> tuple[Search, int]:
    """Search for an RE2 pattern, and the size of its program in instructions.

    `column` is where its literal stands. Raises `InvalidFilter`, also if the size exceeds `room`.
    """
    least = _UNICODE_CLASS * sum(escaped in "pP" for escaped in _ESCAPE.findall(pattern))
    if least > room:
        raise _too_big(column)
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_PATTERN_MEMORY
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidFilter(f"not an RE2 pattern: {text}", column=column) from None
    size = compiled.programsize
    if size > room:
        raise _too_big(column)
    search = compiled.search

    def found(text: str, frame: Frame) -> bool:
        # at worst RE2 spends about half a nanosecond a character and instruction
        charge(frame, 10 + len(text) * size // 200)
        return search(text.encode()) is not None

    return found, max(size, least)


def _too_big(column: int) -> InvalidFilter:
    return InvalidFilter(
        "the filter's patterns are too big; use smaller repetitions, and fewer Unicode classes",
        column=column,
    )


def _size(value: Any, frame: Frame) -> Any:
    return len(value) if type(value) in (str, list, dict) else ERROR


def contains(text: Any, part: Any, frame: Frame) -> Any:
    if type(text) is not str or type(part) is not str:
        return ERROR
    length, wanted = len(text), len(part)
    if wanted > length:
        return False
    if wanted <= _SHORT_PART or (wanted < _LONG_PART and length >= _SHORT_TEXT):
        charge(frame, 1 + (length >> 4))
        return part in text
    if length < _SHORT_TEXT:
        charge(frame, 1 + ((length - wanted) * wanted >> 7))
        return part in text
    # CPython searches long strings in linear time, but for two cases: a long part in a text of
    # less than 30,000 characters, and one of more than a third of the text. Padding avoids both.
    padded = max(_LINEAR_TEXT, 3 * wanted + 64, length)
    charge(frame, 1 + (padded >> 4))
    found = text.ljust(padded).find(part)
    return 0 <= found <= length - wanted


def _affix_test(holds: Callable[[str, str], bool]) -> Callable[[Any, Any, Frame], Any]:
    def test(text: Any, affix: Any, frame: Frame) -> Any:
        if type(text) is not str or type(affix) is not str:
            return ERROR
        charge(frame, 1 + (len(affix) >> 10))
        return holds(text, affix)

    return test


def _ascii_change(
    change: Callable[[str], str], table: dict[int, int]
) -> Callable[[Any, Frame], Any]:
    """`table` stands for `change` where a text has other characters, which stay."""

    def changed(text: Any, frame: Frame) -> Any:
        if type(text) is not str:
            return ERROR
        charge(frame, 1 + (len(text) >> 4))
        return change(text) if text.isascii() else text.translate(table)

    return changed


def _to_bool(value: Any, frame: Frame) -> Any:
    if type(value) is bool:
        return value
    return _BOOLS.get(value, ERROR) if type(value) is str else ERROR


def _whole(value: Any, frame: Frame) -> int | None:
    """Whole number of a value, for int() and uint(), which check the range; None if it has none."""
    charge(frame, _CONVERSION)
    kind = type(value)
    if kind is int or kind is Uint:
        return int(value)
    if kind is float:
        return int(value) if math.isfinite(value) else None
    if kind is str:
        return int(value) if _INTEGER.fullmatch(value) else None
    return None


def _to_int(value: Any, frame: Frame) -> Any:
    whole = value // _SECOND if type(value) is Timestamp else _whole(value, frame)
    if whole is None or not MIN_INT <= whole <= MAX_INT:
        return ERROR
    # the double -2^63 may have been rounded from a neighbouring integer
    return ERROR if whole == MIN_INT and type(value) is float else whole


def _to_uint(value: Any, frame: Frame) -> Any:
    whole = _whole(value, frame)
    if whole is None or not 0 <= whole <= MAX_UINT:
        return ERROR
    if (type(value) is float and value < 0) or (type(value) is str and value[0] == "-"):
        return ERROR
    return Uint(whole)


def _to_double(value: Any, frame: Frame) -> Any:
    charge(frame, _CONVERSION)
    kind = type(value)
    if kind is float:
        return value
    if kind is int or kind is Uint:
        return float(value)
    if kind is str and len(value) <= _LONGEST_NUMBER and _DOUBLE.fullmatch(value):
        return float(value)
    return ERROR


def _to_string(value: Any, frame: Frame) -> Any:
    charge(frame, _CONVERSION)
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Uint:
        return str(int(value))
    if kind is float:
        return repr(value).removesuffix(".0")
    if kind is Timestamp:
        whole, fraction = divmod(int(value), _SECOND)
        return f"{format_rfc3339(whole * 10**6)[:19]}{_fraction(fraction)}Z"
    if kind is Duration:
        whole, fraction = divmod(abs(int(value)), _SECOND)
        return f"{'-' if value < 0 else ''}{whole}{_fraction(fraction)}s"
    return ERROR


def _fraction(nanoseconds: int) -> str:
    """Fraction of a second with no, three, six or nine digits."""
    digits = f"{nanoseconds:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return "." + digits if digits else ""


def _to_timestamp(value: Any, frame: Frame) -> Any:
    charge(frame, _TIME_CONVERSION)
    if type(value) is Timestamp:
        return value
    if type(value) is int:
        return as_timestamp(value * _SECOND)
    if type(value) is not str or len(value) > 64:
        return ERROR
    try:
        micros = parse_rfc3339(value)
    except ValueError:
        return ERROR
    finer = re.search(r"\.[0-9]{6}([0-9]{1,3})", value)  # which the clock cuts off
    return as_timestamp(micros * 1000 + (int(finer[1].ljust(3, "0")) if finer else 0))


def _to_duration(value: Any, frame: Frame) -> Any:
    charge(frame, _TIME_CONVERSION)
    if type(value) is Duration:
        return value
    if type(value) is not str or len(value) > _LONGEST_NUMBER:
        return ERROR
    written = _DURATION.fullmatch(value)
    if written is None:
        return ERROR
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(written[2]):
        total += int(whole or 0) * _UNITS[unit]
        total += int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
    return as_duration(-total if written[1] == "-" else total)


UNARY: Final[dict[str, Callable[[Any, Frame], Any]]] = {
    "size": _size,
    "lowerAscii": _ascii_change(str.lower, _TO_LOWER),
    "upperAscii": _ascii_change(str.upper, _TO_UPPER),
    "bool": _to_bool,
    "int": _to_int,
    "uint": _to_uint,
    "double": _to_double,
    "string": _to_string,
    "timestamp": _to_timestamp,
    "duration": _to_duration,
}
BINARY: Final[dict[str, Callable[[Any, Any, Frame], Any]]] = {
    "contains": contains,
    "startsWith": _affix_test(str.startswith),
    "endsWith": _affix_test(str.endswith),
}
CONVERSIONS: Final = frozenset({"bool", "int", "uint", "double", "timestamp", "duration"})
