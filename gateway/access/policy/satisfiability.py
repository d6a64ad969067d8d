"""Whether what somebody selects can match anything that their key may see. Pure.

It follows from the key's grants alone, and from what members of events can be: nothing is told of
the events that there are.
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
# So much is compared at most, within milliseconds: beyond that, something may match.
_MOST_PAIRS = 2_000
_MOST_CELLS = 100
_GRANTED = ("tenant", "category", "resource")


# The same few keys ask again and again for the same; of the largest questions that is some MB.
@lru_cache(128)
def nothing_selected(view: View, wanted: Scope, chosen: Filter | None) -> str | None:
    """The parameter with which nothing can match any more; None if something may.

    An event with several targets that is seen by one of them could be selected by another: of
    resources, what no grant names counts as nothing all the same.
    """
    given = [name for name in _PARAMETERS if getattr(wanted, name)]
    if chosen is not None:
        given.append("filter")
    if not given or _can_match(view, wanted, chosen):
        return None
    for name in given:
        if not _can_match(view, *_only([name], wanted, chosen)):
            return name
    for count in range(2, len(given) + 1):
        if not _can_match(view, *_only(given[:count], wanted, chosen)):
            return given[count - 1]
    # The least severity takes part in it as well.
    return given[-1]


def selected_by(parameter: str, wanted: Scope, chosen: Filter | None) -> tuple[str, ...]:
    """What was selected with a parameter, as `tenant=acme`."""
    values: Iterable[str]
    if parameter == "filter":
        values = (chosen.canonical,) if chosen is not None else ()
    else:
        values = getattr(wanted, parameter)
    return tuple(f"{parameter}={value}" for value in values)


def _only(
    names: Sequence[str], wanted: Scope, chosen: Filter | None
) -> tuple[Scope, Filter | None]:
    kept = {name: getattr(wanted, name) for name in names if name != "filter"}
    return Scope(**kept), chosen if "filter" in names else None


def _can_match(view: View, wanted: Scope, chosen: Filter | None) -> bool:
    # What no member can be matches no filter.
    asked = {name: _asked(name, wanted, chosen) for name in _PARAMETERS}
    if any(values == [] for values in asked.values()):
        return False
    pairs = sum(
        len(asked[name]) * (len(getattr(scope, name)) or 1)
        for scope in view.scopes
        for name in _GRANTED
    )
    if pairs > _MOST_PAIRS:
        return True
    return any(_reaches(view, rule, wanted, chosen, asked) for rule in view.rules)


def _asked(name: str, wanted: Scope, chosen: Filter | None) -> list[str]:
    """What the member must be to be selected, as patterns."""
    patterns: list[str] = list(getattr(wanted, name)) or [ANY]
    values = None if chosen is None else chosen.equalities.get(_PATHS.get(name, ""))
    # A masked value is compared as it is seen, and is within reach or not for that.
    if values is None or _MASKED in values:
        return patterns
    possible = [value for value in values if can_be(name, value)]
    if any("*" in value for value in possible):
        # A star that is meant as such is no pattern.
        return patterns
    return _both(patterns, possible, SEPARATORS.get(name, "/"))


def _reaches(
    view: View, rule: Rule, wanted: Scope, chosen: Filter | None, asked: dict[str, list[str]]
) -> bool:
    """Whether something selected can be seen by one of the view's rules."""
    allowed, masks = rule.scope, rule.masks
    for name, path in _HIDDEN_AS.items():
        patterns = getattr(wanted, name)
        if patterns and ANY not in patterns and masks.hides(path):
            return False
    if chosen is not None and any(
        masks.hides(path) and _MASKED not in values for path, values in chosen.equalities.items()
    ):
        return False
    parts = []
    for name in _GRANTED:
        granted = list(getattr(allowed, name)) or [ANY]
        found = list(_granted(name, asked[name], granted, allowed.reserved))
        if not found:
            return False
        parts.append(found)
    cells = len(parts[0]) * len(parts[1]) * len(parts[2])
    if not view.denied or cells * len(view.denied) > _MOST_CELLS:
        return True
    least = max(wanted.min_severity, allowed.min_severity)
    return any(
        not any(scope_covers(denied, cell) for denied in view.denied)
        for tenant, category, resource in product(*parts)
        for cell in [
            Scope(tenant=(tenant,), category=(category,), resource=(resource,), min_severity=least)
        ]
    )


def _granted(name: str, asked: list[str], granted: list[str], reserved: bool) -> Iterator[str]:
    """What is asked for and granted, as patterns."""
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
