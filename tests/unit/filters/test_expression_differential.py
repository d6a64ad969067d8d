"""Filters against Google's CEL library: the same verdict on generated expressions and events.

The exclusions are listed in `expression_strategies`. An absent object or list is given to Google's
library as an empty one, as filters read it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import HealthCheck, given, settings

from gateway.errors import InvalidFilter
from gateway.filters.expression import Filter, compile_filter
from tests.support.examples import examples
from tests.support.expression_strategies import filters, several_events

_STRINGS = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
_MIXED = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
_VARIABLES = dict.fromkeys(
    ("id", "time", "recorded_at", "cursor", "tenant", "category", "action", "outcome", "reason"),
    cel.Type.STRING,
) | {
    "severity": cel.Type.INT,
    "actor": _STRINGS,
    "source": _MIXED,
    "request": _STRINGS,
    "targets": cel.Type.List(_STRINGS),
    "data": _MIXED,
}
_ENV = cel.NewEnv(variables=_VARIABLES)
_EMPTY: dict[str, Any] = {"actor": {}, "source": {}, "request": {}, "targets": [], "data": {}}
_SEEDED = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def _google(expression: Any, event: dict[str, Any]) -> bool | None:
    """True, False, or None for an error and for what is no bool."""
    try:
        value = expression.eval(data=_EMPTY | event)
    except Exception:  # a variable that is not bound
        return None
    return bool(value.value()) if value.type().name() == "BOOL" else None


def _verdict(true: Filter, false: Filter, event: dict[str, Any]) -> bool | None:
    if true.matches(event):
        return True
    return False if false.matches(event) else None


@settings(_SEEDED, max_examples=examples(500))
@given(filters(), several_events(12))
def test_filters_and_googles_cel_agree_on_generated_events(
    source: str, tried: list[dict[str, Any]]
) -> None:
    expression = _ENV.compile(source)
    true, false = compile_filter(source), compile_filter(f"!({source})")
    for event in tried:
        assert _verdict(true, false, event) == _google(expression, event), (source, event)


_OPERANDS = {
    "data.b": "dyn",
    "(true ? data.x : 1)": "dyn",
    "true": "bool",
    "3": "int",
    "severity": "int",
    "3u": "uint",
    "1.5": "double",
    "tenant": "string",
    "actor.id": "string",
    'timestamp("2026-01-31T12:00:00Z")': "timestamp",
    "timestamp(time)": "timestamp",
    'duration("1s")': "duration",
    "[1, 2]": "list",
    '["acme"]': "list",
    "[[1]]": "list",
    "[actor]": "list",
    "[]": "list",
    "data.l": "dyn",
    "data": "map",
    "actor": "map",
    "targets": "list",
    "targets[0]": "map",
}
_OPERATORS = ["==", "!=", "<", ">=", "in", "+", "-", "*", "/", "%", "&&", "||"]
_NUMBERS = {"int", "uint", "double"}


@pytest.mark.parametrize("operator", [*_OPERATORS, "?"])
def test_filters_and_googles_cel_refuse_the_same_operands(operator: str) -> None:
    for left, right in product(_OPERANDS, _OPERANDS):
        kinds = {_OPERANDS[left], _OPERANDS[right]}
        if len(kinds) == 2 and kinds <= _NUMBERS and operator in ("==", "!=", "<", ">="):
            continue  # see the next test
        if left in ("3u", "1.5") and right == "[1, 2]" and operator == "in":
            continue  # as well
        source = f"[true ? {left} : {right}]" if operator == "?" else f"[{left} {operator} {right}]"
        source += " != []"
        accepted = True
        try:
            _ENV.compile(source)
        except Exception:
            accepted = False
        if accepted:
            compile_filter(source)
        else:
            with pytest.raises(InvalidFilter):
                compile_filter(source)


@pytest.mark.parametrize("source", ["0.5 == 1", "1u < 2", "1 in [2.0]", "severity >= 2.5"])
def test_numbers_of_different_types_compare_where_cel_asks_for_a_conversion(source: str) -> None:
    compile_filter(source)
    with pytest.raises(Exception, match="no matching overload"):
        _ENV.compile(source)
