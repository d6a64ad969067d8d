"""Pages of ranges in both orders, events around another, and what goes with what."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_client import Answer, cursor_at, event, offset_of
from gateways import Gateway, ShiftedClock, Start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.postgres.database import SCHEMA
from gateway.looking.text import parse_text, values_of
from tests.support.examples import examples
from tests.support.services.postgres import PostgresServer, installations

NAMES = ("Ann", "bob", "café", "K\u212aelvin", "no one", "a\\b", 'q"q', "***")


async def paged(gateway: Gateway, key: str = "", **params: str) -> list[dict[str, Any]]:
    """Events of all pages in one order, in that order."""
    found: list[dict[str, Any]] = []
    on = "before" if params.get("order") == "desc" else "after"
    while True:
        page = await gateway.pull(key, **params)
        found += page["events"]
        if not page["has_more"]:
            return found
        assert page["cursor"] != params.get(on), "the cursor moves on empty pages, too"
        params = {**params, on: page["cursor"]}
        if on == "after":
            # Only one of these begins a page.
            params.pop("since", None)
            params.pop("from_", None)


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in events]


async def refused(gateway: Gateway, path: str, **params: str) -> str:
    answer: Answer = await gateway.get(path, params=params)
    document = answer.problem(400, "invalid_request")
    assert document["parameter"] in document["detail"]
    return str(document["parameter"])


# Orders


async def test_the_newest_page_is_the_end_of_the_log_and_its_cursor_the_next_before(
    gateway: Gateway,
) -> None:
    sent = await gateway.send_many(25)
    page = await gateway.pull(order="desc", limit="10")
    assert ids(page["events"]) == sent[:14:-1]
    assert page["has_more"] is True
    assert page["cursor"] == page["events"][-1]["cursor"]
    page = await gateway.pull(order="desc", limit="10", before=page["cursor"])
    assert ids(page["events"]) == sent[14:4:-1]
    page = await gateway.pull(order="desc", limit="10", before=page["cursor"])
    assert ids(page["events"]) == sent[4::-1]
    assert page["has_more"] is False
    page = await gateway.pull(order="desc", before=page["cursor"])
    assert (page["events"], page["has_more"]) == ([], False)


async def test_newer_events_move_no_page_of_older_ones(gateway: Gateway) -> None:
    sent = await gateway.send_many(10)
    page = await gateway.pull(order="desc", limit="4")
    await gateway.send_many(10)
    rest = await paged(gateway, order="desc", limit="4", before=page["cursor"])
    assert ids(page["events"]) + ids(rest) == sent[::-1]


async def test_before_ends_a_page_that_reads_forwards(gateway: Gateway) -> None:
    sent = await gateway.send_many(10)
    events = (await gateway.pull())["events"]
    page = await gateway.pull(before=events[6]["cursor"])
    assert (ids(page["events"]), page["has_more"]) == (sent[:6], False)
    page = await gateway.pull(after=events[2]["cursor"], before=events[6]["cursor"], limit="2")
    assert (ids(page["events"]), page["has_more"]) == (sent[3:5], True)


async def test_an_empty_log_has_an_empty_page_whose_cursor_may_be_sent(gateway: Gateway) -> None:
    while await gateway.context.log.trim(2**62, None):
        pass
    page = await gateway.pull(order="desc")
    assert (page["events"], page["has_more"]) == ([], False)
    again = await gateway.pull(order="desc", before=page["cursor"])
    assert (again["events"], again["has_more"]) == ([], False)


async def test_a_range_holds_what_was_recorded_in_it(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock)
    for number in range(4):
        await gateway.send(event(id=str(number), time="2020-01-01T00:00:00Z"))
        clock.shift += 60.0
    events = (await gateway.pull())["events"]
    times = [one["recorded_at"] for one in events]
    for order, direction in (("asc", 1), ("desc", -1)):
        for low, high in itertools.combinations(range(4), 2):
            found = await paged(gateway, since=times[low], until=times[high], order=order)
            assert ids(found) == [str(n) for n in range(low, high)][::direction]
        assert ids(await paged(gateway, until="90s", order=order)) == ["0", "1", "2"][::direction]
        future = await gateway.pull(until="2999-01-01T00:00:00Z", order=order)
        assert ids(future["events"]) == ["0", "1", "2", "3"][::direction]
        none = await gateway.pull(until=times[0], order=order)
        assert (none["events"], none["has_more"]) == ([], False)
    stream = await gateway.get("/v1/stream", params={
        "from": "start", "follow": "false", "until": times[2], "format": "native"},
        headers={"Accept": "application/x-ndjson"})  # fmt: skip
    assert [one["id"] for one in stream.lines() if "id" in one] == ["0", "1"]


async def test_a_page_does_not_wait_for_what_comes_after_its_range(gateway: Gateway) -> None:
    page = await gateway.pull(from_="now", until="1s", wait="60")
    assert (page["events"], page["has_more"]) == ([], False)


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"order": "desc", "after": "CURSOR"}, "after"),
        ({"order": "desc", "wait": "1"}, "wait"),
        ({"order": "desc", "on_gap": "skip"}, "on_gap"),
        ({"order": "desc", "consumer": "c"}, "consumer"),
        ({"order": "desc", "from": "now"}, "from"),
        ({"order": "down"}, "order"),
        ({"until": "1h", "since": "1h"}, "until"),
        ({"until": "2h", "since": "1h"}, "until"),
        ({"until": "2020-01-01T00:00:00Z", "since": "1h"}, "until"),
        ({"until": "soon"}, "until"),
        ({"until": "1s", "consumer": "c"}, "until"),
        ({"before": "CURSOR", "consumer": "c"}, "before"),
        ({"text": "a", "consumer": "c"}, "text"),
        ({"text": '"open'}, "text"),
        ({"text_in": "actor"}, "text_in"),
        ({"text": "a", "text_in": "secrets"}, "text_in"),
    ],
)
async def test_what_does_not_go_together_is_refused_by_name(
    gateway: Gateway, params: dict[str, str], parameter: str
) -> None:
    cursor = (await gateway.pull())["cursor"]
    params = {name: cursor if value == "CURSOR" else value for name, value in params.items()}
    assert await refused(gateway, "/v1/events", **params) == parameter


async def test_a_stream_that_follows_has_no_until(gateway: Gateway) -> None:
    answer = await gateway.get("/v1/stream", params={"until": "2999-01-01T00:00:00Z"})
    assert "follow=false" in answer.problem(400, "invalid_request")["detail"]
    for name in ("order", "before"):
        answer = await gateway.get("/v1/stream", params={name: "desc"})
        answer.problem(400, "unknown_parameter")


async def test_a_cursor_that_is_gone_is_410_as_before(gateway: Gateway) -> None:
    for number in range(10):
        await gateway.send(event(id=str(number)))
    events = (await gateway.pull())["events"]
    for order in ("asc", "desc"):
        for cursor, code in (
            ("zzzzzzzzzz-00000000000000000003", "cursor_unknown"),
            (cursor_at(events[0]["cursor"], 10**6), "cursor_unknown"),
        ):
            answer = await gateway.get("/v1/events", params={"before": cursor, "order": order})
            assert "before" in answer.problem(410, code)["detail"]
    await gateway.forget_before(events[5])
    for order in ("asc", "desc"):
        answer = await gateway.get(
            "/v1/events", params={"before": events[3]["cursor"], "order": order}
        )
        answer.problem(410, "cursor_expired")
    page = await gateway.pull(before=events[5]["cursor"], order="desc")
    assert (page["events"], page["has_more"]) == ([], False)


async def test_the_look_back_of_a_grant_bounds_both_orders(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock)
    await gateway.send(event(id="old"))
    clock.shift += 3600.0
    await gateway.send(event(id="new"))
    key = await gateway.reader_key(categories=["auth"], when={"max_lookback": "30m"})
    for order in ("asc", "desc"):
        assert ids(await paged(gateway, key, order=order)) == ["new"]
    around = (await gateway.get("/v1/events/new", key=key, params={"around": "5"})).json()
    assert (around["before"], around["after"]) == ([], [])


# Around


async def test_events_around_another_are_those_that_the_key_sees_next_to_it(
    gateway: Gateway,
) -> None:
    await gateway.send(*(event(id=str(n), category=("auth", "bill")[n % 2]) for n in range(20)))
    key = await gateway.reader_key(categories=["auth"], fields={"mask": ["reason"]})
    for count in (0, 1, 3, 50):
        answer = (await gateway.get("/v1/events/10", key=key, params={"around": str(count)})).json()
        assert answer["event"]["id"] == "10"
        assert ids(answer["before"]) == [str(n) for n in range(0, 10, 2)][max(0, 5 - count) :]
        assert ids(answer["after"]) == [str(n) for n in range(12, 20, 2)][:count]
        assert answer["complete"] is True
    for count in ("51", "-1", "x"):
        answer = await gateway.get("/v1/events/10", key=key, params={"around": count})
        answer.problem(400, "invalid_request")


async def test_events_around_another_are_in_the_record(gateway: Gateway) -> None:
    await gateway.send_many(10)
    name = (await gateway.pull())["events"][5]["id"]
    key = await gateway.reader_key(categories=["auth"])
    await gateway.get(f"/v1/events/{name}", key=key, params={"around": "2"})
    await gateway.context.access_log.flush()
    [use] = [
        one
        for one in (await gateway.pull(gateway.admin, category="gateway.access"))["events"]
        if one["action"] == "event.read"
    ]
    assert use["data"]["events"] == 5
    [read] = use["data"]["ranges"]
    assert offset_of(read["to"]) - offset_of(read["after"]) == 5


# Both orders, ranges, masks, filters and text: the same events


@pytest.fixture(params=["sqlite", f"postgres{max(installations())}"])
async def filled(
    request: pytest.FixtureRequest, start: Start, server_of: Callable[[str], PostgresServer]
) -> Any:
    """A gateway over each store, with events of all kinds and three keys."""
    async with AsyncExitStack() as stack:
        store = {}
        if request.param != "sqlite":
            server = server_of(request.param.removeprefix("postgres"))
            store["url"] = await stack.enter_async_context(server.database(SCHEMA))
        gateway = await start(store=store)
        for number in range(150):
            name = NAMES[number % len(NAMES)]
            await gateway.append(event(
                id=f"e{number}", tenant=("acme", "globex")[number % 2],
                category=("auth", "auth.sso", "bill")[number % 3], severity=number % 6 + 1,
                actor={"id": f"u{number % 5}", "name": name}, reason=f"{name} was here",
                targets=[{"urn": f"k8s:{name.isascii()}/x"}],
                data={"n": number, "note": [name.upper(), {"deep": "Found It"}], "ok": True},
            ))  # fmt: skip
        keys = [
            await gateway.reader_key(),
            await gateway.reader_key(
                tenants=["acme"], fields={"mask": ["actor.name"], "drop": ["data.note"]}
            ),
            await gateway.mint(
                {"actions": ["pull"], "categories": ["auth.**"], "fields": {"mask": ["reason"]}},
                {"actions": ["pull"], "categories": ["bill"]},
                {"actions": ["pull"], "categories": ["**"], "tenants": ["globex"],
                 "effect": "deny", "min_severity": 5},
            ),
        ]  # fmt: skip
        yield gateway, keys


def has(text: str, within: str | None, one: dict[str, Any]) -> bool:
    """The rules of text, said over the event as its key sees it."""
    query = parse_text(text, within)
    assert query is not None
    # Folding is tested elsewhere.
    values = [value.lower() for value in values_of(one, query.members)]
    return all(any(w in v for v in values) for w in query.all_of) and not any(
        w in v for v in values for w in query.none_of
    )


@settings(
    max_examples=examples(25),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(data=st.data())
async def test_both_orders_over_one_range_hold_the_same_events(
    filled: tuple[Gateway, list[str]], data: st.DataObject
) -> None:
    gateway, keys = filled
    key = data.draw(st.sampled_from(keys))
    every = [one for one in await paged(gateway, key, limit="1000") if one["id"][0] == "e"]
    selectors: dict[str, str] = data.draw(
        st.sampled_from([{}, {"category": "auth.**"}, {"tenant": "globex"}, {"actor": "u1"},
                         {"min_severity": "4"}, {"filter": "data.n % 3 == 1"}])
    )  # fmt: skip
    text = data.draw(
        st.none()
        | st.sampled_from(["ann", "-ann", "bob -u2", '"no one"', '"was here" found', "CAFÉ", "k",
                           "a\\b", '-"q"', "true", "u1 -acme", "***", "-***", "7", "deep"])
    )  # fmt: skip
    within = data.draw(st.none() | st.sampled_from(["actor", "data.note", "reason,data"]))
    chosen = [one for one in every if chosen_by(selectors, one)]
    params = {**selectors, "limit": str(data.draw(st.integers(1, 170)))}
    if text is not None:
        params["text"] = text
        if within is not None:
            params["text_in"] = within
        chosen = [one for one in chosen if has(text, within, one)]
    bounds = sorted(data.draw(st.lists(st.integers(0, len(every) - 1), max_size=2, unique=True)))
    if bounds:
        cursor = every[bounds[-1]]["cursor"]
        params["before"] = cursor
        chosen = [one for one in chosen if one["cursor"] < cursor]
    if len(bounds) == 2:
        since = every[bounds[0]]["recorded_at"]
        params["since"] = since
        chosen = [one for one in chosen if one["recorded_at"] >= since]
    upwards = await paged(gateway, key, **{"category": "**", **params})
    downwards = await paged(gateway, key, **{"category": "**", **params, "order": "desc"})
    assert ids(upwards) == ids(chosen)
    assert downwards == upwards[::-1]


def chosen_by(selectors: dict[str, str], one: dict[str, Any]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "category": lambda _: one["category"].startswith("auth"),
        "tenant": lambda value: bool(one["tenant"] == value),
        "actor": lambda value: bool(one["actor"]["id"] == value),
        "min_severity": lambda value: bool(one["severity"] >= int(value)),
        "filter": lambda _: bool(one["data"]["n"] % 3 == 1),
    }
    return all(tests[name](value) for name, value in selectors.items())
