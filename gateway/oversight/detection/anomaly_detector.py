"""Anomaly detector: from accesses of keys to findings, and reactions to them.

It listens to the access log and reads nothing of the log itself. What it knows of each key is in
the key store, where all processes merge what they have seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeysAndRoles, NotesOfKeys
from gateway.access.usage.access import Access
from gateway.clock import Clock, until_next_poll
from gateway.errors import Conflict, GatewayError
from gateway.oversight.detection.finding import (
    BREAK_GLASS,
    EVENT_FAILED,
    INVALID_GRANT,
    REQUEST_VOLUME,
    ROTATION_FAILED,
    UNREADABLE,
    VOLUME,
    Finding,
)
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.operator_profile_store import OperatorProfileStore
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.detection.signals import Signal
from gateway.oversight.detection.stored_defects import StoredDefects
from gateway.oversight.detection.volume_detector import VolumeDetector
from gateway.streaming.live.hub import Hub

_POLL_SECONDS = 1.0
_PROFILES_SECONDS = 30
_PRUNE_SECONDS = 3600
# After the end of a minute, for processes that have not added their counts yet.
_GRACE_SECONDS = 5
# Signals and reactions that wait for the store; beyond that the oldest are dropped.
_MOST_WAITING = 10_000
_WITHOUT_REACTION = (
    VOLUME, REQUEST_VOLUME, INVALID_GRANT, UNREADABLE, BREAK_GLASS, ROTATION_FAILED,
)  # fmt: skip
_LOGGER = logging.getLogger(__name__)
_BY = "gateway"


class Reaction(msgspec.Struct, frozen=True):
    """Signals on which a key is suspended or throttled, and for how many seconds."""

    suspend_on: tuple[str, ...] = ()
    throttle_on: tuple[str, ...] = ()
    seconds: int = 900


class WatchedKeys(KeysAndRoles, NotesOfKeys, Protocol):
    """Keys and roles, and notes about them."""


class AnomalyDetector:
    """Detector of unusual activity, one per process.

    Run `run()` as a task, and `close()` before the key store is closed.
    """

    def __init__(
        self,
        store: WatchedKeys,
        hub: Hub,
        findings: Findings,
        clock: Clock,
        *,
        warm_up: int,
        reaction: Reaction,
        exists: Callable[[str], bool] = lambda key_id: False,
    ) -> None:
        self.profiles = ProfileStore(store, exists)
        self.operators = OperatorProfileStore(store)
        self.stored_defects = StoredDefects(store)
        self.findings = findings
        self._store = store
        self._hub = hub
        self._clock = clock
        self._reaction = reaction
        self._volumes = VolumeDetector(store, hub, warm_up)
        # Signals with their key and address, and those that may have a reaction.
        self._polling = asyncio.Lock()
        self._signals: deque[tuple[Signal, str, str]] = deque(maxlen=_MOST_WAITING)
        self._reactions: deque[tuple[str, str]] = deque(maxlen=_MOST_WAITING)
        now = clock.now()
        self._minute = int(now // 60)
        self._to_close: int | None = None
        self._profiles_at = now
        self._prune_at = now

    def observe(self, access: Access) -> None:
        """Take in one access; costs a few microseconds."""
        self.profiles.observe(access)
        self._volumes.observe(access)

    def observe_failure(self, key_id: str, cursor: str) -> None:
        """Take in that the event at a cursor could not be delivered to a key."""
        signal = Signal(EVENT_FAILED, self._clock.now(), 1, {"cursor": cursor})
        self._signals.append((signal, key_id, ""))

    async def run(self) -> None:
        """Detect until cancelled."""
        begun = False
        while True:
            try:
                if not begun:
                    await self.begin()
                    begun = True
                await self.poll()
            except GatewayError as error:
                _LOGGER.warning("the watch cannot go on, trying again: %s", error.detail)
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))

    async def begin(self) -> None:
        """Take up findings that were not reported before."""
        await self.findings.begin()

    async def poll(self) -> None:
        """Evaluate what is new."""
        async with self._polling:
            await self._poll()

    async def _poll(self) -> None:
        now = self._clock.now()
        await self._check_volumes(now)
        # Trusted time may go back when a step of the clock is adopted.
        everything = abs(now - self._profiles_at) >= _PROFILES_SECONDS
        if everything:
            self._profiles_at = now
            self.profiles.touch(self._hub.key_ids(), now)
        for evaluated in await self.profiles.flush(everything=everything):
            self._signals += [
                (signal, evaluated.key_id, evaluated.address) for signal in evaluated.signals
            ]
        self._signals += [(signal, "", "") for signal in await self.operators.flush()]
        self._signals += [(signal, key, "") for key, signal in await self.stored_defects.poll(now)]
        await self._act()
        await self.findings.report()
        if abs(now - self._prune_at) >= _PRUNE_SECONDS:
            self._prune_at = now
            await self.findings.prune()

    async def close(self) -> None:
        """Merge everything into the store."""
        try:
            self._end_minute(int(self._clock.now() // 60))
            self._profiles_at = 0.0
            await self.poll()
        except GatewayError as error:
            _LOGGER.warning("what was seen of keys at last is lost: %s", error.detail)

    async def _check_volumes(self, now: float) -> None:
        minute = int(now // 60)
        if minute != self._minute:
            over, self._minute = minute - 1, minute
            for key_id, signal in self._volumes.check_streams(now):
                self.profiles.add_signal(key_id, signal)
            self._end_minute(over)
            self._to_close = over
        for counts in self._volumes.counts:
            await counts.add()
        if self._to_close is not None and now - 60 * (self._to_close + 1) >= _GRACE_SECONDS:
            for counts in self._volumes.counts:
                await counts.close(self._to_close)
            self._to_close = None
        for counts in self._volumes.counts:
            self._signals += [(signal, key_id, "") for key_id, signal in counts.alarms()]

    def _end_minute(self, minute: int) -> None:
        for counts in self._volumes.counts:
            counts.end_minute(minute)

    async def _act(self) -> None:
        """Add findings, oldest first, and react to them; what the store does not take stays."""
        while self._signals:
            finding = await self._found(*self._signals[0])
            signal, key_id, address = self._signals.popleft()
            if finding is None:
                continue
            if finding.count == signal.count:
                _LOGGER.warning(
                    "unusual activity: %s of %s", signal.name, key_id or address or signal.operator
                )
            # No reaction to volumes, which are only likely, to stored defects, which are no use of
            # a key, and without a key.
            if signal.name not in _WITHOUT_REACTION and key_id:
                self._reactions.append((signal.name, key_id))
        while self._reactions:
            await self._react(*self._reactions[0])
            self._reactions.popleft()

    async def _found(self, signal: Signal, key_id: str, address: str) -> Finding | None:
        try:
            return await self.findings.add(signal, key_id, address)
        except GatewayError:
            raise
        except Exception:
            # A signal that cannot be stored must not hold up later ones.
            _LOGGER.exception("a signal %s was not kept, which is a bug", signal.name)
            return None

    async def _react(self, signal: str, key_id: str) -> None:
        now = self._clock.now()
        until = now + self._reaction.seconds
        reason = f"unusual activity: {signal}"

        def suspended(key: Key) -> Key:
            if key.state(now) not in ("active", "draining"):
                return key
            return lifecycle.suspend(key, now, reason, until, by=_BY)

        def throttled(key: Key) -> Key:
            if key.state(now) not in ("active", "draining") or key.throttled(now):
                return key
            return lifecycle.throttle(key, now, until, by=_BY)

        try:
            if signal in self._reaction.suspend_on:
                await self._store.change(key_id, suspended)
            elif signal in self._reaction.throttle_on:
                await self._store.change(key_id, throttled)
        except Conflict:
            # The key was ended meanwhile.
            pass
