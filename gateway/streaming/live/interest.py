"""Interest of a reader, the identity of a group: its query, the view of its key, and its wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from gateway.access.grants.mask import Masks, hiding_of, masked
from gateway.access.policy.decision import MasksFor, Projection, View
from gateway.event import Event
from gateway.filters.cel.values import BUDGET
from gateway.filters.expression import FilterCost
from gateway.filters.index import Binding
from gateway.filters.scope import EQUALITY_MEMBERS, Scope, remembered
from gateway.log.ports import ScanHint
from gateway.looking.condition import Condition
from gateway.wire.framing import Wire

# The actor is indexed by its id, which filters know by its path.
_INDEXED_AS = {"actor.id": "actor"}


class StreamQuery(msgspec.Struct, frozen=True):
    """Query of a stream: what was asked for (`wanted`, `filter`) within the `view` of a key. The
    filter is any condition on the content of events."""

    wanted: Scope
    view: View
    filter: Condition | None = None

    def live(self) -> StreamQuery:
        """The query for future events, to which every look-back reaches."""
        view = self.view.unbound()
        return self if view is self.view else msgspec.structs.replace(self, view=view)

    def masks_for(self) -> MasksFor:
        """Function from an event to its masks, or None if view or selectors, without the filter,
        leave it out. Selectors match what the key sees, so that they reveal nothing about masked
        members."""
        wanted, of_view = self.wanted.compile(), self.view.masks_for()

        def masks_for(event: Event) -> Masks | None:
            masks = of_view(event)
            if masks:
                event = hiding_of(masks).columns(event)
            return masks if masks is not None and wanted(event) else None

        if any(rule.after for rule in self.view.rules):
            return masks_for
        return remembered(masks_for, self.wanted.members() | self.view.members())

    @property
    def depends_on_time(self) -> bool:
        """Whether selectors match events by the time at which they were recorded, as they are
        about pseudonyms."""
        return any(
            (self.wanted.actor and rule.masks.hides("actor.id"))
            or (self.wanted.resource and rule.masks.hides("targets.urn"))
            for rule in self.view.rules
            if rule.masks.pseudonymize
        )

    def in_scope(self) -> Projection:
        """Projection of events by view and selectors, without the filter."""
        masks_for = self.masks_for()
        if not self.view.hides:
            return lambda event: event if masks_for(event) is not None else None

        def project(event: Event) -> Event | None:
            masks = masks_for(event)
            return None if masks is None else masked(event, masks)

        return project

    def matcher(self, cost: FilterCost | None = None, most: int = BUDGET) -> Projection:
        """Projection of single events by view, selectors and filter, whose steps `cost` counts. It
        raises `Undecided` as `Filter.matches_at_cost` does."""
        in_scope, chosen = self.in_scope(), self.filter
        if chosen is None:
            return in_scope
        matches: Callable[[Mapping[str, Any]], bool] = chosen.matches
        if cost is not None and chosen.counted:
            matches = partial(chosen.matches_at_cost, cost=cost, most=most)

        def project(event: Event) -> Event | None:
            seen = in_scope(event)
            return seen if seen is not None and matches(seen.members()) else None

        return project

    def scan_hint(self) -> ScanHint:
        """Hint for a store to read less. It never depends on masked members, as the duration of a
        read would reveal them; nor does the store look at bytes of events that may not be seen."""
        wanted = self.wanted
        if any(rule.masks.hides("actor.id") for rule in self.view.rules):
            wanted = msgspec.structs.replace(wanted, actor=())
        plain = self.view.plain
        needles = self.filter.needles if self.filter is not None and plain else ()
        return ScanHint(wanted, self.view.scopes, self.filter is None and plain, needles)

    def bindings(self) -> list[Binding]:
        """Values with which an event can match at all, for the index."""
        alternatives: list[Binding] = []
        for rule in self.view.rules:
            binding: dict[str, frozenset[str]] = {}
            for member in EQUALITY_MEMBERS:
                # A selector sees the pseudonym of an actor, the index the event itself.
                if member != "actor" or not rule.masks.hides("actor.id"):
                    _bind(binding, member, self.wanted.equality(member))
                _bind(binding, member, rule.scope.equality(member))
            if self.filter is not None:
                for path, bound in self.filter.equalities.items():
                    # A filter sees masked values, the index the event itself.
                    if not rule.masks.hides(path):
                        _bind(binding, _INDEXED_AS.get(path, path), bound)
            if all(binding.values()):
                alternatives.append(binding)
        return alternatives


def _bind(binding: dict[str, frozenset[str]], member: str, bound: frozenset[str] | None) -> None:
    if bound is not None:
        binding[member] = binding[member] & bound if member in binding else bound


class Interest(msgspec.Struct, frozen=True):
    """A query and the wire of its events. Equal interests share one group."""

    query: StreamQuery
    wire: Wire

    def with_view(self, view: View) -> Interest:
        """The interest with another view."""
        return Interest(msgspec.structs.replace(self.query, view=view), self.wire)

    def live(self) -> Interest:
        """The interest in future events."""
        live = self.query.live()
        return self if live is self.query else Interest(live, self.wire)
