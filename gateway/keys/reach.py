"""What somebody asked for and will never get: categories outside of a key's view. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.keys.asked import Asked
from gateway.keys.covers import scope_covers
from gateway.keys.policy import View
from gateway.match.overlap import category_in_reach
from gateway.match.scope import Scope


def categories_out_of_reach(view: View, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of the patterns under which the view does not contain a single category."""
    return tuple(pattern for pattern in wanted if not _within_reach(view, pattern))


def is_out_of_reach(view: View, asked: Asked) -> bool:
    """Whether the view contains nothing of what was asked for, by category and tenant."""
    if not any(map(asked.reaches, view.allowed)):
        return True
    wanted = tuple(asked.categories)
    return bool(wanted) and categories_out_of_reach(view, wanted) == wanted


def _within_reach(view: View, pattern: str) -> bool:
    if not any(category_in_reach(scope, pattern) for scope in view.allowed):
        return False
    meant = Scope(category=(pattern,))
    return not any(scope_covers(denied, meant) for denied in view.denied)
