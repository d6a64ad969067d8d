"""Satisfiability of a query: whether it can match any event that a key may see. Pure.

It follows from the grants of the key and from the values that members can have, and so reveals
nothing of the stored events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product

from gateway.access.policy.decision import Rule, View
from gateway.access.policy.subsumption import scope_covers
from gateway.filters.alphabet import can_be
from gateway.filters.expression import Filter
from gateway.filters.overlap import common_pattern
from gateway.filters.pattern import ANY, begins_with_wildcard
from gateway.filters.scope import SEPARATORS, Scope, is_reserved

EVERYTHING = View.of(Scope())
_PARAMETERS = ("tenant", "category", "action", "outcome", "actor", "resource")
# The members of events that filters compare and that selectors are about.
_PATHS = {
    "tenant": "tenant", "category": "category", "action": "action", "outcome": "outcome",
    "actor": "actor.id",
}  # fmt: skip
_HIDDEN_AS = {"actor": "actor.id", "resource": "targets.urn"}
_MASKED = "***"
# Most comparisons, some milliseconds: beyond that, something may match.
_MOST_PAIRS = 2_000
_MOST_CELLS = 100
_GRANTED = ("tenant", "category", "resource")


# The same few keys repeat their queries; for the largest queries the cache takes some MB.
@lru_cache(128)
def unsatisfiable_parameter(view: View, query: Scope, expression: Filter | None) -> str | None:
    """First parameter that leaves no event to match; None if some may match.

    A resource that no grant names counts as unsatisfiable, although an event that is seen by
    another of its targets could match it.
    """
    given = [name for name in _PARAMETERS if getattr(query, name)]
    if expression is not None:
        given.append("filter")
    if not given or _can_match(view, query, expression):
        return None
    for name in given:
        if not _can_match(view, *_only([name], query, expression)):
            return name
    for count in range(2, len(given) + 1):
        if not _can_match(view, *_only(given[:count], query, expression)):
            return given[count - 1]
    # Together with the least severity, which is no parameter of this list.
    return given[-1]


def selected_values(parameter: str, query: Scope, expression: Filter | None) -> tuple[str, ...]:
    """Values of a parameter as texts such as `tenant=acme`."""
    values: Iterable[str]
    if parameter == "filter":
        values = (expression.canonical,) if expression is not None else ()
    else:
        values = getattr(query, parameter)
    return tuple(f"{parameter}={value}" for value in values)


def _only(
    names: Sequence[str], query: Scope, expression: Filter | None
) -> tuple[Scope, Filter | None]:
    kept = {name: getattr(query, name) for name in names if name != "filter"}
    return Scope(**kept), expression if "filter" in names else None


def _can_match(view: View, query: Scope, expression: Filter | None) -> bool:
    # A value that no member can have matches no event.
    asked = {name: _asked(name, query, expression) for name in _PARAMETERS}
    if any(values == [] for values in asked.values()):
        return False
    pairs = sum(
        len(asked[name]) * (len(getattr(scope, name)) or 1)
        for scope in view.scopes
        for name in _GRANTED
    )
    if pairs > _MOST_PAIRS:
        return True
    return any(_reaches(view, rule, query, expression, asked) for rule in view.rules)


def _asked(name: str, query: Scope, expression: Filter | None) -> list[str]:
    """Patterns that a member has to match."""
    patterns: list[str] = list(getattr(query, name)) or [ANY]
    values = None if expression is None else expression.equalities.get(_PATHS.get(name, ""))
    # A masked value is compared as the key sees it.
    if values is None or _MASKED in values:
        return patterns
    possible = [value for value in values if can_be(name, value)]
    if any("*" in value for value in possible):
        # A literal star is no pattern.
        return patterns
    return _both(patterns, possible, SEPARATORS.get(name, "/"))


def _reaches(
    view: View, rule: Rule, query: Scope, expression: Filter | None, asked: dict[str, list[str]]
) -> bool:
    """Whether a rule of the view lets an event through that the query matches."""
    allowed, masks = rule.scope, rule.masks
    for name, path in _HIDDEN_AS.items():
        patterns = getattr(query, name)
        if patterns and ANY not in patterns and masks.conceals(path):
            return False
    if expression is not None and any(
        masks.conceals(path) and _MASKED not in values
        for path, values in expression.equalities.items()
    ):
        return False
    parts = []
    for name in _GRANTED:
        granted = list(getattr(allowed, name)) or [ANY]
        # Grants are about the value, selectors about the pseudonym in its place.
        shown_at = _HIDDEN_AS.get(name)
        wanted = [ANY] if shown_at and masks.hides(shown_at) else asked[name]
        found = list(common_patterns(name, wanted, granted, allowed.reserved))
        if not found:
            return False
        parts.append(found)
    cells = len(parts[0]) * len(parts[1]) * len(parts[2])
    if not view.denied or cells * len(view.denied) > _MOST_CELLS:
        return True
    least = max(query.min_severity, allowed.min_severity)
    return any(
        not any(scope_covers(denied, cell) for denied in view.denied)
        for tenant, category, resource in product(*parts)
        for cell in [
            Scope(tenant=(tenant,), category=(category,), resource=(resource,), min_severity=least)
        ]
    )


def common_patterns(
    name: str, asked: list[str], granted: list[str], reserved: bool
) -> Iterator[str]:
    """Patterns for values of a member that are both asked for and granted."""
    separator = SEPARATORS[name]
    for pattern in granted:
        bounded = name == "category" and not reserved and begins_with_wildcard(pattern)
        for other in asked:
            common = common_pattern(pattern, other, separator)
            if common is not None and not (bounded and is_reserved(common)):
                yield common


def _both(ones: list[str], others: list[str], separator: str) -> list[str]:
    if len(ones) * len(others) > _MOST_PAIRS:
        return ones
    found = (common_pattern(one, other, separator) for one in ones for other in others)
    return list(dict.fromkeys(one for one in found if one is not None))
