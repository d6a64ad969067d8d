"""`GET /v1/events/{id}`: whatever the id looks like, and nothing that the key may not see."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from gateway_client import Answer, event
from gateways import Gateway

IDS = [
    "plain", "a/b", "/a//b/", "100%", "100%25", "%2F", "a b", " ", "a+b", "a?b=c", "a#b", "a;b",
    "..", "../keys", "a/../b", ".", "*", "~!@$^&()_-=[]{}|\\:'\",<>`", "x" * 128, "%", "%zz",
]  # fmt: skip


async def by_id(gateway: Gateway, event_id: str, key: str = "", **params: str) -> Answer:
    # Dots are escaped too, or a client would tidy them away as relative steps.
    path = quote(event_id, safe="").replace(".", "%2E")
    return await gateway.get(f"/v1/events/{path}", key=key, params=params)


@pytest.mark.parametrize("event_id", IDS)
async def test_an_event_is_found_whatever_its_id_looks_like(
    gateway: Gateway, event_id: str
) -> None:
    await gateway.send(event(id=event_id), event(id="other"))
    answer = await by_id(gateway, event_id)
    assert answer.status == 200
    assert answer.json()["id"] == event_id
    assert answer.json() == (await gateway.pull())["events"][0]


async def test_a_slash_in_an_id_may_stand_as_it_is(gateway: Gateway) -> None:
    await gateway.send(event(id="k8s/ns/pay"))
    assert (await gateway.get("/v1/events/k8s/ns/pay")).json()["id"] == "k8s/ns/pay"


async def test_equal_ids_of_several_tenants_are_409_unless_one_is_named(gateway: Gateway) -> None:
    await gateway.send(event(id="x", tenant="a"), event(id="x", tenant="b"))
    assert (await by_id(gateway, "x")).problem(409, "ambiguous_id")["tenants"] == ["a", "b"]
    for tenant in "ab":
        assert (await by_id(gateway, "x", tenant=tenant)).json()["tenant"] == tenant


async def test_an_id_that_only_one_visible_tenant_has_is_not_ambiguous(gateway: Gateway) -> None:
    await gateway.send(*(event(id="x", tenant=tenant) for tenant in "abc"))
    key = await gateway.reader_key(tenants=["b"])
    assert (await by_id(gateway, "x", key)).json()["tenant"] == "b"
    key = await gateway.reader_key(tenants=["b", "c"])
    problem = (await by_id(gateway, "x", key)).problem(409, "ambiguous_id")
    assert problem["tenants"] == ["b", "c"]


async def test_an_id_that_very_many_tenants_have_is_looked_for_in_parts(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that may be seen is the last of them, and none is read that is not needed."""
    await gateway.send(*(event(id="x", tenant=f"t{number:03}") for number in range(150)))
    key = await gateway.reader_key(tenants=["t149"])
    read = 0
    find = gateway.context.log.find

    async def found(*arguments: Any) -> Any:
        nonlocal read
        part = await find(*arguments)
        read = max(read, len(part))
        return part

    monkeypatch.setattr(gateway.context.log, "find", found)
    assert (await by_id(gateway, "x", key)).json()["tenant"] == "t149"
    assert read <= 16
    named = (await by_id(gateway, "x")).problem(409, "ambiguous_id")["tenants"]
    assert named[:3] == ["t000", "t001", "t002"]
    assert 100 <= len(named) < 150
    nobody = await gateway.reader_key(tenants=["t999"])
    (await by_id(gateway, "x", nobody)).problem(404, "not_found")
    assert gateway.context.in_flight.held == 0


async def test_what_the_key_may_not_see_looks_as_if_it_did_not_exist(gateway: Gateway) -> None:
    await gateway.send(
        event(id="tenant", tenant="other"),
        event(id="category", tenant="mine", category="billing"),
        event(id="severity", tenant="mine", severity=1),
        event(id="own", tenant="mine", severity=3),
    )
    await gateway.record("record", "gateway.keys")
    key = await gateway.reader_key(tenants=["mine"], categories=["auth", "*.*"], min_severity=2)
    assert (await by_id(gateway, "own", key)).status == 200
    unknown = shape(await by_id(gateway, "no-such-event", key))
    for event_id in ("tenant", "category", "severity", "record"):
        assert shape(await by_id(gateway, event_id, key)) == unknown
        assert shape(await by_id(gateway, event_id, key, tenant="other")) == unknown
        assert (await by_id(gateway, event_id, gateway.admin)).status == 200


async def test_a_parameter_that_is_not_known_is_refused(gateway: Gateway) -> None:
    await gateway.send(event(id="x"))
    problem = (await by_id(gateway, "x", tennant="default")).problem(400, "unknown_parameter")
    assert problem["parameter"] == "tennant"
    answer = await gateway.get("/v1/events/x?tenant=default&tenant=b")
    answer.problem(400, "invalid_request")


@pytest.mark.parametrize("tenant", ["", "no-such", "DEFAULT", "*", "%", "default\x00", "ä"])
async def test_a_tenant_that_does_not_have_the_event_is_404(gateway: Gateway, tenant: str) -> None:
    await gateway.send(event(id="x"))
    (await by_id(gateway, "x", tenant=tenant)).problem(404, "not_found")


def shape(answer: Answer) -> tuple[int, Any]:
    document = answer.json()
    del document["request_id"]
    return answer.status, document
