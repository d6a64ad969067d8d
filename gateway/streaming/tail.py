"""Tail: the one loop per log and process that carries new events to the hub.

The store is the truth; a wake-up only tells to poll now. The tail also polls without one, so a lost
wake-up costs a moment, never an event.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.log.ports import Log, Page, RetentionExceeded
from gateway.notifier import Notifier
from gateway.streaming.delivery_gate import DeliveryGate
from gateway.streaming.health.canary import Canary
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import State

_POLL_SECONDS = 1.0
_BATCH_EVENTS = 2000
_LOGGER = logging.getLogger(__name__)


class Tail:
    """Loop that reads the events behind the hub's position and has them matched and written."""

    def __init__(
        self, log: Log, hub: Hub, appends: Notifier, clock: Clock, gate: DeliveryGate
    ) -> None:
        self._log = log
        self._hub = hub
        self._appends = appends
        self._clock = clock
        self._gate = gate
        self.canary = Canary(log, clock)
        # Whether it waits for the log to grow, with nothing pending.
        self._idle = False

    def log_grew(self) -> None:
        """Note new events; without live streams the loop is woken for the canary alone."""
        if self._idle and not self._wants_events:
            self._pass_over()
        else:
            self._appends.notify()

    async def run(self) -> None:
        """Carry events until cancelled."""
        wait: float | None = None
        while True:
            # Until there are new events, or until writing is due.
            self._idle = True
            await self._appends.until(self._has_more, _POLL_SECONDS if wait is None else wait)
            self._idle = False
            page = None
            try:
                page = await self._read()
            except GatewayError as error:
                _LOGGER.warning("the log cannot be read, trying again: %s", error.detail)
                await self._clock.sleep(_POLL_SECONDS)
            if page is not None:
                # Pending events do not wait for those being matched.
                for _ in self._hub.publishing(page.events, page.reached):
                    await self._flush()
            wait = await self._flush()
            if page is not None and page.events:
                self.canary.hand_over(page.events[0], self._hub.position)
            else:
                self.canary.move_to(self._hub.position)

    @property
    def _wants_events(self) -> bool:
        return self._hub.wants_events or self.canary.wants_event

    def _pass_over(self) -> None:
        """Pass over events that nobody waits for."""
        self._hub.move_to(self._log.head)
        self.canary.move_to(self._hub.position)

    async def _flush(self) -> float | None:
        """Write a part of what is pending, once the gate is open. Return what `Hub.flush` does."""
        if not self._gate.open:
            await self._await_gate()
        # No `await` between the check of the gate and the end of the flush.
        wait = self._hub.flush()
        # Other ready tasks run between two parts of a fan-out.
        await asyncio.sleep(0)
        return wait

    def _has_more(self) -> bool:
        return self._hub.position < self._log.head and self._hub.takes_events

    async def _read(self) -> Page | None:
        """Read the next page, if there are new events and somebody waits for them."""
        log, hub = self._log, self._hub
        if not self._has_more():
            return None
        if not self._wants_events:
            self._pass_over()
            return None
        # In order for the canary, too: a stream may join at the position while this reads.
        limit = _BATCH_EVENTS if hub.wants_events else 1
        try:
            return await log.read(hub.position, log.head, limit=limit)
        except RetentionExceeded:
            hub.retention_exceeded(log.floor)
            return None

    async def _await_gate(self) -> None:
        """Wait until the keys are known; streams of keys still unknown go on from the store."""
        gate, hub = self._gate, self._hub
        hub.waits = True
        while not gate.keys_known:
            await gate.renewed.until(lambda: gate.keys_known, _POLL_SECONDS)
        hub.waits = False
        if not gate.open:
            for key_id in hub.key_ids():
                if not gate.admits(key_id):
                    for subscription in hub.streams_of(key_id):
                        if subscription.state is State.LIVE:
                            hub.move_to_replay(subscription)
