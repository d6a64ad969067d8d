"""Schemas of the OpenAPI document: JSON Schema 2020-12.

They are generated from the declarations with which bodies are checked and answers encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.access.administration.answers import MintedKey, RevokedKey
from gateway.access.administration.key_patch import KeyPatchBody
from gateway.access.grants.grant import Grant
from gateway.access.grants.role import NewRoleBody
from gateway.access.keys.issuance import NewKeyBody
from gateway.access.usage.totals import UsageOfAll
from gateway.declarations.applied import DeclarationAnswer
from gateway.declarations.declared import DeclaredSet
from gateway.delivery.definition import NewDestinationBody, ReplayBody, SecretBody
from gateway.event import MAX_DEPTH, MAX_EVENT_BYTES, Members
from gateway.fleet.health import ReadinessAnswer, StatusAnswer
from gateway.fleet.live_streams import LiveStreamAnswer, LiveStreamList
from gateway.health.doctor import DoctorAnswer
from gateway.http.query import bodies
from gateway.http.query.query import StreamParameters
from gateway.http.query.viewer import ViewerOptionsBody, ViewerTicketBody
from gateway.http.response import answers
from gateway.http.response.console_answers import CONSOLE_ANSWERS
from gateway.http.response.simulation import SimulationAnswer
from gateway.log.gap import Gap
from gateway.oversight.report.rows import AccessReview
from gateway.oversight.review.document import KeyDocument

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BODIES: tuple[type, ...] = (
    Members, NewKeyBody, KeyPatchBody, NewRoleBody, NewDestinationBody, ReplayBody, SecretBody,
    DeclaredSet, ViewerOptionsBody, ViewerTicketBody, *bodies.BODIES,
)  # fmt: skip
ANSWERS: tuple[type, ...] = (
    Gap, Grant, MintedKey, RevokedKey, KeyDocument, LiveStreamAnswer, LiveStreamList,
    SimulationAnswer, ReadinessAnswer, StatusAnswer, DoctorAnswer, AccessReview, UsageOfAll,
    DeclarationAnswer, *answers.ANSWERS, *CONSOLE_ANSWERS,
)  # fmt: skip
_PREFIX = "#/components/schemas/"
_REFERENCE = re.compile(rf"{_PREFIX}\w+")
_DESCRIPTIONS = {
    "NewEvent": f"An event as a producer sends it: at most {MAX_EVENT_BYTES // 1024} KiB, nested "
    f"at most {MAX_DEPTH} deep. NaN, Infinity, lone surrogates, duplicate members and integers "
    "beyond 64 bits are refused.",
    "Grant": "What a key may do. Default deny; deny wins. `*` stands for one segment, `**` for any "
    "number and only last. A pattern that begins with a wildcard never reaches the categories "
    "`gateway.*`.",
    "DestinationPatch": "Members of `NewDestination` but `name`, `type` and `from`; null takes a "
    "member back to its default, and members of objects that are left out stay.",
    "NewTicket": "The parameters of a stream; or, with `viewer`, selectors, `min_severity` and "
    "`filter` of what an embedded viewer shows. Records of its use name `subject`.",
    "StreamParameters": "The query parameters of `GET /v1/stream` as members: strings, numbers, "
    "true, false, or lists of them.",
}


def named(name: str) -> Schema:
    """Reference to one of `SCHEMAS`."""
    return {"$ref": _PREFIX + name}


def listed(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def schemas_of(declared: Iterable[type], *, sent: bool = False) -> dict[str, Schema]:
    """Schemas of declarations and of what they refer to, by name. `sent`: of answers, which omit
    members with their default."""
    _, found = msgspec.json.schema_components(declared, ref_template=_PREFIX + "{name}")
    return {_name(name): _plain(schema, sent) for name, schema in found.items()}


def _name(declared: str) -> str:
    return "NewEvent" if declared == "Members" else re.sub(r"(Body|Answer)\Z", "", declared)


def _plain(part: Any, sent: bool) -> Any:
    """Schema with the names of the document, and without docstrings."""
    if isinstance(part, list):
        return [_plain(one, sent) for one in part]
    if isinstance(part, str):
        if _REFERENCE.fullmatch(part):
            return _PREFIX + _name(part.removeprefix(_PREFIX))
        return part.replace(r"\A", "^").replace(r"\Z", "$")
    if not isinstance(part, dict):
        return part
    dropped = ["title", "description"] if isinstance(part.get("title"), str) else []
    if part.get("required") == []:
        dropped.append("required")
    if sent and not part.get("default", True):
        dropped.append("default")
        kinds = [one for one in part.get("anyOf", []) if one != {"type": "null"}]
        if part["default"] is None and len(kinds) == 1:
            dropped.append("anyOf")
            part = {**kinds[0], **part}
    return {name: _plain(value, sent) for name, value in part.items() if name not in dropped}


SCHEMAS: dict[str, Schema] = {
    **schemas_of(BODIES),
    **schemas_of(ANSWERS, sent=True),
    "StreamParameters": msgspec.json.schema(StreamParameters),
}
_members = SCHEMAS["NewDestination"]["properties"]
SCHEMAS["DestinationPatch"] = {
    "type": "object",
    "properties": {
        name: of for name, of in _members.items() if name not in ("name", "type", "from")
    },
}
_selection = msgspec.json.schema(StreamParameters)["additionalProperties"]
SCHEMAS["NewTicket"] = {
    "type": "object",
    "properties": {
        "viewer": named("ViewerOptions"),
        "subject": {**TEXT, "minLength": 1, "maxLength": 256},
    },
    "additionalProperties": _selection,
}
for _named, _about in _DESCRIPTIONS.items():
    SCHEMAS[_named]["description"] = _about
# What a file says of places is resolved before it is sent.
SCHEMAS["DestinationDeclaration"]["properties"]["secrets"]["additionalProperties"] = TEXT
del SCHEMAS["KeyDeclaration"]["properties"]["secret"], SCHEMAS["SecretPlace"]
# A request for limits may not have others; a stored key of a newer version may.
SCHEMAS["KeyLimits"]["additionalProperties"] = False
