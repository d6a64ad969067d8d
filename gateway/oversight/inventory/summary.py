"""Summary of all keys: how many want looking at, and whose they are. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec

from gateway.json_members import about
from gateway.oversight.inventory.key_query import KeyFacts

# Most owners and roles that are told, the most frequent ones.
_MOST_NAMED = 500
_FINDINGS = about("With open findings; `null` without `usage.read`.")


class KeyMarks(msgspec.Struct):
    """Numbers of keys that have not ended and want looking at."""

    expiring: Annotated[int, about("They end within 14 days.")]
    unused: Annotated[int, about("Not used for 30 days.")]
    never_used: int
    findings: Annotated[int | None, _FINDINGS]


class KeySummary(msgspec.Struct):
    """All keys, whatever was asked for."""

    keys: int
    marks: KeyMarks
    owners: Annotated[list[str], about("At most 500, those of most keys.")]
    roles: Annotated[list[str], about("At most 500, those of most keys.")]


class Summing:
    """Sums over the facts of all keys."""

    def __init__(self) -> None:
        self._keys = 0
        self._owners: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._marks: Counter[str] = Counter()
        self._findings: int | None = 0

    def add(self, facts: KeyFacts) -> None:
        """Count one key."""
        self._keys += 1
        self._owners[facts.key.owner] += 1
        self._roles.update(facts.key.roles)
        self._marks["expiring"] += facts.expiring()
        self._marks["unused"] += facts.unused()
        self._marks["never_used"] += facts.never_used
        if facts.findings is None:
            self._findings = None
        elif self._findings is not None:
            self._findings += facts.living and facts.findings > 0

    def summary(self) -> KeySummary:
        marks = self._marks
        return KeySummary(
            self._keys,
            KeyMarks(marks["expiring"], marks["unused"], marks["never_used"], self._findings),
            _names(self._owners),
            _names(self._roles),
        )


def _names(counts: Counter[str]) -> list[str]:
    return sorted(name for name, _ in counts.most_common(_MOST_NAMED) if name)
