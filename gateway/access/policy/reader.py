"""Readers of the log on behalf of others. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.access.policy.decision import MasksFor, View
from gateway.access.policy.subsumption import alternatives_cover, scopes_overlap
from gateway.filters.pattern import begins_with_wildcard
from gateway.filters.scope import RESERVED, Scope


class Reader:
    """View of the log that a reader has, bound to it; None sees nothing."""

    def __init__(self, view: View | None) -> None:
        self._view = view
        self.masks_for: MasksFor = _nothing if view is None else view.masks_for()

    def sees_all(self, scope: Scope, members: Iterable[str], first: int) -> bool:
        """Whether no event of the scope behind the offset `first`, nor these `members` of it, are
        hidden. Conservative, and independent of the events, so that it reveals none."""
        view, members = self._view, tuple(members)
        if view is None or any(scopes_overlap(denied, scope) for denied in view.denied):
            return False
        shown = [rule.scope for rule in view.rules if rule.after <= first]
        whole = msgspec.structs.replace(scope, category=(*scope.category, *_own(scope)))
        if not alternatives_cover(shown, whole):
            return False
        return not any(
            rule.masks.hides(*members) and scopes_overlap(rule.scope, scope) for rule in view.rules
        )


def _own(scope: Scope) -> tuple[str, ...]:
    """Categories that wildcards of the scope include, unlike those of grants."""
    broad = scope.reserved and any(map(begins_with_wildcard, scope.category))
    return (f"{RESERVED}.**",) if broad else ()


def _nothing(event: object) -> None:
    return None


# For operators, who have the data folder itself.
SEES_EVERYTHING = Reader(View.of(Scope()))
