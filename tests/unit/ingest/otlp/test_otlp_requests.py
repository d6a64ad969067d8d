"""Requests of OTLP taken apart: what senders may send, and what attackers send."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from gateway.errors import InvalidRequest, PayloadTooLarge
from gateway.ingest.otlp.json_encoding import JSON
from gateway.ingest.otlp.log_records import LogEncoding
from gateway.ingest.otlp.protobuf import PROTOBUF
from gateway.ingest.strict_json import Refused
from tests.support.examples import examples

MANY = settings(max_examples=examples(500))
MOST = 100


def records_of(encoding: LogEncoding, body: bytes, most: int = MOST) -> list[bytes]:
    return [sent.raw for sent in encoding.split(body, most) if sent is not None]


def taken(encoding: LogEncoding, body: bytes) -> int:
    """How many records are understood; whatever is wrong is an error that has a name."""
    count = 0
    try:
        for sent in encoding.split(body, MOST):
            if sent is None or sent.origin.refused is not None:
                continue
            try:
                json.dumps(encoding.record(sent.raw), allow_nan=False)
                count += 1
            except Refused:
                pass
    except (InvalidRequest, PayloadTooLarge):
        pass
    return count


values = st.recursive(
    st.builds(AnyValue)
    | st.builds(AnyValue, string_value=st.text(max_size=9))
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(AnyValue, double_value=st.floats())
    | st.builds(AnyValue, bytes_value=st.binary(max_size=9)),
    lambda inner: st.lists(inner, max_size=3).map(
        lambda found: AnyValue(array_value={"values": found})
    ),
    max_leaves=5,
)
attributes = st.lists(
    st.builds(KeyValue, key=st.text(max_size=9), value=values), max_size=4,
    unique_by=lambda one: one.key,
)  # fmt: skip
log_records = st.builds(
    LogRecord, time_unix_nano=st.integers(0, 2**64 - 1), body=values, attributes=attributes,
    trace_id=st.binary(max_size=20), severity_number=st.integers(0, 24),
)  # fmt: skip
requests = st.lists(
    st.builds(
        ResourceLogs,
        scope_logs=st.lists(
            st.builds(ScopeLogs, log_records=st.lists(log_records, max_size=3)), max_size=3
        ),
    ),
    max_size=3,
).map(lambda logs: ExportLogsServiceRequest(resource_logs=logs))
# Fields that are not known: of each kind, and a group with others inside.
UNKNOWN = (
    b"\x78\x01", b"\x79" + b"x" * 8, b"\x7a\x02ab", b"\x7d" + b"x" * 4, b"\x7b\x7a\x01a\x7c",
    b"\x7b\x7b\x78\x01\x7c\x7c", b"\x7b\x00\x01\x7c",
)  # fmt: skip


@given(requests, st.lists(st.sampled_from(UNKNOWN), max_size=3))
@MANY
def test_records_are_those_that_the_library_finds(request: Any, unknown: list[bytes]) -> None:
    body = b"".join([*unknown, request.SerializeToString(), *unknown])
    expected = [
        record
        for logs in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in logs.scope_logs
        for record in scope.log_records
    ]
    found = records_of(PROTOBUF, body)
    assert [LogRecord.FromString(raw) for raw in found] == expected
    assert taken(PROTOBUF, body) == len(expected)


@given(requests, st.data())
@MANY
def test_a_spoiled_request_is_refused_or_costs_records(request: Any, data: st.DataObject) -> None:
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    taken(PROTOBUF, bytes(body))
    try:
        parsed = ExportLogsServiceRequest.FromString(bytes(body))
    except DecodeError:
        return
    if sum(len(scope.log_records) for one in parsed.resource_logs for scope in one.scope_logs):
        assert records_of(PROTOBUF, bytes(body))


@given(st.binary(max_size=60))
@MANY
def test_any_bytes_are_refused_by_name(body: bytes) -> None:
    for encoding in (PROTOBUF, JSON):
        taken(encoding, body)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "key", "value", "values", "stringValue", "intValue", "int_value", "doubleValue",
            "boolValue", "bytesValue", "arrayValue", "kvlistValue", "attributes", "x",
        ]), inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["body", "attributes", "timeUnixNano", "traceId",
                                        "severityNumber", "eventName", "flags"]), anything),
       anything)  # fmt: skip
@MANY
def test_json_of_any_shape_costs_only_its_record(record: Any, resource: Any) -> None:
    logs = {"resource": resource, "scopeLogs": [{"scope": resource, "logRecords": [record, {}]}]}
    body = json.dumps({"resourceLogs": [logs]}).encode()
    assert len(records_of(JSON, body)) == 2
    assert taken(JSON, body) in (0, 1, 2)


def nested(depth: int) -> bytes:
    return b'{"kvlistValue":{"values":[{"key":"a","value":' * depth + b"{}" + b"}]}}" * depth


@pytest.mark.parametrize("depth", [20, 200, 300, 10_000])
def test_nesting_without_end_costs_only_its_record(depth: int) -> None:
    records = b'{"body":%b},{"eventName":"x"}' % nested(depth)
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % records
    assert taken(JSON, body) in (1, 2)
    deep = AnyValue(string_value="x").SerializeToString()
    for _ in range(min(depth, 300)):
        deep = AnyValue(array_value={}).SerializeToString()[:1] + _length(_in_array(deep))
    raw = b"\x2a" + _length(deep)
    scope = b"\x12" + _length(raw) + b"\x12" + _length(b"\x10\x09")
    assert taken(PROTOBUF, b"\x0a" + _length(b"\x12" + _length(scope))) in (1, 2)


def _in_array(value: bytes) -> bytes:
    return b"\x0a" + _length(value)


def _length(content: bytes) -> bytes:
    left, size = len(content), bytearray()
    while left > 127:
        size.append(left & 127 | 128)
        left >>= 7
    return bytes([*size, left]) + content


@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ({"string_value": "a"}, "a"),
        ({"intValue": "-9223372036854775808"}, -(2**63)),
        ({"intValue": 7}, 7),
        ({"doubleValue": "-Infinity"}, "-Infinity"),
        ({"doubleValue": "1.5"}, 1.5),
        ({"bytesValue": "_-8"}, "/+8="),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {"values": None}}, {}),
        ({"boolValue": False}, False),
        ({"stringValue": ""}, ""),
        ({}, None),
    ],
)
def test_values_are_read_as_proto3_json_has_them(spelled: Any, value: Any) -> None:
    made = JSON.record(json.dumps({"body": spelled}).encode())
    assert made.get("body") == value


@pytest.mark.parametrize(
    ("record", "path"),
    [
        ({"timeUnixNano": "1.5"}, "timeUnixNano"),
        ({"timeUnixNano": str(2**64)}, "timeUnixNano"),
        ({"traceId": "xyz"}, "traceId"),
        ({"severityNumber": "SEVERITY_NUMBER_INFO"}, "severityNumber"),
        ({"body": {"intValue": "9" * 5000}}, "body"),
        ({"body": "text"}, "body"),
        ({"attributes": {"a": 1}}, "attributes"),
        ({"attributes": [{"key": 1}]}, "attributes"),
        ({"attributes": [{"key": "a"}, {"key": "a"}]}, "attributes.a"),
    ],
)
def test_what_is_wrong_in_a_record_is_named(record: Any, path: str) -> None:
    with pytest.raises(Refused) as refused:
        JSON.record(json.dumps(record).encode())
    assert refused.value.path == path


def test_a_member_that_is_there_twice_is_not_passed_over() -> None:
    record = b'{"attributes":[],"attributes":[{"key":"audit.tenant"}]}'
    with pytest.raises(Refused, match="twice"):
        JSON.record(record)
    logs = b'"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]'
    with pytest.raises(InvalidRequest, match="twice"):
        records_of(JSON, b"{%b,%b}" % (logs, logs))
    quoted = logs.replace(b"{}", b'{"eventName":"\\"resourceLogs\\""}')
    assert len(records_of(JSON, b"{%b}" % quoted)) == 1


def test_too_many_records_are_not_made() -> None:
    for encoding, body in (
        (PROTOBUF, b"\x0a" + _length(b"\x12" + _length(b"\x12\x00" * 2_000_000))),
        (
            JSON,
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % b",".join([b"{}"] * 200),
        ),
    ):
        with pytest.raises(PayloadTooLarge):
            records_of(encoding, body)


@pytest.mark.parametrize("field", [b"\x0a\x00", b"\x78\x01", b"\x0a\x02\x12\x00"])
def test_fields_without_records_are_bounded_and_leave_turns_to_others(field: bytes) -> None:
    turns = 0

    def counted() -> Iterator[None]:
        nonlocal turns
        for sent in PROTOBUF.split(field * 2_000_000, MOST):
            assert sent is None
            turns += 1
            yield sent

    with pytest.raises(PayloadTooLarge, match="too many fields"):
        deque(counted(), 0)
    assert turns > 500
