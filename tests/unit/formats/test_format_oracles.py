"""Generated events in every format, as other people's libraries and schemas read them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
import orjson
from cefevent import CEFEvent
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from gateway.access.grants.mask import Masks, masked
from gateway.formats.format import FormatOptions
from gateway.formats.registry import make_formats
from gateway.ingest.decode import decode_event
from tests.support.event_strategies import generated, members, shown_events
from tests.support.stored_events import stored

FORMATS = make_formats()
MANY = generated(10_000, share=50)
# RFC 5424, section 6, with the characters of SD-PARAM and of the message as UTF-8.
SYSLOG = re.compile(
    r"<(?P<pri>1\d\d)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z - audit-gateway - [!-~]{1,32} "
    r'\[audit@32473(?: [a-z]{1,32}="(?:[^"\\\]]|\\["\\\]])*")+\] (?P<message>.+)'
)
_PARAMETER = re.compile(r' ([a-z]+)="((?:[^"\\\]]|\\["\\\]])*)"')


@cache
def ocsf_validator(class_uid: int) -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    name = schema.lookup_class_name_from_uid(class_uid)
    return Draft202012Validator(schema.get_class_schema(name))


def cef_fields(line: str) -> dict[str, str]:
    """Fields of the extension, by the rules of the format's description."""
    *header, extension = line.split("|", 7)
    assert len(header) == 7
    starts = [*re.finditer(r"(?:^| )(\w+)=", extension)]
    ends = [*(start.start() for start in starts[1:]), len(extension)]
    fields = {
        start[1]: re.sub(
            r"\\(.)",
            lambda escape: {"n": "\n", "r": "\r"}.get(escape[1], escape[1]),
            extension[start.end() : end],
        )
        for start, end in zip(starts, ends, strict=True)
    }
    assert len(fields) == len(starts)
    return fields


@given(shown_events())
@MANY
def test_cloudevents_are_read_by_their_own_library(native: bytes) -> None:
    encoded = FORMATS["cloudevents"].encode(native)
    event = JSONFormat().read(CloudEvent, encoded)
    whole = orjson.loads(native)
    assert (event.get_id(), event.get_data()) == (whole["id"], whole)
    assert event.get_source() == f"urn:audit-gateway:{whole['tenant']}"
    assert encoded.endswith(b'"data":' + native + b"}")


@given(shown_events())
@MANY
def test_ocsf_events_are_valid_by_the_schema_of_their_class(native: bytes) -> None:
    for unmapped in ("full", "rest", "none"):
        made = make_formats(FormatOptions(unmapped=unmapped))["ocsf"].encode(native)
        decoded = orjson.loads(made)
        ocsf_validator(decoded["class_uid"]).validate(decoded)
        assert decoded["unmapped"]["cursor"] == orjson.loads(native)["cursor"]
        assert made.endswith(b'"unmapped":' + native + b"}") == (unmapped == "full")


@given(shown_events())
@MANY
def test_cef_fields_are_those_of_the_dictionary_with_its_lengths(native: bytes) -> None:
    line = FORMATS["cef"].encode(native).decode()
    whole = orjson.loads(native)
    assert len(line.splitlines()) == 1 or "\u2028" in line or "\u2029" in line
    fields = cef_fields(line)
    assert fields.pop("outcome") == whole["outcome"]
    event = CEFEvent(strict=True)
    for name, value in fields.items():
        # By their short names it takes no zeros.
        event.set_field(event.get_field_metadata(name, "full_name"), value)
    assert fields["cs3"] == whole["cursor"]
    reason = whole.get("reason", "")
    if reason.strip() and "masked" not in whole:
        assert (
            fields["reason"] == re.sub(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", " ", reason)[:1023]
        )


@given(shown_events())
@MANY
def test_syslog_messages_are_as_the_grammar_says(native: bytes) -> None:
    line = FORMATS["rfc5424"].encode(native).decode()
    found = SYSLOG.fullmatch(line)
    assert found is not None
    assert 105 <= int(found["pri"]) <= 110
    assert found["message"].encode() == native
    head = line[: -len(found["message"])]
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", head)
    parameters = dict(_PARAMETER.findall(head))
    assert re.sub(r"\\(.)", r"\1", parameters["id"]) == orjson.loads(native)["id"]


@given(shown_events())
@MANY
def test_ecs_documents_with_the_original_give_it_back(native: bytes) -> None:
    made = make_formats(FormatOptions(original=True))["ecs"].encode(native)
    assert orjson.loads(made)["event"]["original"].encode() == native


@given(members)
@MANY
def test_ecs_documents_have_every_member(sent: dict[str, Any]) -> None:
    event = stored(lambda: decode_event(orjson.dumps(sent), iter(())))
    whole = {
        name: _filled(value) if name in ("actor", "source", "request") else value
        for name, value in msgspec.json.decode(event.json).items()
    }
    whole["targets"] = [*map(_filled, whole.get("targets", []))]
    read = _native_of_ecs(msgspec.json.decode(FORMATS["ecs"].encode(event.json)))
    nothing = ("", {}, [])
    assert _without(read, *nothing) == _without(whole, *nothing)


def _native_of_ecs(made: dict[str, Any]) -> dict[str, Any]:
    event, labels, own = made["event"], made["labels"], made.get("audit", {})
    user, source = made.get("user", {}), made.get("source", {})
    read = {
        "cursor": labels["cursor"],
        "recorded_at": event["created"],
        "id": event["id"],
        "time": made["@timestamp"],
        "tenant": made["organization"]["id"],
        "category": event["dataset"],
        "action": event["action"],
        "outcome": "denied" if "denied" in event["type"] else event["outcome"],
        "severity": event["severity"],
        "actor": {
            "type": labels.get("actor_type", ""),
            "id": user.get("id", ""),
            "name": user.get("name", ""),
            "key_id": labels.get("actor_key_id", ""),
        },
        "source": {
            "service": made.get("service", {}).get("name", ""),
            "ip": source.get("address", source.get("ip", "")),
            "port": source.get("port", ""),
            "user_agent": made.get("user_agent", {}).get("original", ""),
        },
        "targets": own.get("targets", []),
        "request": {
            "id": made.get("http", {}).get("request", {}).get("id", ""),
            "trace_id": made.get("trace", {}).get("id", ""),
        },
        "reason": event.get("reason", ""),
        "data": own.get("data", ""),
    }
    for name in ("actor", "source", "request"):
        read[name] = _filled(read[name])
    return read


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    return _without(members, "")


def _without(members: dict[str, Any], *values: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in members.items()
        if not any(type(value) is type(one) and value == one for one in values)
    }


PLANTED = "planted-7f3a"


@given(shown_events())
@MANY
def test_nothing_that_is_hidden_is_in_any_format(native: bytes) -> None:
    """Every value that a mask can hide is planted, and all of it is hidden."""
    decoded = orjson.loads(native)
    planted = {
        "actor": dict.fromkeys(("type", "id", "name", "key_id"), PLANTED),
        "source": {**dict.fromkeys(("service", "ip", "user_agent"), PLANTED), "port": 64999},
        "targets": [dict.fromkeys(("urn", "type", "id", "name"), f"user:{PLANTED}")],
        "request": dict.fromkeys(("id", "trace_id"), PLANTED),
        "reason": PLANTED,
        "data": {PLANTED: PLANTED, "a": {"b": PLANTED}},
    }
    own = {name: decoded[name] for name in ("id", "category", "action", "outcome", "severity")}
    event = stored(lambda: decode_event(orjson.dumps({**own, **planted}), iter(())))
    paths = tuple(sorted(planted))
    formats = {**make_formats(FormatOptions(original=True)), "rest": _rest}
    for hidden in (Masks(paths), Masks(drop=paths), Masks(paths[:3], paths[3:])):
        shown = masked(event, hidden).json
        for name, one in formats.items():
            made = one.encode(shown)
            assert PLANTED.encode() not in made, name
            assert b"64999" not in made, name


_rest = make_formats(FormatOptions(unmapped="rest"))["ocsf"]
