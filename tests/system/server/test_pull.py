"""`GET /v1/events`: pages, long polls, where they begin, and what they answer then."""

from __future__ import annotations

import asyncio
import time

import pytest
from gateway_client import NDJSON, cursor_at, event, offset_of
from gateways import Gateway, ShiftedClock, Start

from gateway.clock import format_rfc3339
from tests.support.machine_time import Stopwatch

# Paging


@pytest.mark.parametrize("limit", ["1", "7", "100", "10000"])
async def test_paging_brings_every_event_exactly_once_and_in_order(
    gateway: Gateway, limit: str
) -> None:
    sent = await gateway.send_many(100)
    found: list[str] = []
    page = await gateway.pull(limit=limit)
    while page["events"]:
        assert len(page["events"]) <= int(limit)
        assert page["cursor"] >= page["events"][-1]["cursor"]
        found += [one["id"] for one in page["events"]]
        assert page["has_more"] or len(found) == 100
        page = await gateway.pull(limit=limit, after=page["cursor"])
    assert found == sent


async def test_paging_goes_on_exactly_once_while_events_are_appended(gateway: Gateway) -> None:
    sending = asyncio.create_task(gateway.send_many(3000))
    found: list[str] = []
    cursor = cursor_at((await gateway.pull(from_="now"))["cursor"], 0)
    while not (sending.done() and len(found) >= 3000):
        page = await gateway.pull(limit="700", after=cursor)
        found += [one["id"] for one in page["events"]]
        cursor = page["cursor"]
    assert found == await sending


async def test_a_page_has_a_hundred_events_unless_asked(gateway: Gateway) -> None:
    await gateway.send_many(101)
    page = await gateway.pull()
    assert (len(page["events"]), page["has_more"]) == (100, True)


async def test_an_empty_page_has_a_cursor_that_resumes(gateway: Gateway) -> None:
    page = await gateway.pull()
    assert (page["events"], page["has_more"]) == ([], False)
    await gateway.send(event(id="one"))
    page = await gateway.pull(after=page["cursor"])
    assert [one["id"] for one in page["events"]] == ["one"]
    again = await gateway.pull(after=page["cursor"])
    assert (again["events"], again["has_more"]) == ([], False)
    assert again["cursor"] >= page["cursor"]


async def test_a_page_without_a_match_moves_its_cursor_past_what_it_looked_at(
    gateway: Gateway,
) -> None:
    last = (await gateway.send(*(event(category="billing") for _ in range(50))))["last_cursor"]
    page = await gateway.pull(category="auth")
    assert (page["events"], page["has_more"]) == ([], False)
    assert page["cursor"] >= last


async def test_selectors_narrow_and_keep_the_order(gateway: Gateway) -> None:
    await gateway.send(
        event(id="1", category="auth.login", outcome="denied", severity=4),
        event(id="2", category="auth.login.sso", outcome="denied", severity=4),
        event(id="3", category="auth.logout", outcome="success", severity=4),
        event(id="4", category="auth.login", outcome="failure", severity=5),
        event(id="5", category="auth.login", outcome="failure", severity=3),
    )
    params = [("category", "auth.*"), ("outcome", "denied"), ("outcome", "failure"),
              ("min_severity", "4")]  # fmt: skip
    page = (await gateway.get("/v1/events", params=params)).json()
    assert [one["id"] for one in page["events"]] == ["1", "4"]


async def test_a_filter_narrows_further(gateway: Gateway) -> None:
    await gateway.send(*(event(id=str(n), data={"bytes": n}) for n in range(10)))
    page = await gateway.pull(filter="data.bytes > 6 && category == 'auth'")
    assert [one["id"] for one in page["events"]] == ["7", "8", "9"]


async def test_a_bad_filter_is_400_with_its_column(gateway: Gateway) -> None:
    answer = await gateway.get("/v1/events", params={"filter": "severity >= 4 &&& true"})
    assert answer.problem(400, "invalid_filter")["column"] > 1


async def test_a_page_of_large_events_is_cut_before_it_fills_the_memory(
    gateway: Gateway,
) -> None:
    large = [event(id=str(n), data={"x": "y" * 200_000}) for n in range(100)]
    for start in range(0, 100, 20):
        await gateway.send(*large[start : start + 20])
    found: list[str] = []
    page = await gateway.get("/v1/events", params={"limit": "10000"})
    assert len(page.body) < 18 << 20
    while page.json()["events"]:
        found += [one["id"] for one in page.json()["events"]]
        assert page.json()["has_more"] or len(found) == 100
        params = {"limit": "10000", "after": page.json()["cursor"]}
        page = await gateway.get("/v1/events", params=params)
    assert found == [str(n) for n in range(100)]


# NDJSON


async def test_ndjson_has_one_event_per_line_and_the_cursor_in_a_header(gateway: Gateway) -> None:
    sent = await gateway.send_many(5)
    answer = await gateway.get("/v1/events", params={"limit": "3"}, headers={"Accept": NDJSON})
    assert answer.headers["Content-Type"] == NDJSON
    assert [one["id"] for one in answer.lines()] == sent[:3]
    assert answer.headers["Audit-Cursor"] == answer.lines()[-1]["cursor"]
    assert answer.headers["Audit-Has-More"] == "true"
    params = {"after": answer.headers["Audit-Cursor"]}
    answer = await gateway.get("/v1/events", params=params, headers={"Accept": NDJSON})
    assert [one["id"] for one in answer.lines()] == sent[3:]
    assert answer.headers["Audit-Has-More"] == "false"
    params = {"after": answer.headers["Audit-Cursor"]}
    answer = await gateway.get("/v1/events", params=params, headers={"Accept": NDJSON})
    assert answer.body == b""
    assert answer.headers["Audit-Cursor"] == params["after"]


async def test_a_type_that_a_page_cannot_have_is_406(gateway: Gateway) -> None:
    answer = await gateway.get("/v1/events", headers={"Accept": "text/html"})
    answer.problem(406, "not_acceptable")


# Long polls


async def test_a_long_poll_returns_as_soon_as_a_matching_event_is_appended(
    gateway: Gateway,
) -> None:
    await gateway.send(event())
    cursor = (await gateway.pull())["cursor"]
    polling = asyncio.create_task(gateway.pull(after=cursor, wait="9", category="billing"))
    await gateway.send(event())
    assert not (await asyncio.wait([polling], timeout=0.05))[0]
    watch = Stopwatch()
    await gateway.send(event(id="it", category="billing"))
    page = await polling
    assert watch.seconds < 1
    assert [one["id"] for one in page["events"]] == ["it"]


async def test_a_long_poll_that_finds_nothing_ends_in_time_with_its_cursor_moved(
    gateway: Gateway,
) -> None:
    cursor = (await gateway.pull())["cursor"]
    watch = Stopwatch()
    polling = asyncio.create_task(gateway.pull(after=cursor, wait="1", category="billing"))
    last = (await gateway.send(event()))["last_cursor"]
    page = await polling
    assert watch.elapsed >= 0.9
    assert watch.seconds < 2
    assert page["events"] == []
    assert page["cursor"] >= last > cursor


async def test_a_long_poll_with_something_to_give_does_not_wait(gateway: Gateway) -> None:
    await gateway.send(event())
    watch = Stopwatch()
    assert len((await gateway.pull(wait="60", limit="5"))["events"]) == 1
    assert watch.seconds < 1


async def test_a_key_revoked_during_a_long_poll_gets_nothing_more(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    polling = asyncio.create_task(gateway.get("/v1/events", key=key, params={"wait": "9"}))
    await asyncio.wait([polling], timeout=0.1)
    await gateway.revoke(key)
    await gateway.send(event())
    answer = await polling
    answer.problem(401, "key_revoked")


# Where a page begins


async def test_from_now_is_an_empty_page_at_the_head(gateway: Gateway) -> None:
    last = (await gateway.send(event()))["last_cursor"]
    page = await gateway.pull(from_="now")
    assert page["events"] == []
    assert page["cursor"] >= last


async def test_since_begins_with_what_was_recorded_at_or_after_that_time(
    gateway: Gateway,
) -> None:
    for name in "abc":
        await gateway.send(event(id=name))
    events = (await gateway.pull())["events"]
    middle = events[1]["recorded_at"]
    page = await gateway.pull(since=middle)
    assert [one["id"] for one in page["events"]] == ["b", "c"]
    page = await gateway.pull(since=middle.replace("Z", "+00:00"))
    assert [one["id"] for one in page["events"]] == ["b", "c"]
    assert len((await gateway.pull(since="0001-01-01T00:00:00Z"))["events"]) == 3


async def test_a_time_to_come_is_refused_unless_clocks_may_be_as_far_apart(
    gateway: Gateway,
) -> None:
    soon, later = (
        format_rfc3339(int((time.time() + seconds) * 1_000_000)) for seconds in (30, 3600)
    )
    assert (await gateway.pull(since=soon))["events"] == []
    for path in ("/v1/events", "/v1/stream"):
        problem = (await gateway.get(path, params={"since": later})).problem(400, "invalid_request")
        assert problem["parameter"] == "since"


async def test_since_as_a_duration_reaches_back_from_now(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(clock=shifted)
    await gateway.send(event(id="old"))
    shifted.shift = 3600.0
    await gateway.send(event(id="new"))
    ids = {
        since: [one["id"] for one in (await gateway.pull(since=since))["events"]]
        for since in ("15m", "59m", "1h1m", "2h", "30d", "3700s")
    }
    both = ["old", "new"]
    assert ids == {"15m": ["new"], "59m": ["new"], "1h1m": both, "2h": both, "30d": both,
                   "3700s": both}  # fmt: skip


@pytest.mark.parametrize(
    "since", ["15", "m", "-15m", "1.5h", "yesterday", "2026-01-31", "2026-13-01T00:00:00Z", ""]
)
async def test_since_that_is_no_time_is_400(gateway: Gateway, since: str) -> None:
    problem = (await gateway.get("/v1/events", params={"since": since})).problem(
        400, "invalid_request"
    )
    assert problem["parameter"] == "since"


# Cursors


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "1", "-", "abc-1", "abc-" + "9" * 20, "abc-" + "0" * 19, "ABC-" + "0" * 20,
     "a b-" + "0" * 20, "abc-" + "0" * 20 + " ", "abc-" + "٣" * 20, "../" + "0" * 20,
     "a" * 17 + "-" + "0" * 20],
)  # fmt: skip
async def test_a_malformed_cursor_is_400(gateway: Gateway, cursor: str) -> None:
    answer = await gateway.get("/v1/events", params={"after": cursor})
    answer.problem(400, "malformed_cursor")


async def test_a_cursor_of_another_log_or_past_the_head_is_410_with_cursors_that_work(
    gateway: Gateway,
) -> None:
    sent = await gateway.send_many(3)
    head = (await gateway.pull())["cursor"]
    for cursor in (cursor_at(head, offset_of(head) + 1000), "otherepoch-" + "0" * 19 + "1"):
        answer = await gateway.get("/v1/events", params={"after": cursor})
        problem = answer.problem(410, "cursor_unknown")
        events = (await gateway.pull(after=problem["earliest"]))["events"]
        assert [one["id"] for one in events] == sent
        assert (await gateway.pull(after=problem["latest"]))["events"] == []
        await gateway.send(event(id=f"behind {cursor}"))
        events = (await gateway.pull(after=problem["latest"]))["events"]
        sent += [one["id"] for one in events]
        assert sent[-1] == f"behind {cursor}"


async def test_a_cursor_that_retention_overtook_is_410_with_cursors_that_work(
    gateway: Gateway,
) -> None:
    for name in "abcd":
        await gateway.send(event(id=name))
    events = (await gateway.pull())["events"]
    await gateway.forget_before(events[2])
    answer = await gateway.get("/v1/events", params={"after": events[0]["cursor"]})
    problem = answer.problem(410, "cursor_expired")
    kept = (await gateway.pull(after=problem["earliest"]))["events"]
    assert [one["id"] for one in kept] == ["c", "d"]
    assert [one["id"] for one in (await gateway.pull())["events"]] == ["c", "d"]
    assert (await gateway.pull(after=problem["latest"]))["events"] == []
    # Right behind what was deleted nothing is missing.
    assert (await gateway.pull(after=events[1]["cursor"]))["events"] == kept


@pytest.mark.parametrize("accept", ["application/json", NDJSON])
async def test_with_on_gap_skip_a_page_begins_with_what_is_missing(
    gateway: Gateway, accept: str
) -> None:
    for name in "abcd":
        await gateway.send(event(id=name))
    first, *_, third, _ = (await gateway.pull())["events"]
    await gateway.forget_before(third)
    params = {"after": first["cursor"], "on_gap": "skip"}
    answer = await gateway.get("/v1/events", params=params, headers={"Accept": accept})
    if accept == NDJSON:
        gap, *events = answer.lines()
        assert gap.pop("type") == "gap"
    else:
        gap, events = answer.json()["gap"], answer.json()["events"]
    begin = cursor_at(third["cursor"], offset_of(third["cursor"]) - 1)
    assert gap.pop("latest") >= events[-1]["cursor"]
    assert gap == {
        "reason": "cursor_expired",
        "after": first["cursor"],
        "cursor": begin,
        "earliest": begin,
        "missing": offset_of(begin) - offset_of(first["cursor"]),
    }
    assert [one["id"] for one in events] == ["c", "d"]


# Parameters


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"categroy": "auth"}, "categroy"),
        ({"follow": "true"}, "follow"),
        ({"follow": "no"}, "follow"),
        ({"consumer": "C"}, "consumer"),
        ({"ack": "explicit"}, "ack"),
        ({"consumer": "c", "ack": "x"}, "ack"),
        ({"Category": "auth"}, "Category"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "1e2"}, "limit"),
        ({"limit": "+5"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"wait": "61"}, "wait"),
        ({"wait": "-1"}, "wait"),
        ({"min_severity": "0"}, "min_severity"),
        ({"min_severity": "7"}, "min_severity"),
        ({"outcome": "maybe"}, "outcome"),
        ({"category": ""}, "category"),
        ({"category": "au*"}, "category"),
        ({"category": "**.auth"}, "category"),
        ({"from": "end"}, "from"),
        ({"on_gap": "ignore"}, "on_gap"),
        ({"format": "yaml"}, "format"),
        ({"after": "x", "from": "start"}, "from"),
    ],
    ids=str,
)
async def test_a_parameter_that_makes_no_sense_is_400_and_named(
    gateway: Gateway, params: dict[str, str], named: str
) -> None:
    answer = await gateway.get("/v1/events", params=params)
    assert answer.status == 400
    assert answer.json()["parameter"] == named


@pytest.mark.parametrize("name", ["limit", "after", "since", "from", "wait", "filter", "on_gap"])
async def test_a_parameter_that_can_stand_once_only_is_refused_twice(
    gateway: Gateway, name: str
) -> None:
    cursor = (await gateway.pull())["cursor"]
    value = {"limit": "5", "after": cursor, "since": "15m", "from": "now", "wait": "1",
             "filter": "true", "on_gap": "skip"}[name]  # fmt: skip
    answer = await gateway.get("/v1/events", params=[(name, value)] * 2)
    assert answer.problem(400, "invalid_request")["parameter"] == name
