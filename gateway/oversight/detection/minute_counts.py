"""Counts of keys by the minute, compared with the baseline of each.

Each process adds its count of a minute to the key's volume in the store. A few seconds after
the end of the minute the first process closes it and compares it with the baseline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from gateway.access.keys.key_store import NotesOfKeys, Noting
from gateway.access.keys.rotation_chain import predecessor_note
from gateway.oversight.detection.baseline import (
    Alarm,
    Volume,
    decode_volume,
    encode_volume,
    inherited_volume,
    volume_data,
)
from gateway.oversight.detection.signals import Signal

_LOGGER = logging.getLogger(__name__)
_AT_ONCE = 50
# So many minutes' counts wait for a key store that is away.
_MOST_LATE = 60

Step = Callable[[Volume], Alarm | None]


class MinuteCounts:
    """Counts of keys by the minute, kept as notes of a `kind`; unusual ones give a `signal`.
    `warm_up` is in minutes."""

    def __init__(self, store: NotesOfKeys, kind: str, signal: str, warm_up: int) -> None:
        self._store = store
        self._kind = kind
        self._signal = signal
        self._warm_up = warm_up
        self._counts: defaultdict[str, int] = defaultdict(int)
        # Ended minutes that are not in the store yet, and alarms of those that are.
        self._late: deque[tuple[int, dict[str, int]]] = deque(maxlen=_MOST_LATE)
        self._alarms: list[tuple[str, Signal]] = []
        # Keys that were active in a minute that is not closed yet.
        self._open: dict[str, None] = {}
        # Predecessors of keys that may have no volume yet, and keys that have one.
        self._heirs: dict[str, str] = {}
        self._begun: set[str] = set()

    def count(self, key_id: str, number: int) -> None:
        """Add to the count of a key in the running minute."""
        self._counts[key_id] += number

    def inherits(self, key_id: str, predecessor: str) -> None:
        """Let a key begin with the volume of its predecessor."""
        if key_id not in self._begun:
            self._heirs[key_id] = predecessor

    def end_minute(self, minute: int) -> None:
        """End a minute in this process; `add` adds its counts to the volumes."""
        counts, self._counts = self._counts, defaultdict(int)
        self._open.update(dict.fromkeys(counts))
        if counts:
            self._late.append((minute, counts))

    async def add(self) -> None:
        """Add the counts of ended minutes; they stay if the store fails."""
        warm_up = self._warm_up
        while self._late:
            minute, counts = self._late[0]

            def adding(name: str, minute: int = minute, counts: dict[str, int] = counts) -> Step:
                return lambda volume: volume.add(minute, counts[name], warm_up)

            await self._step(counts, adding)
            self._late.popleft()

    async def close(self, minute: int) -> None:
        """Close a minute that has ended in all processes."""
        await self._step(self._open, lambda _: lambda volume: volume.close(minute, self._warm_up))

    def alarms(self) -> list[tuple[str, Signal]]:
        """Alarms since the last call."""
        alarms, self._alarms = self._alarms, []
        return alarms

    async def _step(self, waiting: dict[str, Any], step: Callable[[str], Step]) -> None:
        """Apply a step to the volume of each waiting key, and remove the key from `waiting`."""
        while waiting:
            names = list(islice(waiting, _AT_ONCE))
            alarms: list[tuple[str, Signal]] = []
            part = {
                name: _noting(name, step(name), alarms, await self._inherited(name), self._signal)
                for name in names
            }
            await self._store.update_notes(self._kind, part)
            self._begun.update(name for name in names if self._heirs.pop(name, ""))
            self._alarms += alarms
            for name in names:
                del waiting[name]
            # Streams are served in between.
            await asyncio.sleep(0)

    async def _inherited(self, name: str) -> bytes | None:
        """Volume of the predecessor, encoded."""
        predecessor = self._heirs.get(name)
        return (
            None
            if predecessor is None
            else await predecessor_note(self._store, self._kind, predecessor)
        )


def _noting(
    name: str,
    step: Step,
    alarms: list[tuple[str, Signal]],
    inherited: bytes | None,
    signal: str,
) -> Noting:
    def noting(document: bytes | None) -> bytes | None:
        try:
            volume = decode_volume(document)
            if document is None and inherited is not None:
                volume = inherited_volume(decode_volume(inherited))
            alarm = step(volume)
        except Exception:
            # It must not hold back those of other keys.
            _LOGGER.exception("the volume of the key %s is begun anew, which is a bug", name)
            return None
        if alarm is not None:
            at = volume.minute * 60.0
            alarms.append((name, Signal(signal, at, 1, volume_data(alarm))))
        return encode_volume(volume)

    return noting
