"""Index of live groups by the values of members that their events must have.

Each group is entered with alternatives: values of some members with which it can match. Groups that
bind the same members share a table keyed by the values. So an event costs one look-up per
combination of members in use, and the evaluation of the groups found, not of every group.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import product
from operator import attrgetter
from typing import Any, Generic, TypeVar

from gateway.event import Event
from gateway.filters.scope import EQUALITY_MEMBERS

Item = TypeVar("Item", bound=Hashable)
Binding = Mapping[str, frozenset[str]]
# Entries of one alternative at most: a scope with long lists of values binds fewer members.
MAX_ENTRIES = 1024


class Index(Generic[Item]):
    """Index of items. `candidates` never misses an item that can match, and may return more."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, ...], _Table[Item]] = {}
        self._unbound: dict[Item, None] = {}
        self._places: dict[Item, list[tuple[tuple[str, ...], Any]]] = {}
        self._several = 0

    def add(self, item: Item, alternatives: Iterable[Binding]) -> None:
        """Enter an item that can only match where one of the alternatives holds."""
        # Alternatives that differ only in unindexed members share one place.
        distinct: dict[tuple[tuple[str, ...], Any], None] = {}
        for binding in alternatives:
            members = _bound_members(binding)
            values = [sorted(binding[member]) for member in members]
            for combination in product(*values):
                key = combination[0] if len(members) == 1 else combination
                distinct[members, key] = None
        places = self._places[item] = list(distinct)
        self._several += len(places) > 1
        for members, key in places:
            if members:
                table = self._tables.setdefault(members, _Table(members))
                table.entries.setdefault(key, {})[item] = None
            else:
                self._unbound[item] = None

    def remove(self, item: Item) -> None:
        places = self._places.pop(item)
        self._several -= len(places) > 1
        for members, key in places:
            if not members:
                del self._unbound[item]
                continue
            table = self._tables[members]
            items = table.entries[key]
            del items[item]
            if not items:
                del table.entries[key]
            if not table.entries:
                del self._tables[members]

    @property
    def looks_inside(self) -> bool:
        """Whether candidates depend on members of the event other than `EQUALITY_MEMBERS`."""
        return any(table.looks_inside for table in self._tables.values())

    def looking_inside(self) -> list[Item]:
        """Items that depend on members of the event other than `EQUALITY_MEMBERS`."""
        tables = [table for table in self._tables.values() if table.looks_inside]
        return [item for table in tables for items in table.entries.values() for item in items]

    def candidates(
        self, event: Event, members: Callable[[], Mapping[str, Any]] | None = None
    ) -> Iterable[Item]:
        """Items that may match the event, each once.

        `members` returns the decoded event; it is only called if an item depends on members
        other than `EQUALITY_MEMBERS`.
        """
        found: list[dict[Item, None]] = [self._unbound] if self._unbound else []
        for table in self._tables.values():
            items = table.entries.get(table.key_of(event, members or event.members))
            if items:
                found.append(items)
        if len(found) == 1:
            return found[0]
        if self._several:
            return {item: None for items in found for item in items}
        return [item for items in found for item in items]


Decode = Callable[[], Mapping[str, Any]]


class _Table(Generic[Item]):
    """Table of the items that bind the same members, by the values that they need."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.entries: dict[Any, dict[Item, None]] = {}
        shallow = [member for member in members if member in EQUALITY_MEMBERS]
        deep = [member.split(".") for member in members if member not in EQUALITY_MEMBERS]
        self._shallow = attrgetter(*shallow) if shallow else None
        self._deep = deep
        self._single = len(members) == 1
        self.looks_inside = bool(deep)

    def key_of(self, event: Event, decode: Decode) -> Any:
        if not self._deep:
            assert self._shallow is not None
            return self._shallow(event)
        values = [_value_at(decode(), path) for path in self._deep]
        if self._shallow is None:
            return values[0] if self._single else tuple(values)
        first = self._shallow(event)
        return (*first, *values) if isinstance(first, tuple) else (first, *values)


def _value_at(members: Any, path: list[str]) -> str | None:
    """String at a path; None for anything else, which equals no string."""
    for name in path:
        members = members.get(name) if isinstance(members, dict) else None
    return members if isinstance(members, str) else None


def _bound_members(binding: Binding) -> tuple[str, ...]:
    """Members to key on: as many as fit `MAX_ENTRIES`, those with the fewest values first."""
    entries = 1
    chosen = set()
    for member in sorted(binding, key=lambda name: len(binding[name])):
        entries *= len(binding[member])
        if entries > MAX_ENTRIES:
            break
        chosen.add(member)
    shallow = tuple(member for member in EQUALITY_MEMBERS if member in chosen)
    return shallow + tuple(sorted(chosen.difference(shallow)))
