"""Limits on requests: of a key, of an address, and of wrong keys."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from gateway_client import Answer, event, key_id, with_checksum
from gateways import Gateway, Start, StoppedClock

from tests.support.machine_time import patience

READ = {"actions": ["stream", "pull"], "categories": ["**"]}
JUNK = "alpk_" + "x" * 66
STRANGER = with_checksum("alpk_" + "A" * 12 + "_" + "B" * 43)


@pytest.fixture
def stopped() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
async def gateway(start: Start, stopped: StoppedClock) -> Gateway:
    return await start(stopped)


async def pulled(gateway: Gateway, key: str, times: int) -> list[Answer]:
    return [await gateway.get("/v1/events", key=key) for _ in range(times)]


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


async def test_a_key_above_its_rate_gets_429_with_the_seconds_to_wait(
    gateway: Gateway, stopped: StoppedClock
) -> None:
    key = await gateway.mint(READ, limits={"requests_per_second": 1, "requests_burst": 3})
    answers = await pulled(gateway, key, 5)
    assert statuses(answers) == [200, 200, 200, 429, 429]
    refused = answers[-1]
    assert "wait" in refused.problem(429, "rate_limited")["detail"]
    headers = {name: refused.headers[name] for name in refused.headers if "ate" in name.lower()}
    assert refused.headers["Retry-After"] == "1"
    assert headers["RateLimit-Policy"] == "3;w=3"
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("3", "0")
    assert 1 <= int(headers["RateLimit-Reset"]) <= 3
    stopped.passed += 1.05
    assert statuses(await pulled(gateway, key, 2)) == [200, 429]


async def test_every_answer_says_how_the_key_stands(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"requests_per_second": 10})
    answers = [
        await gateway.get("/v1/events", key=key),
        await gateway.get("/v1/events", key=key, params={"nonsense": "1"}),
        await gateway.get("/v1/keys", key=key),
    ]
    assert statuses(answers) == [200, 400, 403]
    left = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
    assert left == [9, 8, 7]
    assert not any("Retry-After" in answer.headers for answer in answers)
    unlimited = await gateway.get("/v1/events")
    assert not any(name.startswith("RateLimit") for name in unlimited.headers)


async def test_a_key_at_its_limit_leaves_other_keys_alone(gateway: Gateway) -> None:
    limits = {"requests_per_second": 1}
    one, other = [await gateway.mint(READ, limits=limits) for _ in range(2)]
    assert statuses(await pulled(gateway, one, 2)) == [200, 429]
    assert statuses(await pulled(gateway, other, 2)) == [200, 429]
    assert statuses(await pulled(gateway, gateway.user, 5)) == [200] * 5


async def test_the_limits_of_a_key_go_before_those_of_the_settings(start: Start) -> None:
    gateway = await start(StoppedClock(), limits={"requests_per_second": 2, "requests_burst": 4})
    plain = await gateway.mint(READ)
    assert statuses(await pulled(gateway, plain, 5)) == [200] * 4 + [429]
    own = await gateway.mint(READ, limits={"requests_per_second": 1})
    assert statuses(await pulled(gateway, own, 2)) == [200, 429]
    free = await gateway.mint(READ, limits={"requests_per_second": 0})
    assert statuses(await pulled(gateway, free, 20)) == [200] * 20


async def test_a_long_poll_is_one_request(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"requests_per_second": 1, "requests_burst": 2})
    waiting = asyncio.create_task(
        gateway.get("/v1/events", key=key, params={"from": "now", "wait": "10", "category": "x"})
    )
    for n in range(5):
        await gateway.send(event(data={"n": n}))
    await gateway.send(event(category="x"))
    assert len((await waiting).json()["events"]) == 1
    assert statuses(await pulled(gateway, key, 2)) == [200, 429]


async def test_limits_are_shown_with_the_key_and_its_document(gateway: Gateway) -> None:
    limits = {"events_per_second": 100, "concurrent_streams": 2}
    path = f"/v1/keys/{key_id(await gateway.mint(READ, limits=limits))}"
    assert (await gateway.get(path, key=gateway.admin)).json()["limits"] == limits
    shown = await gateway.get(
        path + "/document", key=gateway.admin, headers={"Accept": "text/markdown"}
    )
    assert "| Limit of events per second | 100 |" in shown.body.decode()
    rotated = await gateway.post(path + "/rotate", key=gateway.admin)
    assert rotated.json()["limits"] == limits
    plain = await gateway.get(f"/v1/keys/{key_id(gateway.user)}", key=gateway.admin)
    assert "limits" not in plain.json()


async def test_a_limit_that_does_not_exist_is_refused_and_the_nearest_is_named(
    gateway: Gateway,
) -> None:
    body = {"name": "n", "purpose": "p", "owner": "o", "limits": {"event_per_second": 1}}
    answer = await gateway.post("/v1/keys", key=gateway.admin, json=body)
    assert "did you mean events_per_second?" in answer.problem(400, "invalid_limits")["detail"]


async def test_nobody_gives_more_than_their_own_limits(gateway: Gateway) -> None:
    admin = {"actions": ["keys.admin", "pull"], "categories": ["**"]}
    boss = await gateway.mint(admin, limits={"events_per_second": 10})
    body: dict[str, Any] = {"name": "n", "purpose": "p", "owner": "o"}
    for more in (11, 0):
        wanted = {**body, "limits": {"events_per_second": more}}
        answer = await gateway.post("/v1/keys", key=boss, json=wanted)
        assert answer.problem(403, "exceeds_own_limits")["limit"] == "events_per_second"
    inherits = await gateway.post("/v1/keys", key=boss, json=body)
    assert inherits.json()["limits"] == {"events_per_second": 10}
    less = await gateway.post(
        "/v1/keys", key=boss, json={**body, "limits": {"events_per_second": 3}}
    )
    assert less.json()["limits"] == {"events_per_second": 3}
    free = key_id(await gateway.mint({"actions": ["pull"], "categories": ["**"]}))
    stolen = await gateway.post(f"/v1/keys/{free}/rotate", key=boss)
    stolen.problem(403, "exceeds_own_limits")


# Addresses


async def test_an_address_above_its_rate_gets_429_whatever_it_sends(start: Start) -> None:
    # One of these requests has made the user's key.
    gateway = await start(
        StoppedClock(), limits={"address_requests_per_second": 1, "address_requests_burst": 4}
    )
    answers = [
        await gateway.get("/v1/events"),
        await gateway.get("/v1/events", key=STRANGER),
        await gateway.get("/v1/events", key=None),
        await gateway.get("/v1/events"),
    ]
    assert statuses(answers) == [200, 401, 401, 429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert answers[-1].headers["RateLimit-Limit"] == "4"
    assert not any("RateLimit-Limit" in answer.headers for answer in answers[:-1])
    assert (await gateway.get("/healthz", key=None)).status == 200
    async with elsewhere() as session:
        gateway.session = session
        assert (await gateway.get("/v1/events")).status == 200


def elsewhere() -> aiohttp.ClientSession:
    """A client at another address."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0)))


@pytest.mark.parametrize("wrong", [JUNK, STRANGER], ids=["junk", "unknown"])
async def test_wrong_keys_are_limited_by_address_and_a_right_one_still_passes(
    start: Start, wrong: str
) -> None:
    gateway = await start(StoppedClock(), limits={"address_failures_per_minute": 5})
    assert statuses(await pulled(gateway, wrong, 7)) == [401] * 5 + [429] * 2
    refused = await gateway.get("/v1/events", key=wrong)
    refused.problem(429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert statuses(await pulled(gateway, gateway.user, 20)) == [200] * 20
    assert statuses(await pulled(gateway, wrong, 1)) == [429]
    async with elsewhere() as session:
        gateway.session = session
        assert statuses(await pulled(gateway, wrong, 1)) == [401]


async def test_right_keys_that_may_not_are_no_wrong_keys(start: Start) -> None:
    gateway = await start(StoppedClock(), limits={"address_failures_per_minute": 2})
    revoked = await gateway.reader_key()
    await gateway.revoke(revoked)
    assert statuses(await pulled(gateway, revoked, 5)) == [401] * 5
    assert [(await gateway.get("/v1/keys")).status for _ in range(5)] == [403] * 5
    assert statuses(await pulled(gateway, STRANGER, 3)) == [401, 401, 429]


async def test_what_limits_refuse_is_counted_for_the_metrics_and_the_key(gateway: Gateway) -> None:
    key = await gateway.mint(READ, limits={"requests_per_second": 1})
    await pulled(gateway, key, 4)
    assert await gateway.metric("limited_requests_total") == 3
    path = f"/v1/keys/{key_id(key)}/usage?window=1h&step=1h"
    rows = (await gateway.get(path, key=gateway.admin)).json()["rows"]
    assert [sum(row[name] for row in rows) for name in ("requests", "denials")] == [4, 3]


async def test_to_be_too_fast_is_recorded_and_is_no_unusual_activity(start: Start) -> None:
    gateway = await start(record={"delay": 0}, watch={"suspend_on": ("denials",)})
    key = await gateway.mint(READ, limits={"requests_per_second": 1})
    assert statuses(await pulled(gateway, key, 12))[1:] == [429] * 11
    auditor = await gateway.mint({"actions": ["pull"], "categories": ["gateway.**"]})
    async with asyncio.timeout(patience(10)):
        # The record is written at its own pace.
        while not (refused := await refusals(gateway, auditor, key, wait="5")):
            pass
    assert {one["reason"] for one in refused} == {"rate_limited"}
    assert {one["outcome"] for one in refused} == {"failure"}
    shown = await gateway.get("/v1/findings", key=gateway.admin, params={"key": key_id(key)})
    assert shown.json()["findings"] == []
    state = (await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)).json()["state"]
    assert state == "active"


async def refusals(gateway: Gateway, auditor: str, key: str, **params: str) -> list[dict[str, Any]]:
    """The record of what was refused to a key."""
    page = await gateway.pull(auditor, action="request.denied", limit="1000", **params)
    return [one for one in page["events"] if one["actor"]["id"] == key_id(key)]
