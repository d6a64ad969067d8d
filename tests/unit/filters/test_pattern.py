"""Patterns over segments, held to the words of the design and to a second, naive matcher."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.filters.pattern import (
    MAX_PATTERN_LENGTH,
    begins_with_wildcard,
    check_pattern,
    compile_patterns,
    is_literal,
    literal_prefix,
)

SEPARATORS = st.sampled_from([".", "/"])
# Few segments, so that patterns and names often meet; some mean something to a regex.
SEGMENTS = st.sampled_from(["a", "b", "ab", "a+", "(", "[a]", "a|b", "\n", "ü", " ", "$", "^a"])


def matches(pattern: str, name: str, separator: str = ".") -> bool:
    return compile_patterns([pattern], separator)(name)


def naive(pattern: list[str], name: list[str]) -> bool:
    if pattern == ["**"]:
        return True
    if not pattern or not name:
        return not pattern and not name
    first = name[0] != "" if pattern[0] == "*" else pattern[0] == name[0]
    return first and naive(pattern[1:], name[1:])


@st.composite
def patterns(draw: st.DrawFn) -> list[str]:
    segments = draw(st.lists(SEGMENTS | st.just("*"), min_size=0, max_size=4))
    last = draw(st.sampled_from([["**"], []] if segments else [["**"], ["*"], ["a"]]))
    return segments + last


names = st.lists(SEGMENTS | st.just(""), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "separator", "yes", "no"),
    [
        ("auth.*", ".", ["auth.login", "auth.x"], ["auth", "auth.login.sso", "auth.", "xauth.a"]),
        ("auth.**", ".", ["auth", "auth.login", "auth.login.sso"], ["auths", "authx.login", ""]),
        ("auth", ".", ["auth"], ["auth.login", "Auth", "aut", "auth\n"]),
        ("*", ".", ["auth", "k8s"], ["auth.login", ""]),
        ("**", ".", ["auth", "auth.login", "", "a.b.c", "a\nb"], []),
        ("*.login", ".", ["auth.login"], ["login", ".login", "a.b.login"]),
        ("*.**", ".", ["auth", "auth.login.sso"], [""]),
        ("k8s.*.create", ".", ["k8s.pod.create"], ["k8s.create", "k8s.a.b.create"]),
        (
            "k8s:prod/ns/pay/**",
            "/",
            ["k8s:prod/ns/pay", "k8s:prod/ns/pay/pods/web-1"],
            ["k8s:prod/ns/payroll", "k8s:prod/ns", "K8s:prod/ns/pay"],
        ),
        ("bucket/*", "/", ["bucket/a.b", "bucket/ü"], ["bucket/a/b", "bucket/", "bucket"]),
    ],
)
def test_patterns_match_as_documented(
    pattern: str, separator: str, yes: list[str], no: list[str]
) -> None:
    check_pattern(pattern, separator)
    assert [name for name in yes if not matches(pattern, name, separator)] == []
    assert [name for name in no if matches(pattern, name, separator)] == []


@given(patterns(), names, SEPARATORS)
def test_a_pattern_matches_segment_by_segment(
    pattern: list[str], name: list[str], separator: str
) -> None:
    text = separator.join(pattern)
    check_pattern(text, separator)
    assert matches(text, separator.join(name), separator) == naive(pattern, name)


@given(st.lists(patterns(), min_size=1, max_size=4), names, SEPARATORS)
def test_several_patterns_are_alternatives(
    several: list[list[str]], name: list[str], separator: str
) -> None:
    test = compile_patterns([separator.join(pattern) for pattern in several], separator)
    assert test(separator.join(name)) == any(naive(pattern, name) for pattern in several)


@given(patterns(), names, SEPARATORS)
def test_every_match_begins_with_the_literal_prefix(
    pattern: list[str], name: list[str], separator: str
) -> None:
    text, joined = separator.join(pattern), separator.join(name)
    if matches(text, joined, separator):
        # `a.**` matches `a` too, which is the prefix without its separator.
        assert (joined + separator).startswith(literal_prefix(text))
        assert not is_literal(text) or joined == text


def test_no_patterns_match_nothing() -> None:
    test = compile_patterns([], ".")
    assert not test("")
    assert not test("auth")


@pytest.mark.parametrize(
    "pattern",
    ["a*", "*a", "a.b*", "a.*b.c", "***", "a.***", "**.a", "a.**.b", "**.**", "*.**.*", "a.**b"],
)
def test_wildcards_stand_for_whole_segments_and_two_stars_only_last(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_pattern(pattern, ".")
    assert repr(pattern) in caught.value.detail


def test_segments_are_those_of_the_separator() -> None:
    check_pattern("a/b.c/*", "/")
    with pytest.raises(InvalidRequest):
        check_pattern("a/b.c/*", ".")


def test_a_pattern_has_1_to_1024_characters() -> None:
    check_pattern("a" * MAX_PATTERN_LENGTH, ".")
    for pattern in ("", "a" * (MAX_PATTERN_LENGTH + 1)):
        with pytest.raises(InvalidRequest, match="1 to 1024 characters"):
            check_pattern(pattern, ".")


def test_wildcards_are_recognised_where_they_stand() -> None:
    assert [begins_with_wildcard(p) for p in ("**", "*", "*.a", "a.*", "a.**", "a")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert [is_literal(p) for p in ("a.b", "a.*", "**")] == [True, False, False]
    assert [literal_prefix(p) for p in ("a.b", "a.*.c", "a.**", "*.a", "**")] == [
        "a.b", "a.", "a.", "", "",
    ]  # fmt: skip


def test_matching_stays_linear_for_the_worst_pattern() -> None:
    stars = ".".join(["*"] * 300)
    hostile = compile_patterns([f"{stars}.x", f"{stars}.y", f"{stars}.*.z"], ".")
    name = ".".join(["a"] * 20_000)
    began = time.process_time()
    assert not hostile(name)
    assert time.process_time() - began < 1
