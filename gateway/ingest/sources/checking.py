"""What became of records: counts, values that no table knew, members that stayed empty. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.ingest.mapping.definition import GROUPS, TARGET, SourceDefinition
from gateway.ingest.marked import pruned
from gateway.ingest.sources.source import Mapped, NotMapped

MOST_SHOWN = 10
_MOST_COUNTED = 1000


class Report(msgspec.Struct):
    """Report on the records of one source.

    `unknown` has by member and value how often a table did not know it; `refused` and `marks` by
    reason how many; `empty` the members that the source can set and no record did.
    """

    source: str
    records: int = 0
    events: int = 0
    skipped: int = 0
    outcomes: dict[str, int] = {}
    marks: dict[str, int] = {}
    refused: dict[str, int] = {}
    unknown: dict[str, dict[str, int]] = {}
    empty: list[str] = []
    examples: list[tuple[Any, Any]] = []

    @property
    def unknown_outcomes(self) -> float:
        """Share of the events whose outcome is unknown, from 0 to 1."""
        return self.outcomes.get("unknown", 0) / self.events if self.events else 0.0


class Checking:
    """Collects a report. `unknown` is the listener of the source."""

    def __init__(self, definition: SourceDefinition) -> None:
        self._report = Report(definition.name)
        self._outcomes: Counter[str] = Counter()
        self._marks: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._unknown: dict[str, Counter[str]] = {}
        self._unset = set(_declared(definition))

    def unknown(self, member: str, value: str) -> None:
        counted = self._unknown.setdefault(member, Counter())
        if value in counted or len(counted) < _MOST_COUNTED:
            counted[value] += 1

    def add(self, found: Mapped | NotMapped) -> None:
        """Add what became of one record."""
        report = self._report
        report.records += 1
        if isinstance(found, NotMapped):
            if found.skipped:
                report.skipped += 1
            else:
                self.refuse(f"{found.path}: {found.reason}" if found.path else found.reason)
            return
        report.events += 1
        self._outcomes[found.draft.outcome] += 1
        self._marks.update(found.marks)
        event = json.loads(b"{" + found.draft.tail)
        self._unset -= set(_members_of(event))
        if len(report.examples) < MOST_SHOWN:
            event.pop("data", None)
            report.examples.append((json.loads(pruned(found.raw)), event))

    def refuse(self, reason: str) -> None:
        """Count a refusal of a record that was counted, or of what is none."""
        if reason in self._refused or len(self._refused) < _MOST_COUNTED:
            self._refused[reason] += 1

    def unreadable(self, reason: str) -> None:
        """Count what holds no record."""
        self._report.records += 1
        self.refuse(reason)

    def report(self) -> Report:
        return msgspec.structs.replace(
            self._report,
            outcomes=dict(self._outcomes.most_common()),
            marks=dict(self._marks.most_common()),
            refused=dict(self._refused.most_common()),
            unknown={
                member: dict(values.most_common()) for member, values in self._unknown.items()
            },
            empty=sorted(self._unset) if self._report.events else [],
        )


def _declared(definition: SourceDefinition) -> Iterator[str]:
    yield from definition.members
    for target in definition.targets:
        yield from (f"targets.{name}" for name in target.members)


def _members_of(event: dict[str, Any]) -> Iterator[str]:
    yield from event
    for group, names in (*GROUPS.items(), ("targets", TARGET)):
        found = event.get(group, [])
        for one in found if isinstance(found, list) else [found]:
            yield from (f"{group}.{name}" for name in names if name in one)
