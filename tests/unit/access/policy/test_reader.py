"""Readers: whether they would have seen everything, said without a look at any event."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.access.policy.reader import SEES_EVERYTHING, Reader

ALL = {"categories": ["**"]}


def parsed(grant: dict[str, Any]) -> Any:
    return parse_grant({"actions": ["pull"], **grant})


def reader(*grants: dict[str, Any], after: int = 0) -> Reader:
    decision = decide_grants(tuple(map(parsed, grants)), "pull")
    if not isinstance(decision, Allowed):
        return Reader(None)
    return Reader(decision.view.bound({3600: after}))


@pytest.mark.parametrize(
    ("grants", "asked", "sees"),
    [
        ([], ALL, False), ([ALL], ALL, True), ([{"categories": ["auth.**"]}], ALL, False),
        ([{"categories": ["a"]}, {"categories": ["b"]}], {"categories": ["a", "b"]}, True),
        ([ALL], {"categories": ["gateway.keys"]}, False),
        ([{**ALL, "tenants": ["x"]}], {**ALL, "tenants": ["x"]}, True),
        ([{**ALL, "tenants": ["x"]}], ALL, False),
        ([{**ALL, "resources": ["k8s:a/**"]}], ALL, False),
        ([{**ALL, "min_severity": 3}], ALL, False),
        ([ALL, {"categories": ["hr"], "effect": "deny"}], ALL, False),
        ([ALL, {"categories": ["hr"], "effect": "deny"}], {"categories": ["auth"]}, True),
        ([{**ALL, "fields": {"mask": ["actor.id"]}}], ALL, True),
        ([{**ALL, "fields": {"mask": ["targets.name"]}}], ALL, True),
        ([{**ALL, "fields": {"mask": ["targets"]}}], ALL, False),
        ([ALL, {"categories": ["a"], "fields": {"drop": ["targets.urn"]}}], ALL, False),
        ([ALL, {"categories": ["a"], "fields": {"drop": ["targets.urn"]}}],
         {"categories": ["b"]}, True),
        ([ALL], {**ALL, "effect": "deny"}, False),
        ([ALL, {"categories": ["gateway.**"]}], {**ALL, "effect": "deny"}, True),
    ],
)  # fmt: skip
def test_a_reader_knows_what_it_sees_all_of(
    grants: list[dict[str, Any]], asked: dict[str, Any], sees: bool
) -> None:
    scope = parsed(asked).scope()
    assert reader(*grants).sees_all(scope, {"targets.urn"}, 0) is sees
    assert SEES_EVERYTHING.sees_all(scope, {"targets.urn"}, 0)


def test_a_reader_does_not_see_all_behind_where_it_looks_back_to() -> None:
    short = reader({**ALL, "when": {"max_lookback": "1h"}}, after=7)
    scope = parsed(ALL).scope()
    assert not short.sees_all(scope, (), 6)
    assert short.sees_all(scope, (), 7)
