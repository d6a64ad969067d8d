"""Use of a key's grants, counted over recorded accesses and events. Pure.

A grant is used when the key has performed one of its actions and, where that action reads events,
the grant lets through at least one of the examined events that are where the key has read, within
what it asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence

import msgspec

from gateway.access.policy.attributed_grant import AttributedGrant, NamedGrant
from gateway.access.policy.reader import Reader
from gateway.event import Event
from gateway.filters.scope import Test
from gateway.oversight.access_log.past_access import READING, PastAccess
from gateway.oversight.access_log.recorded_query import EVERYTHING, RecordedQuery

# A key with more different queries is taken to have asked for everything.
_MOST_ASKED = 16


class Verdict(msgspec.Struct, frozen=True):
    """Grants that were not used, and those of which that is not known."""

    unused: tuple[AttributedGrant, ...]
    not_known: tuple[AttributedGrant, ...]


class UsedGrant(NamedGrant, kw_only=True, omit_defaults=True):
    """A grant and its use in an answer."""

    uses: int
    events: int


class GrantUse:
    """Counts for one grant. Accesses are counted before events."""

    __slots__ = ("_acted", "_reached", "_reads", "_scope", "_test", "events", "named", "uses")

    def __init__(self, named: AttributedGrant) -> None:
        self.named = named
        self.uses = 0
        self.events = 0
        self._acted = False
        self._reads = _Reads()
        # Cached, as queries repeat.
        self._reached: dict[RecordedQuery, bool] = {}
        self._scope = named.grant.scope()
        self._test: Test = self._scope.compile()

    def count_access(self, access: PastAccess) -> None:
        """Count an access that the grant takes part in."""
        if not self.takes_part(access):
            return
        self.uses += access.count
        if access.attempted in READING:
            self._reads.add(access)
        else:
            self._acted = True

    def takes_part(self, access: PastAccess) -> bool:
        """Whether the grant may have allowed the access, or denied a part of it."""
        grant = self.named.grant
        if not access.allowed or not grant.concerns(access.attempted):
            return False
        if all(
            grant.unmet(moment, access.address) is not None for moment in (access.at, access.until)
        ):
            return False
        return access.attempted not in READING or any(map(self._reaches, access.queries))

    def _reaches(self, query: RecordedQuery) -> bool:
        found = self._reached.get(query)
        if found is None:
            found = self._reached[query] = query.reaches(self._scope)
        return found

    def count_event(self, event: Event) -> None:
        """Count an event of the log, as the reader sees it."""
        if self._test(event):
            # A denial is used when there is something to deny, requested or not.
            self.events += self.named.grant.effect == "deny" or self._reads.cover(event)

    @property
    def awaits_events(self) -> bool:
        """Whether an event may still make it used."""
        return not self.used and (bool(self._reads) or self.named.grant.effect == "deny")

    @property
    def used(self) -> bool:
        return self.events > 0 or (self._acted and self.named.grant.effect == "allow")

    def is_certain(self, reader: Reader, first: int) -> bool:
        """Whether the `reader` would have seen any event behind `first` that makes the grant
        used."""
        members = {"targets.urn"} if self.named.grant.resources else set()
        if self.named.grant.effect == "allow":
            if not self._reads:
                return True
            members |= self._reads.members()
        return reader.sees_all(self._scope, members, first)

    def public(self) -> UsedGrant:
        shown = msgspec.structs.asdict(self.named.public())
        return UsedGrant(**shown, uses=self.uses, events=self.events)


def evaluate_use(
    counts: Iterable[GrantUse],
    accesses: Sequence[PastAccess],
    *,
    since: float,
    reader: Reader,
    first: int,
) -> Generator[None, None, Verdict]:
    """Grants that were not used `since` then, where the events behind `first` were examined.

    Reads since then that go further back may have used any grant. In steps, one a grant.
    """
    behind = [
        access
        for access in accesses
        if access.ranges and access.until >= since and max(end for _, end in access.ranges) <= first
    ]
    unused: list[AttributedGrant] = []
    not_known: list[AttributedGrant] = []
    for one in counts:
        yield
        if not one.used:
            certain = one.is_certain(reader, first) and not any(map(one.takes_part, behind))
            (unused if certain else not_known).append(one.named)
    return Verdict(tuple(unused), tuple(not_known))


class _Reads:
    """Positions in the log, and queries, of reads."""

    __slots__ = ("_merged", "_named", "_ranges")

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._ranges: dict[RecordedQuery, list[tuple[int, int]]] = {}
        # Begins and ends of the ranges, in order and without overlaps.
        self._merged: dict[RecordedQuery, tuple[list[int], list[int]]] | None = None

    def __bool__(self) -> bool:
        return bool(self._ranges or self._named)

    def add(self, access: PastAccess) -> None:
        self._named |= access.named
        self._merged = None
        for query in access.queries if access.ranges else ():
            if query not in self._ranges and len(self._ranges) >= _MOST_ASKED:
                query = EVERYTHING
            self._ranges.setdefault(query, []).extend(access.ranges)

    def members(self) -> frozenset[str]:
        """Members of events that were asked about."""
        return frozenset[str]().union(*(query.members for query in self._ranges))

    def cover(self, event: Event) -> bool:
        if self._merged is None:
            self._merged = {query: _merged(ranges) for query, ranges in self._ranges.items()}
        for query, (begins, ends) in self._merged.items():
            place = bisect_left(begins, event.offset) - 1
            if place >= 0 and event.offset <= ends[place] and query.holds(event):
                return True
        if not self._named:
            return False
        return f"event:{event.tenant}/{event.members()['id']}" in self._named


def _merged(ranges: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    begins: list[int] = []
    ends: list[int] = []
    for begin, end in sorted(ranges):
        if ends and begin <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return begins, ends
