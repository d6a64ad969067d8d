"""Small JSON bodies of requests: the checks, and the source of their OpenAPI schemas."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from gateway.access.grants.grant import ACTIONS, GrantsOfBody
from gateway.access.grants.pseudonym import PSEUDONYM_PATTERN
from gateway.access.grants.role import RolesOfBody
from gateway.access.keys.lifecycle import MAX_REASON
from gateway.clock import Duration, MomentText
from gateway.cursor import Cursor
from gateway.event import Severity
from gateway.json_members import Body, about
from gateway.streaming.consumers.options import ACK_MODES

_KeyId = Annotated[str, about("The id of a key.")]
_Event = Annotated[dict[str, Any], about("An event; or instead of it the four below.")]


class ReasonBody(Body, frozen=True):
    """Reason for a change."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class ReviewedBody(Body, frozen=True):
    """What was found at a review of a key."""

    note: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class RevocationBody(ReasonBody, frozen=True):
    """Reason of a revocation, and whether it includes the key's descendants."""

    with_descendants: Annotated[bool, about("Also all that came of the key.")] = False


class OverlapBody(Body, frozen=True):
    """Overlap of a rotated key with its successor. The duration is parsed elsewhere."""

    overlap: (
        Annotated[
            Duration,
            about("How long the old key works on; else that of its schedule, or an hour."),
        ]
        | UnsetType
    ) = UNSET
    hold: Annotated[bool, about("Whether the overlap begins only once it is confirmed.")] = False


class QuestionBody(Body, frozen=True):
    """Question to explain. `gateway.oversight.review.access_query` parses the rest."""

    key: _KeyId
    action: Annotated[Any, about(enum=list(ACTIONS))]
    event: _Event | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    category: str | UnsetType = UNSET
    severity: Severity | UnsetType = UNSET
    resource: str | list[str] | UnsetType = UNSET
    recorded_at: MomentText | UnsetType = UNSET
    address: Annotated[str | None, about("The address that the key is used from.")] = None
    at: MomentText | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """Members that were sent, by name."""
        members = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in members if value is not UNSET}


class ProposalBody(Body, frozen=True):
    """Proposed grants of a key, and how far to look back. Grants and roles are parsed elsewhere."""

    key: _KeyId
    grants: GrantsOfBody = UNSET
    roles: RolesOfBody = UNSET
    since: Annotated[str, about("RFC 3339, or a duration.")] = "7d"
    max_events: Annotated[int, Meta(ge=0, le=100_000)] = 10_000


class NewPreviewBody(Body, frozen=True):
    """Proposed grants and roles, and how far to look back. All are parsed elsewhere."""

    grants: GrantsOfBody = UNSET
    roles: RolesOfBody = UNSET
    since: Annotated[str, about("A duration.")] = "24h"


class PseudonymBody(Body, frozen=True):
    """Pseudonym of a key to be resolved, where in the log to look for it, and why."""

    key: _KeyId
    pseudonym: Annotated[str, about("Such as `ps1_..`.", pattern=f"^{PSEUDONYM_PATTERN}$")]
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON)]
    since: Annotated[str, about("RFC 3339, or a duration.")] | UnsetType = UNSET
    until: MomentText | UnsetType = UNSET
    after: Annotated[Cursor, about("`scanned_to` of the answer before.")] | UnsetType = UNSET


class AckBody(Body, frozen=True):
    """What is acknowledged: everything up to a cursor, or the page of a lease."""

    cursor: Cursor | UnsetType = UNSET
    lease: Annotated[str, about("`lease` of a page.")] | UnsetType = UNSET


class RewindBody(ReasonBody, frozen=True, kw_only=True):
    """Position that a consumer is set to."""

    to: Annotated[
        str, about("A cursor, a time (RFC 3339), a duration (`2h`), `earliest` or `latest`.")
    ]


class SignInBody(Body, frozen=True):
    key: Annotated[str, Meta(min_length=1, max_length=128), about("A provisioning key.")]


class NewViewBody(Body, frozen=True):
    """Query and range of a saved view. Both are parsed elsewhere."""

    query: Annotated[
        dict[str, Any],
        about("Selectors, `min_severity`, `filter`, `text` and `text_in` as those of a page."),
    ]
    since: Annotated[str, about("RFC 3339, or a duration such as `24h`, which stays relative.")] = (
        ""
    )
    until: Annotated[str, about("RFC 3339, or a duration.")] = ""


class NewConsumerBody(Body, frozen=True, rename={"begin": "from"}):
    """Options of a consumer; what is left out stays as it is. Parsed elsewhere, but for types."""

    mode: Annotated[Any, about(enum=list(ACK_MODES))] | UnsetType = UNSET
    ack_delay: Duration | UnsetType = UNSET
    ack_timeout: Duration | UnsetType = UNSET
    max_unacked: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    selection: (
        Annotated[
            dict[str, Any],
            about(
                "Selectors, `min_severity` and `filter` of a stream; without it the first reader "
                "chooses."
            ),
        ]
        | UnsetType
    ) = UNSET
    begin: (
        Annotated[str, about("`start`, `now`, a cursor, a time or a duration; when it is made.")]
        | UnsetType
    ) = UNSET


BODIES: tuple[type[Body], ...] = (
    ReasonBody, ReviewedBody, RevocationBody, OverlapBody, QuestionBody, ProposalBody, AckBody,
    NewPreviewBody, RewindBody, PseudonymBody, NewConsumerBody, SignInBody,
    NewViewBody,
)  # fmt: skip
