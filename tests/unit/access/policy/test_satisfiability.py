"""Whether anything that is selected can be seen: from grants alone, by any member."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.access.policy.satisfiability import selected_values, unsatisfiable_parameter
from gateway.filters.expression import compile_filter
from gateway.filters.overlap import common_pattern
from gateway.filters.pattern import compile_patterns
from gateway.http.query.query import parse_page

NAMES = [".".join(parts) for length in (1, 2, 3, 4) for parts in product(("a", "b"), repeat=length)]
SEGMENTS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)
PATTERNS = st.builds(lambda parts, rest: ".".join([*parts, *rest]), SEGMENTS,
                     st.sampled_from([[], ["**"]])) | st.just("**")  # fmt: skip


@given(PATTERNS, PATTERNS)
def test_the_common_pattern_matches_what_both_match(one: str, other: str) -> None:
    common = common_pattern(one, other, ".")
    tests = [compile_patterns([pattern], ".") for pattern in (one, other)]
    matches = compile_patterns([] if common is None else [common], ".")
    for name in NAMES:
        assert matches(name) == all(test(name) for test in tests)


def view_of(*grants: dict[str, Any]) -> View:
    parsed = tuple(parse_grant({"actions": ["pull"], **grant}) for grant in grants)
    decision = decide_grants(parsed, "pull")
    assert isinstance(decision, Allowed)
    return decision.view


def named(grants: list[dict[str, Any]], **asked: str | list[str]) -> str | None:
    pairs = [
        (name, one)
        for name, values in asked.items()
        for one in (values if isinstance(values, list) else [values])
    ]
    query = parse_page(pairs, 0.0)
    return unsatisfiable_parameter(view_of(*grants), query.wanted, query.filter)


PAY = {"categories": ["auth.*"], "tenants": ["acme"], "resources": ["k8s:prod/ns/pay/**"]}
MASKED = {"categories": ["**"], "fields": {"mask": ["actor", "data.card"], "drop": ["targets"]}}
NAMED = {"categories": ["**"], "fields": {"pseudonymize": ["actor.id", "targets.urn"]}}
ALL = {"categories": ["**"]}


@pytest.mark.parametrize(
    ("grants", "asked", "parameter"),
    [
        ([PAY], {}, None),
        ([PAY], {"tenant": "acme", "category": "auth.login"}, None),
        ([PAY], {"category": "billing"}, "category"),
        ([PAY], {"category": ["billing", "auth.*"]}, None),
        ([PAY], {"tenant": "globex"}, "tenant"),
        ([PAY], {"tenant": ["globex", "*"]}, None),
        ([PAY], {"resource": "k8s:prod/ns/other/**"}, "resource"),
        ([PAY], {"resource": "k8s:prod/**"}, None),
        ([PAY], {"action": "anything", "outcome": "denied", "actor": "bob"}, None),
        ([PAY], {"filter": 'tenant == "globex"'}, "filter"),
        ([PAY], {"filter": 'tenant in ["globex", "acme"]'}, None),
        ([PAY], {"filter": 'category == "Auth"'}, "filter"),
        ([ALL], {"filter": 'category == "Auth"'}, "filter"),
        ([ALL], {"filter": 'outcome == "Denied"'}, "filter"),
        ([ALL], {"filter": 'tenant == "ACME" || severity > 3'}, None),
        ([ALL], {"category": "auth", "filter": 'category == "billing"'}, "filter"),
        ([ALL], {"filter": 'actor.id == "*"'}, None),
        ([ALL], {"category": "gateway.keys"}, "category"),
        ([ALL], {"category": "*.keys"}, None),
        # A pseudonym may stand there; that no value matches is not said of one value alone.
        ([NAMED], {"actor": "bob", "resource": "a/b"}, None),
        ([NAMED], {"filter": 'actor.id == "bob"'}, None),
        ([NAMED, MASKED], {"actor": "bob"}, None),
        ([{**PAY, **NAMED}], {"resource": "ps1_abc"}, None),
        ([{**PAY, **NAMED}], {"resource": "ps1_abc", "actor": "ps1_d", "tenant": "acme"}, None),
        ([{**NAMED, **PAY}], {"resource": "ps1_abc", "tenant": "globex"}, "tenant"),
        # By the members of a key that hides them.
        ([MASKED], {"actor": "bob"}, "actor"),
        ([MASKED], {"actor": "**"}, None),
        ([MASKED], {"resource": "a/**"}, "resource"),
        ([MASKED], {"filter": 'data.card == "4111"'}, "filter"),
        ([MASKED], {"filter": 'actor.id == "***"'}, None),
        ([MASKED, PAY], {"actor": "bob"}, None),
        # Each of two grants lets in a part only.
        ([{"categories": ["a"], "tenants": ["x"]}, {"categories": ["b"], "tenants": ["y"]}],
         {"tenant": "x", "category": "b"}, "category"),
        # What is denied.
        ([ALL, {"categories": ["**"], "tenants": ["acme"], "effect": "deny"}], {"tenant": "acme"},
         "tenant"),
        ([ALL, {"categories": ["auth.**"], "effect": "deny"}], {"category": "auth.*"}, "category"),
        ([ALL, {"categories": ["auth.x"], "effect": "deny"}], {"category": "auth.*"}, None),
        ([PAY, {"categories": ["auth.**"], "effect": "deny"}], {"tenant": "acme"}, "tenant"),
        ([ALL, {"categories": ["**"], "min_severity": 4, "effect": "deny"}], {"tenant": "a"}, None),
        ([ALL, {"categories": ["**"], "resources": ["a/**"], "effect": "deny"}],
         {"resource": ["a/b", "a/*"]}, "resource"),
    ],
)  # fmt: skip
def test_the_parameter_is_named_with_which_nothing_can_match(
    grants: list[dict[str, Any]], asked: dict[str, Any], parameter: str | None
) -> None:
    assert named(grants, **asked) == parameter


_TENANTS = st.lists(st.sampled_from(["a", "b", "a.*", "*", "**", "a.b"]), max_size=2, unique=True)
_GRANTS = st.lists(
    st.tuples(_TENANTS, st.lists(st.sampled_from(["a", "b", "a.**", "**"]), min_size=1, max_size=2),
              st.sampled_from(["allow", "deny"])),
    min_size=1, max_size=3,
)  # fmt: skip


@given(_GRANTS, _TENANTS, st.lists(st.sampled_from(["a", "b", "a.*", "a.b"]), max_size=2))
def test_nothing_is_said_of_a_selection_that_matches_something(
    grants: list[Any], tenants: list[str], categories: list[str]
) -> None:
    parsed: list[dict[str, Any]] = [{"categories": ["b"], "tenants": ["b"]}]
    for having, of, effect in grants:
        parsed.append(
            {"categories": of, "effect": effect, **({"tenants": having} if having else {})}
        )
    sees = view_of(*parsed).compile()
    query = parse_page([*(("tenant", one) for one in tenants),
                        *(("category", one) for one in categories)], 0.0)  # fmt: skip
    wanted = query.wanted.compile()
    found = any(
        sees(event) and wanted(event)
        for tenant, category in product(NAMES, NAMES)
        for event in [_Event(tenant, category)]
    )
    said = unsatisfiable_parameter(view_of(*parsed), query.wanted, None)
    assert not (found and said)
    # The other way round it holds for one denial at a time; several together may cover more.
    if sum(effect == "deny" for _, _, effect in grants) < 1 and (tenants or categories):
        assert found == (said is None)


class _Event:
    action, outcome, severity, actor, resources = "a", "success", 1, "", ""

    def __init__(self, tenant: str, category: str) -> None:
        self.tenant, self.category = tenant, category


def test_what_was_selected_is_said_with_its_parameter() -> None:
    query = parse_page([("tenant", "b"), ("tenant", "a"), ("filter", 'tenant=="c"')], 0.0)
    assert selected_values("tenant", query.wanted, query.filter) == ("tenant=a", "tenant=b")
    assert selected_values("filter", query.wanted, compile_filter('tenant=="c"')) == (
        'filter=tenant == "c"',
    )  # fmt: skip


def test_large_selections_in_large_grants_are_not_compared_one_by_one() -> None:
    # How many comparisons there are is bounded, whatever a key and a request hold.
    grants = [
        {"categories": [f"a{n}.x{m}" for m in range(256)], "tenants": [f"t{m}" for m in range(256)]}
        for n in range(8)
    ]
    assert named(grants, tenant=[f"u{n}" for n in range(40)]) is None
    assert named(grants[:1], tenant=["u1"]) == "tenant"
