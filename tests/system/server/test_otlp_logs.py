"""Log records of OpenTelemetry into `POST /v1/logs`: both encodings, and each record for itself."""

from __future__ import annotations

import base64
import gzip
import json
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway, Start
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.runtime.compose import running
from gateway.settings.declarations import Settings
from gateway.settings.server import ServerSettings
from tests.support.machine_time import becomes

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TIME = 1_767_225_600_123_456_789
SERVICE = {"service.name": "shop"}


def value(one: Any) -> AnyValue:
    if isinstance(one, bool):
        return AnyValue(bool_value=one)
    if isinstance(one, int):
        return AnyValue(int_value=one)
    if isinstance(one, float):
        return AnyValue(double_value=one)
    if isinstance(one, bytes):
        return AnyValue(bytes_value=one)
    if isinstance(one, list):
        return AnyValue(array_value=ArrayValue(values=map(value, one)))
    if isinstance(one, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(one)))
    return AnyValue() if one is None else AnyValue(string_value=one)


def pairs(members: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=value(one)) for name, one in members.items()]


def record(number: int, body: Any = "done", *, time: int = TIME, **attributes: Any) -> LogRecord:
    named = {name.replace("__", "."): one for name, one in attributes.items()}
    return LogRecord(
        time_unix_nano=time + number, severity_number=13, event_name="order.paid",
        body=value(body), attributes=pairs({"number": number, **named}), trace_id=b"\x0f" * 16,
    )  # fmt: skip


def request(
    *records: LogRecord, resource: dict[str, Any] = SERVICE, scope: str = "app"
) -> ExportLogsServiceRequest:
    logs = ScopeLogs(scope=InstrumentationScope(name=scope), log_records=records)
    of_resource = ResourceLogs(resource=Resource(attributes=pairs(resource)), scope_logs=[logs])
    return ExportLogsServiceRequest(resource_logs=[of_resource])


def json_of(message: Any) -> bytes:
    """JSON of OTLP: ids are hexadecimal."""

    def hexadecimal(part: Any) -> Any:
        if isinstance(part, list):
            return [hexadecimal(one) for one in part]
        if not isinstance(part, dict):
            return part
        return {
            name: base64.b64decode(one).hex() if name in ("traceId", "spanId") else hexadecimal(one)
            for name, one in part.items()
        }

    return json.dumps(hexadecimal(MessageToDict(message, use_integers_for_enums=True))).encode()


ENCODED: dict[str, Callable[[Any], bytes]] = {
    PROTOBUF: lambda message: bytes(message.SerializeToString()),
    JSON: json_of,
}
both = pytest.mark.parametrize("kind", ENCODED)


async def send(
    gateway: Gateway, message: Any, kind: str = PROTOBUF, query: str = "", key: str = ""
) -> Answer:
    body = message if isinstance(message, bytes) else ENCODED[kind](message)
    return await gateway.post(
        f"/v1/logs{query}", data=body, headers={"Content-Type": kind}, key=key
    )


def partial(answer: Answer, kind: str = PROTOBUF) -> tuple[int, str]:
    """How many records were refused, and what is said of it."""
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind), answer.body
    if kind == PROTOBUF:
        told = ExportLogsServiceResponse.FromString(answer.body).partial_success
        return told.rejected_log_records, told.error_message
    if answer.body == b"{}":
        return 0, ""
    found = answer.json()["partialSuccess"]
    return int(found["rejectedLogRecords"]), found["errorMessage"]


def said(answer: Answer, kind: str, code: int) -> str:
    """The message of a `google.rpc.Status`."""
    assert answer.headers["Content-Type"] == kind, answer.body
    if kind == JSON:
        assert answer.json()["code"] == code
        return str(answer.json()["message"])
    # The same fields: a number and a text.
    from google.rpc.status_pb2 import Status

    status = Status.FromString(answer.body)
    assert status.code == code
    return str(status.message)


async def stored(gateway: Gateway, **selection: str) -> list[dict[str, Any]]:
    page = await gateway.pull(from_="start", limit="1000", **selection)
    return list(page["events"])


@both
async def test_log_records_become_events_once(gateway: Gateway, kind: str) -> None:
    attributes = {
        "user__id": "ann", "audit__outcome": "denied", "client__address": "192.0.2.1",
        "ratio": 0.5, "raw": b"\xff", "list": [1, {"a": None}], "big": 2**63 - 1, "yes": True,
    }  # fmt: skip
    sent = request(record(1, **attributes), record(2, {"order": {"id": 7}}))
    for _ in range(2):
        assert partial(await send(gateway, sent, kind), kind) == (0, "")
    first, second = await stored(gateway, category="otlp.shop")
    assert first["time"] == "2026-01-01T00:00:00.123456Z"
    assert (first["action"], first["outcome"], first["severity"]) == ("order.paid", "denied", 3)
    assert (first["actor"], first["reason"]) == ({"id": "ann"}, "done")
    assert first["source"] == {"service": "shop", "ip": "192.0.2.1"}
    assert first["request"]["trace_id"] == "0f" * 16
    kept = first["data"]["attributes"]
    assert [kept[name] for name in ("ratio", "raw", "list", "big", "yes")] == [
        0.5, "/w==", [1, {"a": None}], 2**63 - 1, True,
    ]  # fmt: skip
    assert first["data"]["resource"] == SERVICE
    assert second["data"]["body"] == {"order": {"id": 7}}


async def test_both_encodings_give_the_same_event(gateway: Gateway) -> None:
    sent = request(record(1, {"a": [1.5, "x", b"y", None, {}]}, n=float("nan"), e="", z=0))
    assert partial(await send(gateway, sent, PROTOBUF)) == (0, "")
    assert partial(await send(gateway, sent, JSON), JSON) == (0, "")
    body = gzip.compress(ENCODED[PROTOBUF](sent))
    headers = {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}
    assert partial(await gateway.post("/v1/logs", data=body, headers=headers)) == (0, "")
    assert len(await stored(gateway, category="otlp.**")) == 1


async def test_what_collected_a_record_again_does_not_make_it_another(gateway: Gateway) -> None:
    for observed in (1, 2):
        again = record(1)
        again.observed_time_unix_nano = TIME + observed
        bare = LogRecord(observed_time_unix_nano=TIME + observed, body=value("x"))
        named = LogRecord(
            observed_time_unix_nano=TIME + observed, attributes=pairs({"audit.id": "1"})
        )
        assert partial(await send(gateway, request(again, bare, named))) == (0, "")
    events = await stored(gateway, category="otlp.**")
    assert [event["id"] for event in events].count("1") == 1
    assert len(events) == 4, "without a time of its own a record is told by when it was collected"


@both
async def test_one_poisoned_record_in_twenty_costs_only_itself(gateway: Gateway, kind: str) -> None:
    def spoiled(number: int) -> LogRecord:
        tenants = {5: "gateway", 11: "gateway"}
        return record(number, audit__tenant=tenants.get(number, "acme"))

    body = ENCODED[kind](request(*map(spoiled, range(20))))
    if kind == PROTOBUF:
        # A text that is no UTF-8, as exporters of Go send it.
        body = body.replace(b"order.paid", b"order.\xffaid", 1)
    else:
        body = body.replace(b'"order.paid"', b"17", 1)
    rejected, message = partial(await send(gateway, body, kind), kind)
    assert rejected == 3
    assert message.startswith("3 of the log records are refused")
    assert "record 0" in message
    assert "record 5: tenant: `gateway` is reserved" in message
    events = await stored(gateway, category="otlp.shop")
    assert len(events) == 17
    page = await gateway.pull(key=gateway.admin, category="gateway.rejected", from_="start")
    assert len(page["events"]) == 3
    assert partial(await send(gateway, body, kind), kind)[0] == 3, "and no more when it is repeated"
    assert len(await stored(gateway, category="otlp.shop")) == 17


async def test_a_record_is_of_the_source_that_it_names(gateway: Gateway) -> None:
    entry = {"uuid": "1", "eventType": "user.session.start", "published": "2026-01-01T00:00:00Z"}
    text = json.dumps(entry)
    of_attribute = request(record(1, text, audit__source="okta"), record(2, entry))
    assert partial(await send(gateway, of_attribute)) == (0, "")
    assert partial(await send(gateway, request(record(3, entry), scope="okta"))) == (0, "")
    assert partial(await send(gateway, request(record(4, text)), query="?source=okta")) == (0, "")
    assert [one["id"] for one in await stored(gateway, category="okta.**")] == ["1"]
    assert len(await stored(gateway, category="otlp.shop")) == 1
    wrong = request(record(5, "{}", audit__source="okta"), record(6, "{}"))
    rejected, message = partial(await send(gateway, wrong))
    assert (rejected, "not a record of Okta" in message) == (1, True)
    library = request(record(7, "started"), scope="vault")
    assert partial(await send(gateway, library)) == (0, ""), "a library may be called like a source"
    unknown = request(record(8, audit__source="oktaa"))
    assert partial(await send(gateway, unknown)) == (0, "")
    assert len(await stored(gateway, category="otlp.shop")) == 4


async def test_a_bound_key_says_whose_records_are(gateway: Gateway) -> None:
    bound = await gateway.mint(
        {"actions": ["ingest"], "categories": ["app.audit"], "tenants": ["acme"]}
    )
    free = await gateway.mint({"actions": ["ingest"], "categories": ["**"], "tenants": ["a", "b"]})
    sent = request(record(1, audit__tenant="b", audit__category="auth"))
    for key in (bound, free):
        assert partial(await send(gateway, sent, key=key)) == (0, "")
    found = {(one["tenant"], one["category"]) for one in await stored(gateway, action="order.paid")}
    assert found == {("acme", "app.audit"), ("b", "auth")}
    outside = request(record(2, audit__tenant="other"), record(3, audit__tenant="a"))
    rejected, message = partial(await send(gateway, outside, key=free))
    assert (rejected, "may not write" in message) == (1, True)


async def test_records_of_a_named_source_that_say_no_tenant_are_of_the_declared_one(
    gateway: Gateway,
) -> None:
    entry = {"uuid": "1", "eventType": "user.session.start", "published": 0}
    native = {"category": "pay", "action": "x"}
    sent = request(
        record(1, entry, audit__source="okta", audit__tenant="b"),
        record(2, native, audit__source="native", audit__tenant="b"),
        record(3, native | {"tenant": "own"}, audit__source="native", audit__tenant="b"),
    )
    assert partial(await send(gateway, sent)) == (0, "")
    assert {one["tenant"] for one in await stored(gateway, category="okta.**")} == {"b"}
    assert [one["tenant"] for one in await stored(gateway, category="pay")] == ["b", "own"]


async def test_a_mask_of_a_member_hides_the_attributes_that_it_is_made_of(
    gateway: Gateway,
) -> None:
    assert partial(await send(gateway, request(record(1, user__id="ann@acme.example")))) == (0, "")
    fields = {"mask": ["actor.id"]}
    key = await gateway.mint({"actions": ["pull"], "categories": ["otlp.**"], "fields": fields})
    answer = await gateway.get("/v1/events", key=key, params={"category": "otlp.**"})
    [event] = answer.json()["events"]
    assert event["data"]["resource"]
    assert b"ann@acme" not in answer.body


async def test_equal_ids_of_tenants_are_told_apart(gateway: Gateway) -> None:
    ids = [record(number, audit__id="1", audit__tenant=t) for number, t in enumerate("ab")]
    assert partial(await send(gateway, request(*ids))) == (0, "")
    other = record(9, "something else", audit__id="1", audit__tenant="a")
    assert partial(await send(gateway, request(other))) == (0, "")
    events = await stored(gateway, action="order.paid")
    assert [one["tenant"] for one in events] == ["a", "b", "a"]
    assert [one["id"] == "1" for one in events] == [True, True, False], "nothing is hidden by it"


@both
async def test_what_can_never_be_taken_is_a_status(gateway: Gateway, kind: str) -> None:
    for body in (b"\x08", b"[]", b'{"resourceLogs":1}', b"\x0a\x05", b"\x00\x00", b"\x0b"):
        answer = await send(gateway, body, kind)
        assert answer.status == 400
        assert "ExportLogsServiceRequest" in said(answer, kind, 3)
    assert (await send(gateway, request(), kind, "?source=oktaa")).status == 404
    answer = await send(gateway, request(), kind, "?sauce=okta")
    assert (answer.status, "did you mean `source`?" in said(answer, kind, 3)) == (400, True)
    answer = await send(gateway, request(), kind, key="alpk_0123456789ab_wrong")
    assert (answer.status, bool(said(answer, kind, 16))) == (401, True)
    reader = await gateway.mint({"actions": ["pull"], "categories": ["**"]})
    answer = await send(gateway, request(), kind, key=reader)
    assert (answer.status, bool(said(answer, kind, 7))) == (403, True)


async def test_a_body_of_another_type_is_refused_in_json(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/logs", data=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status == 415
    assert PROTOBUF in said(answer, JSON, 12)


async def test_an_empty_request_is_taken(gateway: Gateway) -> None:
    for kind, body in ((PROTOBUF, b""), (JSON, b"{}"), (JSON, b'{"resourceLogs":null}')):
        assert partial(await send(gateway, body, kind), kind) == (0, "")


async def test_a_sender_repeats_what_the_gateway_cannot_take_now(start: Start) -> None:
    gateway = await start()
    gateway.context.writer.close()
    for kind in ENCODED:
        answer = await send(gateway, request(record(1)), kind)
        assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
        assert "stopping" in said(answer, kind, 14)


async def test_one_gateway_feeds_another(
    start: Start, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "second", server=ServerSettings(port=0))
    async with running(settings) as second:
        assert second.first_key is not None
        other = Gateway(second.url, second.first_key, session, second.context)
        await other.make_user()
        first = await start(destinations={"allow_networks": (ip_network("127.0.0.0/8"),)})
        reader = await first.mint({"actions": ["stream"], "categories": ["auth"]})
        sent = [
            event(id=str(n), tenant="acme", outcome="denied", data={"n": 1.5}) for n in range(20)
        ]
        await first.send(*sent)
        for encoding in ("protobuf", "json"):
            body = {
                "name": encoding, "type": "otlp", "key": key_id(reader), "from": "start",
                "plaintext": True,
                "settings": {"url": second.url, "encoding": encoding},
                "secrets": {"token": other.user},
            }  # fmt: skip
            made = await first.post("/v1/destinations", key=first.admin, json=body)
            assert made.status == 201, made.body
            path = f"/v1/destinations/{encoding}"

            async def shown(path: str = path) -> Any:
                return (await first.get(path, key=first.admin)).json()

            seen = await becomes(shown, lambda one: one["delivered"]["events"] == 20)
            assert seen["rejected"] == 0
        came = await stored(other, category="auth")
        kept = await stored(first, category="auth")
        assert [without_place(one) for one in came] == [without_place(one) for one in kept]


def without_place(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in ("cursor", "recorded_at")}


async def test_without_its_package_protobuf_is_refused_by_the_name_of_the_package(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gateway.ingest.otlp.protobuf", None)
    answer = await send(gateway, request(record(1)))
    assert answer.status == 415
    assert "install audit-gateway[otlp]" in said(answer, JSON, 12)
    assert partial(await send(gateway, request(record(1)), JSON), JSON) == (0, "")


async def test_copies_of_what_records_share_are_bounded(start: Start) -> None:
    gateway = await start(ingest={"max_request_bytes": 256 * 1024})
    attributes = {"a": "x" * 50_000}
    few = request(*map(record, range(10)), resource=attributes)
    assert partial(await send(gateway, few)) == (0, "")
    many = request(*map(record, range(100)), resource=attributes)
    answer = await send(gateway, many)
    assert (answer.status, "fewer at a time" in said(answer, PROTOBUF, 3)) == (413, True)
    large = request(record(1), resource={"a": "x" * 70_000})
    rejected, message = partial(await send(gateway, large))
    assert (rejected, "its resource or scope has more than" in message) == (1, True)


@both
async def test_deep_wide_and_repeated_attributes_cost_only_their_record(
    gateway: Gateway, kind: str
) -> None:
    deep: Any = "x"
    for _ in range(28):
        deep = {"d": deep}
    wide = {f"n{number}": number for number in range(20_000)}
    twice = record(3)
    twice.attributes.append(KeyValue(key="number", value=value(4)))
    sent = request(record(1, deep), record(2, wide), twice, record(4))
    rejected, message = partial(await send(gateway, sent, kind), kind)
    assert (rejected, "the attribute appears twice" in message) == (1, True)
    assert [one["data"]["attributes"]["number"] for one in await stored(gateway)] == [1, 2, 4]


async def test_nesting_and_compression_without_end_are_refused(gateway: Gateway) -> None:
    deep = '{"arrayValue":{"values":[' * 3000 + "{}" + "]}}" * 3000
    logs = f'[{{"body":{deep}}},{{"eventName":"good"}}]'
    body = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":{logs}}}]}}]}}'.encode()
    rejected, message = partial(await send(gateway, body, JSON), JSON)
    assert (rejected, "record 0" in message) == (1, True)
    assert [one["action"] for one in await stored(gateway)] == ["good"]
    for kind in ENCODED:
        bomb = gzip.compress(b"\x0a" * (9 << 20))
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        answer = await gateway.post("/v1/logs", data=bomb, headers=headers)
        assert (answer.status, "send it in parts" in said(answer, kind, 3)) == (413, True)
        many = b'{"resourceLogs":[' + b"{}," * 401_000 + b"{}]}"
        fields = b"\x0a\x00" * 250_000
        answer = await send(gateway, many if kind == JSON else fields, kind)
        assert (answer.status, "fewer records" in said(answer, kind, 3)) == (413, True)


async def test_what_is_refused_again_is_kept_once_whenever_it_was_collected(
    gateway: Gateway,
) -> None:
    for observed in (1, 2):
        refused = record(1, "{}", audit__source="okta"), record(2, audit__tenant="gateway")
        native = record(3, '{"category":"gateway.keys","action":"a"}', audit__source="native")
        for one in (*refused, native):
            one.observed_time_unix_nano = TIME + observed
        outside = record(4, audit__category="other")
        outside.observed_time_unix_nano = TIME + observed
        key = await gateway.mint({"actions": ["ingest"], "categories": ["okta.**", "otlp.**"]})
        sent = request(*refused, native, outside)
        assert partial(await send(gateway, sent, key=key))[0] == 4
    page = await gateway.pull(key=gateway.admin, category="gateway.rejected", from_="start")
    assert len(page["events"]) == 4


@both
async def test_no_text_of_a_request_spoils_its_refusal(gateway: Gateway, kind: str) -> None:
    for query in ("?source=%FF", "?%ED%A0%80=1", "?source=%ED%A0%80%00", "?source=a%22%7B%0A"):
        answer = await send(gateway, request(), kind, query)
        assert answer.status in (400, 404)
        code = 5 if answer.status == 404 else 3
        assert "source" in said(answer, kind, code)
