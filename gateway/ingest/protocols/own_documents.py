"""Events of the gateway's own form, and documents that a gateway made of them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.event import Members
from gateway.ingest.sources.own_events import is_given_out
from gateway.ingest.strict_json import Refused, check_json, plain_json

MEMBERS = frozenset(Members.__struct_fields__)
_ENCODE = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_native(members: dict[str, msgspec.Raw]) -> bool:
    """Whether an object can only be an event as producers send it: it has a category and an action,
    and no member that events do not have."""
    return (
        members.keys() <= MEMBERS
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


class _Actor(msgspec.Struct, frozen=True):
    type: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET


class _Source(msgspec.Struct, frozen=True):
    service: str | UnsetType = UNSET
    ip: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    user_agent: str | UnsetType = UNSET


class _Request(msgspec.Struct, frozen=True):
    id: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET


class _Native(msgspec.Struct, frozen=True):
    """An event as gateways give it out."""

    cursor: str
    recorded_at: str
    id: str
    time: str
    tenant: str
    category: str
    action: str
    outcome: str
    severity: int
    actor: _Actor | UnsetType
    source: _Source | UnsetType
    targets: msgspec.Raw | UnsetType
    request: _Request | UnsetType
    reason: str | UnsetType
    data: msgspec.Raw | UnsetType


_NO_ACTOR, _NO_SOURCE, _NO_REQUEST = _Actor(), _Source(), _Request()


def native_of_ecs(
    raw: bytes, plain: dict[str, Any] | None = None
) -> tuple[bytes, dict[str, Any] | None] | None:
    """The event, in the gateway's form, that a gateway has made this document of, and what
    `plain_json` makes of it, where that is known; None if it is another document. `plain` is what
    `plain_json` makes of the document."""
    if b'"cursor"' not in raw:
        return None
    try:
        document = _decode(raw)
        if plain is None and plain_json(raw) is None:
            check_json(raw)
    except (*_ERRORS, Refused):
        return None
    event = document.event
    if event.original:
        return _original(event)
    denied = event.outcome == "failure" and "denied" in event.type
    labels, user, origin = document.labels, document.user, document.source
    actor = _Actor(labels.actor_type, user.id, user.name, labels.actor_key_id)
    source = _Source(
        document.service.name,
        origin.ip if origin.address is UNSET else origin.address,
        origin.port,
        document.user_agent.original,
    )
    request = _Request(document.http.request.id, document.trace.id)
    native = _Native(
        labels.cursor,
        event.created,
        event.id,
        document.time,
        document.organization.id,
        event.dataset,
        event.action,
        "denied" if denied else event.outcome,
        event.severity,
        UNSET if actor == _NO_ACTOR else actor,
        UNSET if source == _NO_SOURCE else source,
        document.audit.targets,
        UNSET if request == _NO_REQUEST else request,
        event.reason,
        document.audit.data,
    )
    return _ENCODE(native), None


def _original(event: _Event) -> tuple[bytes, dict[str, Any] | None] | None:
    """The native event in a document, if it is that of the document."""
    original = event.original.encode()
    plain: dict[str, Any] | None = plain_json(original)
    try:
        members = _decode_any(original) if plain is None else plain
    except _ERRORS:
        return None
    return (original, plain) if is_given_out(members) and members["id"] == event.id else None
