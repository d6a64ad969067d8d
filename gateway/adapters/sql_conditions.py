"""Scopes as SQL conditions, so that a store reads fewer events.

`narrow_sql` never leaves out a wanted event but may let others through: the caller checks each
event. `exact_sql` means the same as the scopes, so no event needs a check, or is None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.filters.pattern import ANY, begins_with_wildcard, is_literal, literal_prefix
from gateway.filters.scope import EQUALITY_MEMBERS, RESERVED, SEPARATORS, Scope
from gateway.log.ports import ScanHint

_MOST_VALUES = 64
# Above this, planning the statement takes longer than reading the events it would leave out:
# SQLite needs 3 ms for 500 values and 7 s for 25,000.
_MOST_BOUND = 512
_NOT_RESERVED = (
    f"NOT (category = '{RESERVED}' OR (category >= '{RESERVED}.' AND category < '{RESERVED}/'))"
)

Bound = list[str | int]


class _Condition(NamedTuple):
    """`sql` is "" if it selects every event; `exact` if it means the same as the scope."""

    sql: str
    bound: Bound
    exact: bool


class NeedleSql(NamedTuple):
    """How a store looks for a needle: `contains` has one `?` for the text that `bound` makes of it,
    `escapes` is true of JSON with a backslash. Needles that `stands_in` does not match may also
    stand in what the store adds to the JSON when it reads it, and are left out."""

    contains: str
    escapes: str
    bound: Callable[[str], str]
    stands_in: Callable[[str], Any] = bool


def narrow_sql(hint: ScanHint | None, needles: NeedleSql | None = None) -> tuple[str, Bound]:
    """`(" AND ...", bound values)`; an empty string if every event may be wanted."""
    if hint is None:
        return "", []
    condition = _hint_condition(hint)
    if needles is None or not hint.needles or not condition.exact:
        return condition.sql, condition.bound
    kept = [needle for needle in hint.needles if needles.stands_in(needle)]
    if not kept:
        return condition.sql, condition.bound
    contain = " AND ".join([needles.contains] * len(kept))
    sql = f"{condition.sql} AND ({needles.escapes} OR ({contain}))"
    return sql, [*condition.bound, *map(needles.bound, kept)]


def exact_sql(hint: ScanHint) -> tuple[str, Bound] | None:
    """`(" AND ...", bound values)` equivalent to the hint; None if SQL cannot express it."""
    condition = _hint_condition(hint)
    if not (hint.complete and condition.exact):
        return None
    return condition.sql, condition.bound


# Cached: a stream asks for it with every part of the log that it reads.
@lru_cache(256)
def _hint_condition(hint: ScanHint) -> _Condition:
    wanted = _scope_condition(hint.wanted)
    allowed = [_scope_condition(scope) for scope in hint.allowed]
    sql = f" AND {wanted.sql}" if wanted.sql else ""
    bound = list(wanted.bound)
    if allowed and all(condition.sql for condition in allowed):
        sql += " AND (" + " OR ".join(condition.sql for condition in allowed) + ")"
        for condition in allowed:
            bound += condition.bound
    if len(bound) > _MOST_BOUND:
        return _Condition("", [], False)
    exact = bool(allowed) and all(condition.exact for condition in (wanted, *allowed))
    return _Condition(sql, bound, exact)


def _scope_condition(scope: Scope) -> _Condition:
    parts: list[str] = []
    bound: Bound = []
    exact = not scope.resource or ANY in scope.resource
    for member in EQUALITY_MEMBERS:
        patterns: tuple[str, ...] = getattr(scope, member)
        if member == "category" and not scope.reserved:
            condition = _category_condition(patterns)
        else:
            condition = _member_condition(member, patterns)
        exact = exact and condition.exact
        if condition.sql:
            parts.append(condition.sql)
            bound += condition.bound
    if scope.min_severity > 1:
        parts.append("severity >= ?")
        bound.append(scope.min_severity)
    sql = " AND ".join(parts)
    return _Condition(f"({sql})" if sql else "", bound, exact)


def _category_condition(patterns: tuple[str, ...]) -> _Condition:
    """Condition of a grant's categories: a leading wildcard does not match `gateway.*`."""
    broad = tuple(pattern for pattern in patterns if begins_with_wildcard(pattern))
    named = tuple(pattern for pattern in patterns if not begins_with_wildcard(pattern))
    if patterns and not broad:
        return _member_condition("category", named)
    by_name = _member_condition("category", named)
    exact = by_name.exact and (not broad or ANY in broad)
    if not named:
        return _Condition(_NOT_RESERVED, [], exact)
    if not by_name.sql:
        return _Condition("", [], False)
    return _Condition(f"({by_name.sql} OR {_NOT_RESERVED})", by_name.bound, exact)


def _member_condition(member: str, patterns: tuple[str, ...]) -> _Condition:
    if not patterns or ANY in patterns:
        return _Condition("", [], True)
    if len(patterns) > _MOST_VALUES or any(map(begins_with_wildcard, patterns)):
        return _Condition("", [], False)
    separator = SEPARATORS.get(member, ".")
    rest = separator + ANY
    literals = [pattern for pattern in patterns if is_literal(pattern)]
    wild = [pattern for pattern in patterns if not is_literal(pattern)]
    # `auth.**` matches `auth` too, which does not begin with its prefix.
    literals += [pattern.removesuffix(rest) for pattern in wild if pattern.endswith(rest)]
    choices = []
    bound: Bound = []
    if literals:
        choices.append(f"{member} IN ({', '.join('?' * len(literals))})")
        bound += literals
    for pattern in wild:
        prefix = literal_prefix(pattern)
        # The first text after all with that prefix: the prefix with its last character plus one.
        behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        choices.append(f"({member} >= ? AND {member} < ?)")
        bound += [prefix, behind]
    exact = all(pattern == literal_prefix(pattern) + ANY for pattern in wild)
    return _Condition(f"({' OR '.join(choices)})", bound, exact)
