"""Bounds: of a filter's text, of what an evaluation may cost, of what an event can do to it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidFilter
from gateway.filters.expression import compile_filter


def refusal(source: str) -> InvalidFilter:
    with pytest.raises(InvalidFilter) as caught:
        compile_filter(source)
    return caught.value


def test_the_source_is_bounded() -> None:
    compile_filter("data.a == 1" + " " * (4096 - 11))
    error = refusal("data.a == 1" + " " * (4097 - 11))
    assert (error.column, "4096" in error.detail) == (4097, True)


def test_the_number_of_nodes_is_bounded() -> None:
    assert compile_filter("1 in [" + ", ".join(["1"] * 252) + "]").matches({})
    error = refusal("1 in [" + ", ".join(["1"] * 300) + "]")
    assert error.column == 6 + 255 * 3 + 1
    assert "256" in error.detail


@pytest.mark.parametrize(
    ("opening", "middle", "closing"),
    [
        ("(", "true", ")"),
        ("!(", "true", ")"),
        ("data.a == [", "1", "]"),
        ("data[", "'a'", "]"),
        ("true ? true : ", "true", ""),
        ("data.l.exists(x, ", "true", ")"),
        ("size(", "data", ")"),
        ("1 + (", "1", ")"),
    ],
)
def test_nesting_is_bounded_without_exhausting_the_stack(
    opening: str, middle: str, closing: str
) -> None:
    if opening not in ("data.a == [", "size(", "1 + ("):
        compile_filter(opening * 12 + middle + closing * 12 + (" == 1" if "[" in opening else ""))
    for levels in (40, 100, 4096 // len(opening + closing) - 5):
        assert "nested deeper" in refusal(opening * levels + middle + closing * levels).detail


def test_long_chains_are_nested_as_well() -> None:
    compile_filter("1" + " + 1" * 25 + " == 26")
    compile_filter("data" + ".a" * 20 + " == 1")
    assert "nested deeper" in refusal("1" + " + 1" * 60 + " == 61").detail
    assert "nested deeper" in refusal("data" + ".a" * 60 + " == 1").detail
    assert compile_filter("!" * 4000 + "true").matches({})
    assert compile_filter(" && ".join(["true"] * 120)).matches({})


def test_an_evaluation_that_costs_too_much_is_no_match() -> None:
    items = list(range(3000))
    cheap = compile_filter("data.l.exists(x, x == 2999)")
    assert cheap.matches({"data": {"l": items}})
    costly = compile_filter("data.l.exists(x, data.l.exists(y, x == -1 || y == -1)) || true")
    assert not costly.matches({"data": {"l": items}})
    assert costly.matches({"data": {"l": items[:10]}})


@pytest.mark.parametrize(
    "source",
    [
        "data.l.all(x, data.s != data.s2)",
        "data.l.all(x, !data.s.contains('zz'))",
        "data.l.all(x, !data.s.matches('z+y'))",
        "data.l.all(x, size(data.s.lowerAscii()) > 0)",
        "data.l.all(x, data.l != data.l2)",
        "data.l.all(x, !(-1 in data.l))",
        "data.l.all(x, size(data.s + data.s) > 0)",
    ],
)
def test_long_strings_and_lists_are_charged(source: str) -> None:
    text = "a" * 50_000
    data = {"l": list(range(3000)), "s": text + "a", "s2": text + "b", "l2": [*range(2999), -1]}
    short = {"l": [1, 2], "s": "a", "s2": "b", "l2": [3, 4]}
    assert compile_filter(source).matches({"data": short})
    assert not compile_filter(source).matches({"data": data})


def test_concatenations_are_bounded() -> None:
    event = {"data": {"s": "a" * 200_000, "l": [0] * 20_000}}
    fits = compile_filter("size(data.s + 'b') == 200001 && size(data.l + [1]) == 20001")
    assert fits.matches(event)
    for source in ("size(data.s + data.s) > 0", "size(data.l + data.l) > 0"):
        assert not compile_filter(source).matches(event)
        assert compile_filter(f"{source} || true").matches(event)  # it was an error


@pytest.mark.parametrize(
    "source",
    [
        r"data.a.matches(r'{}')".format(r"\pL" * 1300),
        r"data.a.matches(r'{}')".format(r"[^\pL\PL]" * 400),
        r"data.a.matches(r'{}')".format(r"(?i)\p{Greek}" * 51),
        " || ".join([r"data.a.matches(r'[^\pL\PL]')"] * 26),
    ],
)
def test_unicode_classes_of_a_filter_are_counted_before_they_are_looked_up(source: str) -> None:
    """Each takes RE2 a tenth of a millisecond, also where nothing of it comes into the program."""
    assert "patterns are too big" in refusal(source).detail


def test_a_few_unicode_classes_and_backslashes_are_no_matter() -> None:
    event = {"data": {"a": r"Élan_1 C:\p\p"}}
    assert compile_filter(r"data.a.matches(r'^\p{Lu}\p{Ll}+_\p{Nd}')").matches(event)
    assert compile_filter(r"data.a.matches(r'{}$')".format(r"\\p" * 2)).matches(event)
    assert not compile_filter(r"data.a.matches(r'{}')".format(r"\\p" * 60)).matches(event)


def test_matching_never_raises_whatever_the_event_holds() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    strange = {"data": {"a": deep, "b": "\ud800", "c": object()}, "severity": object()}
    for source in (
        "data.a == data.a",
        "data.b.matches('a')",
        "data.c == data.c && severity > 3",
        "data.c in ['a']",
        "size(data.c) == 1",
    ):
        assert compile_filter(source).matches(strange) is False
    assert compile_filter("severity > 3").matches({}) is False
    assert compile_filter("severity > 3").matches({"severity": None}) is False
