"""Scopes: alternatives within a member, conjunction across members, and the reserved categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.filters.pattern import compile_patterns
from gateway.filters.scope import (
    EVERYTHING,
    MAX_PATTERNS,
    SEPARATORS,
    Scope,
    all_of,
    any_of,
    is_reserved,
    remembered,
)

MakeEvent = Callable[..., Event]

DOTTED = st.sampled_from(["a", "b", "a.b", "a.b.c", "*", "a.*", "a.**", "*.b", "**"])
NAMES = st.sampled_from(["a", "b", "a.b", "a.b.c", "b.b", "gateway", "gateway.a"])
PATHS = st.sampled_from(["a", "a/b", "*", "a/*", "a/**", "*/b", "**"])
OUTCOMES = st.sampled_from(["success", "failure", "denied", "unknown"])


def some(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, max_size=2).map(tuple)


scopes = st.builds(
    Scope,
    tenant=some(DOTTED),
    category=some(DOTTED | st.sampled_from(["gateway.**", "gateway"])),
    action=some(DOTTED),
    outcome=some(OUTCOMES),
    actor=some(PATHS),
    resource=some(PATHS),
    min_severity=st.integers(1, 6),
    reserved=st.booleans(),
)
described = st.fixed_dictionaries(
    {
        "tenant": NAMES,
        "category": NAMES,
        "action": NAMES,
        "outcome": OUTCOMES,
        "severity": st.integers(1, 6),
        "actor": st.sampled_from(["", "a", "a/b", "b/b", "a/b/c"]),
        "resources": st.lists(st.sampled_from(["a", "a/b", "b/b"]), max_size=2).map("\n".join),
    }
)


def means(scope: Scope, event: Event) -> bool:
    """The words of the design, one after the other."""
    for member in ("tenant", "action", "actor"):
        patterns = getattr(scope, member)
        test = compile_patterns(patterns, SEPARATORS[member])
        if patterns and not test(getattr(event, member)):
            return False
    if scope.outcome and event.outcome not in scope.outcome:
        return False
    if event.severity < scope.min_severity:
        return False
    if scope.resource and "**" not in scope.resource:
        urns = event.resources.split("\n") if event.resources else []
        if not any(map(compile_patterns(scope.resource, "/"), urns)):
            return False
    reaching = [
        pattern
        for pattern in scope.category or ("**",)
        if scope.reserved or not pattern.startswith("*") or not is_reserved(event.category)
    ]
    return compile_patterns(reaching, ".")(event.category)


@given(scope=scopes, members=described)
def test_a_scope_contains_what_the_design_says(
    event: MakeEvent, scope: Scope, members: dict[str, Any]
) -> None:
    item = event(**members)
    assert scope.compile()(item) == means(scope, item)


@given(scope=scopes, members=described)
def test_equality_names_every_value_a_match_can_have(
    event: MakeEvent, scope: Scope, members: dict[str, Any]
) -> None:
    item = event(**members)
    if scope.compile()(item):
        for member in ("tenant", "category", "action", "outcome", "actor"):
            values = scope.equality(member)
            assert values is None or getattr(item, member) in values


def test_the_empty_scope_means_everything(event: MakeEvent) -> None:
    contains = EVERYTHING.compile()
    assert contains(event())
    assert contains(event(category="gateway.keys", severity=6, resources="a\nb"))


def test_one_target_of_several_is_enough(event: MakeEvent) -> None:
    contains = Scope(resource=("k8s:prod/ns/pay/**", "db:main")).compile()
    assert contains(event(resources="k8s:dev/x\nk8s:prod/ns/pay/pods/web-1"))
    assert contains(event(resources="db:main"))
    assert not contains(event(resources="k8s:dev/x\ndb:main/t"))


def test_an_event_without_targets_is_matched_by_two_stars_only(event: MakeEvent) -> None:
    for pattern, expected in (("**", True), ("*", False), ("a/**", False), ("*/**", False)):
        assert Scope(resource=(pattern,)).compile()(event(resources="")) is expected, pattern


def test_alternatives_within_a_member_and_conjunction_across(event: MakeEvent) -> None:
    contains = Scope(tenant=("a", "b"), outcome=("denied",), min_severity=3).compile()
    assert contains(event(tenant="a", outcome="denied", severity=3))
    assert contains(event(tenant="b", outcome="denied", severity=6))
    assert not contains(event(tenant="c", outcome="denied", severity=3))
    assert not contains(event(tenant="a", outcome="success", severity=3))
    assert not contains(event(tenant="a", outcome="denied", severity=2))


@pytest.mark.parametrize(
    ("categories", "reached"),
    [
        ((), False),
        (("**",), False),
        (("*",), False),
        (("*.keys",), False),
        (("*.**",), False),
        (("gateway.**",), True),
        (("gateway.keys",), True),
        (("gateway.*",), True),
        (("**", "gateway.**"), True),
        (("**", "gateway.streams"), False),
    ],
)
def test_leading_wildcards_of_grants_do_not_reach_the_gateways_records(
    event: MakeEvent, categories: tuple[str, ...], reached: bool
) -> None:
    own, other = event(category="gateway.keys"), event(category="x.keys")
    assert Scope(category=categories, reserved=False).compile()(own) is reached
    whole = compile_patterns(categories or ("**",), ".")
    assert Scope(category=categories, reserved=False).compile()(other) is whole("x.keys")
    assert Scope(category=categories, reserved=True).compile()(own) is whole("gateway.keys")


def test_reserved_is_the_segment_gateway_only() -> None:
    names = ("gateway", "gateway.keys", "gateway.a.b", "gateways", "gateway-x.a", "a.gateway", "")
    assert [is_reserved(name) for name in names] == [True, True, True, False, False, False, False]


@pytest.mark.parametrize("member", ["tenant", "category", "action", "actor", "resource"])
def test_a_malformed_pattern_names_its_member(member: str) -> None:
    for pattern in ("a*", "", "x" * 1025):
        with pytest.raises(InvalidRequest) as caught:
            Scope(**{member: ("a", pattern)}).check()  # type: ignore[arg-type]
        assert caught.value.detail.startswith(f"{member}: ")
        assert caught.value.members["parameter"] == member


def test_outcomes_are_four_and_severities_six() -> None:
    Scope(outcome=("success", "failure", "denied", "unknown"), min_severity=6).check()
    with pytest.raises(InvalidRequest, match="'deny' is none of success, failure, denied"):
        Scope(outcome=("success", "deny")).check()
    for severity in (0, 7, -1):
        with pytest.raises(InvalidRequest, match="from 1 to 6"):
            Scope(min_severity=severity).check()


def test_a_member_has_at_most_256_patterns() -> None:
    Scope(actor=("a",) * MAX_PATTERNS).check()
    with pytest.raises(InvalidRequest, match="actor: 257 values; at most 256"):
        Scope(actor=("a",) * (MAX_PATTERNS + 1)).check()


@given(st.lists(st.booleans(), max_size=6))
def test_conjunction_and_disjunction_of_any_number_of_tests(
    event: MakeEvent, values: list[bool]
) -> None:
    tests = [lambda item, value=value: value for value in values]
    assert all_of(tests)(event()) == all(values)
    assert any_of(tests)(event()) == any(values)


@given(scopes, described, described)
def test_a_scope_depends_on_no_other_members_than_it_says(
    event: MakeEvent, scope: Scope, one: dict[str, Any], other: dict[str, Any]
) -> None:
    test = scope.compile()
    mixed = {**other, **{name: one[name] for name in scope.members()}}
    assert test(event(**one)) == test(event(**mixed))


@given(scopes, st.lists(described, max_size=80))
def test_remembered_answers_are_the_same(
    event: MakeEvent, scope: Scope, several: list[dict[str, Any]]
) -> None:
    test = scope.compile()
    with_memory = remembered(test, scope.members())
    for members in several:
        assert with_memory(event(**members)) == test(event(**members))


def test_answers_are_remembered_where_values_are_few_and_so_is_a_bounded_number(
    event: MakeEvent,
) -> None:
    asked: list[str] = []

    def test(one: Any) -> bool:
        asked.append(one.category)
        return True

    look = remembered(test, {"category", "severity"})
    for _ in range(3):
        look(event(category="a"))
    assert asked == ["a"]
    for number in range(1000):
        look(event(category=f"c{number}"))
    look(event(category="a"))
    assert len(asked) == 1002
    assert remembered(test, {"category", "actor"}) is test
    assert remembered(test, set()) is test
