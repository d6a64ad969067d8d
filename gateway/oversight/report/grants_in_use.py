"""Use of the grants of many keys, over records of their uses and events of the log. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import msgspec

from gateway.access.policy.attributed_grant import AttributedGrant
from gateway.access.policy.reader import Reader
from gateway.event import Event
from gateway.oversight.access_log.past_access import (
    PastAccess,
    Presence,
    past_accesses,
    present_accesses,
)
from gateway.oversight.review.grant_use import GrantUse, Verdict, evaluate_use

# Most accesses of one key that are kept; of a key with more it is not known what it did not use.
MOST_ACCESSES = 200


class Looked(msgspec.Struct, frozen=True):
    """What was looked at: the records since a time, and the events behind the offset `first`, which
    are all of the period if `all_events`."""

    records_since: float
    first: int
    all_events: bool


class _KeyUse:
    """Uses of one key since it was made, or since the period began."""

    def __init__(self, grants: Iterable[AttributedGrant], since: float) -> None:
        self.counts = list(map(GrantUse, grants))
        self.since = since
        self.accesses: list[PastAccess] = []
        self.whole = True

    def add(self, access: PastAccess) -> None:
        for one in self.counts:
            one.count_access(access)
        if len(self.accesses) < MOST_ACCESSES:
            self.accesses.append(access)
        else:
            self.whole = False


class GrantsInUse:
    """Uses of the grants of all keys of a report: first records are added, then events."""

    def __init__(self) -> None:
        self._keys: dict[str, _KeyUse] = {}
        self._waiting: list[GrantUse] = []

    def add_key(self, key_id: str, grants: Iterable[AttributedGrant], since: float) -> None:
        """Watch a key, whose uses count from `since` on."""
        self._keys[key_id] = _KeyUse(grants, since)

    def add_record(self, record: Event) -> None:
        """Count a record of uses."""
        for key_id in _whose(record):
            known = self._keys.get(key_id)
            if known is not None:
                for access in past_accesses(record, key_id, known.since):
                    known.add(access)

    def add_presence(self, key_id: str, presence: Presence, now: float) -> None:
        """Count what a key does that is not in the log yet."""
        known = self._keys[key_id]
        for access in present_accesses(presence, known.accesses, known.since, now):
            known.add(access)
        # Its first uses are not recorded yet.
        if not known.accesses and presence.used_at >= known.since:
            known.whole = False

    def await_events(self) -> Generator[None, None, bool]:
        """Whether events may tell of any grant, in steps. Called once, before events are added."""
        for known in self._keys.values():
            yield
            self._waiting += [one for one in known.counts if one.awaits_events]
        return bool(self._waiting)

    def add_event(self, event: Event) -> Generator[None, None, bool]:
        """Count an event as the reader sees it, in steps; whether others may tell more."""
        left = []
        for place, one in enumerate(self._waiting):
            if place % 64 == 0:
                yield
            one.count_event(event)
            if one.awaits_events:
                left.append(one)
        self._waiting = left
        return bool(left)

    def verdict(
        self, key_id: str, reader: Reader, looked: Looked
    ) -> Generator[None, None, Verdict]:
        """Grants of a key without use, as far as records and events were looked at."""
        known = self._keys[key_id]
        found = yield from evaluate_use(
            known.counts, known.accesses, since=known.since, reader=reader, first=looked.first
        )
        if not known.whole or known.since < looked.records_since:
            return Verdict((), found.unused + found.not_known)
        if looked.all_events:
            return found
        waiting = [one.named for one in known.counts if one.awaits_events]
        unused = tuple(one for one in found.unused if one not in waiting)
        return Verdict(
            unused, tuple(one for one in found.unused if one in waiting) + found.not_known
        )


class _Whose(msgspec.Struct, frozen=True):
    whose: tuple[dict[str, str], ...] = ()


class _Record(msgspec.Struct):
    data: _Whose = _Whose()


_DECODE = msgspec.json.Decoder(_Record).decode


def _whose(record: Event) -> set[str]:
    """Ids of the keys of a record of uses."""
    if record.actor:
        return {record.actor}
    return {one.get("key", "") for one in _DECODE(record.json).data.whose}
