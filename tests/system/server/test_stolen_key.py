"""A stolen key, told from the theft to the last page of the report, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from gateway_client import Answer, Event, GatewayClient, event, key_id
from gateways import ShiftedClock, Start, StartProgram, finish_program
from open_streams import open_stream
from use_record import about

from tests.support.machine_time import Stopwatch, patience

HOME, ELSEWHERE = "127.0.0.1", "127.66.6.6"
GRANT = {
    "id": "vendor",
    "actions": ["stream", "pull"],
    "categories": ["auth.**"],
    "fields": {"mask": ["actor.name"], "drop": ["data.card"]},
}
FORBIDDEN = ("hr.salaries", "legal.cases", "vault.reads")
# As documented: certain signals within about two seconds, and those of volume within 5 minutes.
SECONDS = 2.5
MINUTES = 5
ANOMALIES = ["anomaly.volume", "anomaly.new_network"]


class Thief:
    """Somebody in another network who has the key and nothing else."""

    def __init__(self, gateway: GatewayClient, key: str, session: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "python-requests/2"}
        self.taken: list[Event] = []

    async def get(self, path: str, **params: str) -> Answer:
        async with self._session.get(
            self._gateway.url + path, params=params, headers=self._headers
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def pull(self, **params: str) -> int:
        answer = await self.get("/v1/events", **params)
        if answer.status == 200:
            self.taken += answer.json()["events"]
        return answer.status


@pytest.fixture
async def elsewhere() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(ELSEWHERE, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def audited(number: int, category: str = "auth.login") -> Event:
    return event(
        id=f"{category}-{number}", category=category, actor={"name": "Alice", "id": "u1"},
        data={"card": "4111", "n": number},
    )  # fmt: skip


async def findings(gateway: GatewayClient, key: str) -> dict[str, Any]:
    answer = await gateway.get("/v1/findings", key=gateway.admin, params={"key": key_id(key)})
    return {one["signal"]: one for one in answer.json()["findings"]}


async def found(gateway: GatewayClient, key: str, signal: str, watch: Stopwatch) -> Any:
    """That finding, in the time that the documentation names."""
    while signal not in (known := await findings(gateway, key)):
        assert watch.seconds < SECONDS, f"{signal} is not among {list(known)}"
        await asyncio.sleep(0.02)
    return known[signal]


async def history(gateway: GatewayClient, key: str) -> list[Event]:
    path = f"/v1/keys/{key_id(key)}/history"
    answer = await gateway.get(path, key=gateway.admin, params={"limit": "10000"})
    events: list[Event] = answer.json()["events"]
    return events


async def document(gateway: GatewayClient, key: str) -> Any:
    answer = await gateway.get(
        f"/v1/keys/{key_id(key)}/document", key=gateway.admin,
        headers={"Accept": "application/json"},
    )  # fmt: skip
    assert answer.status == 200, answer.body
    return answer.json()


async def explained(gateway: GatewayClient, key: str, **asked: Any) -> Any:
    body = {"key": key_id(key), "action": "pull", **asked}
    answer = await gateway.post("/v1/authz/explain", key=gateway.admin, json=body)
    assert answer.status == 200, answer.body
    return answer.json()


def of_thief(events: list[Event], action: str) -> list[Event]:
    return [
        one for one in events
        if one["action"] == action and one.get("source", {}).get("ip") == ELSEWHERE
    ]  # fmt: skip


def asked_in_vain(events: list[Event]) -> set[str]:
    return {name for one in events for name in one["data"].get("forbidden", [])}


def told_of(events: list[Event]) -> list[str]:
    return [one["action"] for one in events if one["category"] == "gateway.anomaly"]


async def test_a_stolen_key_is_found_stopped_and_accounted_for(
    start_program: StartProgram, elsewhere: aiohttp.ClientSession
) -> None:
    program = await start_program(
        watch__suspend_on="forbidden_categories", watch__pause="15m", record__delay="0s"
    )
    await program.send(*(audited(n) for n in range(60)))
    await program.send(*(audited(0, category) for category in FORBIDDEN))
    key = await program.mint(GRANT, name="vendor", purpose="watches logins", owner="ops")
    other = await program.reader_key()
    collector = await open_stream(program, "sse", key, headers={"User-Agent": "vector/0.40"})
    bystander = await open_stream(program, "ndjson", other)
    await program.send(audited(100))
    assert (await collector.event())["actor"]["name"] == "***"
    await asyncio.sleep(1.2)
    assert await findings(program, key) == {}

    # The first page from another network is found.
    thief = Thief(program, key, elsewhere)
    watch = Stopwatch()
    assert await thief.pull(category="auth.**", limit="50") == 200
    network = await found(program, key, "new_network", watch)
    assert network["data"] == {
        "networks": ["127.66.0.0/16"], "address": ELSEWHERE, "client": "python-requests/2",
    }  # fmt: skip

    # Looking around in what the key may not see ends it, and the collector's stream.
    watch = Stopwatch()
    assert await thief.pull(category=FORBIDDEN[0]) == 200
    assert (await thief.get(f"/v1/events/{FORBIDDEN[1]}-0")).status == 404
    assert await thief.pull(filter=f'category == "{FORBIDDEN[2]}"') == 200
    forbidden = await found(program, key, "forbidden_categories", watch)
    assert forbidden["data"]["categories"] == sorted(FORBIDDEN)
    end = await collector.to_end()
    assert watch.seconds < SECONDS + 1, "found within 2.5 seconds, ended within another"
    assert (end["code"], end["reason"]) == (4504, "key_suspended")
    assert await thief.pull() == 401

    # Nobody else has noticed.
    await program.send(audited(101))
    ids = [(await bystander.event())["id"] for _ in range(2)]
    assert [name for name in ids if name.startswith("auth")] == ["auth.login-100", "auth.login-101"]

    # What was read: every event that the thief has, and no more, within what the history names.
    # (Repeats are merged for five seconds.)
    deadline = time.monotonic() + patience(10)
    while asked_in_vain(told := await history(program, key)) != set(FORBIDDEN):
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)
    assert [one["reason"] for one in of_thief(told, "request.denied")] == ["key_suspended"]
    pulled = of_thief(told, "events.pulled")
    assert len(thief.taken) == 50
    assert sum(one["data"]["events"] for one in pulled) == 50
    ranges = [part for one in pulled for part in one["data"]["ranges"]]
    for taken in thief.taken:
        assert any(part["after"] < taken["cursor"] <= part["to"] for part in ranges)
        assert taken["actor"]["name"] == "***"
        assert "card" not in taken["data"]
    asked = [one["data"].get("parameters") for one in pulled]
    assert [{"category": ["auth.**"], "limit": ["50"]}] in asked
    [suspended] = [one for one in told if one["action"] == "key.suspended"]
    assert suspended["actor"]["id"] == "gateway"
    assert suspended["reason"] == "unusual activity: forbidden_categories"
    assert {"anomaly.new_network", "anomaly.forbidden_categories"} <= {*told_of(told)}
    [closed] = [one for one in told if one["action"] == "stream.closed"]
    assert (closed["reason"], closed["source"]["ip"]) == ("key_suspended", HOME)
    assert all(
        about(key) in [target["urn"] for target in one.get("targets", [])] for one in told
    )  # fmt: skip

    # The document, explain and the command line say the same.
    shown = await document(program, key)
    assert (shown["key"]["state"], shown["key"]["owner"]) == ("suspended", "ops")
    assert shown["key"]["suspended_reason"] == suspended["reason"]
    assert shown["last_use"]["address"] == ELSEWHERE
    assert (shown["masks"], shown["drops"]) == (["actor.name"], ["data.card"])
    for category in ("auth.login", *FORBIDDEN):
        answer = await explained(program, key, category=category)
        assert (answer["decision"], answer["reason_code"]) == ("deny", "key_suspended")
    await program.post(f"/v1/keys/{key_id(key)}/resume", key=program.admin)
    shown = await document(program, key)
    assert shown["key"]["state"] == "active"
    assert len(shown["can"]) == 1
    assert "auth" in shown["can"][0]
    assert {orjson.dumps(one) for one in shown["samples"]} <= {
        orjson.dumps(one) for one in (await program.pull(key))["events"]
    }
    for category, decision in (("auth.login", "allow"), *((one, "deny") for one in FORBIDDEN)):
        answer = await explained(program, key, category=category)
        assert answer["decision"] == decision, category
    status, out, errors = await finish_program(
        "keys", "history", key_id(key), "--data", str(program.data), "--json"
    )
    assert status == 0, errors
    by_command = {orjson.loads(line)["id"] for line in out.splitlines()}
    assert {one["id"] for one in told} <= by_command

    # The end: the key is revoked, and whoever still has it is found.
    await program.revoke(key)
    watch = Stopwatch()
    assert await thief.pull() == 401
    revoked = await found(program, key, "revoked_presented", watch)
    assert revoked["data"]["address"] == ELSEWHERE
    assert (await explained(program, key, category="auth.login"))["reason_code"] == "key_revoked"
    assert (await document(program, key))["key"]["state"] == "revoked"


async def test_a_thief_who_takes_much_is_found_by_the_volume_and_stopped_by_what_is_certain(
    start: Start, shifted: ShiftedClock, elsewhere: aiohttp.ClientSession
) -> None:
    """Two hours of an ordinary collector, and then ten times as much."""
    gateway = await start(
        shifted,
        watch={"warm_up": 3600, "suspend_on": ("new_network", "volume", "denials"), "pause": 900},
    )
    await gateway.send(*(audited(n) for n in range(1000)))
    key = await gateway.mint(GRANT)
    for _ in range(120):
        await gateway.pull(key, limit="100")
        shifted.shift += 60
        await gateway.context.detector.poll()
    assert await findings(gateway, key) == {}

    # From its own network, as somebody on the collector's machine would.
    minutes = 0
    while "volume" not in await findings(gateway, key):
        await gateway.pull(key, limit="1000")
        shifted.shift += 60
        minutes += 1
        assert minutes <= MINUTES
        await gateway.context.detector.poll()
    volume = (await findings(gateway, key))["volume"]
    assert volume["data"]["per_minute"] > 2 * volume["data"]["expected_per_minute"]
    assert (await gateway.get("/v1/events", key=key)).status == 200, "it is a likelihood only"

    # From elsewhere it is certain.
    thief = Thief(gateway, key, elsewhere)
    watch = Stopwatch()
    assert await thief.pull(limit="1000") == 200
    await found(gateway, key, "new_network", watch)
    while await thief.pull() == 200:
        assert watch.seconds < SECONDS + 1
        await asyncio.sleep(0.02)
    # A minute more of the same volume is told again: on a busy machine one may pass meanwhile.
    while list(dict.fromkeys(anomalies := told_of(await history(gateway, key)))) != ANOMALIES:
        assert watch.seconds < SECONDS + 2, anomalies
        await asyncio.sleep(0.02)
    shifted.shift += 901
    assert (await gateway.get("/v1/events", key=key)).status == 200, "a quarter of an hour later"
