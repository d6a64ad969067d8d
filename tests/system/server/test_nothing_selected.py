"""Selections that can match nothing are told so at once, on every transport that can say it."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import NDJSON
from gateways import Gateway, Start
from open_streams import open_stream

from gateway.settings.kinds import check_networks

SCOPED = {"tenants": ["acme"], "categories": ["auth.*"]}


async def first_message(gateway: Gateway, transport: str, key: str, **params: Any) -> Any:
    stream = await open_stream(gateway, transport, key, follow="false", **params)
    return await stream.say()


@pytest.mark.parametrize("transport", ["sse", "ndjson", "audit.v1", "audit.v1.batch"])
async def test_the_first_message_of_a_stream_that_can_match_nothing_is_a_notice(
    gateway: Gateway, transport: str
) -> None:
    key = await gateway.reader_key(**SCOPED)
    said = await first_message(gateway, transport, key, category="billing", from_="start")
    assert said.kind == "notice"
    assert said.content["code"] == "nothing_selected_can_match"
    assert said.content["parameter"] == "category"
    other = await first_message(gateway, transport, key, category="auth.login")
    assert other.kind != "notice"


async def test_a_plain_websocket_carries_events_only(gateway: Gateway) -> None:
    key = await gateway.reader_key(**SCOPED)
    stream = await open_stream(gateway, "websocket", key, tenant="globex", follow="false")
    while await stream.say() is not None:
        pass
    assert [one.kind for one in stream.others if one.kind == "notice"] == []


async def test_pages_carry_the_notice(gateway: Gateway) -> None:
    await gateway.send_many(2, tenant="globex")
    key = await gateway.reader_key(**SCOPED)
    page = await gateway.pull(key, tenant="globex")
    assert (page["events"], page["notice"]["parameter"]) == ([], "tenant")
    assert "notice" not in await gateway.pull(key, tenant="acme")
    lines = (
        await gateway.get("/v1/events", key=key, params={"tenant": "globex"},
                          headers={"Accept": NDJSON})
    ).lines()  # fmt: skip
    assert [line["type"] for line in lines] == ["notice"]


async def test_whether_there_are_such_events_is_not_told(gateway: Gateway) -> None:
    masked = await gateway.reader_key(fields={"mask": ["actor"]})
    key = await gateway.reader_key(**SCOPED)
    await gateway.send_many(2, tenant="globex", actor={"id": "alice"})
    for reader, parameter, there in ((key, "tenant", "globex"), (masked, "actor", "alice")):
        known = await gateway.pull(reader, **{parameter: there})
        unknown = await gateway.pull(reader, **{parameter: "nobody"})
        assert known["notice"] == unknown["notice"]


async def test_selecting_what_is_out_of_scope_again_and_again_is_a_finding(start: Start) -> None:
    gateway = await start()
    key = await gateway.reader_key(tenants=["acme"], fields={"mask": ["actor"]})
    for asked in ({"tenant": "globex"}, {"actor": "alice"}, {"filter": 'tenant == "umbrella"'}):
        await gateway.pull(key, **asked)

    await gateway.context.detector.poll()
    answer = await gateway.get("/v1/findings", key=gateway.admin, params={"signal": "out_of_scope"})
    [finding] = answer.json()["findings"]
    assert finding["data"]["selected"] == [
        "actor=alice", 'filter=tenant == "umbrella"', "tenant=globex",
    ]  # fmt: skip


async def test_an_unknown_address_behind_a_proxy_does_not_escape_a_denial(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": check_networks(("::ffff:127.0.0.0/104",))})
    deny = {"effect": "deny", "actions": ["pull"], "categories": ["auth"],
            "when": {"cidr": ["::ffff:203.0.113.0/120"]}}  # fmt: skip
    key = await gateway.mint({"actions": ["pull"], "categories": ["**"]}, deny)
    await gateway.send_many(1, category="auth")
    for address, seen in (
        ("198.51.100.7", 1), ("203.0.113.9:4711", 0), ("203.0.113.009", 0), ("unknown", 0),
        ("_hidden", 0), ("[::ffff:198.51.100.7]:443", 1),
    ):  # fmt: skip
        answer = await gateway.get("/v1/events", key=key, headers={"X-Forwarded-For": address})
        assert len(answer.json()["events"]) == seen, address
