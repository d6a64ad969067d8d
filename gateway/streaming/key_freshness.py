"""Freshness of what is known of keys: when they were polled last, and which are held back.

Keys, roles and the ends of lives are polled separately. A stream is written to only if each part
that its key depends on was polled and acted on within the last second; otherwise it waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from gateway.access.keyring import Keyring
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.notifier import Notifier

# Nothing is delivered on a poll that is older.
MOST_SECONDS = 1.0
# Streams wait no longer for a poll.
PATIENCE_SECONDS = 30.0
# Most that one call of `count_waits` adds: a process that was frozen has not waited.
_MOST_TICK_SECONDS = 2.0
_UNKNOWN = Unavailable("the keys cannot be read now", code="keys_unavailable", retry_after=2)


class Wait:
    """Seconds for which something has been waited for while this process ran."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds


class PolledPart(Wait):
    """Part of the key store that is polled by itself: the keys, the roles, or the lives."""

    __slots__ = ("at", "failure", "turn")

    def __init__(self) -> None:
        super().__init__()
        # When the newest successful poll began (CLOCK_BOOTTIME).
        self.at = -math.inf
        # Failure of the newest poll.
        self.failure: Exception | None = None
        self.turn = asyncio.Lock()


class KeyFreshness:
    """Freshness of all keys. Implements `gateway.streaming.delivery_gate.DeliveryGate`."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self.renewed = Notifier()
        self.keys = PolledPart()
        self.roles = PolledPart()
        # What time does to keys; requests check it themselves.
        self.lives = PolledPart()
        # Keys that changed, or may have, and whose streams were not decided on since.
        self.held: dict[str, Wait] = {}
        self._keyring = keyring
        self._clock = clock
        # When the part that was polled longest ago was.
        self._oldest = -math.inf
        self._ticked = clock.boottime()

    @property
    def open(self) -> bool:
        return self._clock.boottime() - self._oldest <= MOST_SECONDS and not self.held

    @property
    def keys_known(self) -> bool:
        return self._is_fresh(self.keys) and self._is_fresh(self.lives)

    def admits(self, key_id: str) -> bool:
        return key_id not in self.held and self._is_fresh(self.lives) and not self._stale(key_id)

    @property
    def fresh(self) -> bool:
        """Whether the rights of all keys are known as of the last second."""
        return self._clock.boottime() - self._oldest <= MOST_SECONDS

    async def await_knowledge(self, key_id: str) -> None:
        """Return once the rights of a key are known. Raises `Unavailable` if they cannot be.

        A process that was frozen polls first; nobody waits while the store cannot be read.
        """
        if self.fresh:
            return
        failures = [part.failure for part in self._stale(key_id) if part.failure is not None]
        if failures or not await self.renewed.until(lambda: not self._stale(key_id), MOST_SECONDS):
            told = next((one for one in failures if isinstance(one, Unavailable)), _UNKNOWN)
            raise Unavailable(
                f"{told.detail}, so it is not known what this key may do now",
                code=told.code,
                retry_after=told.retry_after,
            )

    def hold(self, key_ids: Iterable[str]) -> None:
        """Hold back the streams of keys until `release`."""
        for key_id in key_ids:
            # A new wait each time, so that an earlier one cannot release the key.
            before = self.held.get(key_id)
            self.held[key_id] = Wait(0.0 if before is None else before.seconds)

    def release(self, key_id: str, wait: Wait) -> None:
        """Let the streams of a key go on, unless it was held again since `wait` began."""
        if self.held.get(key_id) is wait:
            del self.held[key_id]

    def polled(self, part: PolledPart, began: float) -> None:
        """Note that a poll of a part, which began then, succeeded and was acted on."""
        part.at, part.failure, part.seconds = began, None, 0.0
        # The store turned out to be an older one, which voids what is known of the other part.
        if self._keyring.keys_lost:
            self.keys.at = -math.inf
        if self._keyring.roles_lost:
            self.roles.at = -math.inf
        self._oldest = min(self.keys.at, self.roles.at, self.lives.at)
        self.renewed.notify()

    def count_waits(self) -> bool:
        """Add the time since the last call to all waits; whether one exceeds the patience."""
        now = self._clock.boottime()
        passed, self._ticked = min(now - self._ticked, _MOST_TICK_SECONDS), now
        for part in (self.keys, self.roles, self.lives):
            part.seconds = 0.0 if self._is_fresh(part) else part.seconds + passed
        for wait in self.held.values():
            wait.seconds += passed
        return _exceeded([self.keys, self.roles, self.lives, *self.held.values()])

    def waits_too_long(self, key_id: str) -> bool:
        """Whether the streams of a key have waited longer than the patience."""
        return _exceeded([self.lives, *self._parts_of(key_id), self.held.get(key_id, Wait())])

    def _stale(self, key_id: str) -> list[PolledPart]:
        return [part for part in self._parts_of(key_id) if not self._is_fresh(part)]

    def _parts_of(self, key_id: str) -> list[PolledPart]:
        """Parts of the store that a key depends on."""
        key = self._keyring.cached(key_id)
        if key is not None and not self._keyring.depends_on_roles(key):
            return [self.keys]
        return [self.keys, self.roles]

    def _is_fresh(self, part: PolledPart) -> bool:
        return self._clock.boottime() - part.at <= MOST_SECONDS


def _exceeded(waits: Iterable[Wait]) -> bool:
    return any(wait.seconds >= PATIENCE_SECONDS for wait in waits)
