"""Decisions over grants: default deny, deny wins, and who sees the gateway's own records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import ACTIONS, IMPLIED_BY, NOT_ABOUT_EVENTS, Grant, parse_grant
from gateway.access.keys.key import Key
from gateway.access.policy.decision import Allowed, Denied, View, decide_grants
from gateway.event import Event
from gateway.filters.pattern import compile_patterns
from tests.support.decisions import decide

MakeEvent = Callable[..., Event]
NOW = 1_700_000_000.0

POD = "k8s:prod/ns/pay/pods/web-1"
EVENTS: dict[str, dict[str, Any]] = {
    "login": {"tenant": "acme", "category": "auth.login", "severity": 1},
    "alarm": {"tenant": "acme", "category": "auth.login", "severity": 5},
    "other": {"tenant": "globex", "category": "auth.login", "severity": 1},
    "pod": {"tenant": "acme", "category": "k8s.audit", "resources": f"k8s:dev/x\n{POD}"},
    "own": {"tenant": "gateway", "category": "gateway.keys", "severity": 3},
}
ALL = set(EVENTS)


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def key(*grants: Grant, **members: Any) -> Key:
    made = Key(
        id="k" * 12, digest=b"", name="n", purpose="p", grants=grants, created_at=NOW,
        expires_at=NOW + 60,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


def view_of(grants: tuple[Grant, ...]) -> View:
    decision = decide_grants(grants, "stream")
    assert isinstance(decision, Allowed)
    return decision.view


@pytest.mark.parametrize(
    ("grants", "seen"),
    [
        ([grant("auth.login")], {"login", "alarm", "other"}),
        ([grant("auth.*")], {"login", "alarm", "other"}),
        ([grant("auth")], set()),
        ([grant("*")], set()),
        ([grant("**")], ALL - {"own"}),
        ([grant("*.keys")], set()),
        ([grant("*.**")], ALL - {"own"}),
        ([grant("gateway.**")], {"own"}),
        ([grant("gateway.keys")], {"own"}),
        ([grant("gateway.*")], {"own"}),
        ([grant("**", "gateway.**")], ALL),
        ([grant("**"), grant("gateway.**")], ALL),
        ([grant("**", tenants=["gateway"])], set()),
        ([grant("**", tenants=["acme"])], {"login", "alarm", "pod"}),
        ([grant("**", min_severity=5)], {"alarm"}),
        ([grant("**", resources=["k8s:prod/ns/pay/**"])], {"pod"}),
        ([grant("**", resources=["k8s:prod/**"], tenants=["globex"])], set()),
        ([grant("**", resources=["**"])], ALL - {"own"}),
        ([grant("**", resources=["*"])], set()),
        ([grant("auth.**", tenants=["globex"]), grant("k8s.**")], {"other", "pod"}),
        ([grant("**"), grant("auth.**", effect="deny")], {"pod"}),
        ([grant("auth.**", effect="deny"), grant("**")], {"pod"}),
        ([grant("**"), grant("**", effect="deny", min_severity=5)], ALL - {"own", "alarm"}),
        ([grant("**"), grant("**", effect="deny", tenants=["acme"])], {"other"}),
        ([grant("**"), grant("**", effect="deny", resources=["k8s:prod/**"])],
         {"login", "alarm", "other"}),
        ([grant("gateway.**"), grant("**", effect="deny")], set()),
        ([grant("gateway.**"), grant("*.keys", effect="deny")], set()),
        ([grant("**"), grant("**", effect="deny")], set()),
    ],
)  # fmt: skip
def test_a_view_contains_exactly_what_its_grants_say(
    event: MakeEvent, grants: list[Grant], seen: set[str]
) -> None:
    sees = view_of(tuple(grants)).compile()
    assert {name for name, members in EVENTS.items() if sees(event(**members))} == seen


def test_without_a_grant_of_the_action_everything_is_denied() -> None:
    refused = Denied("action_not_granted")
    assert decide(key(), "stream", NOW) == refused
    assert decide(key(grant("**")), "pull", NOW) == refused
    assert decide(key(grant("**", effect="deny")), "stream", NOW) == refused


@pytest.mark.parametrize("action", ACTIONS)
def test_a_grant_allows_the_actions_it_names_or_implies_and_no_other(action: str) -> None:
    named = key(grant("**", actions=[action]))
    kept = {action, IMPLIED_BY.get(action)}
    others = key(grant("**", actions=[other for other in ACTIONS if other not in kept]))
    assert isinstance(decide(named, action, NOW), Allowed)
    assert isinstance(decide(others, action, NOW), Denied)


def test_a_deny_counts_for_its_own_actions_only(event: MakeEvent) -> None:
    grants = (
        grant("**", actions=["stream", "pull"]),
        grant("auth.**", actions=["pull"], effect="deny"),
    )
    decisions = [decide_grants(grants, action) for action in ("stream", "pull")]
    views = [decision.view for decision in decisions if isinstance(decision, Allowed)]
    assert [view.compile()(event(**EVENTS["login"])) for view in views] == [True, False]


@pytest.mark.parametrize("action", NOT_ABOUT_EVENTS)
@pytest.mark.parametrize(
    "denial",
    [
        grant("**", effect="deny", actions=list(ACTIONS)),
        grant("auth.login", effect="deny", actions=list(ACTIONS), tenants=["acme"], min_severity=6),
    ],
    ids=["of everything", "of a few events"],
)
def test_a_deny_refuses_what_is_not_about_events_as_a_whole(action: str, denial: Grant) -> None:
    allowing = grant("**", "gateway.**", actions=list(ACTIONS))
    for grants in ((allowing, denial), (denial, allowing)):
        assert decide_grants(grants, action) == Denied("denied_by_grant")
        assert isinstance(decide_grants(grants, "pull"), Allowed)
    assert decide_grants((denial,), action) == Denied("action_not_granted")


def test_a_deny_of_duties_counts_where_and_when_it_says() -> None:
    grants = (
        grant("**", actions=["keys.admin", "usage.read"]),
        grant("**", effect="deny", actions=["keys.admin"], when={"cidr": ["10.0.0.0/8"]}),
    )
    assert decide_grants(grants, "keys.admin", address="10.1.2.3") == Denied("denied_by_grant")
    assert isinstance(decide_grants(grants, "keys.admin", address="192.0.2.1"), Allowed)
    assert isinstance(decide_grants(grants, "usage.read", address="10.1.2.3"), Allowed)


def test_a_key_expires_at_its_time_not_after_it() -> None:
    for age, expected in ((59.999, Allowed), (60.0, Denied), (61.0, Denied)):
        assert isinstance(decide(key(grant("**")), "stream", NOW + age), expected)
    assert decide(key(grant("**")), "stream", NOW + 60) == Denied("key_expired")


def test_revoked_is_said_before_expired_and_before_not_granted() -> None:
    revoked = key(revoked_at=NOW, revoked_reason="left")
    assert decide(revoked, "stream", NOW) == Denied("key_revoked")
    assert decide(revoked, "stream", NOW + 1000) == Denied("key_revoked")
    assert decide(key(), "stream", NOW + 1000) == Denied("key_expired")


def test_states_follow_time_and_revoked_stays_revoked() -> None:
    assert [key().state(NOW + age) for age in (0, 59, 60)] == ["active", "active", "expired"]
    assert key(revoked_at=NOW).state(NOW + 1000) == "revoked"


def test_what_administration_shows_never_holds_the_digest() -> None:
    shown = key(grant("**"), digest=b"secret digest", revoked_at=NOW, revoked_reason="left")
    public = msgspec.to_builtins(shown.public(NOW))
    assert "digest" not in public
    assert b"secret digest" not in msgspec.json.encode(public)
    assert public["state"] == "revoked"
    assert public["revoked_at"] == "2023-11-14T22:13:20.000000Z"
    assert public["grants"] == ({"actions": ("stream",), "categories": ("**",)},)


def test_equal_grants_give_equal_views_that_hash_alike() -> None:
    one = view_of((grant("auth.*", id="g1"), grant("auth.*", id="g2")))
    other = view_of((grant("auth.*"),))
    assert one == other
    assert hash(one) == hash(other)


CATEGORIES = st.sampled_from(
    ["**", "*", "*.keys", "*.**", "auth.*", "auth.**", "auth.login", "gateway.**", "gateway.keys"]
)
generated = st.builds(
    Grant,
    effect=st.sampled_from(["allow", "allow", "deny"]),
    actions=st.sampled_from([("stream",), ("pull",), ("stream", "pull")]),
    categories=st.lists(CATEGORIES, min_size=1, max_size=2).map(tuple),
    tenants=st.lists(st.sampled_from(["acme", "*", "globex"]), max_size=1).map(tuple),
    resources=st.lists(st.sampled_from(["**", "k8s:prod/**", "*"]), max_size=1).map(tuple),
    min_severity=st.integers(1, 5),
)


def speaks_of(one: Grant, item: Event) -> bool:
    patterns = one.categories
    if one.effect == "allow" and item.category.startswith("gateway."):
        patterns = tuple(pattern for pattern in patterns if not pattern.startswith("*"))
    urns = item.resources.split("\n") if item.resources else []
    return (
        "stream" in one.actions
        and compile_patterns(patterns, ".")(item.category)
        and (not one.tenants or compile_patterns(one.tenants, ".")(item.tenant))
        and (not one.resources or "**" in one.resources
             or any(map(compile_patterns(one.resources, "/"), urns)))
        and item.severity >= one.min_severity
    )  # fmt: skip


@given(st.lists(generated, max_size=5).map(tuple), st.sampled_from(sorted(EVENTS)))
def test_visible_is_what_some_grant_allows_and_none_denies(
    event: MakeEvent, grants: tuple[Grant, ...], name: str
) -> None:
    item = event(**EVENTS[name])
    speaking = {one.effect for one in grants if speaks_of(one, item)}
    decision = decide_grants(grants, "stream")
    visible = isinstance(decision, Allowed) and decision.view.compile()(item)
    assert visible == (speaking == {"allow"})
