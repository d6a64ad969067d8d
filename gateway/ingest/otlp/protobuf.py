"""OTLP as protobuf, which needs the extra `otlp`. Pure.

Requests are taken apart by hand as far as their records, which the library then decodes one by one:
so a record with a text that is not UTF-8, which the library refuses, costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.ingest.otlp.log_records import (
    LogEncoding,
    Origin,
    SentRecord,
    base64_text,
    made_origin,
    malformed,
    number,
    repeated,
)
from gateway.ingest.strict_json import Refused

_VARINT, _FIXED64, _BYTES, _BEGIN_GROUP, _END_GROUP, _FIXED32 = range(6)
# Fields between two turns of others, some microseconds each.
_FIELDS_AT_ONCE = 250
_MOST_GROUPS = 64
_RESOURCE_LOGS = _RESOURCE = _SCOPE = 1
_SCOPE_LOGS = _LOG_RECORDS = 2


class _Field(NamedTuple):
    """Field of a message that holds bytes, and where these are; others are passed over."""

    number: int
    start: int
    end: int


def _split(body: bytes) -> Iterator[SentRecord | None]:
    fields = 0
    for logs in _fields(body, 0, len(body)):
        if logs is None or logs.number != _RESOURCE_LOGS:
            yield None
            continue
        resource: list[bytes] = []
        scopes: list[_Field] = []
        for field in _fields(body, logs.start, logs.end):
            if field is None:
                yield None
            elif field.number == _RESOURCE:
                # Messages that follow each other are joined.
                resource.append(body[field.start : field.end])
            elif field.number == _SCOPE_LOGS:
                scopes.append(field)
        for one in scopes:
            scope: list[bytes] = []
            records: list[_Field] = []
            for field in _fields(body, one.start, one.end):
                if field is None:
                    yield None
                elif field.number == _SCOPE:
                    scope.append(body[field.start : field.end])
                elif field.number == _LOG_RECORDS:
                    records.append(field)
            fields += 1
            if fields % _FIELDS_AT_ONCE == 0:
                yield None
            if records:
                origin = _origin(b"".join(resource), b"".join(scope))
                for field in records:
                    yield SentRecord(origin, body[field.start : field.end])


def _fields(body: bytes, at: int, end: int) -> Iterator[_Field | None]:
    """Fields of the message between two places; None for a turn of others."""
    passed = 0
    groups: list[int] = []
    while at < end:
        passed += 1
        if passed % _FIELDS_AT_ONCE == 0:
            yield None
        tag, at = _varint(body, at, end)
        kind, field = tag & 7, tag >> 3
        if not field:
            raise malformed(f"a field without a number at byte {at - 1}")
        if kind == _BYTES:
            size, start = _varint(body, at, end)
            at = start + size
            if at <= end and not groups:
                yield _Field(field, start, at)
        elif kind == _VARINT:
            _, at = _varint(body, at, end)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BEGIN_GROUP and len(groups) < _MOST_GROUPS:
            groups.append(field)
        elif kind == _END_GROUP and groups and groups[-1] == field:
            groups.pop()
        else:
            raise malformed(f"no field of protobuf ends at byte {at}")
        if at > end:
            raise malformed(f"it ends within a field that ends at byte {at}")
    if groups:
        raise malformed("it ends within a group")


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Number of variable length, and where it ends."""
    result = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        if byte < 128:
            return result | byte << shift, at
        result |= (byte & 127) << shift
        shift += 7
    raise malformed(f"it ends within a number, or that is too long, at byte {at}")


def _origin(resource: bytes, scope: bytes) -> Origin:
    return made_origin(
        lambda: _object(_parsed(Resource, resource).attributes, "resource"),
        lambda: _scope(_parsed(InstrumentationScope, scope)),
        len(resource) + len(scope),
    )


def _scope(scope: Any) -> dict[str, Any]:
    found = {"name": scope.name, "version": scope.version}
    made: dict[str, Any] = {name: value for name, value in found.items() if value}
    if scope.attributes:
        made["attributes"] = _object(scope.attributes, "scope")
    return made


def _record(raw: bytes) -> dict[str, Any]:
    record = _parsed(LogRecord, raw)
    made: dict[str, Any] = {}
    if time := record.time_unix_nano:
        made["timeUnixNano"] = str(time)
    if observed := record.observed_time_unix_nano:
        made["observedTimeUnixNano"] = str(observed)
    if severity := record.severity_number:
        made["severityNumber"] = severity
    if text := record.severity_text:
        made["severityText"] = text
    if name := record.event_name:
        made["eventName"] = name
    if record.HasField("body"):
        made["body"] = _value(record.body, "body")
    made["attributes"] = _object(record.attributes, "attributes")
    if dropped := record.dropped_attributes_count:
        made["droppedAttributesCount"] = dropped
    if flags := record.flags:
        made["flags"] = flags
    if trace := record.trace_id:
        made["traceId"] = trace.hex()
    if span := record.span_id:
        made["spanId"] = span.hex()
    return made


def _parsed(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Refused(
            "", "no valid protobuf: broken, nested too deep, or a text that is not UTF-8"
        ) from None


def _object(pairs: Iterable[Any], where: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for one in pairs:
        name, value = one.key, one.value
        if name in members:
            raise repeated(name, where)
        # Most are texts.
        members[name] = value.string_value or _value(value, where)
    return members


def _value(value: Any, where: str) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one, where) for one in value.array_value.values]
    if kind == "kvlist_value":
        return _object(value.kvlist_value.values, where)
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "bytes_value":
        return base64_text(found)
    return number(found) if kind == "double_value" else found


def _answer(rejected: int, message: str) -> bytes:
    response = ExportLogsServiceResponse()
    if rejected or message:
        response.partial_success.CopyFrom(
            ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
        )
    encoded: bytes = response.SerializeToString()
    return encoded


def _status(code: int, message: str) -> bytes:
    # `google.rpc.Status` has the fields that the partial success has.
    status = ExportLogsPartialSuccess(rejected_log_records=code, error_message=message)
    encoded: bytes = status.SerializeToString()
    return encoded


PROTOBUF = LogEncoding("application/x-protobuf", _split, _record, _answer, _status)
