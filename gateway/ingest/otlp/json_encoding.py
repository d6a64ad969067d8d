"""OTLP as JSON: proto3 JSON with the protocol's own rules, that ids are hexadecimal. Pure.

Names are taken in both spellings, as readers of proto3 JSON do: what was passed over as unknown
would be lost.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
import orjson

from gateway.ingest.marked import members_of
from gateway.ingest.otlp.log_records import (
    LogEncoding,
    SentRecord,
    attempted,
    base64_text,
    made_origin,
    malformed,
    number,
    repeated,
    whole_number,
)
from gateway.ingest.split import items_of, too_many
from gateway.ingest.strict_json import Refused

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MOST_TOKENS = 500_000
_ENCODE = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError)
_DOUBLES = ("NaN", "Infinity", "-Infinity")
_NAMES = {
    "resourceLogs": "resource_logs", "scopeLogs": "scope_logs", "logRecords": "log_records",
    "timeUnixNano": "time_unix_nano", "observedTimeUnixNano": "observed_time_unix_nano",
    "severityNumber": "severity_number", "severityText": "severity_text",
    "eventName": "event_name", "droppedAttributesCount": "dropped_attributes_count",
    "traceId": "trace_id", "spanId": "span_id", "stringValue": "string_value",
    "boolValue": "bool_value", "intValue": "int_value", "doubleValue": "double_value",
    "arrayValue": "array_value", "kvlistValue": "kvlist_value", "bytesValue": "bytes_value",
}  # fmt: skip


def _split(body: bytes, most: int) -> Iterator[SentRecord | None]:
    left = most
    for logs in _items(_members(body, "resourceLogs"), "resourceLogs"):
        members = _members(logs, "scopeLogs")
        raw = members.get("resource", b"")
        resource: dict[str, Any] | Refused | None = None
        for one in _items(members, "scopeLogs"):
            inside = _members(one, "logRecords")
            records = _items(inside, "logRecords")
            left -= len(records)
            if left < 0:
                raise too_many(most)
            yield None
            if records:
                if resource is None:
                    resource = attempted(partial(_resource, raw), len(raw))
                scope = inside.get("scope", b"")
                made = attempted(partial(_scope, scope), len(scope))
                origin = made_origin(resource, made, len(raw) + len(scope))
                for record in records:
                    yield SentRecord(origin, record)
        yield None


def _members(raw: bytes, name: str) -> dict[str, bytes]:
    """Members of an object, in which `name` stands but once; none of null."""
    try:
        found = _MEMBERS.decode(raw) if raw.strip() != b"null" else {}
    except RecursionError:
        return _members_one_by_one(raw)
    except _ERRORS as error:
        raise malformed(f"an object with {name} is needed: {error}") from None
    times = sum(raw.count(b'"%b"' % spelled.encode()) for spelled in (name, _NAMES[name]))
    if times > 1:
        return _members_one_by_one(raw)
    return {name: bytes(value) for name, value in found.items()}


def _members_one_by_one(raw: bytes) -> dict[str, bytes]:
    """Members of an object that is nested deeper than decoders go, or may have one twice."""
    members: dict[str, bytes] = {}
    try:
        for name, value, _ in members_of(raw, _MOST_TOKENS):
            if name in members:
                raise malformed(f"the member {name[:64]} appears twice in one object")
            members[name] = value
    except Refused as refused:
        raise malformed(refused.reason) from None
    return members


def _items(members: dict[str, bytes], name: str) -> list[bytes]:
    raw = _either(members, name)
    if raw is None or raw == b"null":
        return []
    items = items_of(raw)
    if items is None:
        raise malformed(f"{name}: a list is needed")
    return items


def _either(members: dict[str, Any], name: str) -> Any:
    """Member in one of its spellings."""
    found = members.get(name)
    return members.get(_NAMES[name]) if found is None else found


def _resource(raw: bytes) -> dict[str, Any]:
    return _object(_decoded(raw).get("attributes"), "resource")


def _scope(raw: bytes) -> dict[str, Any]:
    scope = _decoded(raw)
    made: dict[str, Any] = {
        name: _text(scope.get(name), name) for name in ("name", "version") if scope.get(name)
    }
    if scope.get("attributes"):
        made["attributes"] = _object(scope["attributes"], "scope")
    return made


def _record(raw: bytes) -> dict[str, Any]:
    try:
        return _plain(_decoded(raw))
    except RecursionError:
        raise Refused("", "nested too deep") from None


def _plain(sent: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, read in _READ.items():
        value = _either(sent, name)
        if value is not None and value not in ("", "0", 0):
            made[name] = read(value, name)
    if sent.get("flags"):
        made["flags"] = whole_number(sent["flags"], "flags")
    if sent.get("body") is not None:
        made["body"] = _value(sent["body"], "body")
    made["attributes"] = _object(sent.get("attributes"), "attributes")
    return made


def _decoded(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        found = orjson.loads(raw)
        if not _is_the_same(found, raw):
            found = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("", f"not valid JSON: {error}") from None
    if found is None:
        return {}
    if type(found) is not dict:
        raise Refused("", "an object is needed")
    return found


def _is_the_same(decoded: Any, raw: bytes) -> bool:
    """Whether nothing was lost when `raw` was decoded."""
    try:
        return orjson.dumps(decoded) == raw
    except TypeError:
        # It is nested deeper than is written.
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member appears twice in one object")
    return members


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is none")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(name, "a text is needed")
    return value


def _hexadecimal(value: Any, name: str) -> str:
    try:
        return bytes.fromhex(_text(value, name)).hex()
    except ValueError:
        raise Refused(name, "hexadecimal digits are needed") from None


def _nanoseconds(value: Any, name: str) -> str:
    return str(whole_number(value, name))


_READ: dict[str, Callable[[Any, str], Any]] = {
    "timeUnixNano": _nanoseconds,
    "observedTimeUnixNano": _nanoseconds,
    "severityNumber": whole_number,
    "severityText": _text,
    "eventName": _text,
    "droppedAttributesCount": whole_number,
    "traceId": _hexadecimal,
    "spanId": _hexadecimal,
}


def _object(pairs: Any, where: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in _pairs(pairs or [], where):
        if name in members:
            raise repeated(name, where)
        members[name] = value
    return members


def _pairs(pairs: Any, where: str) -> Iterable[tuple[str, Any]]:
    if type(pairs) is not list:
        raise Refused(where, "a list of keys and values is needed")
    for one in pairs:
        if type(one) is not dict:
            raise Refused(where, "a key and a value are needed")
        yield _text(one.get("key", ""), where), _value(one.get("value"), where)


def _value(value: Any, where: str) -> Any:
    if value is None:
        return None
    if type(value) is not dict:
        raise Refused(where, 'a value such as {"stringValue":"a"} is needed')
    for name, read in _VALUES.items():
        found = _either(value, name)
        if found is not None:
            return read(found, where)
    return None


def _double(value: Any, where: str) -> float | str:
    if value in _DOUBLES:
        return str(value)
    try:
        return number(float(value))
    except (TypeError, ValueError, OverflowError):
        raise Refused(where, f"no number: {str(value)[:40]!r}") from None


def _boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise Refused(where, "true or false is needed")
    return value


def _bytes(value: Any, where: str) -> str:
    text = _text(value, where)
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64_text(b64decode(padded.translate(_URL_SAFE), validate=True))
    except (binascii.Error, ValueError):
        raise Refused(where, "base64 is needed") from None


_URL_SAFE = str.maketrans("-_", "+/")


def _array(value: Any, where: str) -> list[Any]:
    values = value.get("values") if type(value) is dict else value
    if type(values or []) is not list:
        raise Refused(where, "a list of values is needed")
    return [_value(one, where) for one in values or []]


def _kvlist(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise Refused(where, "a list of keys and values is needed")
    return _object(value.get("values"), where)


_VALUES: dict[str, Callable[[Any, str], Any]] = {
    "stringValue": _text,
    "boolValue": _boolean,
    "intValue": whole_number,
    "doubleValue": _double,
    "arrayValue": _array,
    "kvlistValue": _kvlist,
    "bytesValue": _bytes,
}


def _answer(rejected: int, message: str) -> bytes:
    if not rejected and not message:
        return b"{}"
    return _ENCODE(
        {"partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": message}}
    )


def _status(code: int, message: str) -> bytes:
    return _ENCODE({"code": code, "message": message})


JSON = LogEncoding("application/json", _split, _record, _answer, _status)
