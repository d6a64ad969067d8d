"""Members that a view hides: of all its events, or of one. Pure; it follows from grants alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from gateway.access.policy.decision import Rule, View
from gateway.access.policy.satisfiability import unsatisfiable_parameter
from gateway.access.policy.subsumption import scope_covers
from gateway.event import Event
from gateway.filters.expression import Filter
from gateway.filters.scope import Scope

_MASKED = "***"


def hidden_in_all(
    view: View, wanted: Scope, expression: Filter | None, paths: Sequence[str]
) -> tuple[str, ...]:
    """Paths that are masked or dropped in every event that a query can match."""
    if not view.hides:
        return ()
    reached = [rule for rule in view.rules if _reaches(rule, view, wanted, expression)]
    return tuple(
        path
        for path in paths
        if all(_always_hides(view, rule, path) for rule in reached or view.rules)
    )


def _reaches(rule: Rule, view: View, wanted: Scope, expression: Filter | None) -> bool:
    alone = View((rule,), view.denied)
    return unsatisfiable_parameter(alone, wanted, expression) is None


def _always_hides(view: View, rule: Rule, path: str) -> bool:
    """Whether a rule hides a path, or another one that lets the same events through."""
    return any(
        one.masks.conceals(path) and (one is rule or _covers(one, rule)) for one in view.rules
    )


def _covers(one: Rule, other: Rule) -> bool:
    return one.lookback in (None, other.lookback) and scope_covers(one.scope, other.scope)


def dropping(view: View, paths: Sequence[str]) -> Callable[[Event], Collection[str]] | None:
    """Function from an event as the key sees it to the paths that may have been dropped from it;
    None if none ever is. Where targets are hidden, a rule about resources may have been met."""
    found = []
    for rule in view.rules:
        drops = msgspec.structs.replace(rule.masks, mask=(), pseudonymize=())
        gone = frozenset(path for path in paths if drops.conceals(path))
        if gone:
            anywhere = msgspec.structs.replace(rule.scope, resource=())
            found.append((gone, rule.after, rule.scope.compile(), anywhere.compile()))
    if not found:
        return None

    def dropped(event: Event) -> Collection[str]:
        told = event.resources and _MASKED not in event.resources
        return frozenset[str]().union(
            *(
                gone
                for gone, after, test, anywhere in found
                if event.offset > after and (test if told else anywhere)(event)
            )
        )

    return dropped
