"""Lists of very many keys, roles and findings: whole, in order, and a burden to nobody."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import orjson
import pytest
from gateway_client import key_id
from gateways import Gateway

from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from tests.support.machine_time import eventually, patience

COUNT = 60


@pytest.fixture
async def many(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that are listed and sent in small parts; their ids, oldest first."""
    monkeypatch.setattr("gateway.http.request.listing._PART_BYTES", 2000)
    for place in ("adapters.sqlite.keys", "access.administration.administration"):
        monkeypatch.setattr(f"gateway.{place}.PART_KEYS", 7)
    store = gateway.context.key_store
    [first, *_] = await store.all()
    ids = [f"{number * 37 % 101:012}" for number in range(COUNT)]
    for age, name in enumerate(ids):
        made = msgspec.structs.replace(first, id=name, created_at=1000.0 + age, roles=())
        await store.create(made)
    await gateway.context.enforcement.poll()
    return ids


async def test_a_long_list_is_whole_and_oldest_first(gateway: Gateway, many: list[str]) -> None:
    answer = await gateway.get("/v1/keys", key=gateway.admin)
    assert answer.status == 200
    assert answer.headers["Transfer-Encoding"] == "chunked"
    for name, value in (
        ("Content-Type", "application/json"), ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"), ("Server", "audit-gateway"),
    ):  # fmt: skip
        assert answer.headers[name] == value
    listed = answer.json()["keys"]
    assert [one["id"] for one in listed][:COUNT] == many
    assert {one["id"] for one in listed} >= {key_id(gateway.admin), key_id(gateway.user)}


async def test_a_long_list_of_an_old_client_ends_with_the_connection(
    gateway: Gateway, many: list[str]
) -> None:
    reader, writer = await gateway.connect()
    head = f"GET /v1/keys HTTP/1.0\r\nAuthorization: Bearer {gateway.admin}\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(patience()):
        whole = await reader.read()
    assert len(orjson.loads(whole.partition(b"\r\n\r\n")[2])["keys"]) >= COUNT


async def test_a_list_that_cannot_go_on_does_not_look_whole(
    gateway: Gateway, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its key is revoked while it is sent."""
    store = gateway.context.key_store
    whole, calls = store.some, 0

    async def some(key_ids: Any) -> list[Key]:
        nonlocal calls
        calls += 1
        if calls == 4:
            revoked = key_id(gateway.admin)
            await store.change(revoked, lambda key: lifecycle.revoke(key, 1e9, ""))
            await gateway.context.enforcement.poll()
        return await whole(key_ids)

    monkeypatch.setattr(store, "some", some)
    reader, writer = await gateway.connect()
    head = f"GET /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.admin}\r\n\r\n"
    writer.write(head.encode())
    got = b""
    async with asyncio.timeout(patience()):
        try:
            while data := await reader.read(65536):
                got += data
        except ConnectionResetError:
            pass
    assert got.startswith(b"HTTP/1.1 200 ")
    assert not got.endswith(b"0\r\n\r\n"), "the last chunk is missing"
    assert many[-1].encode() not in got


async def test_what_lists_hold_counts_as_bytes_in_flight(
    gateway: Gateway, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.administration.administration._PLACE_BYTES", 4 << 20)
    answer = await gateway.get("/v1/keys", key=gateway.admin)
    answer.problem(429, "too_many_bytes_in_flight")
    await eventually(lambda: gateway.context.in_flight.held == 0, "all is given back")


async def test_a_client_that_leaves_a_list_is_no_error_of_the_gateway(
    gateway: Gateway, many: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        reader, writer = await gateway.connect()
        head = f"GET /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.admin}\r\n\r\n"
        writer.write(head.encode())
        await reader.read(100)
        writer.transport.abort()
    in_flight = gateway.context.in_flight
    await eventually(lambda: in_flight.held == 0, "all is given back")
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_roles_and_findings_are_listed_in_parts(gateway: Gateway, many: list[str]) -> None:
    grants = [{"actions": ["pull"], "categories": [f"c{number}" for number in range(100)]}]
    for name in ("a", "b", "c"):
        await gateway.request(
            "PUT", f"/v1/roles/{name}", json={"grants": grants}, key=gateway.admin
        )
    answer = await gateway.get("/v1/roles", key=gateway.admin)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert {"a", "b", "c"} <= {one["name"] for one in answer.json()["roles"]}
    findings = await gateway.get("/v1/findings", key=gateway.admin)
    assert findings.json() == {"findings": []}


async def test_what_lives_on_below_a_revoked_key_is_named_however_many_there_are(
    gateway: Gateway, many: list[str]
) -> None:
    store, root = gateway.context.key_store, many[0]
    for name in many[1:]:
        await store.change(name, lambda key: msgspec.structs.replace(key, created_by=root))
    answer = await gateway.post(f"/v1/keys/{root}/revoke", json={}, key=gateway.admin)
    assert sorted(answer.json()["living_descendants"]) == sorted(many[1:])
