"""Wake-ups between replicas: hints to poll now.

Whoever gets one polls the store, which is also done several times a second without: a wake-up makes
that sooner, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.access.keyring import Changes
from gateway.access.limits.ports import Signals
from gateway.errors import GatewayError
from gateway.streaming.enforcement import Enforcement
from gateway.tasks import PLAIN, Tasks

APPENDED = "appended"
KEYS = "keys"
# Least seconds between two polls of a store to which others append all the time.
_SPACING_SECONDS = 0.002
_LOGGER = logging.getLogger(__name__)


class WakeUps:
    """Tells other replicas of events and of changed keys, and polls when told."""

    def __init__(
        self,
        signals: Signals,
        enforcement: Enforcement,
        poll_log: Callable[[], None] | None,
        tasks: Tasks = PLAIN,
    ) -> None:
        self._signals = signals
        self._enforcement = enforcement
        self._tasks = tasks
        self._changed = False
        self._polling: asyncio.Task[None] | None = None
        # Whichever replica notices a change first tells all.
        enforcement.on_change(self._tell_of_keys)
        signals.listen(KEYS, self._poll_keys)
        if poll_log is not None:
            signals.listen(APPENDED, SpacedCalls(poll_log, _SPACING_SECONDS))

    def announce_append(self) -> None:
        """Tell other replicas that something was appended here."""
        self._signals.send(APPENDED)

    async def close(self) -> None:
        """End a running poll."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})

    def _tell_of_keys(self, changes: Changes) -> None:
        if changes.keys or changes.roles:
            self._signals.send(KEYS)

    def _poll_keys(self) -> None:
        self._changed = True
        if self._polling is None:
            self._polling = self._tasks.run("wake_ups", self._poll)

    async def _poll(self) -> None:
        try:
            while self._changed:
                self._changed = False
                await self._enforcement.poll()
        except GatewayError as error:
            # Enforcement tries again by itself, and logs it.
            _LOGGER.debug("keys cannot be read: %s", error.detail)
        finally:
            self._polling = None


class SpacedCalls:
    """Calls a function at once, but no more often than every so many seconds; a call in between
    comes late and is not lost."""

    def __init__(self, act: Callable[[], None], seconds: float) -> None:
        self._act = act
        self._seconds = seconds
        self._next = 0.0
        self._due = False

    def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._due:
            return
        if loop.time() >= self._next:
            self._now()
        else:
            self._due = True
            loop.call_at(self._next, self._now)

    def _now(self) -> None:
        self._due = False
        self._next = asyncio.get_running_loop().time() + self._seconds
        self._act()
