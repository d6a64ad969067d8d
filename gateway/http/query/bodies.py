"""Small JSON bodies of requests: the checks, and the source of their OpenAPI schemas."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from gateway.access.grants.grant import ACTIONS, MAX_GRANTS
from gateway.access.grants.role import MAX_ROLES_OF_KEY
from gateway.access.keys.lifecycle import MAX_REASON
from gateway.event import Severity
from gateway.json_members import Body

DURATION_PATTERN = r"^(\d{1,9}[smhd])+$"
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


class ReasonBody(Body, frozen=True):
    """Reason for a change."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class RevocationBody(ReasonBody, frozen=True):
    """Reason of a revocation, and whether it includes the key's descendants."""

    with_descendants: _WithDescendants = False


class OverlapBody(Body, frozen=True):
    """Overlap of a rotated key with its successor. The duration is parsed elsewhere."""

    overlap: _Overlap = "1h"


class QuestionBody(Body, frozen=True):
    """Question to explain. `gateway.oversight.review.access_query` parses the rest."""

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
        """Members that were sent, by name."""
        members = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in members if value is not UNSET}


class ProposalBody(Body, frozen=True):
    """Proposed grants of a key, and how far to look back. Grants and roles are parsed elsewhere."""

    key: _KeyId
    grants: Annotated[Any, Meta(extra_json_schema=_GRANTS)] = UNSET
    roles: Annotated[Any, Meta(extra_json_schema=_ROLES)] = UNSET
    since: Annotated[str, Meta(description="RFC 3339, or a duration.")] = "7d"
    max_events: Annotated[int, Meta(ge=0, le=100_000)] = 10_000


BODIES: tuple[type[Body], ...] = (
    ReasonBody, RevocationBody, OverlapBody, QuestionBody, ProposalBody,
)  # fmt: skip
