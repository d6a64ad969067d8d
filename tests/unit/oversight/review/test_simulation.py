"""Simulations: what recorded uses and events would have been under other grants."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.policy.attributed_grant import named_grants
from gateway.access.usage.access import Access
from gateway.clock import parse_rfc3339
from gateway.event import Event
from gateway.oversight.access_log.past_access import (
    PastAccess,
    Presence,
    past_accesses,
    present_accesses,
)
from gateway.oversight.access_log.recorded_query import EVERYTHING, query_from
from gateway.oversight.review.simulation import Simulation
from tests.support.stored_events import MakeDraft, stored

CURSOR = "k3f9xq7m2p-%020d"
KEY, OTHER = "k" * 12, "o" * 12
NOON = 1_700_049_600.0  # 2023-11-15, 12:00 UTC


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def simulation(before: list[Grant], after: list[Grant]) -> Simulation:
    return Simulation(named_grants(tuple(before), (), {}), named_grants(tuple(after), (), {}))


def use(attempted: str = "stream", **members: Any) -> PastAccess:
    given = {"at": NOON, "until": NOON, "address": "10.0.0.1", "ranges": ((0, 100),), **members}
    return PastAccess(attempted, **given)


def uses_of(one: Simulation, kind: str) -> list[tuple[str, str, int]]:
    return [
        (each["action"], each["reason_code"], each["count"]) for each in one.public()["uses"][kind]
    ]


# Uses


@pytest.mark.parametrize(
    ("after", "denied"),
    [
        ([grant("**")], []),
        ([], [("stream", "action_not_granted", 3)]),
        ([grant("**", actions=["pull"])], [("stream", "action_not_granted", 3)]),
        ([grant("**", when={"cidr": ["192.0.2.0/24"]})], [("stream", "address_not_allowed", 3)]),
        ([grant("**", when={"hours": "13-20"})], [("stream", "outside_hours", 3)]),
        ([grant("**", when={"hours": "12-20"})], []),
    ],
)
def test_uses_that_would_have_been_denied_are_counted_with_the_reason(
    after: list[Grant], denied: list[tuple[str, str, int]]
) -> None:
    one = simulation([grant("**")], after)
    for count in (1, 2):
        one.add_access(use(count=count))
    assert one.public()["uses"]["looked_at"] == 3
    assert uses_of(one, "would_be_denied") == denied
    assert uses_of(one, "would_be_allowed") == []


def test_uses_merged_over_hours_are_denied_if_a_part_of_them_is() -> None:
    one = simulation([], [grant("**", when={"hours": "12-14"})])
    one.add_access(use(until=NOON + 2 * 3600))
    assert uses_of(one, "would_be_denied") == [("stream", "outside_hours", 1)]


def test_denials_that_the_proposal_would_lift_are_counted() -> None:
    one = simulation([], [grant("**", actions=["pull"])])
    one.add_access(use("pull", allowed=False, reason="action_not_granted"))
    one.add_access(use("pull", allowed=False, reason="key_revoked"))
    assert uses_of(one, "would_be_allowed") == [("pull", "action_not_granted", 1)]
    assert uses_of(one, "would_be_denied") == []


# Events


PLACES = [
    ("a", "auth.login"), ("a", "auth.login"), ("b", "auth.login"), ("a", "billing"),
    ("a", "gateway.keys"),
]  # fmt: skip


def looked_at(draft: MakeDraft, before: list[Grant], after: list[Grant], action: str) -> Any:
    one = simulation(before, after)
    for offset, (tenant, category) in enumerate(PLACES, 1):
        one.add_event(made(draft, offset, tenant=tenant, category=category))
    found = one.public()["events"]
    assert found["looked_at"] == 5
    return found.get(action)


def made(draft: MakeDraft, offset: int, *, category: str = "auth", **members: Any) -> Event:
    """An event; the gateway's own records are not taken from a producer."""
    event = stored(draft, offset, category=category.replace("gateway", "gatewai"), **members)
    if not category.startswith("gateway"):
        return event
    values = {name: getattr(event, name) for name in Event.__struct_fields__}
    json = event.json.replace(b"gatewai", b"gateway")
    return Event(*{**values, "category": category, "json": json}.values())


def test_what_is_no_longer_and_newly_seen_is_counted_by_tenant_and_category(
    draft: MakeDraft,
) -> None:
    found = looked_at(
        draft, [grant("auth.**")], [grant("**", tenants=["a"]), grant("gateway.**")], "stream"
    )
    assert (found["seen_before"], found["seen_after"]) == (3, 4)
    lost, gained = found["no_longer_seen"], found["newly_seen"]
    assert (lost["count"], lost["by"]) == (
        1, [{"tenant": "b", "category": "auth.login", "count": 1}],
    )  # fmt: skip
    assert gained["count"] == 2
    assert {one["category"] for one in gained["by"]} == {"billing", "gateway.keys"}
    assert lost["examples"] == ["k3f9xq7m2p-00000000000000000003"]


def test_masks_that_come_and_go_are_counted(draft: MakeDraft) -> None:
    hiding = grant("**", fields={"mask": ["actor.name"]})
    other = grant("**", fields={"mask": ["reason"]})
    for before, after, more, less in (
        (grant("**"), hiding, 4, 0), (hiding, grant("**"), 0, 4), (hiding, other, 4, 4),
        (hiding, hiding, 0, 0),
        (hiding, grant("**", fields={"drop": ["actor.name"]}), 4, 0),
    ):  # fmt: skip
        found = looked_at(draft, [before], [after], "stream")
        assert (found["more_hidden"]["count"], found["less_hidden"]["count"]) == (more, less)


def test_hours_and_networks_are_not_tried_on_events(draft: MakeDraft) -> None:
    bound = grant("**", when={"hours": "00-01", "cidr": ["192.0.2.0/24"]})
    found = looked_at(draft, [grant("**")], [bound], "stream")
    assert found["no_longer_seen"]["count"] == 0


def test_ways_of_reading_that_neither_has_are_left_out(draft: MakeDraft) -> None:
    assert looked_at(draft, [grant("**")], [grant("**")], "pull") is None
    found = looked_at(draft, [grant("**")], [grant("**", actions=["pull"])], "pull")
    assert found["newly_seen"]["count"] == 4


# Grants that are never used


def unused(one: Simulation) -> list[str]:
    names: list[str] = one.public()["unused"]
    return names


def test_a_grant_is_used_when_its_action_was_and_it_lets_something_through(
    draft: MakeDraft,
) -> None:
    proposed = [
        grant("auth.**", id="used"), grant("billing.**", id="nothing-there"),
        grant("auth.**", id="not-pulled", actions=["pull"]),
        grant("**", id="sent", actions=["ingest"]),
        grant("**", id="no-admin", actions=["keys.admin"]),
        grant("**", id="elsewhere", when={"cidr": ["192.0.2.0/24"]}),
        grant("auth.login", id="denies", effect="deny"),
        grant("x", id="denies-nothing", effect="deny"),
    ]  # fmt: skip
    one = simulation([], proposed)
    one.add_access(use("stream"))
    one.add_access(use("ingest"))
    one.add_access(use("keys.admin", allowed=False))
    one.add_event(made(draft, 1, category="auth.login"))
    assert unused(one) == [
        "nothing-there", "not-pulled", "no-admin", "elsewhere", "denies-nothing",
    ]  # fmt: skip
    shown = {each.name: (each.uses, each.events) for each in one.public()["grants"]}
    assert shown["used"] == (1, 1)


def test_where_uses_are_not_looked_at_nothing_is_said_of_them() -> None:
    shown = simulation([], [grant("**")]).public(with_uses=False)
    assert (shown["uses"], shown["unused"]) == (None, None)


@pytest.mark.parametrize(
    ("members", "events"),
    [
        ({}, 4), ({"ranges": ((0, 2), (3, 4))}, 3), ({"ranges": ((1, 2),)}, 1), ({"ranges": ()}, 0),
        ({"queries": (query_from({"category": ["auth.**"]}),)}, 3),
        ({"queries": (query_from({"tenant": ["b"]}), query_from({"category": ["billing"]}))}, 2),
        ({"queries": (query_from({"filter": ['category == "billing"']}),)}, 1),
        ({"queries": (query_from({"filter": ['severity > 5']}),)}, 0),
        ({"ranges": (), "named": frozenset({"event:b/e3", "event:a/e3"})}, 1),
    ],
)  # fmt: skip
def test_events_count_where_the_key_has_read_and_for_what_it_asked(
    draft: MakeDraft, members: dict[str, Any], events: int
) -> None:
    one = simulation([], [grant("**")])
    one.add_access(use(**members))
    for offset, (tenant, category) in enumerate(PLACES, 1):
        one.add_event(made(draft, offset, id=f"e{offset}", tenant=tenant, category=category))
    assert [each.events for each in one.public()["grants"]] == [events]


def test_whoever_asks_for_ever_new_things_is_taken_to_ask_for_everything(draft: MakeDraft) -> None:
    one = simulation([], [grant("**", id="x")])
    for n in range(30):
        one.add_access(use(queries=(query_from({"category": [f"c{n}"]}),)))
    one.add_event(made(draft, 1, category="auth"))
    assert unused(one) == []


@pytest.mark.parametrize(
    ("asked", "denied"),
    [
        ({"category": ["billing.**"]}, True), ({"category": ["billing", "auth.x"]}, False),
        ({"tenant": ["b"], "category": ["auth"]}, True), ({"tenant": ["*"]}, False), ({}, False),
        ({"filter": ['category == "billing" && severity > 2']}, True),
        ({"filter": ['category != "auth"']}, False), ({"category": ["auth.secret"]}, True),
        ({"category": ["gateway.access"]}, True),
    ],
)  # fmt: skip
def test_uses_that_asked_for_nothing_of_the_proposal_would_be_denied(
    asked: dict[str, Any], denied: bool
) -> None:
    denial = grant("auth.secret", effect="deny")
    one = simulation([grant("**")], [grant("auth.**", "other", tenants=["a"]), denial])
    one.add_access(use(queries=(query_from(asked),), count=3))
    expected = [("stream", "event_not_granted", 3)] if denied else []
    assert uses_of(one, "would_be_denied") == expected
    ended = simulation([grant("**")], [])
    ended.add_access(use(count=0))
    assert uses_of(ended, "would_be_denied") == []


def test_reads_from_further_back_than_was_looked_may_have_been_through_any_grant() -> None:
    one = simulation([], [grant("auth", id="a"), grant("hr", id="hr", actions=["ingest"])])
    one.add_access(use(ranges=((0, 50),)))
    for first, since, names in ((49, 0.0, []), (50, 0.0, ["a"]), (50, NOON + 1, [])):
        shown = one.public(first=first, since=since)
        assert shown["not_known"] == names
        assert set(shown["unused"]) == {"a", "hr"} - set(names)


# What the record tells


def record(draft: MakeDraft, actor: str | None, **members: Any) -> Event:
    given: dict[str, Any] = {"action": "events.pulled", "outcome": "success", **members}
    if actor is not None:
        given["actor"] = {"id": actor}
    return made(draft, 1, category="gateway.access", **given)


def test_a_record_is_read_as_uses(draft: MakeDraft) -> None:
    at, until = "2026-01-31T10:00:00Z", "2026-01-31T11:00:00Z"
    event = record(
        draft, KEY, time=at, source={"ip": "192.0.2.1", "user_agent": "curl"},
        data={
            "count": 3, "attempted": "pull", "route": "GET /v1/events", "until": until,
            "ranges": [{"after": CURSOR % 3, "to": CURSOR % 9}],
            "parameters": [{"category": ["auth.*"], "limit": ["7"]}, {}],
        },
    )  # fmt: skip
    assert past_accesses(event, KEY) == [
        PastAccess(
            attempted="pull", at=seconds(at), until=seconds(until), count=3, address="192.0.2.1",
            route="GET /v1/events", action="events.pulled", ranges=((3, 9),),
            queries=(query_from({"category": ["auth.*"]}), EVERYTHING),
        )
    ]  # fmt: skip
    assert past_accesses(event, OTHER) == []


def test_a_denied_use_is_one_that_was_not_allowed(draft: MakeDraft) -> None:
    event = record(
        draft, KEY, action="request.denied", outcome="denied", reason="outside_hours",
        data={"count": 1, "attempted": "pull"},
    )  # fmt: skip
    [found] = past_accesses(event, KEY)
    assert (found.allowed, found.reason) == (False, "outside_hours")


def test_a_record_of_several_keys_counts_once_for_each_address(draft: MakeDraft) -> None:
    whose = [{"key": KEY, "address": "192.0.2.1"}, {"key": OTHER, "address": "192.0.2.2"}]
    event = record(draft, None, data={"count": 500, "attempted": "pull", "whose": whose})
    [found] = past_accesses(event, KEY)
    assert (found.count, found.address) == (1, "192.0.2.1")


def test_attempts_without_an_action_are_no_uses(draft: MakeDraft) -> None:
    assert past_accesses(record(draft, KEY, data={"count": 1}), KEY) == []


def test_the_end_of_a_stream_is_a_use_only_where_its_opening_is_not_looked_at(
    draft: MakeDraft,
) -> None:
    at = "2026-01-31T10:00:00Z"
    data = {
        "count": 1, "attempted": "stream", "seconds": 3600.0,
        "ranges": [{"after": CURSOR % 3, "to": CURSOR % 9}],
    }  # fmt: skip
    closed = record(draft, KEY, action="stream.closed", time=at, data=data)
    for since, count in ((seconds(at) - 3601, 0), (seconds(at) - 3599, 1)):
        [found] = past_accesses(closed, KEY, since)
        assert (found.count, found.ranges) == (count, ((3, 9),))
        assert (found.at, found.until) == (seconds(at) - 3600, seconds(at))


def test_where_streams_were_opened_is_not_what_they_read(draft: MakeDraft) -> None:
    data = {
        "count": 2, "attempted": "stream", "ranges": [{"after": CURSOR % 3, "to": CURSOR % 9}],
    }  # fmt: skip
    [found] = past_accesses(record(draft, KEY, action="stream.opened", data=data), KEY)
    assert (found.count, found.ranges) == (2, ())


def test_events_read_by_their_ids_are_known_by_name(draft: MakeDraft) -> None:
    targets = [{"urn": "event:acme/1"}, {"urn": f"key:{KEY}"}]
    data: dict[str, Any] = {"count": 1, "attempted": "pull"}
    one = record(draft, KEY, action="event.read", targets=targets, data=data)
    assert [found.named for found in past_accesses(one, KEY)] == [frozenset({"event:acme/1"})]
    names = ["event:acme/1", "event:acme/2"]
    data = {"count": 2, "attempted": "pull", "about": names}
    more = record(draft, KEY, action="event.read", targets=targets, data=data)
    assert [found.named for found in past_accesses(more, KEY)] == [frozenset(names)]


def test_what_is_not_known_of_a_read_may_have_been_anything(draft: MakeDraft) -> None:
    data: dict[str, Any] = {
        "count": 9, "attempted": "pull", "without_details": 1, "parameters": [{"category": ["x"]}],
        "ranges": [{"after": CURSOR % 3, "to": CURSOR % 9}],
    }  # fmt: skip
    [found] = past_accesses(record(draft, KEY, data=data), KEY)
    assert (found.queries, found.ranges) == ((EVERYTHING,), ((0, 2**63),))
    for parameters in (
        {"category": ["x"], "left_out": 1}, {"filter": ["cut in the mid"]}, {"category": ["**x"]},
        {"category": "x"}, {"min_severity": ["x"]},
    ):  # fmt: skip
        assert query_from(parameters) is EVERYTHING


def test_what_was_out_of_reach_when_it_was_asked_for_is_no_loss(draft: MakeDraft) -> None:
    data = {
        "count": 1, "attempted": "pull", "parameters": [{"category": ["hr"]}], "forbidden": ["hr"],
    }  # fmt: skip
    [found] = past_accesses(record(draft, KEY, data=data), KEY)
    one = simulation([], [grant("auth", actions=["pull"])])
    one.add_access(found)
    assert uses_of(one, "would_be_denied") == []


# Streams that are open


def test_open_streams_are_uses_of_what_they_have_read() -> None:
    opened = Access(
        at=NOON - 50, attempted="stream", begin=7, end=7, address="10.0.0.1",
        parameters='{"category":["auth"]}',
    )  # fmt: skip
    for since, count in ((NOON - 60, 0), (NOON - 40, 1)):
        [found] = present_accesses(Presence(((opened, 20),), NOON), [], since, NOON)
        assert (found.count, found.ranges, found.until) == (count, ((7, 20),), NOON)
        assert found.queries == (query_from({"category": ["auth"]}),)


def test_a_key_in_use_without_a_record_of_it_has_a_stream_open_elsewhere() -> None:
    since = NOON - 86400
    presence = Presence((), NOON, "10.0.0.1")
    assert present_accesses(presence, [use(until=NOON - 60)], since, NOON) == []
    assert present_accesses(Presence((), since - 1), [], since, NOON) == []
    [anything] = present_accesses(presence, [use(until=NOON - 600)], since, NOON)
    assert (anything.count, anything.queries) == (1, (EVERYTHING,))
    asked = (query_from({"category": ["auth"]}),)
    opening = use(at=NOON - 900, until=NOON - 900, action="stream.opened", queries=asked)
    [known] = present_accesses(presence, [opening], since, NOON)
    assert (known.count, known.queries) == (0, asked)
    ended = use(at=NOON - 900, until=NOON - 800, action="stream.closed", count=0)
    [anything] = present_accesses(presence, [opening, ended], since, NOON)
    assert anything.queries == (EVERYTHING,)


def seconds(text: str) -> float:
    return parse_rfc3339(text) / 1_000_000


def test_a_simulation_is_json(draft: MakeDraft) -> None:
    one = simulation([grant("**")], [])
    one.add_access(use())
    one.add_event(made(draft, 1))
    assert msgspec.json.decode(msgspec.json.encode(one.public()))["uses"]["looked_at"] == 1
