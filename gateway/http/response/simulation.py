"""Answer of a simulation."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Struct

from gateway.clock import Moment
from gateway.json_members import about
from gateway.oversight.review.document import NotKnown, Unused
from gateway.oversight.review.grant_use import UsedGrant

_USES = about("Null without `usage.read`, as are the two below.")


class Window(Struct):
    """Time range that a simulation covers."""

    since: Moment
    until: Moment
    complete: Annotated[bool, about("Whether all events were looked at.")]


class ProposedPatch(Struct):
    """What `PATCH /v1/keys/{id}` is to be sent for what was simulated."""

    if_match: Annotated[str, about("The header `If-Match`: 412 if the key is another by then.")]
    patch: dict[str, Any]


class SimulationAnswer(Struct):
    key: str
    window: Window
    uses: Annotated[dict[str, Any] | None, _USES]
    events: dict[str, Any]
    grants: Annotated[list[UsedGrant], about("The proposed ones.")]
    unused: Unused
    not_known: NotKnown
    apply: ProposedPatch
