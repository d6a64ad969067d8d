"""CloudEvents into `POST /v1/events`: structured, in batches, in binary mode; also of the SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from gateway_client import PROBLEM, Answer
from gateways import Gateway

from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE

LOGIN = {
    "specversion": "1.0", "id": "1", "source": "/sso", "type": "org.example.user.login",
    "time": "2026-01-01T00:00:00Z", "tenant": "acme", "outcome": "denied",
    "data": {"actor": {"id": "ann"}},
}  # fmt: skip
CATEGORY = "org.example.user"


async def send(gateway: Gateway, event: Any, kind: str = EVENT_TYPE, query: str = "") -> Answer:
    return await gateway.post(
        f"/v1/events{query}", data=json.dumps(event).encode(), headers={"Content-Type": kind}
    )


async def stored(gateway: Gateway, **selection: str) -> list[dict[str, Any]]:
    page: dict[str, Any] = await gateway.pull(from_="start", limit="1000", **selection)
    return list(page["events"])


async def post(gateway: Gateway, message: HTTPMessage) -> Answer:
    return await gateway.post("/v1/events", data=message.body, headers=message.headers)


async def test_one_event_is_the_same_in_all_modes_and_as_a_record(gateway: Gateway) -> None:
    assert (await send(gateway, LOGIN)).json()["accepted"] == 1
    assert (await send(gateway, [LOGIN], BATCH_TYPE)).json()["duplicates"] == 1
    record = await gateway.post("/v1/ingest/cloudevents", json=LOGIN)
    assert record.json()["duplicates"] == 1
    [event] = await stored(gateway, category=CATEGORY)
    members = ("tenant", "action", "outcome", "actor", "data")
    assert [event[name] for name in members] == [
        "acme", "org.example.user.login", "denied", {"id": "ann"}, LOGIN,
    ]  # fmt: skip


async def test_the_answers_are_those_to_native_events(gateway: Gateway) -> None:
    wrong = {**LOGIN, "id": "2", "time": "yesterday"}
    refused = await send(gateway, [LOGIN, wrong], BATCH_TYPE)
    assert refused.problem(422, "invalid_events")["errors"][0]["index"] == 1
    assert await stored(gateway, category=CATEGORY) == [], "nothing of it was stored"
    skipped = await send(gateway, [LOGIN, wrong], BATCH_TYPE, "?on_invalid=skip")
    assert (skipped.status, skipped.json()["accepted"]) == (200, 1)
    assert [one["path"] for one in skipped.json()["rejected"]] == ["time"]
    taken = await send(gateway, {**LOGIN, "id": "3"})
    assert taken.status == 201
    assert taken.json().keys() == {"accepted", "duplicates", "first_cursor", "last_cursor"}


async def test_the_sdk_sends_in_both_modes_as_it_is(gateway: Gateway) -> None:
    subject = 'user/ann "é" 100% 😀'
    for number, convert in enumerate((to_binary, to_structured)):
        attributes = {
            "id": str(number), "source": "/shop", "type": "org.example.order.paid",
            "subject": subject, "specversion": "1.0", "severity": "4",
        }  # fmt: skip
        answer = await post(gateway, convert(CloudEvent(attributes, {"n": 1}), JSONFormat()))
        assert answer.status == 201, answer.body
    events = await stored(gateway, category="org.example.order")
    assert len(events) == 2
    for event in events:
        assert event["targets"][0]["name"] == subject
        assert (event["severity"], event["data"]["data"]) == (4, {"n": 1})


@pytest.mark.parametrize(
    ("kind", "data", "kept"),
    [
        ("text/plain", "é", {"data": "é"}),
        ("application/octet-stream", b"\xff\x00", {"data_base64": "/wA="}),
        ("application/x-ndjson", b"{}\n{}", {"data_base64": "e30Ke30="}),
    ],
)
async def test_binary_mode_has_data_of_any_type(
    gateway: Gateway, kind: str, data: str | bytes, kept: dict[str, str]
) -> None:
    headers = {f"ce-{name}": str(LOGIN[name]) for name in ("specversion", "id", "source", "type")}
    body = data.encode() if isinstance(data, str) else data
    answer = await gateway.post("/v1/events", data=body, headers={**headers, "Content-Type": kind})
    assert answer.status == 201, answer.body
    [event] = await stored(gateway, category=CATEGORY)
    assert event["data"].items() >= {"datacontenttype": kind, **kept}.items()


async def test_what_the_gateway_gives_out_comes_back_as_the_same_event(gateway: Gateway) -> None:
    event = {
        "id": "e-1", "time": "2026-01-01T00:00:00Z", "tenant": "acme", "category": "auth",
        "action": "user.login", "source": {"ip": "192.0.2.1", "port": 443}, "data": {"n": 1.5},
    }  # fmt: skip
    assert (await gateway.post("/v1/events", json=event)).status == 201
    path = "/v1/events?category=auth"
    given = await gateway.get(path, headers={"Accept": BATCH_TYPE})
    headers = {"Content-Type": BATCH_TYPE}
    first = await gateway.post("/v1/events", data=given.body, headers=headers)
    assert (first.status, len(given.json())) == (201, 1)
    again = await gateway.post("/v1/events", data=given.body, headers=headers)
    assert again.json()["duplicates"] == 1, "the same content as before"
    for kept in await stored(gateway, category="auth"):
        assert (kept["tenant"], kept["data"]) == ("acme", {"n": 1.5})


@pytest.mark.parametrize(
    ("headers", "body", "status", "says"),
    [
        ({"Content-Type": EVENT_TYPE}, b"[]", 400, "is an object"),
        ({"Content-Type": BATCH_TYPE}, b"{}", 400, "is a list"),
        ({"Content-Type": BATCH_TYPE}, b"[]", 400, "empty"),
        ({"Content-Type": EVENT_TYPE}, b"{", 422, "not valid JSON"),
        ({"Content-Type": EVENT_TYPE}, b"{}", 422, "needs specversion && type"),
        ({"Content-Type": "application/cloudevents+avro"}, b"{}", 415, BATCH_TYPE),
        ({"ce-specversion": "1.0"}, b"{}", 400, "needs `ce-id`, `ce-source`, `ce-type`"),
        ({"ce-id": "1"}, b"{}", 400, "needs `ce-specversion`"),
        ({"ce-id": "1", "ce-subject": "a%0d%0aX: y"}, b"", 400, "control characters"),
        ({"ce-id": "1", "ce-bad_name": "a"}, b"", 400, "no attribute of CloudEvents"),
    ],
)
async def test_what_is_no_cloudevent_is_refused_with_the_reason(
    gateway: Gateway, headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    answer = await gateway.post("/v1/events", data=body, headers=headers)
    assert (answer.status, answer.headers["Content-Type"]) == (status, PROBLEM)
    assert says in answer.body.decode()


async def test_headers_choose_no_tenant_outside_of_the_key(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["**"], "tenants": ["acme"]})
    headers = {f"ce-{name}": str(LOGIN[name]) for name in ("specversion", "id", "source", "type")}
    outside = await gateway.post("/v1/events", key=key, headers={**headers, "ce-tenant": "other"})
    assert outside.status == 403
    for name in ("gateway", "gateway.keys"):
        reserved = {**headers, "ce-category": name, "ce-tenant": "acme"}
        assert (await gateway.post("/v1/events", key=key, headers=reserved)).status == 422
    assert (await gateway.post("/v1/events", key=key, headers=headers)).status == 201
    [event] = await stored(gateway, category=CATEGORY)
    assert event["tenant"] == "acme"


async def test_large_and_deep_events_are_refused_or_marked(gateway: Gateway) -> None:
    deep: Any = {}
    for _ in range(70):
        deep = {"d": deep}
    for name, data in (("deep", deep), ("large", {"x": "y" * 300_000})):
        event = {**LOGIN, "id": name, "data": data}
        assert (await send(gateway, event)).status == 422
        marked = await send(gateway, event, query="?on_invalid=skip")
        assert (marked.json()["accepted"], len(marked.json()["truncated"])) == (1, 1)
