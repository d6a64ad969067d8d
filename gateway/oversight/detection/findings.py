"""Findings in the key store, their events in the log, and marks of people."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from gateway.access.keys.change import key_urn
from gateway.access.keys.key_lookup import KeyLookup
from gateway.access.keys.key_store import Notes, NotesOfKeys, UnrecordedChanges
from gateway.access.keys.operator import Actor, actor_name, operator_of
from gateway.access.keys.rotation_chain import key_and_predecessors
from gateway.clock import Clock, format_time
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.ingest.gateway_event import ANOMALY, new_gateway_event
from gateway.oversight.access_log.access_log import Appender
from gateway.oversight.detection.finding import Finding, mark_change, new_finding, silence
from gateway.oversight.detection.signals import Signal
from gateway.scheduling.loop_work import Stretch

KIND = "finding"
SILENCES = "silence"
_KEPT_SECONDS = 90 * 86400
_MOST_KEPT = 5_000
_DECODER = msgspec.json.Decoder(Finding)
_ENCODE = msgspec.json.Encoder().encode
_LOGGER = logging.getLogger(__name__)

Changing = Callable[[Finding | None], Finding | None]


class FindingStore(NotesOfKeys, UnrecordedChanges, Protocol):
    """Store of findings, which records changes of their marks."""


class StoredFindings:
    """Findings that all processes share, and the marks of people, which are recorded."""

    def __init__(self, store: FindingStore, clock: Clock, keys: KeyLookup | None = None) -> None:
        self._store = store
        self._clock = clock
        # From memory, if possible, so that a flood of refused requests costs no look-ups.
        self._keys = keys or store

    async def all(self) -> list[Finding]:
        """All findings, newest first."""
        return await stored_findings(self._store)

    async def get(self, finding_id: str) -> Finding | None:
        """The finding with that id."""
        document = await self._store.note(KIND, finding_id)
        return _decoded(finding_id, document)

    async def mark(
        self, finding_id: str, *, expected: bool, by: Actor, reason: str = ""
    ) -> Finding | None:
        """Mark a finding expected, which silences its signal for its key; or undo that."""
        state: Literal["open", "expected"] = "expected" if expected else "open"
        name = actor_name(by)

        def marked(known: Finding | None) -> Finding | None:
            if known is None:
                return None
            return msgspec.structs.replace(known, state=state, reason=reason, by=name)

        finding = marked(await self.get(finding_id))
        if finding is None:
            return None
        # Before the change, so that no signal is silenced unrecorded.
        await self._store.record_later(mark_change(finding, self._clock.now(), operator_of(by)))
        finding = await self._update(finding_id, marked)
        if finding is not None:
            note = _ENCODE({"by": name, "reason": reason, "finding": finding_id})
            # Predecessors may have silenced it, too.
            names = [finding.silence] if expected else await self._silences(finding)
            await self._store.update_notes(
                SILENCES, dict.fromkeys(names, lambda _: note if expected else None)
            )
        return finding

    async def _silences(self, finding: Finding) -> list[str]:
        """Names of the notes that silence it: those of predecessors count, too."""
        line = await key_and_predecessors(self._keys, finding.key) if finding.key else [""]
        other = finding.address or finding.operator
        return [silence(finding.signal, key_id, other) for key_id in line]

    async def _update(self, finding_id: str, change: Changing) -> Finding | None:
        made: list[Finding | None] = []

        def noting(document: bytes | None) -> bytes | None:
            made.append(change(_decoded(finding_id, document)))
            return None if made[-1] is None else _ENCODE(made[-1])

        await self._store.update_notes(KIND, {finding_id: noting})
        return made[-1]


class Findings(StoredFindings):
    """Findings of the detector of this process; each event about them is written once."""

    def __init__(
        self, store: FindingStore, writer: Appender, clock: Clock, keys: KeyLookup | None = None
    ) -> None:
        super().__init__(store, clock, keys)
        # Signals since the start by name, for metrics.
        self.found: Counter[str] = Counter()
        self._writer = writer
        self._unreported: dict[str, Finding] = {}

    async def add(self, signal: Signal, key_id: str, address: str = "") -> Finding | None:
        """Count a signal; None if it is expected."""
        fresh = new_finding(signal, key_id, address)
        if await self._is_expected(fresh):
            return None
        counted = await self._update(fresh.id, lambda known: (known or fresh).with_signal(signal))
        assert counted is not None
        self.found[signal.name] += signal.count
        self._unreported[counted.id] = counted
        return counted

    async def report(self) -> None:
        """Write findings with news into the log; what cannot be written waits."""
        now = self._clock.now()
        for finding in [one for one in self._unreported.values() if one.is_news(now)]:
            try:
                await self._writer.append([_event(finding)])
            except GatewayError as error:
                _LOGGER.warning("a finding cannot be recorded, trying again: %s", error.detail)
                return
            except Exception:
                # A finding that cannot be written must not hold up others.
                _LOGGER.exception("the finding %s is not told of, which is a bug", finding.id)
                del self._unreported[finding.id]
                continue
            told = await self._update(finding.id, _telling(finding, now))
            if told is not None and told.count > told.told:
                self._unreported[finding.id] = told
            elif self._unreported.get(finding.id) is finding:
                del self._unreported[finding.id]

    async def begin(self) -> None:
        """Take up findings that the process before this one did not report."""
        for finding in await self.all():
            if finding.count > finding.told:
                self._unreported[finding.id] = finding

    async def prune(self) -> None:
        """Delete old findings, and the oldest beyond a number."""
        oldest = self._clock.now() - _KEPT_SECONDS
        findings = await self.all()
        gone = [
            finding.id
            for place, finding in enumerate(findings)
            if place >= _MOST_KEPT or finding.last_seen < oldest
        ]
        if gone:
            await self._store.update_notes(KIND, dict.fromkeys(gone, lambda _: None))

    async def _is_expected(self, finding: Finding) -> bool:
        for name in await self._silences(finding):
            if await self._store.note(SILENCES, name) is not None:
                return True
        return False


async def stored_findings(store: Notes) -> list[Finding]:
    """All findings in a store, newest first."""
    notes, stretch = await store.notes(KIND), Stretch()
    findings = []
    for name, document in notes.items():
        await stretch.rest()
        finding = _decoded(name, document)
        if finding is not None:
            findings.append(finding)
    return sorted(findings, key=lambda one: (one.last_seen, one.id), reverse=True)


def _decoded(name: str, document: bytes | None) -> Finding | None:
    """The finding; None also if it cannot be read, perhaps of a newer version."""
    if document is None:
        return None
    try:
        finding = _DECODER.decode(document)
        finding.public()
    except (msgspec.MsgspecError, OverflowError, ValueError, RecursionError) as error:
        _LOGGER.warning("the finding %s cannot be read: %s", name, error)
        return None
    return finding


def _telling(finding: Finding, now: float) -> Changing:
    def told(known: Finding | None) -> Finding | None:
        if known is None:
            # Pruned meanwhile.
            return None
        return msgspec.structs.replace(known, told=max(known.told, finding.count), told_at=now)

    return told


def _event(finding: Finding) -> Draft:
    return new_gateway_event(
        # Each count has one event, whichever process writes it.
        id=f"finding-{finding.id}-{finding.count}",
        category=ANOMALY,
        action=f"anomaly.{finding.signal}",
        outcome="unknown",
        severity=finding.severity,
        address=finding.address or str(finding.data.get("address", "")),
        about=[key_urn(finding.key)] if finding.key else [],
        data={
            "finding": finding.id,
            "signal": finding.signal,
            "key": finding.key or None,
            **({"operator": finding.operator} if finding.operator else {}),
            "count": finding.count,
            "opened": not finding.told,
            "first_seen": format_time(finding.first_seen),
            "last_seen": format_time(finding.last_seen),
            **finding.data,
        },
    )
