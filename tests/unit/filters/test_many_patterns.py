"""Hundreds of patterns: matched by their segments just as by an expression, and checked quickly."""

from __future__ import annotations

import random
import re

import pytest

from gateway.errors import InvalidRequest
from gateway.filters import alphabet, pattern
from gateway.filters.alphabet import check_member_pattern
from gateway.filters.pattern import compile_patterns, to_regex


def test_many_patterns_match_what_each_of_them_matches() -> None:
    chance = random.Random(5)
    matched = 0
    for _ in range(150):
        separator = chance.choice("./")
        patterns = [_pattern(chance, separator) for _ in range(40)]
        matches = compile_patterns(patterns, separator)
        each = [re.compile(to_regex(one, separator), re.DOTALL) for one in patterns]
        for _ in range(20):
            segments = [chance.choice(["a", "b", "c", "d", "", "*", "e\n"]) for _ in range(4)]
            name = separator.join(segments[: chance.randint(1, 4)])
            expected = any(one.fullmatch(name) for one in each)
            assert matches(name) == expected, (name, patterns)
            matched += expected
    assert 100 < matched < 2900


def test_no_expression_is_made_of_many_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it takes a tenth of a millisecond for each of them")

    monkeypatch.setattr(pattern.re, "compile", fail)
    matches = compile_patterns([f"service{n}.*.login" for n in range(256)], ".")
    assert matches("service255.a.login")
    assert not matches("service255.login")


def test_the_same_patterns_are_compiled_once() -> None:
    patterns = [f"again{n}.*" for n in range(256)]
    assert compile_patterns(patterns, ".") is compile_patterns(list(patterns), ".")


def test_patterns_made_to_branch_are_matched_by_an_expression() -> None:
    # Every one of 256 ways through the tree is open until the last segment.
    patterns = [
        "/".join("a" if number >> bit & 1 else "*" for bit in range(8)) + f"/x{number}"
        for number in range(256)
    ]
    matches = compile_patterns(patterns, "/")
    assert matches("a/a/a/a/a/a/a/a/x0")
    assert not matches("a/a/a/a/a/a/a/a/y")
    assert not matches("b/a/a/a/a/a/a/a/x255")


def test_the_quick_check_lets_nothing_through_that_the_careful_one_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(7)
    cases = [
        (
            chance.choice(sorted(alphabet.ALPHABETS)),
            "".join(chance.choice("ab.*/A -:\n\ud800é") for _ in range(chance.randint(0, 7))),
        )
        for _ in range(20_000)
    ]
    quick = [_is_accepted(*case) for case in cases]
    monkeypatch.setattr(
        alphabet, "_ORDINARY", dict.fromkeys(alphabet.ALPHABETS, re.compile("(?!)"))
    )
    assert quick == [_is_accepted(*case) for case in cases]
    assert any(quick)
    assert not all(quick)


def _is_accepted(member: str, text: str) -> bool:
    try:
        check_member_pattern(member, text)
    except InvalidRequest:
        return False
    return True


def _pattern(chance: random.Random, separator: str) -> str:
    segments = [chance.choice(["a", "b", "c", "", "*"]) for _ in range(chance.randint(1, 4))]
    if chance.random() < 0.3:
        segments.append("**")
    # `**` alone would match them all.
    return separator.join(segments) if segments != ["**"] else "a"
