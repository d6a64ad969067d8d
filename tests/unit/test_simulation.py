"""Simulations: what recorded uses and events would have been under other grants."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from stored_events import MakeDraft, stored

from gateway.clock import parse_rfc3339
from gateway.event import Event
from gateway.keys.grant import Grant, parse_grant
from gateway.keys.grant_use import PastUse, past_uses
from gateway.keys.named_grant import named_grants
from gateway.keys.simulation import Simulation

KEY, OTHER = "k" * 12, "o" * 12
NOON = 1_700_049_600.0  # 2023-11-15, 12:00 UTC


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def simulation(before: list[Grant], after: list[Grant]) -> Simulation:
    return Simulation(named_grants(tuple(before), (), {}), named_grants(tuple(after), (), {}))


def use(attempted: str = "stream", **members: Any) -> PastUse:
    return PastUse(
        **{"attempted": attempted, "at": NOON, "until": NOON, "address": "10.0.0.1", **members}
    )


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
        one.add_use(use(count=count))
    assert one.public()["uses"]["looked_at"] == 3
    assert uses_of(one, "would_be_denied") == denied
    assert uses_of(one, "would_be_allowed") == []


def test_uses_merged_over_hours_are_denied_if_a_part_of_them_is() -> None:
    one = simulation([], [grant("**", when={"hours": "12-14"})])
    one.add_use(use(until=NOON + 2 * 3600))
    assert uses_of(one, "would_be_denied") == [("stream", "outside_hours", 1)]


def test_denials_that_the_proposal_would_lift_are_counted() -> None:
    one = simulation([], [grant("**", actions=["pull"])])
    one.add_use(use("pull", allowed=False, reason="action_not_granted"))
    one.add_use(use("pull", allowed=False, reason="key_revoked"))
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
    one.add_use(use("stream"))
    one.add_use(use("ingest"))
    one.add_use(use("keys.admin", allowed=False))
    one.add_event(made(draft, 1, category="auth.login"))
    assert unused(one) == [
        "nothing-there", "not-pulled", "no-admin", "elsewhere", "denies-nothing",
    ]  # fmt: skip
    shown = {each["name"]: (each["uses"], each["events"]) for each in one.public()["grants"]}
    assert shown["used"] == (1, 1)


def test_where_uses_are_not_looked_at_nothing_is_said_of_them() -> None:
    shown = simulation([], [grant("**")]).public(with_uses=False)
    assert (shown["uses"], shown["unused"]) == (None, None)


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
        data={"count": 3, "attempted": "pull", "route": "GET /v1/events", "until": until},
    )  # fmt: skip
    assert past_uses(event, KEY) == [
        PastUse(
            attempted="pull", at=seconds(at), until=seconds(until), count=3, address="192.0.2.1",
            route="GET /v1/events",
        )
    ]  # fmt: skip
    assert past_uses(event, OTHER) == []


def test_a_denied_use_is_one_that_was_not_allowed(draft: MakeDraft) -> None:
    event = record(
        draft, KEY, action="request.denied", outcome="denied", reason="outside_hours",
        data={"count": 1, "attempted": "pull"},
    )  # fmt: skip
    [found] = past_uses(event, KEY)
    assert (found.allowed, found.reason) == (False, "outside_hours")


def test_a_record_of_several_keys_counts_once_for_each_address(draft: MakeDraft) -> None:
    whose = [{"key": KEY, "address": "192.0.2.1"}, {"key": OTHER, "address": "192.0.2.2"}]
    event = record(draft, None, data={"count": 500, "attempted": "pull", "whose": whose})
    [found] = past_uses(event, KEY)
    assert (found.count, found.address) == (1, "192.0.2.1")


def test_the_end_of_a_stream_and_attempts_without_an_action_are_no_uses(draft: MakeDraft) -> None:
    closed = record(draft, KEY, action="stream.closed", data={"count": 1, "attempted": "stream"})
    assert past_uses(closed, KEY) == []
    assert past_uses(record(draft, KEY, data={"count": 1}), KEY) == []


def seconds(text: str) -> float:
    return parse_rfc3339(text) / 1_000_000


def test_a_simulation_is_json(draft: MakeDraft) -> None:
    one = simulation([grant("**")], [])
    one.add_use(use())
    one.add_event(made(draft, 1))
    assert orjson.loads(orjson.dumps(one.public()))["uses"]["looked_at"] == 1
