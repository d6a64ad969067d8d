"""What a key asks for and can never get: patterns that no grant of it meets."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.filters.overlap import one_overlaps
from gateway.filters.pattern import compile_patterns
from gateway.oversight.access_log.out_of_scope import categories_out_of_scope

NAMES = [".".join(parts) for length in (1, 2, 3, 4) for parts in product(("a", "b"), repeat=length)]
SEGMENTS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)
PATTERNS = st.builds(lambda parts, rest: ".".join([*parts, *rest]), SEGMENTS,
                     st.sampled_from([[], ["**"]])) | st.just("**")  # fmt: skip


@given(PATTERNS, PATTERNS)
def test_patterns_overlap_where_there_is_a_name_that_both_match(one: str, other: str) -> None:
    matches, also = compile_patterns([one], "."), compile_patterns([other], ".")
    both = any(matches(name) and also(name) for name in NAMES)
    assert one_overlaps((one,), other, ".") is both
    assert one_overlaps((other,), one, ".") is both


def view_of(*grants: dict[str, Any]) -> View:
    parsed = tuple(parse_grant({"actions": ["pull"], **grant}) for grant in grants)
    decision = decide_grants(parsed, "pull")
    assert isinstance(decision, Allowed)
    return decision.view


@pytest.mark.parametrize(
    ("granted", "denied", "wanted", "out_of_reach"),
    [
        (["auth.**"], [], ["auth"], []),
        (["auth.*"], [], ["auth"], ["auth"]),
        (["auth.*"], [], ["auth.**", "auth.login", "auth.a.b"], ["auth.a.b"]),
        (["auth.*"], [], ["billing", "**", "*.login", "*"], ["billing", "*"]),
        (["**"], [], ["anything", "gateway.access", "gateway"], ["gateway.access", "gateway"]),
        (["**"], [], ["*.access", "gatewayx"], []),
        (["gateway.keys"], [], ["gateway.*", "gateway.access"], ["gateway.access"]),
        (["**"], ["billing.**"], ["billing.invoice", "billing.**", "b.c"],
         ["billing.invoice", "billing.**"]),
        (["**"], ["billing.*"], ["billing.**"], []),
        (["a", "b"], [], ["a", "b", "c"], ["c"]),
    ],
)  # fmt: skip
def test_what_no_grant_meets_is_out_of_reach(
    granted: list[str], denied: list[str], wanted: list[str], out_of_reach: list[str]
) -> None:
    grants: list[dict[str, Any]] = [{"categories": granted}]
    if denied:
        grants.append({"categories": denied, "effect": "deny"})
    assert list(categories_out_of_scope(view_of(*grants), wanted)) == out_of_reach


def test_a_denial_of_a_part_leaves_the_category_in_reach() -> None:
    view = view_of(
        {"categories": ["**"]},
        {"categories": ["billing"], "effect": "deny", "tenants": ["acme"]},
    )
    assert categories_out_of_scope(view, ["billing"]) == ()
