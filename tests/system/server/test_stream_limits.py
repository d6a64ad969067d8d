"""Limits on streams: how many at the same time, how many new ones, and what they are sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gateway_client import Event, event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, Refused, Stream, open_stream
from use_record import KEYS, about, told

from gateway.http.request.admission import Admission
from tests.support.machine_time import Stopwatch, patience, slowness

READ = {"actions": ["stream", "pull"], "categories": ["**"]}
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


async def refused(gateway: Gateway, key: str, transport: str = "sse", **params: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await open_stream(gateway, transport, key, **params)
    return caught.value


async def opens_again(gateway: Gateway, key: str, transport: str = "sse") -> Stream:
    """A stream, as soon as the place of an earlier one is free: at once, give or take its end."""
    async with asyncio.timeout(patience(3)):
        while True:
            try:
                stream: Stream = await open_stream(gateway, transport, key)
            except Refused as error:
                error.answer.problem(429, "too_many_streams")
                await asyncio.sleep(0.01)
            else:
                return stream


# Places


@every_transport
async def test_a_key_has_so_many_streams_and_no_more(gateway: Gateway, transport: str) -> None:
    key = await gateway.mint(READ, limits={"concurrent_streams": 2})
    first = await open_stream(gateway, transport, key)
    await open_stream(gateway, transport, key)
    answer = (await refused(gateway, key, transport)).answer
    answer.problem(429, "too_many_streams")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Ratelimit-Limit"] == "2"
    await open_stream(gateway, transport)
    first.close()
    await opens_again(gateway, key, transport)
    await refused(gateway, key, transport)


async def _closed(gateway: Gateway, key: str, stream: Stream) -> None:
    stream.close()


async def _reset(gateway: Gateway, key: str, stream: Stream) -> None:
    stream.reset()


async def _suspended(gateway: Gateway, key: str, stream: Stream) -> None:
    path = f"/v1/keys/{key_id(key)}"
    await gateway.post(path + "/suspend", key=gateway.admin)
    assert (await stream.to_end())["code"] == 4504
    await gateway.post(path + "/resume", key=gateway.admin)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("ending", [_closed, _reset, _suspended])
async def test_a_place_is_free_again_however_the_stream_ends(
    gateway: Gateway,
    transport: str,
    ending: Callable[[Gateway, str, Stream], Awaitable[None]],
) -> None:
    key = await gateway.mint(READ, limits={"concurrent_streams": 1})
    for _ in range(3):
        stream = await opens_again(gateway, key, transport)
        await refused(gateway, key, transport)
        await ending(gateway, key, stream)
    await opens_again(gateway, key, transport)


async def test_streams_that_end_by_themselves_give_their_places_back(gateway: Gateway) -> None:
    await gateway.send_many(3)
    key = await gateway.mint(READ, limits={"concurrent_streams": 1})
    for params in ({"limit": 2, "from_": "start"}, {"follow": "false", "from_": "start"}) * 2:
        stream = await open_stream(gateway, "ndjson", key, **params)
        assert (await stream.to_end())["code"] == 1000
    await opens_again(gateway, key)


async def test_a_stream_that_does_not_come_about_takes_no_place(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"concurrent_streams": 1})
    for headers, params in (
        ({}, {"filter": "nonsense =="}),
        ({}, {"after": "zzzzzzzzzz-00000000000000000009"}),
        ({"Accept": "image/png"}, {}),
    ):
        assert (await refused(gateway, key, headers=headers, **params)).answer.status in (
            400, 406, 410,
        )  # fmt: skip
    bad = {"Sec-WebSocket-Version": "12"}
    assert (await refused(gateway, key, "websocket", headers=bad)).answer.status == 400
    await open_stream(gateway, "websocket", key)
    await refused(gateway, key)


async def test_a_client_that_goes_while_its_stream_is_opened_takes_no_place(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.mint(READ, limits={"concurrent_streams": 1})
    recheck = Admission.recheck
    arrived = asyncio.Event()

    async def slow(admission: Admission) -> None:
        arrived.set()
        await asyncio.sleep(0.2)
        await recheck(admission)

    monkeypatch.setattr(Admission, "recheck", slow)
    for _ in range(2):
        arrived.clear()
        # The one before may be found to have gone only when it would be answered.
        opening = asyncio.create_task(opens_again(gateway, key))
        async with asyncio.timeout(patience()):
            await arrived.wait()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
    monkeypatch.undo()
    await opens_again(gateway, key)


async def test_a_ticket_takes_a_place_of_its_key(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"concurrent_streams": 1})
    tickets = [
        (await gateway.post("/v1/tickets", key=key, json={})).json()["ticket"] for _ in range(2)
    ]
    stream = await open_stream(gateway, "sse", None, ticket=tickets[0])
    await refused(gateway, key)
    assert (await refused(gateway, None, ticket=tickets[1])).answer.status == 429  # type: ignore[arg-type]
    stream.close()
    await opens_again(gateway, key)


async def test_a_key_opens_so_many_streams_a_minute(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"new_streams_per_minute": 2})
    for _ in range(2):
        (await open_stream(gateway, "sse", key)).close()
    answer = (await refused(gateway, key)).answer
    answer.problem(429, "rate_limited")
    assert 25 <= int(answer.headers["Retry-After"]) <= 30
    assert (await gateway.get("/v1/events", key=key)).status == 200


async def test_an_opened_stream_says_how_its_key_stands(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"requests_per_second": 10})
    for transport in TRANSPORTS:
        answer = (await open_stream(gateway, transport, key)).answer
        assert answer.headers["ratelimit-limit"] == "10"


# What is delivered


async def numbers(stream: Stream, count: int) -> list[int]:
    return [one["data"]["n"] for one in await stream.take(count)]


@every_transport
async def test_a_stream_above_its_rate_is_slowed_and_gets_every_event_once_and_in_order(
    gateway: Gateway, transport: str
) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 200})
    stream = await open_stream(gateway, transport, key)
    watch = Stopwatch()
    await gateway.send_many(500)
    assert await numbers(stream, 500) == list(range(500))
    # 200 at once, the other 300 at 200 a second.
    assert watch.elapsed > 1.4
    assert watch.seconds < 3
    await gateway.send(event(data={"n": 500}))
    assert await numbers(stream, 1) == [500]


async def test_the_rate_is_kept_over_time(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 1000})
    await gateway.send_many(6000)
    watch = Stopwatch()
    stream = await open_stream(gateway, "ndjson", key, from_="start")
    arrived = []
    for _ in range(5000):
        await stream.event()
        arrived.append(watch.elapsed)
    # Never above the rate and its burst, and not far below.
    assert all(n <= 1000 + 1000 * at + 1 for n, at in enumerate(arrived, 1))
    assert watch.elapsed >= 3.95
    assert watch.seconds <= 4.6


async def test_bytes_are_paced_like_events(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"bytes_per_second": 100_000})
    filler = "x" * 10_000
    await gateway.send(*(event(data={"n": n, "x": filler}) for n in range(30)))
    watch = Stopwatch()
    stream = await open_stream(gateway, "sse", key, from_="start")
    assert await numbers(stream, 30) == list(range(30))
    assert watch.elapsed > 1.8
    assert watch.seconds < 4


async def test_all_streams_of_a_key_share_its_rate(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 300})
    streams = [await open_stream(gateway, name, key) for name in ("sse", "ndjson", "websocket")]
    watch = Stopwatch()
    await gateway.send_many(300)
    got = await asyncio.gather(*(numbers(stream, 300) for stream in streams))
    assert got == [list(range(300))] * 3
    assert watch.elapsed > 1.8
    assert watch.seconds < 3.5


async def test_a_stream_below_its_limit_is_as_quick_as_one_without(gateway: Gateway) -> None:
    limits = {"events_per_second": 1000, "bytes_per_second": 10**7, "events_per_day": 10**6}
    key = await gateway.mint(READ, limits=limits)
    limited, live = [await open_stream(gateway, "websocket", one) for one in (key, "")]
    took: dict[str, list[float]] = {"limited": [], "live": []}

    async def arrival(stream: Stream) -> float:
        await stream.event()
        return time.monotonic()

    for n in range(100):
        reading = [asyncio.create_task(arrival(stream)) for stream in (limited, live)]
        await gateway.append(event(data={"n": n}))
        sent = time.monotonic()
        for name, at in zip(took, await asyncio.gather(*reading), strict=True):
            took[name].append(at - sent)
    median = {name: sorted(times)[50] for name, times in took.items()}
    assert median["limited"] < median["live"] + 0.02 * slowness()
    assert sorted(took["limited"])[95] < 0.1 * slowness()


async def test_a_limited_stream_goes_on_from_its_cursor_when_it_is_cut(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 100})
    await gateway.send_many(400)
    seen: list[Event] = []
    params: dict[str, Any] = {"from_": "start"}
    while len(seen) < 400:
        stream = await open_stream(gateway, "ndjson", key, **params)
        seen += await stream.take(min(70, 400 - len(seen)))
        stream.reset()
        params = {"after": seen[-1]["cursor"]}
    assert [one["data"]["n"] for one in seen] == list(range(400))


async def test_a_key_that_waits_for_its_rate_does_not_hold_up_others(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 1})
    slow, live = [await open_stream(gateway, "websocket", one) for one in (key, "")]
    await gateway.send_many(500)
    assert await numbers(live, 500) == list(range(500))
    assert await numbers(slow, 1) == [0]
    await gateway.revoke(key)
    assert (await slow.to_end(1.0))["code"] == 4501


async def test_a_stream_that_waits_still_gets_signs_of_life(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"bytes_per_second": 100})
    stream = await open_stream(gateway, "sse", key)
    await gateway.send(event(data={"n": 0, "x": "x" * 2000}), event(data={"n": 1}))
    cursor = (await stream.event())["cursor"]
    for _ in range(2):
        assert (await stream.next("bookmark", 3)).content["cursor"] == cursor


# Quotas


@every_transport
async def test_a_stream_over_its_quota_waits_and_then_ends_with_4001_and_its_cursor(
    start: Start, transport: str
) -> None:
    gateway = await start(limits={"quota_wait": 1})
    key = await gateway.mint(READ, limits={"events_per_day": 10})
    stream = await open_stream(gateway, transport, key)
    await gateway.send_many(10)
    assert await numbers(stream, 10) == list(range(10))
    cursor = stream.cursor
    watch = Stopwatch()
    await gateway.send(event(id="held"))
    end = await stream.to_end()
    assert watch.elapsed > 0.9
    assert watch.seconds < 3
    assert len(stream.events) == 10
    assert (end["code"], end["reason"]) == (4001, "quota_exhausted")
    assert end.get("reconnect", True) is True
    # It may have gone past a record of the gateway, which this key does not see.
    assert end["cursor"] >= cursor
    rest = await gateway.pull(gateway.user, after=end["cursor"])
    assert [one["id"] for one in rest["events"]] == ["held"]


async def test_a_stream_without_news_keeps_open_whatever_its_quota(start: Start) -> None:
    gateway = await start(limits={"quota_wait": 0})
    key = await gateway.mint(READ, limits={"events_per_day": 1})
    stream = await open_stream(gateway, "sse", key)
    await gateway.send(event())
    await stream.event()
    assert (await stream.next("bookmark", 3)).kind == "bookmark"
    await gateway.send(event())
    assert (await stream.to_end())["code"] == 4001


async def test_the_next_day_brings_the_rest(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(shifted)
    key = await gateway.mint(READ, limits={"events_per_day": 3})
    stream = await open_stream(gateway, "ndjson", key)
    await gateway.send_many(5)
    assert await numbers(stream, 3) == [0, 1, 2]
    shifted.shift += 86400
    assert await numbers(stream, 2) == [3, 4]


async def test_bytes_of_a_day_are_a_quota_too(start: Start) -> None:
    gateway = await start(limits={"quota_wait": 0})
    key = await gateway.mint(READ, limits={"bytes_per_day": 4000})
    stream = await open_stream(gateway, "websocket", key, from_="start")
    await gateway.send(*(event(data={"n": n, "x": "x" * 1000}) for n in range(10)))
    assert (await stream.to_end())["code"] == 4001
    # How large its events are is known after the first of them.
    assert 3 <= len(stream.events) <= 6


# Pages


async def test_a_page_holds_what_the_key_may_be_sent_and_the_next_one_comes_later(
    gateway: Gateway,
) -> None:
    key = await gateway.mint(READ, limits={"events_per_second": 50})
    await gateway.send_many(80)
    page = await gateway.pull(key, limit="1000")
    assert [one["data"]["n"] for one in page["events"]] == list(range(50))
    assert page["has_more"] is True
    seen = [one["data"]["n"] for one in page["events"]]
    while len(seen) < 80:
        answer = await gateway.get("/v1/events", key=key, params={"after": page["cursor"]})
        if answer.status == 429:
            assert answer.headers["Retry-After"] == "1"
            await asyncio.sleep(0.2)
            continue
        page = answer.json()
        seen += [one["data"]["n"] for one in page["events"]]
    assert seen == list(range(80))


async def test_pages_are_as_large_in_bytes_as_the_key_may_be_sent(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"bytes_per_day": 5000})
    await gateway.send(*(event(data={"n": n, "x": "x" * 1000}) for n in range(10)))
    page = await gateway.pull(key)
    assert 3 <= len(page["events"]) <= 4
    following = await gateway.pull(key, after=page["cursor"])
    assert following["events"][0]["data"]["n"] == len(page["events"])


async def test_a_key_over_its_quota_pulls_nothing_more_today(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"events_per_day": 2, "requests_per_second": 1000})
    await gateway.send_many(2)
    await gateway.send(event(id="one-more"))
    assert len((await gateway.pull(key))["events"]) == 2
    for path in ("/v1/events", "/v1/events/one-more", f"/v1/keys/{key_id(key)}/history"):
        answer = await gateway.get(path, key=key)
        answer.problem(429, "quota_exhausted")
        wait = int(answer.headers["Retry-After"])
        assert 1 <= wait <= 86400
        assert answer.headers["RateLimit-Policy"] == "2;w=86400"
        standing = [answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")]
        assert standing == ["2", "0", str(wait)]
    assert (await gateway.get("/v1/events/one-more")).status == 200


async def test_a_document_shows_what_the_key_that_asks_may_be_sent(gateway: Gateway) -> None:
    actions = ["pull", "usage.read", "keys.admin"]
    limits = {"events_per_day": 3}
    reader = await gateway.mint({"actions": actions, "categories": ["**"]}, limits=limits)
    await gateway.send_many(5)
    path, headers = f"/v1/keys/{key_id(gateway.user)}/document", {"Accept": "application/json"}
    document = (await gateway.get(path, key=reader, headers=headers)).json()
    assert len(document["samples"]) == 3
    body = {"key": key_id(gateway.user), "grants": [READ]}
    for answer in (
        await gateway.get(path, key=reader),
        await gateway.post("/v1/authz/simulate", key=reader, json=body),
    ):
        answer.problem(429, "quota_exhausted")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await gateway.get(path, key=gateway.admin)).status == 200


async def test_the_samples_of_a_document_are_as_large_as_the_key_may_be_sent(
    gateway: Gateway,
) -> None:
    grant = {"actions": ["pull", "usage.read"], "categories": ["**"]}
    reader = await gateway.mint(grant, limits={"bytes_per_day": 5000})
    await gateway.send(*(event(data={"x": "x" * 1000}) for _ in range(9)))
    path, headers = f"/v1/keys/{key_id(gateway.user)}/document", {"Accept": "application/json"}
    document = (await gateway.get(path, key=reader, headers=headers)).json()
    assert 3 <= len(document["samples"]) <= 4


async def test_a_page_above_a_rate_says_how_the_key_stands_in_it(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"bytes_per_second": 1000, "events_per_second": 100})
    await gateway.send(event(data={"x": "x" * 5000}))
    assert len((await gateway.pull(key))["events"]) == 1
    answer = await gateway.get("/v1/events", key=key)
    answer.problem(429, "rate_limited")
    assert answer.headers["RateLimit-Policy"] == "1000;w=1"
    assert answer.headers["RateLimit-Remaining"] == "0"
    # All of it is there again a second after anything is.
    reset, wait = int(answer.headers["RateLimit-Reset"]), int(answer.headers["Retry-After"])
    assert reset == wait + 1 >= 4


async def test_a_history_is_as_long_as_the_key_may_be_sent(gateway: Gateway) -> None:
    subject = key_id(gateway.user)
    own = {"actions": ["pull"], "categories": ["gateway.keys"]}
    reader = await gateway.mint(own, limits={"events_per_day": 3})
    for change in ("suspend", "resume", "suspend", "resume"):
        await gateway.post(f"/v1/keys/{subject}/{change}", key=gateway.admin)
    await told(gateway, 5, category=KEYS, resource=about(gateway.user))
    auditor = await gateway.mint(own)
    page = (await gateway.get(f"/v1/keys/{subject}/history", key=reader)).json()
    assert [one["action"] for one in page["events"]] == [
        "key.created", "key.suspended", "key.resumed",
    ]  # fmt: skip
    assert page["has_more"] is True
    path = f"/v1/keys/{subject}/history?after={page['cursor']}"
    (await gateway.get(path, key=reader)).problem(429, "quota_exhausted")
    rest = (await gateway.get(path, key=auditor)).json()
    assert [one["action"] for one in rest["events"]] == ["key.suspended", "key.resumed"]


async def test_what_a_waiting_stream_may_no_longer_see_does_not_come_when_it_goes_on(
    gateway: Gateway,
) -> None:
    both = {"actions": ["stream"], "categories": ["open", "secret"]}
    await gateway.request(
        "PUT", "/v1/roles/paced", key=gateway.admin, json={"description": "d", "grants": [both]}
    )
    key = await gateway.mint(roles=["paced"], limits={"events_per_second": 20})
    stream = await open_stream(gateway, "ndjson", key)
    await gateway.send(
        *(event(category="secret" if n % 2 else "open", data={"n": n}) for n in range(60))
    )
    seen = await stream.take(20)
    only = {"actions": ["stream"], "categories": ["open"]}
    await gateway.request(
        "PUT", "/v1/roles/paced", key=gateway.admin, json={"description": "d", "grants": [only]}
    )
    rest = [one["data"]["n"] for one in await stream.take(20)]
    assert [one["data"]["n"] for one in seen] == list(range(20))
    # At 20 a second, a few may have gone out before the role was changed; then every other comes.
    later = rest[5:]
    assert later[0] % 2 == 0
    assert later == list(range(later[0], later[0] + 30, 2))
