"""Filter expressions: CEL, restricted to one event.

A filter is an expression that is true or false of an event, in a subset of CEL,
the Common Expression Language (specification: github google/cel-spec):

    outcome == "denied" && severity >= 4 && data.bytes > 1000000

This is the manual of the subset.

Members
    An expression names the members of the event: id, time, recorded_at, cursor,
    tenant, category, action, outcome, reason (strings), severity (int), actor,
    source, request (objects), targets (a list of objects) and data (an object
    with whatever the producer sent). Members of data have no known type.
    `a.b` and `a["b"]` are the same; `targets[0]` is the first of a list.
    An absent actor, source, request or data reads as an empty object and absent
    targets as an empty list; to read anything else that is absent is an error.

Literals
    12, -12, 0x1F (int, 64 bits), 12u (uint, 64 bits), 1.5, 1e3 (double), true,
    false, null, [1, 2]. Strings in single or double quotes with the escapes
    \\\\ \\" \\' \\` \\? \\a \\b \\f \\n \\r \\t \\v \\x41 \\u0041 \\U0001F600 \\101; between three
    quotes they may hold line ends; r"..." is raw, without escapes.
    // begins a comment up to the end of the line.

Operators, from the loosest to the tightest
    ? :   ||   &&   == != < <= > >= in   + -   * / %   ! and unary -   . [] ()

Functions
    has(a.b)            whether a has the member b; has(reason) works as well
    size(x), x.size()   characters of a string, items of a list, keys of a map
    x.contains(y), x.startsWith(y), x.endsWith(y)
    x.matches(r"...")   an RE2 pattern, found anywhere in x; a literal
    x.lowerAscii(), x.upperAscii()
    int(x), uint(x), double(x), string(x), bool(x), timestamp(x), duration(x)

Quantifiers, over lists and the keys of maps that the event holds
    targets.exists(t, t.type == "pod")
    targets.all(t, t.urn.startsWith("k8s:prod/"))
    targets.exists_one(t, has(t.name))

Errors
    An absent member, operands of the wrong type, a position behind the end of a
    list, a number out of range, a division by zero are errors. An event for
    which the filter as a whole is an error (or is not true or false) does not
    match. `false && error` is false and `true || error` is true, in either
    order; `!error` is an error. Where a mistake can be known from the text, the
    filter does not compile instead.

Values
    Values of different types are never equal; numbers compare by value, exactly,
    whatever their types. Strings order by code points, so time and recorded_at
    order as text; timestamp(time) gives a timestamp, to which durations can be
    added. A JSON number without fraction and exponent is an int (a uint above
    2^63-1), any other a double. Integers overflow with an error; 7 / 2 is 3.

Differences from CEL
    has(member) of the event itself. An int that meets a double in arithmetic
    becomes a double, where the types are not known from the text (CEL: an
    error), because JSON does not tell 2 from 2.0. Comparing numbers of
    different types needs no conversion. A conversion of a literal that cannot
    work, such as timestamp("noon"), does not compile. Left out, and refused by
    name: bytes, map literals, messages, type(), dyn(), filter(), map(),
    quantifiers over lists built in the filter, the time zone accessors, a
    leading dot, optional access, patterns that are not literals.

Bounds
    4096 characters, 256 names, values and operators, 32 levels of nesting,
    patterns of 2000 RE2 instructions together, concatenations of 262144
    characters or 32768 items. One evaluation has a budget (`cel.values.BUDGET`)
    of some ten milliseconds; an event on which it runs out does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gateway.filters.cel.checker import check
from gateway.filters.cel.compiler import compile_tree
from gateway.filters.cel.parser import parse
from gateway.filters.cel.shapes import Test
from gateway.filters.cel.tree import (
    Binary,
    Choice,
    Constant,
    ListOf,
    Logic,
    Name,
    Node,
    Select,
    Subscript,
    canonical_text,
)
from gateway.filters.cel.values import BUDGET, BudgetExceeded, Frame


@dataclass(slots=True)
class FilterCost:
    """Cost of the evaluations of a counted filter.

    `steps` are units of the budget, about 0.1 us each; on `exceeded` of the
    `events` the budget of one evaluation ran out, so that they did not match.
    """

    events: int = 0
    steps: int = 0
    exceeded: int = 0

    def add(self, other: FilterCost) -> None:
        self.events += other.events
        self.steps += other.steps
        self.exceeded += other.exceeded


class Undecided(Exception):
    """Evaluation that was stopped before its budget ran out, to be continued elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """Compiled filter. Filters with the same canonical text are equal.

    `members`: the paths of all members that it reads, such as `data.bytes`; a
    path also stands for everything below it.
    `equalities`: for some paths, the only strings with which the filter can be true.
    """

    source: str
    canonical: str
    members: frozenset[str]
    equalities: Mapping[str, frozenset[str]]
    _test: Test = field(repr=False)
    _frame: Frame = field(repr=False)  # copied for every evaluation; empty if nothing is counted

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the filter is true of a decoded event (as of `orjson.loads`). Never raises."""
        try:
            return self._test(event, self._frame and self._frame.copy())
        except Exception:  # the budget is spent; and no event may end a stream
            return False

    @property
    def needles(self) -> tuple[str, ...]:
        """Texts that stand in the JSON of every event for which it is true: none is known."""
        return ()

    @property
    def counted(self) -> bool:
        """Whether its cost depends on the event; else the limits on its text bound the cost."""
        return bool(self._frame)

    def matches_at_cost(
        self, event: Mapping[str, Any], cost: FilterCost, most: int = BUDGET
    ) -> bool:
        """Whether the filter is true of a decoded event; adds the steps that it took to `cost`.

        Raises `Undecided` when it takes more than `most` steps and `most` is below the budget.
        """
        frame = self._frame.copy()
        frame[0] = most
        try:
            return self._test(event, frame)
        except BudgetExceeded:
            frame[0] = 0
            if most < BUDGET:
                # The event is evaluated again elsewhere, and counted there.
                cost.events -= 1
                raise Undecided from None
            cost.exceeded += 1
            return False
        except Exception:  # no event may end a stream
            return False
        finally:
            cost.events += 1
            cost.steps += most - frame[0]

    def __reduce__(self) -> tuple[Callable[[str], Filter], tuple[str]]:
        return _compiled, (self.source,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)


def compile_filter(source: str) -> Filter:
    """Compile a filter in CEL.

    Raises `InvalidFilter`, whose `column` (from 1, in characters) is the place of the error.
    """
    root = parse(source)
    members = check(root)
    test, frame = compile_tree(root)
    equalities = MappingProxyType(_equalities(root))
    return Filter(source, canonical_text(root), members, equalities, test, frame)


# Cached: another process receives the same filter as text many times.
@lru_cache(64)
def _compiled(source: str) -> Filter:
    return compile_filter(source)


def _equalities(node: Node) -> dict[str, frozenset[str]]:
    """Strings by path: for `node` to be true, the event must have one of them there."""
    match node:
        case Logic(operator="&&", operands=operands):
            found = _equalities(operands[0])
            for operand in operands[1:]:
                for path, texts in _equalities(operand).items():
                    found[path] = found[path] & texts if path in found else texts
            return found
        case Logic(operator="||", operands=operands):
            return _in_any([_equalities(operand) for operand in operands])
        case Choice(then=then, otherwise=otherwise):
            return _in_any([_equalities(then), _equalities(otherwise)])
        case Binary(operator="==", left=left, right=Constant(value=str(text))):
            return _one_of(left, {text})
        case Binary(operator="==", left=Constant(value=str(text)), right=right):
            return _one_of(right, {text})
        case Binary(operator="in", left=left, right=ListOf(items=items)):
            among = [item.value for item in items if isinstance(item, Constant)]
            strings = {value for value in among if isinstance(value, str)}
            if len(among) == len(items) and all(isinstance(value, str) for value in among):
                return _one_of(left, strings)
    return {}


def _in_any(cases: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Paths that every case limits, each with the strings of all cases."""
    shared = set(cases[0]).intersection(*cases[1:])
    return {path: frozenset().union(*(case[path] for case in cases)) for path in shared}


def _one_of(node: Node, values: set[str]) -> dict[str, frozenset[str]]:
    parts = _parts(node)
    # A name with a dot in it would make the path mean two things.
    if parts is None or any("." in part for part in parts):
        return {}
    return {".".join(parts): frozenset(values)}


def _parts(node: Node) -> list[str] | None:
    """Path to a member as a list of names; None if the text does not tell it."""
    match node:
        case Name(name=name):
            return [name]
        case (
            Select(operand=operand, field=name)
            | Subscript(operand=operand, key=Constant(value=str(name)))
        ):
            parts = _parts(operand)
            return None if parts is None else [*parts, name]
    return None
