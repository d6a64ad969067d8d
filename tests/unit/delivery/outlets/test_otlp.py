"""Destinations of the type `otlp`: log records in both encodings, and answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs as LogsOfScope

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.otlp import OTLP, judge
from gateway.delivery.outlets.otlp_encoding import (
    LogRecord,
    RecordKind,
    json_encoding,
    protobuf_encoding,
)
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.errors import InvalidRequest
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import HTTP_CASES, batch_of, connected, new_outlet
from tests.support.scripted_receiver import Received, Reply

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
CASE = HTTP_CASES["otlp"]
ENCODINGS = ("protobuf", "json")
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)
TRACE = "0AF7651916CD43DD8448EB211C80319C"


def request_of(received: Received) -> dict[str, Any]:
    """The request, as the library of OpenTelemetry reads it."""
    if received.headers["content-type"] == "application/json":
        # Ids are in hexadecimal there, where the library takes base64.
        found = orjson.loads(received.body)
        parsed = ParseDict(found, ExportLogsServiceRequest())
    else:
        assert received.headers["content-type"] == "application/x-protobuf"
        parsed = ExportLogsServiceRequest.FromString(received.body)
        assert parsed.SerializeToString() == received.body
    read: dict[str, Any] = MessageToDict(parsed)
    return read


PROTOBUF = CASE._replace(settings={}, good=lambda _: Reply())


async def sent(encoding: str, *events: Any, **settings: Any) -> dict[str, Any]:
    case = PROTOBUF if encoding == "protobuf" else CASE
    async with connected(case, settings=settings) as (outlet, receiver):
        batch = [EncodedEvent(event.json, outlet.encode(event)) for event in events]
        verdict = await outlet.send(batch)
        assert (verdict.result, verdict.unidentified) == (SUCCESS, 0)
        [received] = receiver.received
        assert received.target == "/v1/logs"
        return request_of(received)


@each_encoding
async def test_records_are_those_of_the_specification(encoding: str) -> None:
    event = outbound_event(
        7, tenant="acme", time="2026-01-31T11:00:00.000001Z", outcome="denied", severity=4,
        recorded_at="2026-01-31T12:00:00.000002Z", reason='"ü" \\',
    )  # fmt: skip
    [resource] = (await sent(encoding, event, outbound_event(8)))["resourceLogs"]
    assert resource["resource"] == {
        "attributes": [{"key": "service.name", "value": {"stringValue": "audit-gateway"}}]
    }
    [scope] = resource["scopeLogs"]
    assert scope["scope"] == {"name": "audit-gateway"}
    first, second = scope["logRecords"]
    attributes = {one["key"]: one["value"]["stringValue"] for one in first.pop("attributes")}
    assert attributes == {
        "log.record.uid": "acme:e-7", "audit.tenant": "acme", "audit.category": "auth",
        "audit.action": "user.login", "audit.outcome": "denied", "audit.cursor": event.cursor,
    }  # fmt: skip
    assert first == {
        "timeUnixNano": "1769857200000001000", "observedTimeUnixNano": "1769860800000002000",
        "severityNumber": "SEVERITY_NUMBER_ERROR", "eventName": "auth.user.login",
        "body": {"stringValue": event.json.decode()},
    }  # fmt: skip
    assert second["body"]["stringValue"] == outbound_event(8).json.decode()


@every([0, 1, 60, 100, 110, 120, 127, 128, 129, 200, 16_383, 16_384, 70_000])
def test_records_of_every_length_are_those_of_the_library(length: int) -> None:
    text = "x" * length
    kind = RecordKind("acme", "a", text, "\u00fc")
    record = LogRecord(1, 0, 9, kind, text, "c", text.encode(), "")
    part = protobuf_encoding().record(record)
    read = LogsOfScope.FromString(part)
    assert read.SerializeToString() == part
    [found] = read.log_records
    assert (found.body.string_value, found.event_name) == (text, f"a.{text}")
    assert {one.key: one.value.string_value for one in found.attributes} == record.attributes


@every([(1, 9), (2, 10), (3, 13), (4, 17), (5, 18), (6, 21)])
def test_severities_are_those_of_logs(case: tuple[int, int]) -> None:
    outlet = new_outlet(OTLP, {"url": "https://otel.example.org", "encoding": "json"},
                        transport=object())  # fmt: skip
    record = orjson.loads(outlet.encode(outbound_event(severity=case[0])))
    assert record["severityNumber"] == case[1]


@every([
    (TRACE, TRACE.lower()), ("0" * 32, None), (TRACE[:-1], None), (TRACE + "0", None),
    ("g" * 32, None), ("***", None), (None, None),
])  # fmt: skip
def test_trace_ids_are_taken_where_they_are_some(case: tuple[str | None, str | None]) -> None:
    event = outbound_event(**({"request": {"trace_id": case[0]}} if case[0] else {}))
    url = {"url": "https://otel.example.org"}
    record = orjson.loads(
        new_outlet(OTLP, {**url, "encoding": "json"}, transport=object()).encode(event)
    )
    assert record.get("traceId") == case[1]
    part = new_outlet(OTLP, url, transport=object()).encode(event)
    [read] = ExportLogsServiceRequest.FromString(
        protobuf_encoding().request("s", [part])
    ).resource_logs[0].scope_logs[0].log_records  # fmt: skip
    assert read.trace_id.hex() == (case[1] or "")


@every([
    ("1969-12-31T23:59:59Z", "0"), ("0001-01-01T00:00:00Z", "0"), ("9999-12-31T23:59:59Z", "0"),
    ("2554-07-21T23:34:33.709551Z", "18446744073709551000"),
    ("2554-07-21T23:34:33.709552Z", "0"),
])  # fmt: skip
def test_times_that_records_cannot_have_are_unknown(case: tuple[str, str]) -> None:
    for encoding in ENCODINGS:
        outlet = new_outlet(OTLP, {"url": "https://otel.example.org", "encoding": encoding},
                            transport=object())  # fmt: skip
        body = outlet.encode(outbound_event(time=case[0]))
        if encoding == "json":
            assert orjson.loads(body)["timeUnixNano"] == case[1]


@each_encoding
async def test_bodies_can_be_lists_of_members(encoding: str) -> None:
    data = {"t": True, "n": None, "i": -5, "big": 1 << 63, "f": 0.5, "l": [1, "x", {"y": []}]}
    event = outbound_event(data=data, reason="ü")
    found = await sent(encoding, event, body="kvlist")
    body = found["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"]
    expected = orjson.loads(event.json)
    expected["data"]["big"] = str(1 << 63)
    assert plain(body) == expected


def plain(value: dict[str, Any]) -> Any:
    """What a value of the protocol stands for."""
    [(kind, inner)] = value.items() or [("none", None)]
    if kind == "kvlistValue":
        return {one["key"]: plain(one["value"]) for one in inner["values"]}
    if kind == "arrayValue":
        return [plain(one) for one in inner.get("values", [])]
    return int(inner) if kind == "intValue" else inner


async def test_text_formats_are_bodies_too() -> None:
    format = NativeFormat("cef", False, lambda native: b"CEF:0|..")
    async with connected(CASE, format=format) as (outlet, receiver):
        await outlet.send(batch_of(outlet, 1))
        [scope] = request_of(receiver.received[0])["resourceLogs"][0]["scopeLogs"]
        assert scope["logRecords"][0]["body"] == {"stringValue": "CEF:0|.."}


@every([(100, b""), (127, b""), (128, b"x" * 20_000), (1000, b"x" * 300)])
def test_requests_of_every_size_can_be_read(case: tuple[int, bytes]) -> None:
    outlet = new_outlet(OTLP, {"url": "https://otel.example.org"}, transport=object())
    count = case[0] if case[0] < 1000 else 1000
    events = [outbound_event(1, data={"x": case[1].decode()})] * count
    parts = [outlet.encode(event) for event in events]
    read = ExportLogsServiceRequest.FromString(protobuf_encoding().request("s" * 200, parts))
    [resource] = read.resource_logs
    assert resource.resource.attributes[0].value.string_value == "s" * 200
    assert len(resource.scope_logs[0].log_records) == count


@every([*range(1, 300), *range(16_300, 16_450), 2_097_100, 2_097_152])
def test_lengths_are_written_as_protobuf_has_them(size: int) -> None:
    read = ExportLogsServiceRequest.FromString(protobuf_encoding().request("s" * size, []))
    [attribute] = read.resource_logs[0].resource.attributes
    assert len(attribute.value.string_value) == size


@every([
    (400, PERMANENT), (413, PERMANENT), (408, TRANSIENT), (429, TRANSIENT), (500, TRANSIENT),
    (502, TRANSIENT), (503, TRANSIENT), (504, TRANSIENT), (302, CONFIG), (401, CONFIG),
    (403, CONFIG), (404, CONFIG), (405, CONFIG), (415, CONFIG), (422, CONFIG),
])  # fmt: skip
def test_every_status_has_its_result(case: tuple[int, DeliveryResult]) -> None:
    for encoding in (protobuf_encoding(), json_encoding()):
        verdict = judge(RemoteAnswer(case[0], {}, b"because"), 3, encoding)
        assert (verdict.result, verdict.status, verdict.message) == (case[1], case[0], "because")


def told(encoding: str, rejected: int, message: str = "") -> bytes:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = message
    if encoding == "protobuf":
        return response.SerializeToString()
    return orjson.dumps(MessageToDict(response))


@each_encoding
def test_what_a_receiver_refuses_of_a_batch_is_counted_and_not_sent_again(encoding: str) -> None:
    used = protobuf_encoding() if encoding == "protobuf" else json_encoding()
    verdict = judge(RemoteAnswer(200, {}, told(encoding, 2, "too old\n")), 3, used)
    assert (verdict.result, verdict.unidentified) == (SUCCESS, 2)
    assert verdict.message == "too old\N{REPLACEMENT CHARACTER}"
    assert verdict.delivered(3) == {0, 1, 2}
    warned = judge(RemoteAnswer(200, {}, told(encoding, 0, "old client")), 3, used)
    assert (warned.result, warned.unidentified) == (SUCCESS, 0)


@each_encoding
@pytest.mark.parametrize("count", [1, 3])
def test_more_refused_than_was_sent_is_a_refusal_and_not_tried_again_for_ever(
    encoding: str, count: int
) -> None:
    used = protobuf_encoding() if encoding == "protobuf" else json_encoding()
    for impossible in (-1, count + 1, 1 << 40):
        answer = RemoteAnswer(200, {}, told(encoding, impossible, "no"))
        verdict = judge(answer, count, used)
        assert (verdict.result, verdict.kind) == (PERMANENT, "partial_success")
        assert verdict.delivered(count) == set()


@each_encoding
async def test_a_test_event_that_is_refused_in_part_is_refused(encoding: str) -> None:
    settings = {"encoding": encoding}
    async with connected(CASE, settings=settings) as (outlet, receiver):
        receiver.script.append(Reply(200, told(encoding, 1, "too old")))
        [encoded] = batch_of(outlet, 1)
        verdict = await outlet.test(encoded)
    assert (verdict.result, verdict.unidentified) == (PERMANENT, 0)


@every([
    ("json", b""), ("json", b"<html>"), ("json", b"[]"), ("json", b'{"ok":true}'),
    ("json", b'{"partialSuccess":{"rejectedLogRecords":"x"}}'), ("protobuf", b"<html>"),
    ("protobuf", b'{"ok":true}'), ("protobuf", b"{}"), ("protobuf", b"\x0a\xff"),
])  # fmt: skip
def test_a_200_with_another_body_is_no_success(case: tuple[str, bytes]) -> None:
    encoding = protobuf_encoding() if case[0] == "protobuf" else json_encoding()
    assert judge(RemoteAnswer(200, {}, case[1]), 3, encoding).kind == "protocol"


def test_the_beginning_of_an_answer_is_none() -> None:
    for encoding, body in ((protobuf_encoding(), b""), (json_encoding(), b"{}")):
        assert judge(RemoteAnswer(200, {}, body), 3, encoding).result is SUCCESS
        assert judge(RemoteAnswer(200, {}, body, whole=False), 3, encoding).kind == "protocol"


@every([201, 202, 204])
def test_a_success_that_is_no_200_is_none_of_this_protocol(status: int) -> None:
    assert judge(RemoteAnswer(status, {}, b""), 3, protobuf_encoding()).result is TRANSIENT


async def test_credentials_and_headers_are_those_of_the_settings() -> None:
    for settings, secrets, name, value in (
        ({}, {"token": ["t"]}, "authorization", "Bearer t"),
        ({"user": "ann"}, {"password": ["pw"]}, "authorization", "Basic YW5uOnB3"),
        ({"token_header": "X-Api-Key"}, {"token": ["t"]}, "x-api-key", "t"),
        ({"headers": {"X-Dataset": "audit"}}, {}, "x-dataset", "audit"),
    ):
        async with connected(CASE, settings=settings, secrets=secrets) as (outlet, receiver):
            await outlet.send(batch_of(outlet, 1))
            assert receiver.received[0].headers[name] == value


@every([
    {"url": "https://a/?x=1"}, {"service_name": ""}, {"headers": {"a b": "c"}}, {"user": "a:b"},
    {"token_header": "a b"},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(OTLP, {"url": "https://siem.example.org", **settings})
    assert refused.value.members["path"].split(".")[1] in settings


def test_lists_of_members_are_made_of_json_only() -> None:
    with pytest.raises(InvalidRequest, match="no JSON; take text"):
        new_outlet(OTLP, {"url": "https://siem.example.org", "body": "kvlist"},
                   format=NativeFormat("cef", False))  # fmt: skip


def test_without_the_package_the_other_encoding_is_named(monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.proto.logs.v1", None)
    with pytest.raises(InvalidRequest, match=r"audit-gateway\[otlp\]"):
        new_outlet(OTLP, {"url": "https://siem.example.org"})
    made = {"url": "https://siem.example.org", "encoding": "json"}
    assert new_outlet(OTLP, made, transport=object()).limits.max_bytes == 4 << 20
