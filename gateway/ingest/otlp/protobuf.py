"""OTLP as protobuf, which needs the extra `otlp`. Pure.

Requests are taken apart by hand as far as their records, which the library then decodes one by one:
so a record with a text that is not UTF-8, which the library refuses, costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.errors import PayloadTooLarge
from gateway.ingest.otlp.log_records import (
    LogEncoding,
    SentRecord,
    attempted,
    base64_text,
    made_origin,
    malformed,
    number,
    repeated,
)
from gateway.ingest.split import too_many
from gateway.ingest.strict_json import Refused

_VARINT, _FIXED64, _BYTES, _BEGIN_GROUP, _END_GROUP, _FIXED32 = range(6)
# Fields between two turns of others, some microseconds each.
_FIELDS_AT_ONCE = 250
_MOST_GROUPS = 64
# Beside one for each record.
_MOST_FIELDS = 200_000
_RESOURCE_LOGS = _RESOURCE = _SCOPE = 1
_SCOPE_LOGS = _LOG_RECORDS = 2


class _Field(NamedTuple):
    """Field of a message that holds bytes, and where these are; others are passed over."""

    number: int
    start: int
    end: int


class _Walk:
    """Walk over the fields of a request, which are counted."""

    def __init__(self, body: bytes, most: int) -> None:
        self._body = body
        self._most = most
        self._records = 0
        self._left = _MOST_FIELDS + most

    def records(self) -> Iterator[SentRecord | None]:
        for logs in self._fields(0, len(self._body)):
            if logs is None or logs.number != _RESOURCE_LOGS:
                yield None
                continue
            yield from self._of_resource(logs)

    def _of_resource(self, logs: _Field) -> Iterator[SentRecord | None]:
        raw: list[bytes] = []
        scopes: list[_Field] = []
        for field in self._fields(logs.start, logs.end):
            if field is None:
                yield None
            elif field.number == _RESOURCE:
                # Messages that follow each other are joined.
                raw.append(self._body[field.start : field.end])
            elif field.number == _SCOPE_LOGS:
                scopes.append(field)
        whole = b"".join(raw)
        resource: dict[str, Any] | Refused | None = None
        for logs_of_scope in scopes:
            scope: list[bytes] = []
            records: list[_Field] = []
            for field in self._fields(logs_of_scope.start, logs_of_scope.end):
                if field is None:
                    yield None
                elif field.number == _SCOPE:
                    scope.append(self._body[field.start : field.end])
                elif field.number == _LOG_RECORDS:
                    self._count_record()
                    records.append(field)
            if records:
                if resource is None:
                    resource = attempted(partial(_resource, whole), len(whole))
                yield from self._of_scope(resource, len(whole), b"".join(scope), records)

    def _of_scope(
        self, resource: dict[str, Any] | Refused, size: int, scope: bytes, records: list[_Field]
    ) -> Iterator[SentRecord]:
        made = attempted(partial(_scope, scope), len(scope))
        origin = made_origin(resource, made, size + len(scope))
        for field in records:
            yield SentRecord(origin, self._body[field.start : field.end])

    def _count_record(self) -> None:
        self._records += 1
        if self._records > self._most:
            raise too_many(self._most)

    def _fields(self, at: int, end: int) -> Iterator[_Field | None]:
        """Fields of the message between two places; None for a turn of others."""
        body = self._body
        groups: list[int] = []
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise PayloadTooLarge("the request has too many fields; send fewer records")
            if self._left % _FIELDS_AT_ONCE == 0:
                yield None
            tag, at = _varint(body, at, end)
            kind, field = tag & 7, tag >> 3
            if not field and not groups:
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


def _split(body: bytes, most: int) -> Iterator[SentRecord | None]:
    return _Walk(body, most).records()


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


def _resource(raw: bytes) -> dict[str, Any]:
    return _object(_parsed(Resource, raw).attributes, "resource")


def _scope(raw: bytes) -> dict[str, Any]:
    scope = _parsed(InstrumentationScope, raw)
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
