"""What each key moves, minute by minute, against what is usual for it.

Each process adds its count of a minute to the key's volume in the store; a few
seconds after the minute's end it is closed there, by whoever is first, and
compared with the key's baseline. Streams are counted by looking at where they
stand once a minute: nothing is done per event.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from gateway.keys.baseline import Alarm, Volume, decode_volume, encode_volume, volume_data
from gateway.keys.finding import VOLUME
from gateway.keys.signals import SILENT_SECONDS, Sign
from gateway.keys.use import Use
from gateway.live.hub import Hub
from gateway.live.subscription import State, Subscription
from gateway.store.ports import KeyStore, Noting

KIND = "volume"
_AT_ONCE = 50

Step = Callable[[Volume], Alarm | None]


class Volumes:
    """Listens to the record. `warm_up` in seconds."""

    def __init__(self, store: KeyStore, hub: Hub, warm_up: int) -> None:
        self._store = store
        self._hub = hub
        self._warm_up = warm_up // 60
        self._counts: defaultdict[str, int] = defaultdict(int)
        # The keys that were active in a minute that is not closed yet.
        self._open: dict[str, None] = {}
        # Streams that do not move: where each stands, and since when.
        self._still: dict[Subscription, tuple[int, float]] = {}

    def see(self, use: Use) -> None:
        """Take in one use."""
        moved = use.events - use.counted
        if moved > 0 and use.key is not None:
            self._counts[use.key.id] += moved

    def look_at_streams(self, now: float) -> list[tuple[str, Sign]]:
        """Count what streams have delivered, and find those that have stopped reading."""
        still: dict[Subscription, tuple[int, float]] = {}
        silent = []
        for subscription in self._hub.subscriptions:
            delivered = subscription.delivered
            if delivered != subscription.counted:
                self._counts[subscription.key_id] += delivered - subscription.counted
                subscription.counted = delivered
            if subscription.state is State.LIVE or subscription.cursor >= self._hub.position:
                continue
            cursor, since = self._still.get(subscription, (-1, now))
            if cursor != subscription.cursor:
                since = now
            still[subscription] = (subscription.cursor, since)
            if now - since >= SILENT_SECONDS:
                silent.append((subscription.key_id, self._silence(subscription, now, since)))
        self._still = still
        return silent

    async def add(self, minute: int) -> list[tuple[str, Sign]]:
        """Add to the volumes what was moved in that minute."""
        counts, self._counts = self._counts, defaultdict(int)
        self._open.update(dict.fromkeys(counts))
        warm_up = self._warm_up

        def adding(count: int) -> Step:
            return lambda volume: volume.add(minute, count, warm_up)

        return await self._step({key_id: adding(count) for key_id, count in counts.items()})

    async def close(self, minute: int) -> list[tuple[str, Sign]]:
        """That minute is over for all processes."""
        closing, self._open = self._open, {}
        return await self._step(
            dict.fromkeys(closing, lambda volume: volume.close(minute, self._warm_up))
        )

    async def _step(self, steps: dict[str, Step]) -> list[tuple[str, Sign]]:
        alarms: list[tuple[str, Sign]] = []
        names = list(steps)
        for start in range(0, len(names), _AT_ONCE):
            part = {name: _noting(name, steps[name], alarms) for name in names[start:][:_AT_ONCE]}
            await self._store.update_notes(KIND, part)
            # Streams have their turn in between.
            await asyncio.sleep(0)
        return alarms

    def _silence(self, subscription: Subscription, now: float, since: float) -> Sign:
        behind = self._hub.position - subscription.cursor
        data = {
            "address": subscription.address or "",
            "behind": behind,
            "seconds": int(now - since),
        }
        return Sign("silent_consumer", now, 1, data)


def _noting(name: str, step: Step, alarms: list[tuple[str, Sign]]) -> Noting:
    def noting(document: bytes | None) -> bytes:
        volume = decode_volume(document)
        alarm = step(volume)
        if alarm is not None:
            at = volume.minute * 60.0
            alarms.append((name, Sign(VOLUME, at, 1, volume_data(alarm))))
        return encode_volume(volume)

    return noting
