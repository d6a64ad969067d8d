"""Encodings of OTLP/HTTP: requests to export log records, and what answers say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

_SCOPE = "audit-gateway"
_UID, _CURSOR = "log.record.uid", "audit.cursor"
_LEAST_INT, _MOST_INT = -(1 << 63), (1 << 63) - 1


class RecordKind(NamedTuple):
    """What a record has in common with many others."""

    tenant: str
    category: str
    action: str
    outcome: str

    @property
    def name(self) -> str:
        """Name of the event."""
        return f"{self.category}.{self.action}"

    @property
    def attributes(self) -> dict[str, str]:
        return {f"audit.{name}": text for name, text in self._asdict().items()}


class LogRecord(NamedTuple):
    """One record. Times are in nanoseconds since 1970, 0 where unknown; `body` is a text in UTF-8,
    or decoded JSON."""

    time: int
    observed: int
    severity: int
    kind: RecordKind
    uid: str
    cursor: str
    body: Any
    trace_id: str

    @property
    def attributes(self) -> dict[str, str]:
        return {_UID: self.uid, **self.kind.attributes, _CURSOR: self.cursor}


class Partial(NamedTuple):
    """How many records a receiver has refused for good, and why."""

    rejected: int
    message: str


class Encoding(NamedTuple):
    """Encoding of requests and answers. `record` makes the part of a request for one record, and
    `request` one of the name of the service and parts. `partial` says what an answer tells; it is
    None, or raises as decoders do, if it is none of the protocol."""

    content_type: str
    record: Callable[[LogRecord], bytes]
    request: Callable[[str, Sequence[bytes]], bytes]
    partial: Callable[[bytes], Partial | None]


# JSON


class _PartialSuccess(msgspec.Struct, rename="camel"):
    # Numbers of 64 bits are texts.
    rejected_log_records: int | str = 0
    error_message: str = ""


class _Response(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    partial_success: _PartialSuccess | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Response).decode


def json_encoding() -> Encoding:
    """Encoding as JSON."""
    return Encoding("application/json", _json_record, _json_request, _json_partial)


def _json_record(record: LogRecord) -> bytes:
    members = {
        "timeUnixNano": str(record.time),
        "observedTimeUnixNano": str(record.observed),
        "severityNumber": record.severity,
        "eventName": record.kind.name,
        "body": _json_value(
            record.body.decode() if isinstance(record.body, bytes) else record.body
        ),
        "attributes": _json_list(record.attributes),
    }
    if record.trace_id:
        members["traceId"] = record.trace_id
    return _encode(members)


def _json_request(service: str, records: Sequence[bytes]) -> bytes:
    return (
        b'{"resourceLogs":[{"resource":{"attributes":%b},"scopeLogs":[{"scope":{"name":%b},'
        b'"logRecords":[%b]}]}]}'
        % (_encode(_json_list({"service.name": service})), _encode(_SCOPE), b",".join(records))
    )


def _json_partial(body: bytes) -> Partial:
    told = _decode(body).partial_success or _PartialSuccess()
    return Partial(int(told.rejected_log_records), told.error_message)


def _json_list(members: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _json_value(value)} for name, value in members.items()]


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if _fits(value) else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_json_value(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _json_list(value)}}
    return {}


def _fits(value: int) -> bool:
    return _LEAST_INT <= value <= _MOST_INT


# Protobuf


def protobuf_encoding() -> Encoding:
    """Encoding as protobuf. Raises `ImportError` where the extra `otlp` is not installed."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.common.v1.common_pb2 import (
        AnyValue,
        ArrayValue,
        InstrumentationScope,
        KeyValue,
        KeyValueList,
    )
    from opentelemetry.proto.logs.v1 import logs_pb2
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    def record(record: LogRecord) -> bytes:
        """With tag and length: messages that follow each other are joined."""
        # The library makes an object of each value, which takes three times as long as all else.
        time, observed, severity, kind, uid, cursor, body, trace_id = record
        text = _field(1, body) if isinstance(body, bytes) else value(body).SerializeToString()
        attributes, event_name = _of_kind(kind)
        return _field(2, b"".join((
            _fixed(1, time), b"\x10", _length(severity), b"*", _length(len(text)), text,
            _attribute(_UID, uid), attributes, _attribute(_CURSOR, cursor),
            _field(9, bytes.fromhex(trace_id)) if trace_id else b"",
            _fixed(11, observed), event_name,
        )))  # fmt: skip

    def request(service: str, records: Sequence[bytes]) -> bytes:
        scope = logs_pb2.ScopeLogs(scope=InstrumentationScope(name=_SCOPE))
        resource = Resource(attributes=pairs({"service.name": service}))
        logs = _field(2, b"".join([scope.SerializeToString(), *records]))
        return _field(1, logs_pb2.ResourceLogs(resource=resource).SerializeToString() + logs)

    def partial(body: bytes) -> Partial | None:
        try:
            told = ExportLogsServiceResponse.FromString(body).partial_success
        except DecodeError:
            return None
        return Partial(told.rejected_log_records, told.error_message)

    def pairs(members: Mapping[str, Any]) -> list[Any]:
        return [KeyValue(key=name, value=value(one)) for name, one in members.items()]

    def value(one: Any) -> Any:
        if isinstance(one, str):
            return AnyValue(string_value=one)
        if isinstance(one, bool):
            return AnyValue(bool_value=one)
        if isinstance(one, int):
            return AnyValue(int_value=one) if _fits(one) else AnyValue(string_value=str(one))
        if isinstance(one, float):
            return AnyValue(double_value=one)
        if isinstance(one, list):
            return AnyValue(array_value=ArrayValue(values=map(value, one)))
        if isinstance(one, dict):
            return AnyValue(kvlist_value=KeyValueList(values=pairs(one)))
        return AnyValue()

    return Encoding("application/x-protobuf", record, request, partial)


def _attribute(name: str, text: str) -> bytes:
    """Attribute of a record."""
    key, raw = _key(name), text.encode()
    size = len(raw)
    if len(key) + size < 124:
        # All lengths have one byte.
        return b"2%c%b%c\n%c%b" % (len(key) + size + 3, key, size + 2, size, raw)
    value = _field(1, raw)
    return _field(6, b"%b%b%b" % (key, _length(len(value)), value))


@lru_cache(1024)
def _of_kind(kind: RecordKind) -> tuple[bytes, bytes]:
    """Attributes of the records of a kind, and the name of their event."""
    attributes = b"".join([_attribute(name, text) for name, text in kind.attributes.items()])
    return attributes, _field(12, kind.name.encode())


@lru_cache(64)
def _key(name: str) -> bytes:
    """Name of an attribute, and the tag of its value."""
    return _field(1, name.encode()) + b"\x12"


def _fixed(number: int, content: int) -> bytes:
    """Field of a number of 64 bits; nothing for 0."""
    return b"%c%b" % (number << 3 | 1, content.to_bytes(8, "little")) if content else b""


def _field(number: int, content: bytes) -> bytes:
    """Field of a message that holds bytes, a text or another message."""
    return b"%c%b%b" % (number << 3 | 2, _length(len(content)), content)


def _length(left: int) -> bytes:
    """A number of variable length."""
    if left < 128:
        return b"%c" % left
    if left < 1 << 14:
        return b"%c%c" % (left & 127 | 128, left >> 7)
    length = bytearray()
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return b"%b%c" % (bytes(length), left)
