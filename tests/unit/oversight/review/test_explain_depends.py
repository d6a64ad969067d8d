"""An explanation of what is described by halves: it depends on what was not said."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from gateway.access.grants.grant import parse_grant
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.oversight.review.access_query import parse_access_query
from gateway.oversight.review.explain import Explanation, explain

NOW = 1_700_000_000.0
PAY = {"id": "g1", "categories": ["k8s.**"], "resources": ["k8s:prod/ns/pay/**"]}


def explained(*grants: dict[str, Any], **asked: Any) -> Explanation:
    parsed = tuple(parse_grant({"actions": ["pull"], **one}) for one in grants)
    key = Key(id="k" * 12, digest=b"", name="n", purpose="p", grants=parsed, created_at=0.0,
              expires_at=NOW + 60)  # fmt: skip
    query = parse_access_query({"action": "pull", **asked}, NOW)
    return explain(key, grants_of_key(key, {}), query)


def test_a_category_alone_depends_on_the_resource_and_names_the_patterns() -> None:
    shown = to_builtins(explained(PAY, category="k8s.audit").public())
    assert (shown["decision"], shown["reason_code"]) == ("depends", "depends_on_resource")
    assert shown["depends_on"] == [
        {"member": "resource", "grant": "g1", "effect": "allow",
         "patterns": ["k8s:prod/ns/pay/**"]},
    ]  # fmt: skip
    assert shown["nearest"] is None


@pytest.mark.parametrize(
    ("grants", "asked", "decision", "reason"),
    [
        ([PAY], {"category": "k8s.audit", "resource": "k8s:prod/ns/pay/x"}, "allow", "granted"),
        ([PAY], {"category": "k8s.audit", "resource": "k8s:prod/ns/x"}, "deny",
         "event_not_granted"),
        ([PAY], {"category": "k8s.audit", "resource": []}, "deny", "event_not_granted"),
        ([PAY], {"event": {"category": "k8s.audit", "action": "a"}}, "deny", "event_not_granted"),
        ([PAY], {"category": "billing"}, "deny", "event_not_granted"),
        ([PAY, {"categories": ["k8s.*"]}], {"category": "k8s.audit"}, "allow", "granted"),
        ([{"categories": ["**"], "resources": ["**"]}], {"category": "a"}, "allow", "granted"),
        ([{"categories": ["a"], "tenants": ["acme"]}], {"category": "a"}, "depends",
         "depends_on_tenant"),
        # What stands in for what was not said counts for nothing.
        ([{"categories": ["a"], "tenants": ["default"]}], {"category": "a"}, "depends",
         "depends_on_tenant"),
        ([{"categories": ["a"], "min_severity": 3}], {"category": "a"}, "depends",
         "depends_on_severity"),
        ([{"categories": ["a"], "min_severity": 3}], {"category": "a", "severity": 4}, "allow",
         "granted"),
        # A denial of some of them.
        ([{"categories": ["**"]}, {"categories": ["a"], "tenants": ["x"], "effect": "deny"}],
         {"category": "a"}, "depends", "depends_on_tenant"),
        ([{"categories": ["**"]}, {"categories": ["a"], "tenants": ["x"], "effect": "deny"}],
         {"category": "a", "tenant": "x"}, "deny", "denied_by_grant"),
        ([PAY, {"categories": ["k8s.*"], "effect": "deny"}], {"category": "k8s.audit"}, "deny",
         "denied_by_grant"),
        ([{"categories": ["a"], "tenants": ["x"], "effect": "deny"}], {"category": "a"}, "deny",
         "action_not_granted"),
    ],
)  # fmt: skip
def test_it_depends_only_where_a_grant_wants_what_was_not_said(
    grants: list[dict[str, Any]], asked: dict[str, Any], decision: str, reason: str
) -> None:
    found = explained(*grants, **asked)
    assert (found.decision, found.reason_code) == (decision, reason)
    assert found.allowed == (decision == "allow")


def test_what_is_not_said_is_no_failure_of_the_nearest_grant() -> None:
    found = explained({**PAY, "tenants": ["acme"]}, category="billing")
    assert [one.predicate for one in found.failed] == ["categories"]
