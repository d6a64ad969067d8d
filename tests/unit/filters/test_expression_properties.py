"""What must hold of every filter: it compiles or is refused, and says truly what it needs."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidFilter
from gateway.filters.expression import compile_filter
from tests.support.examples import examples
from tests.support.expression_strategies import filters, several_events

_SEEDED = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
_WRITTEN = """
    tenant actor data targets severity reason has size matches exists all timestamp duration int in
    true false null 0 1 42u 0x1F 1.5 .5 "a" 'b' r"c" '''d''' b"e" "\\u0041" "( && || ! == != < <= >=
    > + - * / % ? : . , ( ) [ ] { } // @ ` 1e999 99999999999999999999 t x actor.id data.x
    targets.exists(t, has(data.x) data.s.matches( timestamp( ((((((((((((((((((((((((((((((((((((
"""
_FRAGMENTS = _WRITTEN.split()


def _assert_compiles_or_is_refused(source: str) -> None:
    try:
        verdict = compile_filter(source).matches({})
    except InvalidFilter as error:
        verdict = 1 <= error.column <= len(source) + 1 and error.detail != ""
        refused = True
    else:
        refused = False
    assert verdict is True or (verdict is False and not refused)


@settings(_SEEDED, max_examples=examples(400))
@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused(source: str) -> None:
    _assert_compiles_or_is_refused(source)


@settings(_SEEDED, max_examples=examples(400))
@given(st.lists(st.sampled_from([*_FRAGMENTS, " "]), max_size=40))
def test_any_sequence_of_fragments_compiles_or_is_refused(fragments: list[str]) -> None:
    _assert_compiles_or_is_refused(" ".join(fragments))


@settings(_SEEDED, max_examples=examples(150))
@given(st.sampled_from([*_FRAGMENTS, "!-", "a[", "[[", "?a:", "x.exists(x,"]), st.integers(1, 4096))
def test_any_fragment_repeated_compiles_or_is_refused(fragment: str, times: int) -> None:
    _assert_compiles_or_is_refused((fragment * times)[:4096])


@settings(_SEEDED, max_examples=examples(200))
@given(filters(), st.integers(0, 400), st.sampled_from([*_FRAGMENTS, ""]), st.integers(0, 5))
def test_a_damaged_filter_compiles_or_is_refused(
    source: str, position: int, fragment: str, cut: int
) -> None:
    _assert_compiles_or_is_refused(source[:position] + fragment + source[position + cut :])


@settings(_SEEDED, max_examples=examples(200))
@given(filters(), several_events(8))
def test_the_canonical_text_is_the_same_filter(source: str, tried: list[dict[str, Any]]) -> None:
    written = compile_filter(source)
    again = compile_filter(written.canonical)
    assert again.canonical == written.canonical
    assert again.members == written.members
    assert again.equalities == written.equalities
    for event in tried:
        assert again.matches(event) == written.matches(event)


_values = st.sampled_from(["acme", "b", "i", "denied", "success", "a", "u1"])
_paths = st.sampled_from(
    ["tenant", "outcome", "category", "action", "actor.id", "reason", "data.s", "source.ip"]
)
_equality = st.one_of(
    st.builds('{} == "{}"'.format, _paths, _values),
    st.builds('"{1}" == {0}'.format, _paths, _values),
    st.builds('{} != "{}"'.format, _paths, _values),
    st.builds('{} in ["{}", "{}"]'.format, _paths, _values, _values),
    st.sampled_from(["data.b", "severity > 3", "true", "has(actor.id)"]),
)
_conditions = st.recursive(
    _equality,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("targets.exists(tenant, {})".format, st.just("has(tenant.id)")),
    ),
    max_leaves=8,
)


@settings(_SEEDED, max_examples=examples(400))
@given(_conditions, several_events(20))
def test_what_matches_has_the_values_of_the_equalities(
    source: str, tried: list[dict[str, Any]]
) -> None:
    found = compile_filter(source)
    for event in tried:
        if found.matches(event):
            for path, values in found.equalities.items():
                found_there: Any = event
                for name in path.split("."):
                    found_there = found_there[name]
                assert found_there in values


@settings(_SEEDED, max_examples=examples(200))
@given(filters(), several_events(8))
def test_members_that_are_not_read_do_not_matter(source: str, tried: list[dict[str, Any]]) -> None:
    found = compile_filter(source)
    for event in tried:
        kept = _only(event, found.members)
        assert found.matches(kept) == found.matches(event), (source, kept)


def _only(event: dict[str, Any], members: frozenset[str], path: str = "") -> dict[str, Any]:
    """The event without all that lies neither on, above nor below a path of `members`."""
    kept: dict[str, Any] = {}
    for name, value in event.items():
        here = f"{path}.{name}" if path else name
        if here in members:
            kept[name] = value
        elif any(member.startswith(here + ".") for member in members):
            kept[name] = _inside(value, members, here)
    return kept


def _inside(value: Any, members: frozenset[str], path: str) -> Any:
    if isinstance(value, dict):
        return _only(value, members, path)
    if isinstance(value, list):
        return [_inside(item, members, path) for item in value]
    return value
