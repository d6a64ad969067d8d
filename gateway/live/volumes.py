"""What each key moves, minute by minute, against what is usual for it.

Each process adds its count of a minute to the key's volume in the store; a few
seconds after the minute's end it is closed there, by whoever is first, and
compared with the key's baseline. Streams are counted by looking at where they
stand once a minute: nothing is done per event.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from gateway.keys.baseline import (
    Alarm,
    Volume,
    decode_volume,
    encode_volume,
    passed_on,
    volume_data,
)
from gateway.keys.finding import VOLUME
from gateway.keys.signals import SILENT_SECONDS, Sign
from gateway.keys.use import Use
from gateway.live.hub import Hub
from gateway.live.lineage import note_before
from gateway.live.subscription import State, Subscription
from gateway.store.ports import KeyStore, Noting

KIND = "volume"
_LOGGER = logging.getLogger(__name__)
_AT_ONCE = 50
# So many minutes' counts wait for a key store that is away.
_MOST_LATE = 60

Step = Callable[[Volume], Alarm | None]


class Volumes:
    """Listens to the record. `warm_up` in seconds."""

    def __init__(self, store: KeyStore, hub: Hub, warm_up: int) -> None:
        self._store = store
        self._hub = hub
        self._warm_up = warm_up // 60
        self._counts: defaultdict[str, int] = defaultdict(int)
        # Minutes that are over and not in the store yet, and what was found of those that are.
        self._late: deque[tuple[int, dict[str, int]]] = deque(maxlen=_MOST_LATE)
        self._alarms: list[tuple[str, Sign]] = []
        # The keys that were active in a minute that is not closed yet.
        self._open: dict[str, None] = {}
        # The predecessors of keys that may have no volume yet, and keys that have one.
        self._heirs: dict[str, str] = {}
        self._begun: set[str] = set()
        # Streams that do not move: how much each has taken, and since when.
        self._still: dict[Subscription, tuple[int, float]] = {}

    def see(self, use: Use) -> None:
        """Take in one use."""
        key, moved = use.key, use.events - use.counted
        if key is None:
            return
        if moved > 0:
            self._counts[key.id] += moved
        if key.predecessor and key.id not in self._begun:
            self._heirs[key.id] = key.predecessor

    def look_at_streams(self, now: float) -> list[tuple[str, Sign]]:
        """Count what streams have delivered, and find those that have stopped reading."""
        still: dict[Subscription, tuple[int, float]] = {}
        silent = []
        for subscription in self._hub.subscriptions:
            delivered = subscription.delivered
            if delivered != subscription.counted:
                self._counts[subscription.key_id] += delivered - subscription.counted
                subscription.counted = delivered
            taken = self._taken(subscription)
            if taken is None:
                continue
            before, since = self._still.get(subscription, (-1, now))
            if before != taken:
                since = now
            still[subscription] = (taken, since)
            if now - since >= SILENT_SECONDS:
                silent.append((subscription.key_id, self._silence(subscription, now, since)))
        self._still = still
        return silent

    def turn(self, minute: int) -> None:
        """That minute is over here: what was moved in it is to be added to the volumes."""
        counts, self._counts = self._counts, defaultdict(int)
        self._open.update(dict.fromkeys(counts))
        if counts:
            self._late.append((minute, counts))

    async def add(self) -> None:
        """Add it, minute by minute; what the store does not take stays for the next time."""
        warm_up = self._warm_up
        while self._late:
            minute, counts = self._late[0]

            def adding(name: str, minute: int = minute, counts: dict[str, int] = counts) -> Step:
                return lambda volume: volume.add(minute, counts[name], warm_up)

            await self._step(counts, adding)
            self._late.popleft()

    async def close(self, minute: int) -> None:
        """That minute is over for all processes."""
        await self._step(self._open, lambda _: lambda volume: volume.close(minute, self._warm_up))

    def alarms(self) -> list[tuple[str, Sign]]:
        """What was found since the last time."""
        alarms, self._alarms = self._alarms, []
        return alarms

    async def _step(self, waiting: dict[str, Any], step: Callable[[str], Step]) -> None:
        """Bring the step of each key that is waiting into the store, and take it out."""
        while waiting:
            names = list(islice(waiting, _AT_ONCE))
            alarms: list[tuple[str, Sign]] = []
            part = {
                name: _noting(name, step(name), alarms, await self._inherited(name))
                for name in names
            }
            await self._store.update_notes(KIND, part)
            self._begun.update(name for name in names if self._heirs.pop(name, ""))
            self._alarms += alarms
            for name in names:
                del waiting[name]
            # Streams have their turn in between.
            await asyncio.sleep(0)

    async def _inherited(self, name: str) -> bytes | None:
        """What is usual for the key that this one took over from."""
        predecessor = self._heirs.get(name)
        return None if predecessor is None else await note_before(self._store, KIND, predecessor)

    def _taken(self, subscription: Subscription) -> int | None:
        """A number that stays the same while a peer takes nothing; None if it has no reason to."""
        if subscription.state is State.LIVE:
            # What its system buffers for it counts as read: nothing tells the two apart.
            sink = subscription.sink
            return None if sink.clear else sink.waited - sink.unsent
        pacing = subscription.pacing
        if subscription.cursor >= self._hub.position or (pacing is not None and pacing.waits):
            return None
        return subscription.cursor

    def _silence(self, subscription: Subscription, now: float, since: float) -> Sign:
        data: dict[str, Any] = {
            "address": subscription.address or "",
            "seconds": int(now - since),
        }
        if subscription.state is State.LIVE:
            data["unsent_bytes"] = subscription.sink.unsent
        else:
            data["behind"] = self._hub.position - subscription.cursor
        return Sign("silent_consumer", now, 1, data)


def _noting(
    name: str, step: Step, alarms: list[tuple[str, Sign]], inherited: bytes | None
) -> Noting:
    def noting(document: bytes | None) -> bytes | None:
        try:
            volume = decode_volume(document)
            if document is None and inherited is not None:
                volume = passed_on(decode_volume(inherited))
            alarm = step(volume)
        except Exception:
            # It must not keep those of other keys from the store.
            _LOGGER.exception("the volume of the key %s is begun anew, which is a bug", name)
            return None
        if alarm is not None:
            at = volume.minute * 60.0
            alarms.append((name, Sign(VOLUME, at, 1, volume_data(alarm))))
        return encode_volume(volume)

    return noting
