"""CEL's values as Python objects, and the operators on them.

    CEL         Python                       JSON in an event
    bool        bool                         true, false
    int         int, -2^63 to 2^63-1         a number without fraction and exponent
    uint        Uint (int above 2^63-1)      such a number above 2^63-1
    double      float                        any other number
    string      str                          string
    null        None                         null
    list, map   list, dict                   array, object
    timestamp   Timestamp, nanoseconds since 1970-01-01T00:00Z
    duration    Duration, nanoseconds
    an error    ERROR

An error is a value and not an exception: most events do not match most filters,
often for lack of a member, and an exception would cost more than all the rest.
Every function here takes ERROR as an operand of no known type, and returns
ERROR where CEL has "no such overload", "overflow" or "division by zero".
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection
from typing import Any, Final

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MAX_UINT: Final = 2**64 - 1
MIN_TIMESTAMP: Final = -62_135_596_800 * 10**9  # 0001-01-01T00:00:00Z
MAX_TIMESTAMP: Final = 253_402_300_800 * 10**9 - 1  # the last nanosecond of the year 9999
MAX_TEXT: Final = 256 * 1024  # characters a concatenation may make: as much as an event is long
MAX_LIST: Final = 32 * 1024  # items a concatenation may make
BUDGET: Final = 100_000  # units of about 0.1 us that one evaluation may spend on what can grow


class CelError:
    """Class of the single value ERROR."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ERROR"


class BudgetExceeded(Exception):
    """The evaluation has used up its budget; the event does not match."""


class Uint(int):
    """CEL's uint."""

    __slots__ = ()


class Timestamp(int):
    """CEL's timestamp."""

    __slots__ = ()


class Duration(int):
    """CEL's duration."""

    __slots__ = ()


ERROR: Final = CelError()
Frame = list[Any]  # [rest of the budget, iteration variable, iteration variable, ...]
NUMBERS: Final = frozenset({int, float, Uint})
ORDERED: Final = frozenset({str, bool, Timestamp, Duration})
ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def charge(frame: Frame, units: int) -> None:
    """Take `units` from the budget. Raises `BudgetExceeded`."""
    frame[0] -= units
    if frame[0] < 0:
        raise BudgetExceeded


def equal(left: Any, right: Any, frame: Frame) -> Any:
    """`==`: values of different types differ, numbers compare by value whatever their type."""
    if left is ERROR or right is ERROR:
        return ERROR
    return _same(left, right, frame)


def _same(left: Any, right: Any, frame: Frame) -> bool:
    kind = type(left)
    if kind is not type(right):
        return kind in NUMBERS and type(right) in NUMBERS and bool(left == right)
    if kind is list:
        return len(left) == len(right) and _same_items(left, right, frame)
    if kind is dict:
        if left.keys() != right.keys():
            charge(frame, 1 + (len(left) >> 3))
            return False
        return _same_items(left.values(), [right[key] for key in left], frame)
    if kind is str and len(left) > 1024 and len(left) == len(right):
        charge(frame, len(left) >> 10)
    return bool(left == right)


def _same_items(left: Collection[Any], right: Collection[Any], frame: Frame) -> bool:
    charge(frame, 4 + 4 * len(left))
    for one, other in zip(left, right, strict=True):
        if not _same(one, other, frame):
            return False
    return True


def ordering(sign: str) -> Callable[[Any, Any, Frame], Any]:
    """`<`, `<=`, `>` or `>=`: numbers with numbers; else both of one type that has an order."""
    compare = ORDERINGS[sign]

    def ordered(left: Any, right: Any, frame: Frame) -> Any:
        kind, other = type(left), type(right)
        if kind is str and other is str:
            charge(frame, 1 + (min(len(left), len(right)) >> 10))
        if (kind is other and kind in ORDERED) or (kind in NUMBERS and other in NUMBERS):
            return compare(left, right)
        return ERROR

    return ordered


def contained(item: Any, container: Any, frame: Frame) -> Any:
    """`in`: equal to an item of a list, or a key of a map (whose keys are strings)."""
    if type(container) is list and item is not ERROR:
        for candidate in container:
            charge(frame, 3)
            if _same(item, candidate, frame):
                return True
        return False
    if type(container) is dict:
        if type(item) is str:
            return item in container
        return False if type(item) in NUMBERS or type(item) is bool else ERROR
    return ERROR


def indexed(container: Any, key: Any) -> Any:
    """`container[key]`: of a list by a whole number from 0, of a map by a string."""
    if type(container) is dict:
        return container.get(key, ERROR) if type(key) is str else ERROR
    if type(container) is list:
        if type(key) is float and key.is_integer():
            key = int(key)
        if type(key) in (int, Uint) and 0 <= key < len(container):
            return container[key]
    return ERROR


def negate(value: Any) -> Any:
    """Unary `-`."""
    if type(value) is float:
        return -value
    if type(value) is int and MIN_INT < value <= MAX_INT:
        return -value
    return ERROR


def as_duration(nanoseconds: int) -> Any:
    """A duration, or ERROR beyond 64 bits of nanoseconds (about 292 years)."""
    return Duration(nanoseconds) if MIN_INT <= nanoseconds <= MAX_INT else ERROR


def as_timestamp(nanoseconds: int) -> Any:
    """A timestamp, or ERROR outside the years 1 to 9999."""
    if MIN_TIMESTAMP <= nanoseconds <= MAX_TIMESTAMP:
        return Timestamp(nanoseconds)
    return ERROR


def _arithmetic(
    integers: Callable[[int, int], Any], doubles: Callable[[float, float], Any]
) -> Callable[[Any, Any], Any]:
    """Operator on numbers, from one on integers and one on doubles.

    An integer that meets a double becomes one. In plain CEL that is an error;
    but JSON does not tell 2 from 2.0, and where both types are known from the
    text of the filter the checker has refused the mixture already.
    """

    def apply(left: Any, right: Any) -> Any:
        kind, other = type(left), type(right)
        if kind is int and other is int:
            result = integers(left, right)
            return result if result is not ERROR and MIN_INT <= result <= MAX_INT else ERROR
        if kind is Uint and other is Uint:
            result = integers(left, right)
            return Uint(result) if result is not ERROR and 0 <= result <= MAX_UINT else ERROR
        if (kind is float or other is float) and kind in NUMBERS and other in NUMBERS:
            return doubles(float(left), float(right))
        return ERROR

    return apply


def _divide_integers(left: int, right: int) -> Any:
    if right == 0:
        return ERROR
    quotient = abs(left) // abs(right)  # towards zero
    return quotient if (left < 0) == (right < 0) else -quotient


def _remain_integers(left: int, right: int) -> Any:
    if right == 0 or (left == MIN_INT and right == -1):
        return ERROR
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder  # the sign is the dividend's


def _divide_doubles(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


_add_numbers = _arithmetic(operator.add, operator.add)
_subtract_numbers = _arithmetic(operator.sub, operator.sub)
multiply = _arithmetic(operator.mul, operator.mul)
divide = _arithmetic(_divide_integers, _divide_doubles)
remainder = _arithmetic(_remain_integers, lambda left, right: ERROR)


def add(left: Any, right: Any, frame: Frame) -> Any:
    """`+`: numbers, strings, lists, durations, a timestamp and a duration."""
    kind, other = type(left), type(right)
    if kind in NUMBERS:
        return _add_numbers(left, right)
    if kind is other and (kind is str or kind is list):
        length = len(left) + len(right)
        if length > (MAX_TEXT if kind is str else MAX_LIST):
            return ERROR
        charge(frame, 1 + (length >> 6))
        return left + right
    if kind is Duration and other is Duration:
        return as_duration(left + right)
    if (kind is Timestamp and other is Duration) or (kind is Duration and other is Timestamp):
        return as_timestamp(left + right)
    return ERROR


def subtract(left: Any, right: Any) -> Any:
    """`-`: numbers, durations, two timestamps, a duration from a timestamp."""
    kind, other = type(left), type(right)
    if kind is Duration and other is Duration:
        return as_duration(left - right)
    if kind is Timestamp and other is Timestamp:
        return as_duration(left - right)
    if kind is Timestamp and other is Duration:
        return as_timestamp(left - right)
    return _subtract_numbers(left, right)
