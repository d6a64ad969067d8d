"""Parts of a query outside of the view of its key. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.access.policy.decision import View
from gateway.access.policy.subsumption import scope_covers
from gateway.filters.overlap import category_overlaps, one_overlaps
from gateway.filters.pattern import ANY
from gateway.filters.scope import SEPARATORS, Scope
from gateway.oversight.access_log.recorded_query import RecordedQuery


def categories_out_of_scope(view: View, wanted: Iterable[str]) -> tuple[str, ...]:
    """Patterns that match no category of the view."""
    return tuple(pattern for pattern in wanted if not _is_in_scope(view, pattern))


def is_out_of_scope(view: View, query: RecordedQuery) -> bool:
    """Whether the view contains nothing of the categories and tenants of the query."""
    if not any(map(query.reaches, view.scopes)):
        return True
    wanted = tuple(query.categories)
    return bool(wanted) and categories_out_of_scope(view, wanted) == wanted


def _is_in_scope(view: View, pattern: str) -> bool:
    if not any(category_overlaps(scope, pattern) for scope in view.scopes):
        return False
    return not _is_denied(view, Scope(category=(pattern,)))


def foreign_values(view: View, tenants: Iterable[str], resources: Iterable[str]) -> tuple[str, ...]:
    """Tenants and resources (patterns) outside of the view, as `tenant:acme`."""
    foreign = [f"tenant:{one}" for one in tenants if not _contains(view, "tenant", one)]
    foreign += [f"resource:{one}" for one in resources if not _contains(view, "resource", one)]
    return tuple(foreign)


def _contains(view: View, member: str, pattern: str) -> bool:
    separator = SEPARATORS[member]
    for scope in view.scopes:
        having: tuple[str, ...] = getattr(scope, member) or (ANY,)
        if one_overlaps(having, pattern, separator):
            meant = Scope(tenant=(pattern,)) if member == "tenant" else Scope(resource=(pattern,))
            return not _is_denied(view, meant)
    return False


def _is_denied(view: View, meant: Scope) -> bool:
    return any(scope_covers(denied, meant) for denied in view.denied)
