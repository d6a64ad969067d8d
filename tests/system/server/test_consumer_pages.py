"""Durable consumers on pages: what acknowledges a page, and on which connection."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from gateway_client import Event, GatewayClient, event, key_id
from gateways import Gateway, Start
from open_streams import open_stream

from tests.support.machine_time import patience


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["events"]]


async def begin(gateway: GatewayClient, name: str = "siem", **options: Any) -> None:
    """Make the consumer at the newest event, so that others' events are not in its pages."""
    body = {"from": "now", **options}
    answer = await gateway.request("PUT", f"/v1/consumers/{name}", json=body)
    assert answer.status == 201, answer.body


async def page(gateway: GatewayClient, **params: str) -> Any:
    return await gateway.pull(**{"consumer": "siem", **params})


class Connection:
    """A connection that asks for pages, one after the other."""

    def __init__(self, gateway: GatewayClient) -> None:
        self._gateway = gateway

    async def open(self) -> Connection:
        self._reader, self._writer = await self._gateway.connect()
        return self

    async def ask(self, *headers: str, **params: str) -> tuple[int, Any]:
        """Status and body of a page."""
        query = "&".join(f"{name}={value}" for name, value in params.items())
        lines = [
            f"GET /v1/events?consumer=siem&{query} HTTP/1.1",
            f"Host: {self._gateway.host}",
            f"Authorization: Bearer {self._gateway.user}",
            *headers,
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(patience()):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            return int(head.split()[1]), orjson.loads(await self._reader.readexactly(size))

    async def next(self, **params: str) -> Any:
        status, body = await self.ask(**{"ack": "next", "limit": "2", **params})
        assert status == 200, body
        return body

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def test_after_acknowledges_a_page_and_without_it_the_same_page_is_given_again(
    gateway: Gateway,
) -> None:
    await begin(gateway)
    sent = await gateway.send_many(4)
    first = await page(gateway, limit="2")
    again = await page(gateway, limit="2")
    assert ids(first) == ids(again) == sent[:2]
    second = await page(gateway, limit="2", after=first["cursor"])
    assert ids(second) == sent[2:]
    assert ids(await page(gateway, limit="2", after=first["cursor"])) == sent[2:]
    behind = await page(gateway)
    assert ids(behind) == sent[2:]
    assert (await gateway.get("/v1/consumers/siem")).json()["cursor"] == first["cursor"]


async def test_the_first_page_begins_where_the_request_says_and_the_position_stays(
    gateway: Gateway,
) -> None:
    [last] = await gateway.send_many(1)
    before = (await gateway.get(f"/v1/events/{last}")).json()
    first = await page(gateway, since=before["recorded_at"].replace("+", "%2B"))
    assert last in ids(first)
    assert ids(await page(gateway, from_="now")) == ids(first)


async def test_a_call_acknowledges_a_page_by_its_cursor_or_its_lease(gateway: Gateway) -> None:
    await begin(gateway)
    sent = await gateway.send_many(4)
    first = await page(gateway, limit="1")
    answer = await gateway.post("/v1/consumers/siem/ack", json={"cursor": first["cursor"]})
    assert answer.status == 200, answer.body
    second = await page(gateway, limit="1")
    assert ids(second) == sent[1:2]
    answer = await gateway.post("/v1/consumers/siem/ack", json={"lease": second["lease"]})
    assert answer.json()["cursor"] == second["cursor"]
    third = await page(gateway, limit="1")
    assert ids(third) == sent[2:3]
    body = {"to": first["cursor"]}
    assert (await gateway.post("/v1/consumers/siem/rewind", json=body)).status == 200
    stale = await gateway.post("/v1/consumers/siem/ack", json={"lease": third["lease"]})
    stale.problem(409, "consumer_taken_over")
    assert ids(await page(gateway)) == sent[1:]
    for wrong in ({}, {"lease": "x"}, {"lease": "1.x"}, {"cursor": "a", "lease": "b"}):
        assert (await gateway.post("/v1/consumers/siem/ack", json=wrong)).status == 400


async def test_the_next_page_on_a_connection_acknowledges_the_one_before(
    gateway: Gateway,
) -> None:
    await begin(gateway)
    sent = await gateway.send_many(6)
    one = await Connection(gateway).open()
    assert ids(await one.next()) == sent[:2]
    assert ids(await one.next()) == sent[2:4]
    await one.close()
    # On another connection nobody knows that the second page has come.
    other = await Connection(gateway).open()
    assert ids(await other.next()) == sent[2:4]
    assert ids(await other.next()) == sent[4:]
    assert ids(await other.next()) == []
    await other.close()


async def test_the_next_page_is_of_the_same_selection(gateway: Gateway) -> None:
    await begin(gateway, selection={"category": "auth"})
    await gateway.send_many(3)
    connection = await Connection(gateway).open()
    first = await connection.next(category="auth", limit="1")
    assert len(first["events"]) == 1
    status, body = await connection.ask(ack="next", category="billing")
    assert (status, body["code"]) == (409, "consumer_selection_changed")
    second = await connection.next(category="auth", limit="1")
    assert len(second["events"]) == 1
    assert ids(second) != ids(first)
    asked = {"category": "billing", "selection": "update"}
    status, body = await connection.ask(ack="next", **asked)
    assert (status, body["events"]) == (200, [])
    shown = (await gateway.get("/v1/consumers/siem")).json()
    assert (shown["selection"], shown["cursor"]) == ({"category": ["billing"]}, second["cursor"])
    await connection.close()


async def test_a_connection_of_a_consumer_that_was_made_anew_acknowledges_nothing(
    gateway: Gateway,
) -> None:
    await begin(gateway)
    sent = await gateway.send_many(4)
    first = (await gateway.get("/v1/consumers/siem")).json()["cursor"]
    old = await Connection(gateway).open()
    assert ids(await old.next()) == sent[:2]
    assert (await gateway.request("DELETE", "/v1/consumers/siem")).status == 204
    await begin(gateway, **{"from": first})
    stream = await open_stream(gateway, "ndjson", consumer="siem")
    assert [one["id"] for one in await stream.take(2)] == sent[:2]
    assert ids(await old.next()) == sent[:2]
    assert (await gateway.get("/v1/consumers/siem")).json()["cursor"] == first
    await old.close()
    stream.close()


async def test_a_connection_for_each_page_gets_the_same_page_which_says_so(
    gateway: Gateway,
) -> None:
    await begin(gateway)
    sent = await gateway.send_many(3)
    notices = []
    for _ in range(4):
        connection = await Connection(gateway).open()
        given = await connection.next()
        assert ids(given) == sent[:2]
        notices.append(given.get("notice", {}).get("code"))
        await connection.close()
    assert notices == [None, None, "page_repeated", "page_repeated"]


async def test_of_two_open_connections_the_second_is_refused_while_the_first_asks(
    gateway: Gateway,
) -> None:
    await begin(gateway)
    sent = await gateway.send_many(4)
    one, other = await Connection(gateway).open(), await Connection(gateway).open()
    assert ids(await one.next()) == sent[:2]
    status, body = await other.ask(ack="next", limit="2")
    assert (status, body["code"]) == (409, "consumer_in_use")
    assert ids(await one.next()) == sent[2:]
    assert ids(await other.next(takeover="true")) == sent[2:]
    # The first one's next page acknowledges nothing any more.
    status, body = await one.ask(ack="next", limit="2")
    assert (status, body["code"]) == (409, "consumer_in_use")
    assert ids(await other.next()) == []
    await one.close()
    await other.close()


@pytest.mark.parametrize("header", ["Via: 1.1 x", "Forwarded: for=1.2.3.4", "X-Forwarded-Host: a"])
async def test_behind_a_proxy_a_next_page_acknowledges_nothing(
    gateway: Gateway, header: str
) -> None:
    connection = await Connection(gateway).open()
    status, body = await connection.ask(header, ack="next")
    assert (status, body["code"], body["modes"]) == (400, "ack_mode_unavailable", ["explicit"])
    status, body = await connection.ask(header, ack="explicit")
    assert status == 200
    await connection.close()


async def test_a_peer_that_is_a_trusted_proxy_may_not_use_next(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    connection = await Connection(gateway).open()
    status, body = await connection.ask(ack="next")
    assert (status, body["code"]) == (400, "ack_mode_unavailable")
    await connection.close()


async def test_a_page_is_refused_while_a_stream_reads(gateway: Gateway) -> None:
    stream = await open_stream(gateway, "audit.v1", consumer="siem")
    asked = asyncio.create_task(gateway.get("/v1/events", params={"consumer": "siem"}))
    while not asked.done():
        await asyncio.wait_for(stream.say(), 60)
    (await asked).problem(409, "consumer_in_use")
    stream.close()


async def test_another_selection_of_pages_is_refused(gateway: Gateway) -> None:
    await page(gateway, category="auth")
    answer = await gateway.get("/v1/events", params={"consumer": "siem", "category": "billing"})
    answer.problem(409, "consumer_selection_changed")
    await page(gateway, category="billing", selection="update")


async def test_a_page_that_nobody_acknowledged_is_counted_as_sent_again(gateway: Gateway) -> None:
    await begin(gateway)
    await gateway.send_many(3)
    for _ in range(2):
        await page(gateway)
        await gateway.context.consumers.flush()
    seen = (await gateway.get("/v1/consumers/siem")).json()
    assert (seen["unacknowledged"], seen["redelivered"]) == (3, 3)


async def test_polling_at_the_head_writes_nothing(gateway: Gateway) -> None:
    await begin(gateway)
    last = await page(gateway)
    await page(gateway, after=last["cursor"])
    await gateway.context.consumers.flush()
    store = gateway.context.consumer_store
    before = await store.get(key_id(gateway.user), "siem")
    for _ in range(3):
        await page(gateway, after=last["cursor"])
        await gateway.context.consumers.flush()
    assert await store.get(key_id(gateway.user), "siem") == before


async def test_an_overtaken_page_is_410_and_with_skip_tells_of_the_gap(start: Start) -> None:
    gateway = await start()
    await begin(gateway)
    await gateway.send_many(3)
    await gateway.send(event(id="last"))
    kept: Event = (await gateway.get("/v1/events/last")).json()
    await gateway.forget_before(kept)
    answer = await gateway.get("/v1/events", params={"consumer": "siem"})
    answer.problem(410, "cursor_expired")
    skipping = await page(gateway, on_gap="skip")
    assert skipping["gap"]["missing"] == 3
    assert ids(skipping) == ["last"]
    assert "gap" not in await page(gateway)
    elsewhere = "other-" + "0" * 20
    answer = await gateway.get("/v1/events", params={"consumer": "siem", "after": elsewhere})
    answer.problem(410, "cursor_unknown")
    assert ids(await page(gateway, on_gap="skip", after=elsewhere))[0] == "last"
    [record] = (await gateway.pull(gateway.admin, category="gateway.delivery"))["events"][-1:]
    assert (record["action"], record["data"]["missing"]) == ("consumer.gap", 3)
