"""Detector of unusual volumes and request rates of keys, and of silent consumers.

Streams are counted once a minute by what they have delivered, so that no event costs more.
"""

from __future__ import annotations

from typing import Any

from gateway.access.keys.key_store import NotesOfKeys
from gateway.access.usage.access import CLOSED, EXPORTED, Access
from gateway.cursor import distance
from gateway.oversight.detection.finding import REQUEST_VOLUME, VOLUME
from gateway.oversight.detection.minute_counts import MinuteCounts
from gateway.oversight.detection.signals import SILENT_SECONDS, Signal
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import State, Subscription

KIND = "volume"
REQUESTS = "requests"


class VolumeDetector:
    """Listener to the access log. `warm_up` is in seconds."""

    def __init__(self, store: NotesOfKeys, hub: Hub, warm_up: int) -> None:
        self._hub = hub
        self._events = MinuteCounts(store, KIND, VOLUME, warm_up // 60)
        self._requests = MinuteCounts(store, REQUESTS, REQUEST_VOLUME, warm_up // 60)
        self.counts = self._events, self._requests
        # What each stream with events to take has taken, and since when.
        self._still: dict[Subscription, tuple[int, float]] = {}

    def observe(self, access: Access) -> None:
        """Take in one access."""
        key, moved = access.key, access.events - access.counted
        if key is None:
            return
        if moved > 0:
            self._events.count(key.id, moved)
        if access.action not in (CLOSED, EXPORTED):
            # Refused or not, with events or without.
            self._requests.count(key.id, access.times)
        if key.predecessor:
            self._events.inherits(key.id, key.predecessor)
            self._requests.inherits(key.id, key.predecessor)

    def check_streams(self, now: float) -> list[tuple[str, Signal]]:
        """Count what streams have delivered; return signals of those that stopped reading."""
        still: dict[Subscription, tuple[int, float]] = {}
        silent = []
        for subscription in self._hub.subscriptions:
            delivered = subscription.delivered
            if delivered != subscription.counted:
                self._events.count(subscription.key_id, delivered - subscription.counted)
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

    def _taken(self, subscription: Subscription) -> int | None:
        """A number that stands still while a peer takes nothing; None if nothing waits for it."""
        if subscription.state is State.LIVE:
            # What the peer's system buffers cannot be told from what it has read.
            sink = subscription.sink
            return None if sink.clear else sink.waited - sink.unsent
        pacer = subscription.pacer
        if subscription.cursor >= self._hub.position or (pacer is not None and pacer.waits):
            return None
        return subscription.cursor

    def _silence(self, subscription: Subscription, now: float, since: float) -> Signal:
        data: dict[str, Any] = {
            "address": subscription.address or "",
            "seconds": int(now - since),
        }
        if subscription.state is State.LIVE:
            data["unsent_bytes"] = subscription.sink.unsent
        else:
            data["behind"] = distance(subscription.cursor, self._hub.position)
        return Signal("silent_consumer", now, 1, data)
