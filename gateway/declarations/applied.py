"""Results of applying a declared set, and how they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from gateway.declarations.plan import (
    AffectedStream,
    DeclarationPlan,
    PlannedChange,
    counts_of,
)
from gateway.json_members import about

_KEY = about(
    "The key itself, in this answer only.", pattern="^alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$"
)
_FAILED = about("Destinations that could not follow; apply the set again.")


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made."""

    name: str
    id: str
    key: Annotated[str, _KEY]


class FailedDestination(msgspec.Struct, frozen=True, kw_only=True):
    """A destination that could not follow its key and roles, and why."""

    name: str
    code: str
    detail: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was applied, the keys that were made by it, and destinations that failed."""

    plan: DeclarationPlan
    made: list[MadeKey] = []
    failed: list[FailedDestination] = []


class DeclarationAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan, and what came of it where it was applied."""

    set: str
    applied: Annotated[bool, about("Whether the plan was applied; false for one that is shown.")]
    digest: Annotated[str, about("For `expect`: another one once anything of the plan moves.")]
    counts: Annotated[dict[str, int], about("Of changes, by mark.")]
    changes: Annotated[list[PlannedChange], about("What widens comes first.")]
    streams: Annotated[list[AffectedStream], about("Live streams that narrow or end by it.")] = []
    made: Annotated[list[MadeKey], about("Keys that were made, shown this once.")] = []
    failed: Annotated[list[FailedDestination], _FAILED] = []


def answer_of(
    plan: DeclarationPlan, applied: Applied | None = None, streams: Sequence[AffectedStream] = ()
) -> DeclarationAnswer:
    """How a plan, or an applied one, is answered."""
    return DeclarationAnswer(
        set=plan.set, applied=applied is not None, digest=plan.digest,
        counts=counts_of(plan.changes), changes=plan.changes, streams=list(streams),
        made=[] if applied is None else applied.made,
        failed=[] if applied is None else applied.failed,
    )  # fmt: skip
