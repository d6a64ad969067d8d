"""What one subscriber wants and may see, and how it is written: the identity of a live group."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.encode.wire import Wire
from gateway.event import Event
from gateway.keys.policy import View
from gateway.match.expression import Filter
from gateway.match.index import Binding
from gateway.match.scope import EQUALITY_MEMBERS, Scope, Test, all_of
from gateway.store.ports import Narrowing

# Members of the index by the path that filter expressions know them by.
_FILTER_PATHS = {"tenant": "tenant", "category": "category", "action": "action",
                 "outcome": "outcome", "actor": "actor.id"}  # fmt: skip


class Question(msgspec.Struct, frozen=True):
    """A part of the log: what was asked for (`wanted`, `filter`) within the `view` of a key."""

    wanted: Scope
    view: View
    filter: Filter | None = None

    def in_scope(self) -> Test:
        """Whether an event is asked for and allowed, but for the filter, which needs members."""
        return all_of([self.wanted.compile(), self.view.compile()])

    def matcher(self) -> Callable[[Event], bool]:
        """The whole decision for one event at a time."""
        in_scope, chosen = self.in_scope(), self.filter
        if chosen is None:
            return in_scope
        matches = chosen.matches
        return lambda event: in_scope(event) and matches(event.members())

    def narrowing(self) -> Narrowing:
        """What a store may use to read less."""
        complete = self.filter is None and not self.view.denied
        return Narrowing(self.wanted, self.view.allowed, complete)

    def bindings(self) -> list[Binding]:
        """The values with which an event can match at all, for the index."""
        alternatives: list[Binding] = []
        for allowed in self.view.allowed:
            binding: dict[str, frozenset[str]] = {}
            for member in EQUALITY_MEMBERS:
                bounds = [self.wanted.equality(member), allowed.equality(member)]
                if self.filter is not None:
                    bounds.append(self.filter.equalities.get(_FILTER_PATHS[member]))
                known = [bound for bound in bounds if bound is not None]
                if known:
                    binding[member] = frozenset.intersection(*known)
            if all(binding.values()):
                alternatives.append(binding)
        return alternatives


class Interest(msgspec.Struct, frozen=True):
    """A question and the wire its answer goes out on. Equal interests share one group."""

    question: Question
    wire: Wire
