"""Live groups of a hub, found by their interest and by the events they may want."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from gateway.filters.index import Index
from gateway.streaming.live.group import Group, GroupProjection
from gateway.streaming.live.interest import Interest, StreamQuery


class Groups:
    """Groups by interest. They are fixed while a page is being matched: a stream that needs a new
    group waits, and an empty group is removed afterwards."""

    def __init__(self) -> None:
        self.index: Index[Group] = Index()
        self._groups: dict[Interest, Group] = {}
        self._projections: dict[StreamQuery, GroupProjection] = {}
        self._left: list[Group] = []
        self._fixed = False

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    def of(self, interest: Interest) -> Group | None:
        """Group of an interest, created if needed; None if that is not possible now."""
        group = self._groups.get(interest)
        if group is None and not self._fixed:
            query = msgspec.structs.replace(interest.query, filter=None)
            projection = self._projections.get(query) or GroupProjection(query)
            group = Group(interest, projection)
            # First, as it may fail: a group outside of the index would get nothing.
            self.index.add(group, interest.query.bindings())
            self._groups[interest], self._projections[query] = group, projection
            projection.groups += 1
        return group

    def remove(self, group: Group) -> None:
        """Remove a group whose last shard is gone."""
        if self._fixed:
            self._left.append(group)
            return
        del self._groups[group.interest]
        self.index.remove(group)
        group.projection.groups -= 1
        if not group.projection.groups:
            del self._projections[msgspec.structs.replace(group.interest.query, filter=None)]

    @property
    def fixed(self) -> bool:
        """Whether a page is being matched."""
        return self._fixed

    @contextmanager
    def keep_fixed(self) -> Iterator[None]:
        """Keep the groups fixed while a page is being matched in parts."""
        self._fixed = True
        try:
            yield
        finally:
            self._fixed = False
            left, self._left = dict.fromkeys(self._left), []
            for group in left:
                if not group.shards:
                    self.remove(group)
