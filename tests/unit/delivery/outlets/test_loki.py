"""Destinations of the type `loki`: pushed lines, their labels, and answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.loki import LOKI, judge, pushed
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.errors import InvalidRequest
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import HTTP_CASES, batch_of, connected, new_outlet

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
CASE = HTTP_CASES["loki"]
TEXT = NativeFormat("cef", False, lambda native: b"CEF:0|..")


@every([
    (204, SUCCESS), (400, PERMANENT), (413, PERMANENT), (408, TRANSIENT), (425, TRANSIENT),
    (429, TRANSIENT), (500, TRANSIENT), (501, TRANSIENT), (502, TRANSIENT), (503, TRANSIENT),
    (504, TRANSIENT), (301, CONFIG), (307, CONFIG), (401, CONFIG), (403, CONFIG), (404, CONFIG),
    (405, CONFIG), (422, CONFIG),
])  # fmt: skip
def test_every_answer_has_its_result(case: tuple[int, DeliveryResult]) -> None:
    verdict = judge(RemoteAnswer(case[0], {}, b"entry too far behind"))
    assert (verdict.result, verdict.status) == case[::-1]
    assert verdict.message == ("" if case[1] is SUCCESS else "entry too far behind")


@every([200, 201, 202, 203, 206])
def test_only_a_204_says_that_the_lines_are_there(status: int) -> None:
    verdict = judge(RemoteAnswer(status, {}, b"{}"))
    assert (verdict.result, verdict.kind) == (TRANSIENT, "protocol")


async def test_lines_are_native_events_at_the_time_of_their_recording() -> None:
    async with connected(CASE) as (outlet, receiver):
        event = outbound_event(
            id='e-"1', tenant="acme", time="2020-05-05T00:00:00Z", outcome="denied", severity=4,
            recorded_at="2026-01-31T12:00:00.000007Z", reason="ümlaut",
        )  # fmt: skip
        verdict = await outlet.send([EncodedEvent(event.json, outlet.encode(event))])
        assert verdict.result is SUCCESS
        [received] = receiver.received
        assert received.target == "/loki/api/v1/push"
        assert received.headers["content-type"] == "application/json"
        [stream] = orjson.loads(received.body)["streams"]
        assert stream["stream"] == {
            "service_name": "audit-gateway", "tenant": "acme", "category": "auth",
        }  # fmt: skip
        [[time, line, beside]] = stream["values"]
        assert time == "1769860800000007000"
        assert line.encode() == event.json
        assert beside == {
            "event_id": 'e-"1', "action": "user.login", "outcome": "denied", "severity": "4",
            "time": "2020-05-05T00:00:00.000000Z",
        }  # fmt: skip


async def test_each_tenant_and_category_is_a_stream_in_the_order_of_the_log() -> None:
    async with connected(CASE) as (outlet, receiver):
        made = [("a", "x"), ("b", "x"), ("a", "x"), ("a", "y"), ("b", "x")]
        events = [
            outbound_event(offset, tenant=tenant, category=category)
            for offset, (tenant, category) in enumerate(made, start=1)
        ]
        await outlet.send([EncodedEvent(event.json, outlet.encode(event)) for event in events])
        streams = orjson.loads(receiver.received[0].body)["streams"]
        found = {
            (one["stream"]["tenant"], one["stream"]["category"]): [
                beside["event_id"] for _, _, beside in one["values"]
            ]
            for one in streams
        }
        assert found == {
            ("a", "x"): ["e-1", "e-3"],
            ("b", "x"): ["e-2", "e-5"],
            ("a", "y"): ["e-4"],
        }
        assert len(streams) == 3


async def test_a_batch_that_is_sent_again_is_the_same_to_the_byte() -> None:
    async with connected(CASE) as (outlet, receiver):
        for _ in range(2):
            await outlet.send(batch_of(outlet, 5))
        assert (
            receiver.bodies[0] == receiver.bodies[1] == pushed(batch_of(outlet, 5), "audit-gateway")
        )


async def test_what_is_limited_is_the_line_and_not_its_escapes() -> None:
    async with connected(CASE) as (outlet, _):
        event = outbound_event(reason='"' * 1000)
        assert len(outlet.encode(event)) == len(event.json)
        assert outlet.limits.max_event_bytes == 256 * 1024


async def test_lines_in_another_format_are_text() -> None:
    async with connected(CASE, format=TEXT) as (outlet, receiver):
        await outlet.send(batch_of(outlet, 1))
        [stream] = orjson.loads(receiver.received[0].body)["streams"]
        assert stream["values"][0][1] == "CEF:0|.."


async def test_organization_service_and_credentials_are_those_of_the_settings() -> None:
    settings = {"organization": "team-1", "service_name": "siem", "user": "ann"}
    parts: dict[str, Any] = {"settings": settings, "secrets": {"password": ["pw"]}}
    async with connected(CASE, **parts) as (outlet, receiver):
        await outlet.send(batch_of(outlet, 1))
        [received] = receiver.received
        assert received.headers["x-scope-orgid"] == "team-1"
        assert received.headers["authorization"] == "Basic YW5uOnB3"
        [stream] = orjson.loads(received.body)["streams"]
        assert stream["stream"]["service_name"] == "siem"
    async with connected(CASE, secrets={"token": ["t"]}) as (outlet, receiver):
        await outlet.send(batch_of(outlet, 1))
        assert receiver.received[0].headers["authorization"] == "Bearer t"
        assert "x-scope-orgid" not in receiver.received[0].headers


@every([
    {"url": "https://a/?x=1"}, {"organization": "a b"}, {"organization": "a\r\nX: y"},
    {"organization": "x" * 151}, {"service_name": ""}, {"service_name": "x" * 257},
    {"user": "a:b"},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(LOKI, {"url": "https://siem.example.org", **settings})
    assert refused.value.members["path"].split(".")[1] in settings
