"""Closures for the common shapes of expressions, where filters spend their time.

A `Test` only tells whether an expression is true (or, where its name says so,
whether it is false): an error is neither, so a test is False on it. Tests of
`&&` and `||` therefore ignore errors: `a && b` is true if both are, and false
if one is, whatever the other does.

`names` is the path of a member one or two levels deep in the event, else empty;
those reads are inlined here, because a call costs as much as the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gateway.filters.cel.functions import Search
from gateway.filters.cel.reads import Event, Read
from gateway.filters.cel.tree import Scalar
from gateway.filters.cel.values import ERROR, NUMBERS, ORDERINGS, Frame, charge

Test = Callable[[Event, Frame], bool]


def equals(read: Read, names: Sequence[str], constant: Scalar) -> Test:
    """`member == constant`."""
    if constant is None or isinstance(constant, bool):
        return lambda event, frame: read(event, frame) is constant
    if not isinstance(constant, str):

        def equals_number(event: Event, frame: Frame) -> bool:
            value = read(event, frame)
            return type(value) in NUMBERS and bool(value == constant)

        return equals_number
    match names:
        case (name,):
            return lambda event, frame: event.get(name) == constant
        case (outer, name):

            def inner_equals(event: Event, frame: Frame) -> bool:
                holder = event.get(outer)
                return type(holder) is dict and holder.get(name) == constant

            return inner_equals
    return lambda event, frame: bool(read(event, frame) == constant)


def differs(read: Read, constant: Scalar) -> Test:
    """`member != constant`."""
    if constant is None or isinstance(constant, bool):

        def is_other(event: Event, frame: Frame) -> bool:
            value = read(event, frame)
            return value is not ERROR and value is not constant

        return is_other
    if isinstance(constant, str):

        def is_other_string(event: Event, frame: Frame) -> bool:
            value = read(event, frame)
            return value is not ERROR and bool(value != constant)

        return is_other_string

    def is_other_number(event: Event, frame: Frame) -> bool:
        value = read(event, frame)
        return value is not ERROR and not (type(value) in NUMBERS and value == constant)

    return is_other_number


def compares(read: Read, names: Sequence[str], sign: str, constant: str | int | float) -> Test:
    """`member < constant`, and likewise for the other relations (`sign`)."""
    holds = ORDERINGS[sign]
    if isinstance(constant, str):

        def compares_string(event: Event, frame: Frame) -> bool:
            value = read(event, frame)
            return type(value) is str and holds(value, constant)

        return compares_string
    match names:
        case (name,):

            def compares_member(event: Event, frame: Frame) -> bool:
                value = event.get(name)
                kind = type(value)
                return (kind is int or kind is float) and holds(value, constant)

            return compares_member
        case (outer, name):

            def compares_inner(event: Event, frame: Frame) -> bool:
                holder = event.get(outer)
                if type(holder) is not dict:
                    return False
                value = holder.get(name)
                kind = type(value)
                return (kind is int or kind is float) and holds(value, constant)

            return compares_inner

    def compares_number(event: Event, frame: Frame) -> bool:
        value = read(event, frame)
        return type(value) in NUMBERS and holds(value, constant)

    return compares_number


def is_among(read: Read, names: Sequence[str], items: Sequence[Scalar], wanted: bool) -> Test:
    """Whether `member in [constants]` is true if `wanted`, else whether it is false."""
    strings = frozenset(item for item in items if isinstance(item, str))
    words = [item for item in items if item is None or isinstance(item, bool)]
    numbers = frozenset(
        item
        for item in items
        if type(item) in NUMBERS and not math.isnan(item)  # type: ignore[arg-type]
    )
    if wanted and len(names) == 1 and not (words or numbers):
        name = names[0]

        def is_one_of(event: Event, frame: Frame) -> bool:
            value = event.get(name)
            return type(value) is str and value in strings

        return is_one_of

    def is_among_constants(event: Event, frame: Frame) -> bool:
        value = read(event, frame)
        kind = type(value)
        if kind is str:
            return (value in strings) is wanted
        if kind in NUMBERS:
            return (value in numbers) is wanted
        return value is not ERROR and any(value is word for word in words) is wanted

    return is_among_constants


def has_affix(read: Read, holds: Callable[[str, str], bool], affix: str) -> Test:
    """`text.startsWith(affix)` or `text.endsWith(affix)`, as `holds` says."""

    def has(event: Event, frame: Frame) -> bool:
        text = read(event, frame)
        return type(text) is str and holds(text, affix)

    return has


def finds(read: Read, found: Search) -> Test:
    """`text.matches(pattern)`; `found` is the search for the pattern."""

    def matches(event: Event, frame: Frame) -> bool:
        text = read(event, frame)
        return type(text) is str and found(text, frame)

    return matches


def every(tests: Sequence[Test]) -> Test:
    """Conjunction of tests."""
    match tests:
        case (one, two):
            return lambda event, frame: one(event, frame) and two(event, frame)
        case (one, two, three):
            return lambda event, frame: (
                one(event, frame) and two(event, frame) and three(event, frame)
            )

    def all_hold(event: Event, frame: Frame) -> bool:
        for test in tests:
            if not test(event, frame):
                return False
        return True

    return all_hold


def some(tests: Sequence[Test]) -> Test:
    """Disjunction of tests."""
    match tests:
        case (one, two):
            return lambda event, frame: one(event, frame) or two(event, frame)
        case (one, two, three):
            return lambda event, frame: (
                one(event, frame) or two(event, frame) or three(event, frame)
            )

    def one_holds(event: Event, frame: Frame) -> bool:
        for test in tests:
            if test(event, frame):
                return True
        return False

    return one_holds


def either(condition: Read, then: Test, otherwise: Test) -> Test:
    """`condition ? then : otherwise`."""

    def holds(event: Event, frame: Frame) -> bool:
        chosen = condition(event, frame)
        if chosen is True:
            return then(event, frame)
        return chosen is False and otherwise(event, frame)

    return holds


def of_items(items: Read, slot: int, test: Test, cost: int, *, some: bool) -> Test:
    """Test of the items of a list, or keys of a map: of `some` (at least one), or of every one.

    `cost` is charged for each, in units.
    """

    def holds(event: Event, frame: Frame) -> bool:
        over = items(event, frame)
        if type(over) is not list and type(over) is not dict:
            return False
        for item in over:
            charge(frame, cost)
            frame[slot] = item
            if test(event, frame) is some:
                return some
        return not some

    return holds
