"""Events of the gateway's own form, and documents that a gateway made of them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.event import Members
from gateway.ingest.sources.own_events import is_given_out
from gateway.ingest.strict_json import Refused, check_json

_MEMBERS = frozenset(Members.__struct_fields__)
_ENCODE = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_native(members: dict[str, msgspec.Raw]) -> bool:
    """Whether an object can only be an event as producers send it: it has a category and an action,
    and no member that events do not have."""
    return (
        members.keys() <= _MEMBERS
        and bytes(members.get("category", b""))[:1] == b'"'
        and bytes(members.get("action", b""))[:1] == b'"'
    )


class _Labels(msgspec.Struct, frozen=True):
    cursor: str
    actor_type: str | UnsetType = UNSET
    actor_key_id: str | UnsetType = UNSET


class _Event(msgspec.Struct, frozen=True):
    id: str
    created: str
    dataset: str
    action: str
    outcome: str
    severity: int
    type: list[str]
    reason: str | UnsetType = UNSET
    original: str = ""


class _Named(msgspec.Struct, frozen=True):
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _Origin(msgspec.Struct, frozen=True):
    ip: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    port: int | UnsetType = UNSET


class _Original(msgspec.Struct, frozen=True):
    original: str | UnsetType = UNSET


class _Http(msgspec.Struct, frozen=True):
    request: _Named


class _Audit(msgspec.Struct, frozen=True):
    """What was masked or left out is declared here, too, and passed over as in events that a
    gateway gives out."""

    targets: msgspec.Raw | UnsetType = UNSET
    data: msgspec.Raw | UnsetType = UNSET


class _Tenant(msgspec.Struct, frozen=True):
    id: str


class _Document(msgspec.Struct, frozen=True):
    """Document in the Elastic Common Schema, as `gateway.formats.ecs` makes it of an event."""

    time: str = msgspec.field(name="@timestamp")
    event: _Event
    organization: _Tenant
    labels: _Labels
    user: _Named = _Named()
    source: _Origin = _Origin()
    service: _Named = _Named()
    user_agent: _Original = _Original()
    http: _Http = _Http(_Named())
    trace: _Named = _Named()
    audit: _Audit = _Audit()


_decode = msgspec.json.Decoder(_Document).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


def native_of_ecs(raw: bytes) -> bytes | None:
    """The event, in the gateway's form, that a gateway has made this document of; None if it is
    another document."""
    if b'"cursor"' not in raw:
        return None
    try:
        document = _decode(raw)
        check_json(raw)
    except (*_ERRORS, Refused):
        return None
    event = document.event
    if event.original:
        return _original(event)
    denied = event.outcome == "failure" and "denied" in event.type
    origin = document.source
    return _ENCODE(
        {
            "cursor": document.labels.cursor,
            "recorded_at": event.created,
            "id": event.id,
            "time": document.time,
            "tenant": document.organization.id,
            "category": event.dataset,
            "action": event.action,
            "outcome": "denied" if denied else event.outcome,
            "severity": event.severity,
            **_group(
                "actor",
                type=document.labels.actor_type,
                id=document.user.id,
                name=document.user.name,
                key_id=document.labels.actor_key_id,
            ),
            **_group(
                "source",
                service=document.service.name,
                ip=origin.ip if origin.address is UNSET else origin.address,
                port=origin.port,
                user_agent=document.user_agent.original,
            ),
            **_present(targets=document.audit.targets),
            **_group("request", id=document.http.request.id, trace_id=document.trace.id),
            **_present(reason=event.reason, data=document.audit.data),
        }
    )


def _original(event: _Event) -> bytes | None:
    """The native event in a document, if it is that of the document."""
    original = event.original.encode()
    try:
        members = _decode_any(original)
    except _ERRORS:
        return None
    return original if is_given_out(members) and members["id"] == event.id else None


def _group(group: str, **members: Any) -> dict[str, Any]:
    found = _present(**members)
    return {group: found} if found else {}


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not UNSET}
