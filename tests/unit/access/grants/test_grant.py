"""Grants from JSON: the shape of the design, and every refusal by name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import network as network_module
from gateway.access.grants.grant import (
    ACTIONS,
    MAX_GRANTS,
    Grant,
    decode_grant_text,
    parse_grant,
    parse_grants,
)
from gateway.errors import InvalidRequest
from gateway.filters.scope import Scope

LEAST: dict[str, Any] = {"actions": ["stream"], "categories": ["auth.*"]}


def refusal(raw: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_grant(raw)
    return caught.value


def test_the_grant_of_the_design_is_read_member_by_member() -> None:
    grant = parse_grant(
        {
            "id": "g1",
            "effect": "allow",
            "actions": ["stream", "pull"],
            "tenants": ["acme"],
            "categories": ["auth.*"],
            "resources": ["k8s:prod/ns/pay/**"],
            "min_severity": 2,
        }
    )
    assert grant == Grant(
        id="g1",
        effect="allow",
        actions=("stream", "pull"),
        tenants=("acme",),
        categories=("auth.*",),
        resources=("k8s:prod/ns/pay/**",),
        min_severity=2,
    )
    assert grant.scope() == Scope(
        tenant=("acme",),
        category=("auth.*",),
        resource=("k8s:prod/ns/pay/**",),
        min_severity=2,
        reserved=False,
    )


def test_two_grants_of_one_name_are_refused_and_any_number_without_a_name_are_not() -> None:
    assert len(parse_grants([LEAST, LEAST, {**LEAST, "id": "a"}, {**LEAST, "id": "b"}])) == 4
    with pytest.raises(InvalidRequest, match="the same id"):
        parse_grants([{**LEAST, "id": "a"}, {**LEAST, "id": "a"}])


def test_what_is_left_out_means_no_restriction() -> None:
    grant = parse_grant(LEAST)
    assert (grant.id, grant.effect, grant.min_severity) == ("", "allow", 1)
    assert grant.tenants == grant.resources == ()


def test_a_deny_reaches_the_gateways_records_and_an_allow_does_not() -> None:
    assert parse_grant({**LEAST, "effect": "deny"}).scope().reserved is True
    assert parse_grant({**LEAST, "effect": "allow"}).scope().reserved is False


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_the_design_is_known(action: str) -> None:
    assert parse_grant({**LEAST, "actions": [action]}).actions == (action,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"actions": []}, "actions"),
        ({"actions": ["read"]}, "'read'"),
        ({"actions": ["*"]}, "'*'"),
        ({"actions": "stream"}, "actions"),
        ({"categories": []}, "categories"),
        ({"categories": "auth"}, "categories"),
        ({"categories": [""]}, "categories"),
        ({"categories": ["auth*"]}, "'auth*'"),
        ({"categories": ["**.x"]}, "'**.x'"),
        ({"categories": [None]}, "categories"),
        ({"tenants": ["a**"]}, "'a**'"),
        ({"tenants": None}, "tenants"),
        ({"resources": ["a/**/b"]}, "'a/**/b'"),
        ({"resources": ["x" * 1025]}, "resource"),
        ({"categories": ["a"] * 257}, "257 values"),
        ({"min_severity": 0}, "min_severity"),
        ({"min_severity": 7}, "min_severity"),
        ({"min_severity": "3"}, "min_severity"),
        ({"min_severity": True}, "min_severity"),
        ({"effect": "Allow"}, "effect"),
        ({"effect": None}, "effect"),
        ({"id": 7}, "id"),
        ({"tenant": ["acme"]}, "'tenant'"),
        ({"Actions": ["stream"]}, "'Actions'"),
    ],
)
def test_a_malformed_member_is_named(change: dict[str, Any], named: str) -> None:
    error = refusal({**LEAST, **change})
    assert error.code == "invalid_grant"
    assert named in error.detail


@pytest.mark.parametrize("member", ["actions", "categories"])
def test_actions_and_categories_are_required(member: str) -> None:
    error = refusal({name: value for name, value in LEAST.items() if name != member})
    assert (error.code, member in error.detail) == ("invalid_grant", True)


@pytest.mark.parametrize(
    ("member", "value", "named"),
    [
        ("fields", {"mask": ["tenant"]}, "'tenant' cannot be hidden"),
        ("fields", {"mask": ["actor.nam"]}, "'actor.nam' cannot be hidden"),
        ("fields", {"drop": ["cursor"]}, "'cursor' cannot be hidden"),
        ("fields", {"mask": ["data..x"]}, "empty part"),
        ("fields", {"hide": ["actor.name"]}, "unknown field `hide`"),
        ("when", {"cidr": ["10.0.0.0/33"]}, "'10.0.0.0/33' is not a network"),
        ("when", {"cidr": ["10.0.0.1/8"]}, "'10.0.0.1/8' is not a network"),
        ("when", {"hours": "6-20"}, "write it like 06-20"),
        ("when", {"hours": "06-06"}, "no time at all"),
        ("when", {"hours": "06-20", "tz": "Europe/Nowhere"}, "no time zone"),
        ("when", {"tz": "../etc/passwd"}, "no time zone"),
        ("when", {"max_lookback": "a day"}, "not a duration"),
        ("when", {"until": "noon"}, "unknown field `until`"),
    ],
)
def test_a_restriction_that_makes_no_sense_is_refused(member: str, value: Any, named: str) -> None:
    error = refusal({**LEAST, member: value})
    assert (error.code, named in error.detail) == ("invalid_grant", True), error.detail


def test_a_denial_hides_whole_events() -> None:
    error = refusal({**LEAST, "effect": "deny", "fields": {"mask": ["actor.name"]}})
    assert "leave out `fields`" in error.detail


@pytest.mark.parametrize("raw", [None, [], "stream", 3, [LEAST]])
def test_a_grant_is_an_object(raw: Any) -> None:
    assert refusal(raw).code == "invalid_grant"


def test_grants_are_a_bounded_list() -> None:
    assert parse_grants([]) == ()
    assert len(parse_grants([LEAST] * MAX_GRANTS)) == MAX_GRANTS
    for raw in (LEAST, None, "x", [LEAST] * (MAX_GRANTS + 1), [LEAST, {}]):
        with pytest.raises(InvalidRequest) as caught:
            parse_grants(raw)
        assert caught.value.code == "invalid_grant"


def test_a_grant_as_text_is_the_same_grant() -> None:
    assert decode_grant_text('{"actions":["stream"],"categories":["auth.*"]}') == LEAST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stream",
        "{'actions': ['stream']}",
        '{"actions":["stream"],"categories":["a"],"min_severity":NaN}',
        '{"actions":["stream"],"categories":["\\ud800"]}',
        "[" * 100_000,
        "null",
    ],
    ids=["empty", "bare", "quotes", "nan", "surrogate", "deep", "null"],
)
def test_text_that_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_grant(decode_grant_text(text))
    assert caught.value.code == "invalid_grant"
    caught.value.detail.encode()


def test_networks_are_not_read_anew_for_every_request_of_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = {"cidr": [f"10.{n}.0.0/16" for n in range(64)]}
    when = parse_grant({**LEAST, "when": many}).when
    assert when is not None
    assert when.holds(0.0, "10.63.7.7") is None
    assert when.holds(0.0, "10.64.7.7") == "address_not_allowed"
    monkeypatch.delattr(network_module, "ip_address")
    monkeypatch.delattr(network_module, "ip_network")
    assert when.holds(0.0, "10.63.7.7") is None
    assert when.holds(0.0, "10.64.7.7") == "address_not_allowed"
