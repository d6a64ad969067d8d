"""The audit event: its members and limits, and its two internal forms.

A `Draft` is validated and has no offset yet; an `Event` is in the log. Both hold the native JSON as
bytes that are never encoded again, so `data` stays as it was sent, digit for digit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType

from gateway.clock import parse_formatted
from gateway.cursor import IN_JSON
from gateway.json_members import about, reference

MAX_EVENT_BYTES = 256 * 1024
MAX_DEPTH = 64
DEFAULT_TENANT = "default"

# Characters of members; patterns over them follow the same rules (`gateway.filters.alphabet`).
TENANT_CHARACTERS = "[a-z0-9._-]"
CATEGORY_CHARACTERS = "[a-z0-9_-]"
ACTION_CHARACTERS = "[A-Za-z0-9_:/-]"
# Several are stored one per line, so no control characters.
URN_CHARACTERS = r"[^\x00-\x1f\x7f]"
LONGEST_TENANT, LONGEST_CATEGORY, LONGEST_ACTION = 64, 64, 128
LONGEST_SHORT, LONGEST_URN = 256, 1024


def _dotted(characters: str) -> str:
    return rf"\A{characters}+(?:\.{characters}+)*\Z"


Id = Annotated[str, Meta(pattern=r"\A[ -~]{1,128}\Z")]
Tenant = Annotated[str, Meta(pattern=rf"\A{TENANT_CHARACTERS}{{1,{LONGEST_TENANT}}}\Z")]
Category = Annotated[str, Meta(max_length=LONGEST_CATEGORY, pattern=_dotted(CATEGORY_CHARACTERS))]
Action = Annotated[str, Meta(max_length=LONGEST_ACTION, pattern=_dotted(ACTION_CHARACTERS))]
Short = Annotated[str, Meta(max_length=LONGEST_SHORT)]
Long = Annotated[str, Meta(max_length=1024)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Urn = Annotated[str, Meta(max_length=LONGEST_URN, pattern=rf"\A{URN_CHARACTERS}+\Z")]
OUTCOMES = ("success", "failure", "denied", "unknown")
Outcome = Literal["success", "failure", "denied", "unknown"]
_SEVERITIES = "1 informational, 2 low, 3 medium, 4 high, 5 critical, 6 fatal."
Severity = Annotated[int, Meta(ge=1, le=6, description=_SEVERITIES)]
_ID = about("The deduplication key within a tenant; the gateway makes one if it is left out.")
_TIME = about("When it happened; `recorded_at` if left out.", format="date-time")
_DATA = about("Free-form content, kept exactly as sent.", type="object")
# Declaration of an event, as bytes, in answers.
EventJson = Annotated[Any, reference("Event")]


class Actor(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    type: Short | UnsetType = UNSET
    id: Short | UnsetType = UNSET
    name: Short | UnsetType = UNSET
    key_id: Short | UnsetType = UNSET


class Source(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    service: Short | UnsetType = UNSET
    ip: Short | UnsetType = UNSET
    port: Port | UnsetType = UNSET
    user_agent: Long | UnsetType = UNSET


class Target(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    urn: Urn | UnsetType = UNSET
    type: Short | UnsetType = UNSET
    id: Short | UnsetType = UNSET
    name: Short | UnsetType = UNSET


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: Short | UnsetType = UNSET
    trace_id: Short | UnsetType = UNSET


class Members(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Members that a producer may send, with their limits.

    `time` is a string here and checked by the decoder, which also writes it
    back in UTC with microseconds. The order is the order on the wire.
    """

    id: Annotated[Id, _ID] | UnsetType = UNSET
    time: Annotated[Short, _TIME] | UnsetType = UNSET
    tenant: Tenant = DEFAULT_TENANT
    category: Annotated[Category, Meta(examples=["auth", "k8s.audit"])]
    action: Annotated[Action, Meta(examples=["user.login"])]
    outcome: Outcome = "unknown"
    severity: Severity = 1
    actor: Actor | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    targets: Annotated[list[Target], Meta(max_length=32)] | UnsetType = UNSET
    request: Request | UnsetType = UNSET
    reason: Long | UnsetType = UNSET
    data: Annotated[msgspec.Raw, _DATA] | UnsetType = UNSET


SET_BY_GATEWAY = ("recorded_at", "cursor")
# Native JSON has it right behind its cursor, as `format_rfc3339` writes it.
_RECORDED_AT = slice(IN_JSON.stop + len('","recorded_at":"'), IN_JSON.stop + 44)


class Draft(msgspec.Struct, frozen=True, gc=False):
    """Validated event without an offset.

    `tail` is its native JSON without the opening brace and without the members known only when it
    is stored (`cursor`, `recorded_at`, and `time` unless `has_time`); it begins with the id.
    `content` is the digest of what the producer sent, b"" if the id alone decides on duplicates.
    """

    id: str
    tenant: str
    category: str
    action: str
    outcome: str
    severity: int
    actor: str
    resources: str
    has_time: bool
    tail: bytes
    content: bytes = b""

    def under(self, event_id: str) -> Draft:
        """This draft with another id."""
        tail = id_member(event_id) + self.tail[len(id_member(self.id)) :]
        return msgspec.structs.replace(self, id=event_id, tail=tail)

    def stored(self, recorded_at: bytes, event_id: str | None = None) -> bytes:
        """JSON to store: all after the `cursor` member; under another id, if given."""
        tail = self.tail
        if event_id is not None and event_id != self.id:
            tail = id_member(event_id) + tail[len(id_member(self.id)) :]
        if self.has_time:
            return b'"recorded_at":"%b",%b' % (recorded_at, tail)
        return b'"recorded_at":"%b","time":"%b",%b' % (recorded_at, recorded_at, tail)


def id_member(event_id: str) -> bytes:
    """The member `id` as it stands in native JSON."""
    return b'"id":' + msgspec.json.encode(event_id)


class Event(msgspec.Struct, frozen=True, gc=False):
    """Event of the log.

    `actor` is the actor's id ("" if none). `resources` are the urns of its targets, one per line.
    `json` is the whole native event on one line, `cursor` included.
    """

    offset: int
    tenant: str
    category: str
    action: str
    outcome: str
    severity: int
    actor: str
    resources: str
    cursor: bytes
    json: bytes

    def recorded_at(self) -> int:
        """When it was recorded, in microseconds since 1970. Raises `ValueError` where `json` does
        not tell at its place."""
        return recorded_at_of(self.json)

    def members(self) -> dict[str, Any]:
        """The decoded JSON; decoded anew at each call."""
        decoded: dict[str, Any] = orjson.loads(self.json)
        return decoded


def hour_recorded(json: bytes) -> bytes:
    """Hour of `recorded_at` of native JSON, as `YYYY-MM-DDTHH`."""
    return json[_RECORDED_AT.start : _RECORDED_AT.start + 13]


def recorded_at_of(json: bytes) -> int:
    """`recorded_at` of native JSON in microseconds since 1970, as of `Event`."""
    return parse_formatted(json[_RECORDED_AT])
