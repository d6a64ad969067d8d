"""The tail: one loop per log and process that carries new events to the hub.

The store is the truth; a wake-up only says "look now". The tail also looks
without one every so often, so a lost wake-up costs a moment, never an event.
"""

from __future__ import annotations

import logging

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.live.hub import Hub
from gateway.live.pulse import Pulse
from gateway.store.ports import Log, Overtaken

_LOOK_ANYWAY_SECONDS = 1.0
_BATCH_EVENTS = 2000
_LOGGER = logging.getLogger(__name__)


class Tail:
    """Reads what is behind the hub's position and publishes it."""

    def __init__(self, log: Log, hub: Hub, grown: Pulse, clock: Clock, flush: float) -> None:
        self._log = log
        self._hub = hub
        self._grown = grown
        self._clock = clock
        self._flush = flush

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._grown.until(
                lambda: self._hub.position < self._log.head, _LOOK_ANYWAY_SECONDS
            )
            try:
                spent = await self.advance()
            except GatewayError as error:
                _LOGGER.warning("the log cannot be read, trying again: %s", error.detail)
                await self._clock.sleep(_LOOK_ANYWAY_SECONDS)
                continue
            # Under load a pause as long as the fan-out itself lets arrivals join into the
            # next write per subscriber; when quiet there was nothing to join, and no pause.
            await self._clock.sleep(min(self._flush, spent))

    async def advance(self) -> float:
        """One step towards the head; returns the seconds spent on the fan-out."""
        log, hub = self._log, self._hub
        if hub.position >= log.head:
            return 0.0
        if not hub.wants_events:
            hub.move_to(log.head)
            return 0.0
        try:
            page = await log.read(hub.position, log.head, limit=_BATCH_EVENTS)
        except Overtaken:
            hub.overtaken(log.floor)
            return 0.0
        began = self._clock.monotonic()
        hub.publish(page.events, page.reached)
        return self._clock.monotonic() - began
