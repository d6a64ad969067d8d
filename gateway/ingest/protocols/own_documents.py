"""Events of the gateway's own form, and documents that a gateway made of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.event import MAX_DEPTH, Draft, Members
from gateway.ingest.protocols.ecs_form import EcsForm, ecs_form
from gateway.ingest.sources.own_events import draft_of_rest, is_given_out
from gateway.ingest.strict_json import Refused, check_json, plain_json

MEMBERS = frozenset(Members.__struct_fields__)
_ENCODE = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_native(members: Mapping[str, Any]) -> bool:
    """Whether an object can only be an event as producers send it: it has a category and an action,
    and no member that events do not have. Its members may be JSON or decoded."""
    return (
        members.keys() <= MEMBERS
        and _is_text(members.get("category"))
        and _is_text(members.get("action"))
    )


def _is_text(value: Any) -> bool:
    return bytes(value)[:1] == b'"' if type(value) is msgspec.Raw else type(value) is str


class _Labels(msgspec.Struct, frozen=True, gc=False):
    cursor: str
    actor_type: str | UnsetType = UNSET
    actor_key_id: str | UnsetType = UNSET


class _Event(msgspec.Struct, frozen=True, gc=False):
    id: str
    created: str
    dataset: str
    action: str
    outcome: str
    severity: int
    type: list[str]
    reason: str | UnsetType = UNSET
    original: str = ""


class _Named(msgspec.Struct, frozen=True, gc=False):
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _Origin(msgspec.Struct, frozen=True, gc=False):
    ip: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    port: int | UnsetType = UNSET


class _Original(msgspec.Struct, frozen=True, gc=False):
    original: str | UnsetType = UNSET


class _Http(msgspec.Struct, frozen=True, gc=False):
    request: _Named


class _Audit(msgspec.Struct, frozen=True, gc=False):
    """What was masked or left out is declared here, too, and passed over as in events that a
    gateway gives out."""

    targets: msgspec.Raw | UnsetType = UNSET
    data: msgspec.Raw | UnsetType = UNSET


class _Tenant(msgspec.Struct, frozen=True, gc=False):
    id: str


class _Document(msgspec.Struct, frozen=True, gc=False):
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
_decode_text = msgspec.json.Decoder(str).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


class _Actor(msgspec.Struct, frozen=True, gc=False):
    type: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET


class _Source(msgspec.Struct, frozen=True, gc=False):
    service: str | UnsetType = UNSET
    ip: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    user_agent: str | UnsetType = UNSET


class _Request(msgspec.Struct, frozen=True, gc=False):
    id: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET


class _Place(msgspec.Struct, frozen=True, gc=False):
    """What comes before that in an event that a gateway gives out."""

    cursor: str
    recorded_at: str


class _Native(msgspec.Struct, frozen=True, gc=False):
    """An event as gateways give it out, behind its place in their log."""

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
        return _original(event.original, event.id)
    return _placed(_line(document), document), None


def draft_of_ecs_form(raw: bytes) -> tuple[Draft, bool] | None:
    """Draft of the event that `native_of_ecs` finds in a document, and whether it was truncated,
    if the document is byte by byte as gateways make them, and its original is the event that its
    other members tell of: then a check of that event suffices. None else. Raises `Refused`."""
    form = ecs_form(raw)
    if form is None:
        return None
    event, cursor = form.event, form.labels.cursor
    if '"' in cursor or '"' in event.created:
        # That place is not cut off in the same way.
        return None
    line = _line(form)
    if event.original is not UNSET and not _tells(event.original, _placed(line, form)):
        return None
    # The document is one level deeper.
    plain: dict[str, Any] | None = plain_json(line, MAX_DEPTH - 1)
    return None if plain is None else draft_of_rest(line, plain)


def _tells(text: msgspec.Raw, native: bytes) -> bool:
    try:
        return bool(_decode_text(text).encode() == native)
    except _ERRORS:
        return False


def _placed(line: bytes, document: _Document | EcsForm) -> bytes:
    """An event with its place in the log."""
    place = _ENCODE(_Place(document.labels.cursor, document.event.created))
    return place[:-1] + b"," + line[1:]


def _line(document: _Document | EcsForm) -> bytes:
    """The event that a document without an original was made of, without its place in the log."""
    event = document.event
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
    return _ENCODE(
        _Native(
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
    )


def _original(text: str, event_id: str) -> tuple[bytes, dict[str, Any] | None] | None:
    """The native event that a document has as text, if it is that of the document."""
    original = text.encode()
    plain: dict[str, Any] | None = plain_json(original)
    try:
        members = _decode_any(original) if plain is None else plain
    except _ERRORS:
        return None
    return (original, plain) if is_given_out(members) and members["id"] == event_id else None
