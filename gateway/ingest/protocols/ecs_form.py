"""The form of documents that gateways make of events, in the Elastic Common Schema. Pure.

`gateway.formats.ecs` writes it. What encodes to the same bytes again has every member once, and
each of its type, so that a document needs no other check but that of what is kept as JSON.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

_BEGIN, _LABELS = b'{"@timestamp":"', b'"labels":{"cursor":"'
_ENCODE = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_Text = str | UnsetType


class _Part(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Members of a document; those that are left out have their default."""


class _Version(_Part, frozen=True, gc=False):
    version: str


class EcsEvent(_Part, frozen=True, gc=False):
    """What a document says of its event."""

    kind: str
    category: list[str]
    type: list[str]
    id: str
    created: str
    dataset: str
    action: str
    outcome: str
    severity: Annotated[int, Meta(ge=1, le=6)]
    reason: _Text = UNSET
    original: msgspec.Raw | UnsetType = UNSET


class _Named(_Part, frozen=True, gc=False):
    id: _Text = UNSET
    name: _Text = UNSET


class _Id(_Part, frozen=True, gc=False):
    id: _Text = UNSET


class _Tenant(_Part, frozen=True, gc=False):
    id: str


class _User(_Part, frozen=True, gc=False):
    id: _Text = UNSET
    name: _Text = UNSET
    target: _Named | UnsetType = UNSET


class _Origin(_Part, frozen=True, gc=False):
    address: _Text = UNSET
    ip: _Text = UNSET
    port: Annotated[int, Meta(ge=0, le=65535)] | UnsetType = UNSET


class _Service(_Part, frozen=True, gc=False):
    name: _Text = UNSET


class _Agent(_Part, frozen=True, gc=False):
    original: _Text = UNSET


class _Http(_Part, frozen=True, gc=False):
    request: _Id


class _Related(_Part, frozen=True, gc=False):
    user: list[str] | UnsetType = UNSET
    ip: list[str] | UnsetType = UNSET


class _Labels(_Part, frozen=True, gc=False):
    cursor: str
    actor_type: _Text = UNSET
    actor_key_id: _Text = UNSET


class _Audit(_Part, frozen=True, gc=False):
    targets: msgspec.Raw | UnsetType = UNSET
    masked: list[str] | UnsetType = UNSET
    pseudonymized: list[str] | UnsetType = UNSET
    reduced: list[str] | UnsetType = UNSET
    data: msgspec.Raw | UnsetType = UNSET


class EcsForm(_Part, frozen=True, gc=False, kw_only=True):
    """A document, its members in the order in which they are written."""

    time: str = msgspec.field(name="@timestamp")
    ecs: _Version
    event: EcsEvent
    message: _Text = UNSET
    organization: _Tenant
    user: _User = _User()
    source: _Origin = _Origin()
    service: _Service = _Service()
    user_agent: _Agent = _Agent()
    http: _Http = _Http(_Id())
    trace: _Id = _Id()
    related: _Related = _Related()
    labels: _Labels
    audit: _Audit = _Audit()


_decode = msgspec.json.Decoder(EcsForm).decode


def may_be_ecs_form(raw: bytes) -> bool:
    """Whether a document looks like one of a gateway."""
    return raw.startswith(_BEGIN) and _LABELS in raw


def ecs_form(raw: bytes) -> EcsForm | None:
    """A document that may be one, if it is byte by byte as gateways make them; None for all others.
    What its targets, its data and its original hold is not looked at."""
    try:
        form = _decode(raw)
    except _ERRORS:
        return None
    return form if _ENCODE(form) == raw else None
