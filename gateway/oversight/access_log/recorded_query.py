"""Query of a read, as recorded in the access log. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from gateway.access.policy.subsumption import scopes_overlap
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.filters.expression import Filter, compile_filter
from gateway.filters.scope import Scope

_SELECTORS = ("tenant", "category", "action", "outcome", "actor", "resource")
_MEMBERS = {"actor": "actor.id", "resource": "targets.urn"}
_ENCODE = msgspec.json.Encoder(order="deterministic").encode
_DECODER = msgspec.json.Decoder(dict[str, list[str]])


class RecordedQuery:
    """Selectors and filter of recorded reads; equal ones are the same object.

    `members` are the paths that they use and that masks may hide, `categories` the only ones asked
    for, as patterns (empty: no restriction).
    """

    __slots__ = ("_answer", "_filter", "_last", "_parts", "_test", "categories", "members")

    def __init__(self, scope: Scope, chosen: Filter | None = None) -> None:
        self._test, self._filter = scope.compile(), chosen
        self._last: Event | None = None
        self._answer = False
        self.members = frozenset(_MEMBERS[name] for name in _MEMBERS if getattr(scope, name))
        # An event has to be in each of them, by category and tenant.
        self._parts = [scope]
        if chosen is not None:
            self.members |= chosen.members
            named: dict[str, Any] = {
                name: tuple(chosen.equalities[name])
                for name in ("tenant", "category")
                if name in chosen.equalities
            }
            self._parts.append(Scope(**named))
        self.categories = frozenset().union(*(part.category for part in self._parts))

    def holds(self, event: Event) -> bool:
        """Whether it asks for the event."""
        # The last answer is kept, as each grant asks for the same event.
        if event is not self._last:
            self._last, self._answer = event, self._test(event)
            if self._answer and self._filter is not None:
                self._answer = self._filter.matches(event.members())
        return self._answer

    def reaches(self, scope: Scope) -> bool:
        """Whether it asks for events that may be in the scope, by category and tenant."""
        return all(scopes_overlap(scope, part) for part in self._parts)


EVERYTHING = RecordedQuery(Scope())


def query_from(parameters: Mapping[str, Any]) -> RecordedQuery:
    """Query of recorded parameters; of everything where they are incomplete."""
    if "left_out" in parameters:
        return EVERYTHING
    names = (*_SELECTORS, "min_severity", "filter")
    return _parsed(_ENCODE({name: parameters[name] for name in names if name in parameters}))


@lru_cache(1024)
def _parsed(text: bytes) -> RecordedQuery:
    if text == b"{}":
        return EVERYTHING
    try:
        values = _DECODER.decode(text)
        return RecordedQuery(_scope(values), _filter(values.get("filter", ())))
    except (msgspec.ValidationError, InvalidRequest, ValueError):
        # It was cut when it was recorded, or another version wrote it.
        return EVERYTHING


def _scope(values: Mapping[str, list[str]]) -> Scope:
    chosen: dict[str, Any] = {name: tuple(values[name]) for name in _SELECTORS if name in values}
    scope = Scope(**chosen, min_severity=int(values.get("min_severity", ["1"])[0]))
    scope.check()
    return scope


def _filter(sources: Sequence[str]) -> Filter | None:
    return compile_filter(sources[0]) if sources else None
