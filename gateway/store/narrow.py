"""Scopes as SQL conditions: a store reads less with them, and decides nothing.

What SQL cannot say exactly (resources, wildcards within a name, denials) is
left out, so the condition always holds for every event that is wanted.
"""

from __future__ import annotations

from gateway.match.pattern import ANY, is_literal, literal_prefix
from gateway.match.scope import EQUALITY_MEMBERS, Scope
from gateway.store.ports import Narrowing

_MOST_VALUES = 64
# Sorts behind every continuation of a prefix: the largest code point.
_LAST = "\U0010ffff"


def narrow_sql(narrowing: Narrowing | None) -> tuple[str, list[str | int]]:
    """`(" AND ...", bound values)`; an empty string where nothing can be left out."""
    if narrowing is None:
        return "", []
    parts: list[str] = []
    bound: list[str | int] = []
    condition, values = _scope_sql(narrowing.wanted)
    if condition:
        parts.append(condition)
        bound += values
    alternatives = [_scope_sql(scope) for scope in narrowing.allowed]
    if alternatives and all(condition for condition, _ in alternatives):
        parts.append("(" + " OR ".join(condition for condition, _ in alternatives) + ")")
        for _, values in alternatives:
            bound += values
    return "".join(" AND " + part for part in parts), bound


def _scope_sql(scope: Scope) -> tuple[str, list[str | int]]:
    parts: list[str] = []
    bound: list[str | int] = []
    for member in EQUALITY_MEMBERS:
        patterns: tuple[str, ...] = getattr(scope, member)
        if not patterns or len(patterns) > _MOST_VALUES or ANY in patterns:
            continue
        prefixes = [literal_prefix(pattern) for pattern in patterns if not is_literal(pattern)]
        if "" in prefixes:
            continue
        choices = []
        literals = [pattern for pattern in patterns if is_literal(pattern)]
        # `auth.**` matches `auth` too, which lies before its prefix.
        literals += [p[:-3] for p in patterns if p.endswith((".**", "/**"))]
        if literals:
            choices.append(f"{member} IN ({', '.join('?' * len(literals))})")
            bound += literals
        for prefix in prefixes:
            choices.append(f"{member} BETWEEN ? AND ?")
            bound += [prefix, prefix + _LAST]
        parts.append("(" + " OR ".join(choices) + ")")
    if scope.min_severity > 1:
        parts.append("severity >= ?")
        bound.append(scope.min_severity)
    return " AND ".join(parts), bound
