"""Which of the live groups get which events of a page."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from gateway.event import Event
from gateway.live.group import Group, Looked, Sight
from gateway.match.index import Index

Matches = dict[Group, list[Event]]

_COLUMNS = attrgetter(
    "tenant", "category", "action", "outcome", "severity", "actor", "resources"
)  # fmt: skip


def match(index: Index[Group], events: Iterable[Event]) -> Matches:
    """The events of each group, in order, as the group sees them."""
    found: Matches = {}
    # Many events of a page differ only in what no group looks at.
    known: dict[Any, list[Group]] = {}
    for event in events:
        columns = _COLUMNS(event)
        groups = known.get(columns)
        if groups is not None:
            for group in groups:
                found[group].append(event)
            continue
        groups = _match_one(index, event, found)
        if groups is not None:
            known[columns] = groups
    return found


def _match_one(index: Index[Group], event: Event, found: Matches) -> list[Group] | None:
    """Add the event to what its groups get. Returns them if that depends on its columns alone."""
    original = Looked(event)
    answers: dict[Sight, Looked | None] = {}
    certain = not index.looks_inside
    groups: list[Group] = []
    last: Looked | None = None
    members: dict[str, Any] = {}
    for group in index.candidates(event, original.members):
        sight = group.sight
        if sight in answers:
            looked = answers[sight]
        else:
            seen = sight.look(event)
            if seen is event:
                looked = original
            else:
                looked = None if seen is None else Looked(seen)
            answers[sight] = looked
        if looked is None:
            continue
        matches = group.filter
        if matches is not None:
            certain = False
            if looked is not last:
                last, members = looked, looked.members()
            if not matches(members):
                continue
        elif not sight.plain:
            certain = False
        groups.append(group)
        chosen = found.get(group)
        if chosen is None:
            found[group] = [looked.event]
        else:
            chosen.append(looked.event)
    return groups if certain else None
