"""Explanations: the decision that is made, and the predicate that failed first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.grants.grant import NOT_ABOUT_EVENTS, Grant, When, parse_grant
from gateway.access.grants.mask import Masks
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import AttributedGrant, grants_of_key
from gateway.access.policy.decision import Allowed
from gateway.event import Event
from gateway.filters.scope import Described
from gateway.oversight.review.explain import AccessQuery, Explanation, explain
from tests.support.decisions import decide
from tests.support.examples import examples

MakeEvent = Callable[..., Event]
NOON, NIGHT = 1_700_049_600.0, 1_700_092_800.0  # 2023-11-15, 12:00 and 24:00 UTC
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def key(*grants: Grant, **members: Any) -> Key:
    made = Key(
        id="k" * 12, digest=b"", name="n", purpose="p", grants=grants, created_at=0.0,
        expires_at=NIGHT + 60,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


def explained(
    one: Key, event: Described | None = None, *, action: str = "stream", now: float = NOON,
    address: str | None = INSIDE, age: float | None = None,
    roles: dict[str, tuple[Grant, ...]] | None = None,
) -> Explanation:  # fmt: skip
    query = AccessQuery(action=action, now=now, address=address, event=event, age=age)
    return explain(one, grants_of_key(one, roles or {}), query)


def names(explanation: Explanation) -> list[str]:
    return [one.name for one in explanation.grants]


def predicates(explanation: Explanation) -> list[str]:
    return [failure.predicate for failure in explanation.failed]


def test_what_is_allowed_names_the_grants_and_their_masks(event: MakeEvent) -> None:
    one = key(
        grant("auth.*", id="g1", fields={"mask": ["actor.name"]}),
        grant("**", fields={"drop": ["data.card"]}),
        grant("billing", id="g3"),
        roles=("team",),
    )
    roles = {"team": (grant("auth.login"),)}
    found = explained(one, event(category="auth.login"), roles=roles)
    assert (found.allowed, found.reason_code) == (True, "granted")
    assert names(found) == ["g1", "2", "team/1"]
    assert found.public().nearest is None
    assert list(found.public().masks) == ["actor.name"]
    assert list(found.public().drops) == ["data.card"]


@pytest.mark.parametrize(
    ("members", "predicate", "expected", "actual"),
    [
        ({"tenant": "globex"}, "tenants", ["acme"], "globex"),
        ({"category": "billing"}, "categories", ["auth.*"], "billing"),
        ({"resources": "k8s:dev/x\nk8s:dev/y"}, "resources", ["k8s:prod/**"],
         ["k8s:dev/x", "k8s:dev/y"]),
        ({"resources": ""}, "resources", ["k8s:prod/**"], []),
        ({"severity": 2}, "min_severity", 3, 2),
    ],
)  # fmt: skip
def test_the_predicate_that_failed_is_named_with_what_it_wanted_and_what_it_got(
    event: MakeEvent, members: dict[str, Any], predicate: str, expected: Any, actual: Any
) -> None:
    one = key(grant("auth.*", id="g1", tenants=["acme"], resources=["k8s:prod/**"], min_severity=3))
    right = {"tenant": "acme", "category": "auth.login", "severity": 4, "resources": "k8s:prod/x"}
    assert explained(one, event(**right)).allowed
    found = explained(one, event(**{**right, **members}))
    assert (found.allowed, found.reason_code) == (False, "event_not_granted")
    nearest = found.public().nearest
    assert (nearest["name"], nearest["predicate"]) == ("g1", predicate)
    assert (nearest["expected"], nearest["actual"]) == (expected, actual)
    assert predicates(found) == [predicate]


def test_the_nearest_is_the_grant_of_which_the_least_fails(event: MakeEvent) -> None:
    one = key(
        grant("billing", id="far", tenants=["other"], min_severity=6),
        grant("**", id="other-action", actions=["pull"]),
        grant("auth.*", id="near", tenants=["globex"]),
    )
    found = explained(one, event(category="auth.login"))
    assert found.nearest is not None
    assert found.nearest.name == "near"
    assert predicates(found) == ["tenants"]


def test_an_action_that_no_grant_names_is_said_to_be_that(event: MakeEvent) -> None:
    one = key(grant("auth.*", id="g1"))
    for asked_of in (None, event(category="auth.login")):
        found = explained(one, asked_of, action="pull")
        assert (found.reason_code, predicates(found)) == ("action_not_granted", ["actions"])
    empty = explained(key(), event())
    assert (empty.reason_code, empty.public().nearest) == ("action_not_granted", None)


@pytest.mark.parametrize(
    ("when", "options", "reason", "predicate", "actual"),
    [
        ({"cidr": ["10.0.0.0/8"]}, {"address": OUTSIDE}, "address_not_allowed", "when.cidr",
         OUTSIDE),
        ({"cidr": ["10.0.0.0/8"]}, {"address": None}, "address_not_allowed", "when.cidr", None),
        ({"hours": "06-20"}, {"now": NIGHT}, "outside_hours", "when.hours", "00"),
        ({"hours": "06-20", "tz": "Asia/Tokyo"}, {"now": NOON}, "outside_hours", "when.hours",
         "21"),
        ({"max_lookback": "1h"}, {"age": 3601.0}, "beyond_lookback", "when.max_lookback", "3601s"),
    ],
)  # fmt: skip
def test_circumstances_that_do_not_hold_are_named(
    event: MakeEvent,
    when: dict[str, Any],
    options: dict[str, Any],
    reason: str,
    predicate: str,
    actual: Any,
) -> None:
    one = key(grant("**", when=when))
    found = explained(one, event(), **options)
    assert (found.allowed, found.reason_code) == (False, reason)
    assert predicates(found) == [predicate]
    assert found.failed[0].actual == actual


def test_what_is_within_its_circumstances_is_allowed(event: MakeEvent) -> None:
    when = {"cidr": ["10.0.0.0/8"], "hours": "06-20", "max_lookback": "1h"}
    assert explained(key(grant("**", when=when)), event(), age=3600.0).allowed


def test_a_denial_wins_and_is_named_beside_what_would_have_allowed(event: MakeEvent) -> None:
    one = key(grant("**", id="all"), grant("auth.**", id="not-auth", effect="deny"))
    found = explained(one, event(category="auth.login"))
    assert (found.allowed, found.reason_code) == (False, "denied_by_grant")
    assert names(found) == ["all", "not-auth"]
    nearest = found.public().nearest
    assert (nearest["name"], nearest["predicate"]) == ("not-auth", "effect")
    assert list(found.public().masks) == []


def test_a_denial_of_a_duty_is_named_without_an_event() -> None:
    one = key(
        grant("**", id="all", actions=["keys.admin"]),
        grant("auth", id="no-keys", effect="deny", actions=["keys.admin"]),
    )
    found = explained(one, action="keys.admin")
    assert (found.allowed, found.reason_code) == (False, "denied_by_grant")
    assert names(found) == ["all", "no-keys"]
    nearest = found.public().nearest
    assert (nearest["name"], nearest["predicate"]) == ("no-keys", "effect")


def test_a_denial_of_some_events_leaves_the_action_allowed() -> None:
    one = key(grant("**"), grant("auth.**", effect="deny"))
    assert explained(one).allowed


@pytest.mark.parametrize(
    ("members", "state", "reason"),
    [
        ({"revoked_at": NOON}, "revoked", "key_revoked"),
        ({"expires_at": NOON}, "expired", "key_expired"),
        ({"suspended_at": NOON}, "suspended", "key_suspended"),
    ],
)
def test_the_state_of_a_key_is_said_before_its_grants(
    event: MakeEvent, members: dict[str, Any], state: str, reason: str
) -> None:
    found = explained(key(grant("**"), **members), event())
    assert (found.allowed, found.reason_code) == (False, reason)
    nearest = found.public().nearest
    assert (nearest["predicate"], nearest["actual"]) == ("state", state)
    assert names(found) == ["1"]


@pytest.mark.parametrize(
    ("members", "predicate"),
    [({"category": "gateway.keys"}, "category"), ({"category": "gateway"}, "category"),
     ({"tenant": "gateway"}, "tenant")],
)  # fmt: skip
def test_nobody_is_said_to_send_the_gateways_own_records(
    event: MakeEvent, members: dict[str, Any], predicate: str
) -> None:
    one = key(grant("**", "gateway.**", actions=["ingest", "pull"]))
    found = explained(one, event(**members), action="ingest")
    assert (found.allowed, found.reason_code) == (False, "reserved")
    assert (predicates(found), found.nearest) == ([predicate], None)
    assert explained(one, event(**members), action="pull").allowed
    assert explained(one, event(category="gatewayx"), action="ingest").allowed
    assert explained(one, action="ingest").allowed
    unable = explained(key(grant("**")), event(**members), action="ingest")
    assert unable.reason_code == "action_not_granted"


def test_masks_are_claimed_of_what_is_read_only(event: MakeEvent) -> None:
    both = grant("**", actions=["ingest", "pull"], fields={"mask": ["reason"]})
    shown = {
        action: explained(key(both), event(), action=action).masks.mask
        for action in ("ingest", "pull")
    }
    assert shown == {"ingest": (), "pull": ("reason",)}


def test_a_throttled_key_is_said_to_be_throttled(event: MakeEvent) -> None:
    one = key(grant("auth"), throttled_until=NOON + 60)
    for action in ("stream", "pull"):
        shown = msgspec.to_builtins(explained(one, event(category="auth"), action=action).public())
        assert shown["decision"] == ("allow" if action == "stream" else "deny")
        assert shown["throttled_until"] == "2023-11-15T12:01:00.000000Z"
    assert "throttled_until" not in msgspec.to_builtins(explained(one, now=NOON + 60).public())


def test_without_an_event_no_masks_are_claimed() -> None:
    found = explained(key(grant("**", fields={"mask": ["reason"]})))
    assert (found.allowed, list(found.public().masks)) == (True, [])


# It never says anything else than what is enforced.


def patterns(*of: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(of), max_size=2, unique=True).map(tuple)


hidden = patterns("actor", "actor.name", "data.card").map(lambda paths: tuple(sorted(paths)))


def grants_with(effect: str) -> st.SearchStrategy[Grant]:
    return st.builds(
        Grant,
        effect=st.just(effect),
        actions=st.sampled_from([("stream",), ("pull",), ("stream", "pull"), ("keys.admin",)]),
        categories=st.sampled_from([("**",), ("auth.*",), ("gateway.**", "*"), ("*.keys",)]),
        tenants=patterns("acme", "*"),
        resources=patterns("**", "x/**", "*"),
        min_severity=st.sampled_from([1, 3]),
        fields=st.none() | st.builds(Masks, hidden, hidden) if effect == "allow" else st.none(),
        when=st.none()
        | st.builds(
            When,
            cidr=st.sampled_from([(), ("10.0.0.0/8",)]),
            hours=st.sampled_from([None, "06-20"]),
            max_lookback=st.sampled_from([None, "1h"]),
        ),
    )


any_grants = st.lists(
    st.one_of(grants_with("allow"), grants_with("allow"), grants_with("deny")), max_size=4
).map(tuple)


@settings(max_examples=examples(200))
@given(
    own=any_grants,
    of_role=any_grants,
    action=st.sampled_from(["stream", "pull", "keys.admin"]),
    now=st.sampled_from([NOON, NIGHT]),
    address=st.sampled_from([INSIDE, OUTSIDE, None]),
    old=st.booleans(),
    category=st.sampled_from(["auth", "auth.login", "gateway.keys", "gateway.rejected", "x.keys"]),
    resources=st.sampled_from(["", "x/y", "z\nx/y"]),
    severity=st.sampled_from([1, 4]),
    state=st.sampled_from([{}, {}, {}, {"revoked_at": 1.0}, {"suspended_at": 1.0}]),
)
def test_an_explanation_says_what_the_decision_says(
    event: MakeEvent, own: tuple[Grant, ...], of_role: tuple[Grant, ...], action: str, now: float,
    address: str | None, old: bool, category: str, resources: str, severity: int,
    state: dict[str, float],
) -> None:  # fmt: skip
    one = key(*own, roles=("r",), **state)
    item = event(1, category=category, resources=resources, severity=severity)
    about_events = action not in NOT_ABOUT_EVENTS
    found = explained(
        one, item if about_events else None, action=action, now=now, address=address,
        age=(7200.0 if old else 60.0) if about_events else None, roles={"r": of_role},
    )  # fmt: skip
    decision = decide(one, action, now, address=address, roles={"r": of_role})
    worn = None
    if isinstance(decision, Allowed):
        rules = decision.view.rules
        bound = decision.view.bound({rule.lookback: 1 for rule in rules if old and rule.lookback})
        worn = bound.masks_for()(item) if about_events else Masks()
        if worn is not None and category != "gateway.rejected":
            # Other events have no such member.
            worn = Masks(tuple(one for one in worn.mask if one != "data.rejected_item"), worn.drop)
    else:
        assert found.reason_code == decision.reason
    assert found.allowed == (worn is not None)
    assert found.masks == (worn or Masks()).joined(Masks())
    if any(one.effect == "allow" for one in own + of_role):
        assert found.allowed == (not found.failed), "a miss names what failed"
    for matched in found.grants:
        assert isinstance(matched, AttributedGrant)
        assert matched.grant in own + of_role
