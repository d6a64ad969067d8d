"""`GET /v1/counts`: exact or absent, within bounds, and silent about what is hidden."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway, ShiftedClock, Start
from use_record import about, told

from gateway.clock import format_rfc3339, parse_rfc3339

HOUR = 3_600_000_000
# A denial, which the store does not know of.
NOBODY = {"actions": ["pull"], "categories": ["auth.**"], "tenants": ["nobody"], "effect": "deny"}


async def counts(gateway: Gateway, key: str = "", by: tuple[str, ...] = (), **params: str) -> Any:
    pairs = [*params.items(), *[("by", member) for member in by]]
    answer = await gateway.get("/v1/counts", key=key, params=pairs)
    assert answer.status == 200, answer.body
    return answer.json()


async def refused(gateway: Gateway, status: int, key: str = "", **params: str) -> Any:
    answer = await gateway.get("/v1/counts", key=key, params=params)
    assert answer.status == status, answer.body
    return answer.json()


@pytest.fixture
async def spread(start: Start, shifted: ShiftedClock) -> Gateway:
    """A gateway with events of some minutes, in bursts."""
    gateway = await start(clock=shifted)
    for minute in range(12):
        await gateway.append(*(
            event(id=f"{minute}-{n}", tenant="acme" if n % 3 else "globex", severity=n % 6 + 1,
                  outcome="denied" if n % 4 == 0 else "success", category="auth.session",
                  actor={"id": f"u{n % 5}"} if n % 2 else {})
            for n in range(minute % 4 * 5)
        ))  # fmt: skip
        shifted.shift += 60
    return gateway


async def everything(gateway: Gateway, key: str = "", **params: str) -> list[Any]:
    """All events that pages give."""
    events: list[Any] = []
    while True:
        page = await gateway.pull(key, limit="10000", **params)
        events += page["events"]
        params = {name: one for name, one in params.items() if name != "since"}
        params["after"] = page["cursor"]
        if not page["has_more"]:
            return events


async def test_buckets_add_up_to_the_total_and_to_the_events_of_pages(spread: Gateway) -> None:
    events = await everything(spread, category="auth.**", since="24h")
    answer = await counts(spread, category="auth.**", step="1m", by=("outcome", "tenant"))
    recorded = Counter(parse_rfc3339(one["recorded_at"]) // 60_000_000 for one in events)
    shown = {parse_rfc3339(one["start"]) // 60_000_000: one["count"] for one in answer["buckets"]}
    assert {bucket: number for bucket, number in shown.items() if number} == recorded
    assert answer["total"] == len(events) == sum(shown.values())
    assert (answer["complete"], answer["next"], answer["step"]) == (True, None, "1m")
    assert len(shown) in (24 * 60, 24 * 60 + 1), "each minute of the range, also without events"
    for member in ("outcome", "tenant"):
        facet = answer["facets"][member]
        ordered = Counter(one[member] for one in events).most_common()
        assert [(one["value"], one["count"]) for one in facet["values"]] == ordered
        assert (facet["distinct"], facet["others"], facet["hidden"]) == (len(ordered), 0, 0)
    for bucket in answer["buckets"]:
        assert sum(bucket["outcome"].values()) == bucket["count"]
    assert answer["looked"]["events"] >= len(events)


async def test_the_smallest_step_with_few_buckets_is_chosen(spread: Gateway) -> None:
    for since, step in [
        ("10s", "1s"), ("40m", "10s"), ("4h", "1m"), ("24h", "5m"), ("7d", "1h"), ("90d", "1d"),
        ("900d", "1d"),
    ]:  # fmt: skip
        answer = await counts(spread, since=since)
        assert answer["step"] == step, since
        assert len(answer["buckets"]) <= 300 or step == "1d"
        first = parse_rfc3339(answer["buckets"][0]["start"])
        assert first % 1_000_000 == 0
        assert first <= parse_rfc3339(answer["since"])


async def test_severities_are_numbers_and_the_top_values_are_told(spread: Gateway) -> None:
    answer = await counts(spread, by=("severity", "actor"), category="auth.**", top="2")
    values = answer["facets"]["severity"]["values"]
    assert all(isinstance(one["value"], int) for one in values)
    actors = answer["facets"]["actor"]
    assert len(actors["values"]) == 2
    told_of = sum(one["count"] for one in actors["values"])
    assert told_of + actors["others"] == answer["total"]
    assert actors["values"][0]["value"] == ""
    joined = await counts(spread, category="auth.**", top="2", by=("severity,actor",))
    assert joined["facets"] == answer["facets"]


async def test_selectors_filters_and_texts_select_as_on_pages(spread: Gateway) -> None:
    for params in (
        {"tenant": "acme"}, {"min_severity": "4"}, {"filter": "severity > 2"},
        {"filter": 'actor.id == "u1"', "outcome": "success"}, {"text": "acme -denied"},
        {"text": "u3", "text_in": "actor"}, {"actor": "u1"},
    ):  # fmt: skip
        found = await everything(spread, **params)
        assert found
        assert (await counts(spread, **params))["total"] == len(found), params


async def test_a_range_is_counted_as_it_is_paged(spread: Gateway) -> None:
    events = await everything(spread, category="auth.**")
    middle = parse_rfc3339(events[len(events) // 2]["recorded_at"])
    since, until = format_rfc3339(middle - HOUR // 20), format_rfc3339(middle)
    found = await everything(spread, category="auth.**", since=since, until=until)
    answer = await counts(spread, category="auth.**", since=since, until=until, step="10s")
    assert answer["total"] == len(found) > 0
    assert (answer["since"], answer["until"]) == (since, until)
    empty = await counts(spread, since="2h", until="1h")
    assert (empty["total"], empty["looked"]["events"]) == (0, 0)


@pytest.mark.parametrize(
    ("bound", "params"),
    [
        ({"offsets": 7}, {"category": "auth.**"}),
        ({"rendered_events": 7}, {"filter": "severity > 2"}),
        ({"viewed_events": 7}, {"category": "auth.**"}),
    ],
)
async def test_a_bound_ends_a_count_at_an_edge_and_next_counts_the_rest(
    start: Start, shifted: ShiftedClock, bound: dict[str, int], params: dict[str, str]
) -> None:
    gateway = await start(clock=shifted, look=bound)
    key = await gateway.mint(
        {"actions": ["pull"], "categories": ["auth.**"]},
        *([NOBODY] * ("viewed_events" in bound)),
    )
    for burst in (3, 1, 20, 2, 2, 5, 4):
        await gateway.append(*(event(category="auth.x", severity=n % 6 + 1) for n in range(burst)))
        shifted.shift += 30
    events = await everything(gateway, key, **params)
    recorded = Counter(parse_rfc3339(one["recorded_at"]) // 10_000_000 for one in events)
    found: Counter[int] = Counter()
    asked = dict(params)
    answers = []
    while True:
        answer = await counts(gateway, key, step="10s", since="1h", **asked)
        answers.append(answer)
        for bucket in answer["buckets"]:
            found[parse_rfc3339(bucket["start"]) // 10_000_000] += bucket["count"]
        assert answer["total"] == sum(one["count"] for one in answer["buckets"])
        assert answer["complete"] == (answer["next"] is None)
        if answer["complete"]:
            break
        # What others append meanwhile is not of the rest.
        await gateway.append(event(category="auth.x", severity=6))
        asked["before"] = answer["next"]
    assert +found == recorded
    assert len(answers) > 3
    for newer, older in pairwise(answers):
        assert newer["since"] == older["until"] or (
            # A bucket of more events than one count may look at; all were stored at once.
            older["until"] > newer["since"] > older["buckets"][-1]["start"]
        )
    metrics = await gateway.metrics()
    assert metrics['look_cut_total{kind="count"}'] == len(answers) - 1


async def test_an_actor_that_masks_hide_is_not_counted_by(gateway: Gateway) -> None:
    await gateway.append(
        *(event(tenant="open", actor={"id": "ann"}) for _ in range(3)),
        *(event(tenant="closed", actor={"id": "bob"}) for _ in range(2)),
        event(tenant="closed"),
    )
    masked = {"fields": {"mask": ["actor.id"]}}
    pull = {"actions": ["pull"], "categories": ["auth"]}
    some = await gateway.mint(
        {**pull, "tenants": ["open"]}, {**pull, "tenants": ["closed"], **masked}
    )
    answer = await counts(gateway, some, by=("actor", "tenant"))
    facet = answer["facets"]["actor"]
    assert facet["values"] == [{"value": "ann", "count": 3}]
    assert (facet["distinct"], facet["others"], facet["hidden"]) == (1, 0, 3)
    for params in ({"tenant": "closed"}, {"tenant": "closed", "filter": "severity < 7"}):
        answer = await refused(gateway, 403, some, by="actor", **params)
        assert (answer["code"], answer["member"]) == ("hidden_by_mask", "actor")
    none = await gateway.mint({**pull, **masked})
    assert (await refused(gateway, 403, none, by="actor"))["code"] == "hidden_by_mask"
    assert (await counts(gateway, none, by=("tenant",)))["total"] == 6
    assert (await counts(gateway, none, actor="bob"))["total"] == 0


async def test_a_view_of_everything_and_one_of_a_part_count_their_own(gateway: Gateway) -> None:
    await gateway.append(*(event(id=str(n)) for n in range(5)))
    await gateway.record("r1", "gateway.keys")
    pull = {"actions": ["pull"], "categories": ["**"]}
    all_of = await gateway.mint({**pull, "categories": ["**", "gateway.**"]})
    most_of = await gateway.mint(pull)
    paged = await gateway.pull(all_of, limit="10000")
    assert (await counts(gateway, all_of))["total"] == len(paged["events"])
    assert (await counts(gateway, most_of))["total"] == 5


async def test_what_cannot_be_counted_is_refused(gateway: Gateway) -> None:
    for params, parameter in [
        ({"step": "2h"}, "step"),
        ({"step": "1s"}, "step"),
        ({"since": "10000d"}, "since"),
        ({"by": "reason"}, "by"),
        ({"by": "tenant,category,action,outcome"}, "by"),
        ({"top": "101"}, "top"),
        ({"since": "1h", "until": "2h"}, "until"),
        ({"limit": "3"}, "limit"),
        ({"after": "x"}, "after"),
        ({"filter": "severity >"}, None),
    ]:
        answer = await refused(gateway, 400, **params)
        assert answer.get("parameter") == parameter, params
    gone = await refused(gateway, 410, before="0000000000-00000000000000000001")
    assert gone["code"] == "cursor_unknown"
    key = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    assert (await refused(gateway, 403, key))["code"] == "action_not_granted"


async def test_an_empty_log_has_nothing_to_count(gateway: Gateway) -> None:
    answer = await counts(gateway, since="1h", by=("tenant",))
    assert (answer["total"], answer["complete"], answer["next"]) == (0, True, None)
    assert answer["facets"]["tenant"] == {"values": [], "distinct": 0, "others": 0, "hidden": 0}


async def test_a_count_leaves_a_record_of_its_use(start: Start) -> None:
    gateway = await start(record={"delay": 0, "merge": 1})
    await gateway.append(*(event(id=str(n)) for n in range(5)))
    key = await gateway.reader_key()
    await counts(gateway, key, category="auth", filter="severity < 3")
    [record] = await told(gateway, 1, resource=about(key), category="gateway.access")
    assert record["action"] == "events.counted"
    assert record["data"]["parameters"] == [{"category": ["auth"], "filter": ["severity < 3"]}]
    [range_] = record["data"]["ranges"]
    assert range_["to"] >= range_["after"]
