"""Small JSON bodies of requests, as they are checked and as the OpenAPI document has them."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.access.grants.grant import ACTIONS, MAX_GRANTS
from gateway.access.grants.role import MAX_ROLES_OF_KEY
from gateway.access.keys.lifecycle import MAX_REASON
from gateway.errors import InvalidRequest
from gateway.event import Severity

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(
    r"Expected `(?P<kinds>[\w |]+)`(?:, got `\w+`|(?: of length)? (?P<bound><=|>=) (?P<limit>\d+))"
    r"(?: - at `\$\.?(?P<path>.*)`)?"
)
_WORDS = {
    "str": "a string", "int": "a whole number", "bool": "true or false", "array": "a list",
    "object": "an object",
}  # fmt: skip
DURATION_PATTERN = r"^(\d{1,9}[smhd])+$"
_BOUNDS = {"<=": "at most", ">=": "at least"}
_WithDescendants = Annotated[bool, Meta(description="Also all that came of the key.")]
_Overlap = Annotated[
    str,
    Meta(
        description="How long the old key works on.",
        extra_json_schema={"pattern": DURATION_PATTERN},
    ),
]
_KeyId = Annotated[str, Meta(description="The id of a key.")]
_Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_Address = Annotated[str | None, Meta(description="The address that the key is used from.")]
_Event = Annotated[dict[str, Any], Meta(description="An event; or instead of it the four below.")]
_GRANTS = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Grant"},
    "maxItems": MAX_GRANTS,
}
_ROLES = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ROLES_OF_KEY}


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members of a body; others are refused."""


class ReasonBody(Body, frozen=True):
    """Why something is done."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class RevocationBody(ReasonBody, frozen=True):
    """Why a key is revoked, and whether others are with it."""

    with_descendants: _WithDescendants = False


class OverlapBody(Body, frozen=True):
    """How long a key that is rotated works on. The duration is read elsewhere."""

    overlap: _Overlap = "1h"


class QuestionBody(Body, frozen=True):
    """What is asked of an explanation. `gateway.oversight.review.access_query` reads the rest."""

    key: _KeyId
    action: Annotated[Any, Meta(extra_json_schema={"enum": list(ACTIONS)})]
    event: _Event | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    category: str | UnsetType = UNSET
    severity: Severity | UnsetType = UNSET
    resource: str | list[str] | UnsetType = UNSET
    recorded_at: _Moment | UnsetType = UNSET
    address: _Address = None
    at: _Moment | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """The members that were sent, by name."""
        members = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in members if value is not UNSET}


class ProposalBody(Body, frozen=True):
    """Other grants for a key, and how far to look back. Grants and roles are read elsewhere."""

    key: _KeyId
    grants: Annotated[Any, Meta(extra_json_schema=_GRANTS)] = UNSET
    roles: Annotated[Any, Meta(extra_json_schema=_ROLES)] = UNSET
    since: Annotated[str, Meta(description="RFC 3339, or a duration.")] = "7d"
    max_events: Annotated[int, Meta(ge=0, le=100_000)] = 10_000


BODIES: tuple[type[Body], ...] = (
    ReasonBody, RevocationBody, OverlapBody, QuestionBody, ProposalBody,
)  # fmt: skip
AnyBody = TypeVar("AnyBody", bound=Body)


def parse_body(raw: Any, kind: type[AnyBody]) -> AnyBody:
    """The decoded JSON of a body as its declaration. Raises `InvalidRequest` naming the member."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_words(str(error), kind)) from None


def _in_words(message: str, kind: type[Body]) -> str:
    """A message of the decoder, in the words of other refusals."""
    if found := _UNKNOWN.match(message):
        there_are = ", ".join(kind.__struct_fields__)
        return f"unknown member {found[1][:64]!r}; there are {there_are}"
    if found := _MISSING.match(message):
        return f"{found[1]}: is required"
    found = _EXPECTED.fullmatch(message)
    if found is None:
        return message
    if not found["path"]:
        return "the body must be a JSON object"
    kinds = found["kinds"].split(" | ")
    words = " or ".join(_WORDS[one] for one in kinds if one in _WORDS)
    if not found["bound"]:
        return f"{found['path']}: {words} is needed"
    unit = " characters" if kinds == ["str"] else ""
    return f"{found['path']}: {words} of {_BOUNDS[found['bound']]} {found['limit']}{unit}"
