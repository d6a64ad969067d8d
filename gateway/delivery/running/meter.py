"""Numbers of all destinations for metrics, as the store has them.

They are of the whole gateway, whichever process is asked: what only its holder knows of a
destination would go back and forth, where processes answer in turns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from gateway.clock import Clock
from gateway.cursor import format_cursor
from gateway.delivery.destination import OWNER
from gateway.delivery.health import Status, decode_status, state_of
from gateway.delivery.outlets.outlet import DeliveryResult
from gateway.delivery.ports import Destinations
from gateway.errors import GatewayError
from gateway.log.lag import LogLag, lag_behind
from gateway.log.ports import Log
from gateway.streaming.consumers.ports import Consumers

RESULTS = tuple(result.value for result in DeliveryResult)
FAILURES = tuple(result for result in RESULTS if result != DeliveryResult.SUCCESS)
STATES = ("active", "failing", "paused", "disabled")
# Of more nothing is told.
_MOST = 1000
_LOGGER = logging.getLogger(__name__)


class DestinationNumbers(NamedTuple):
    """Numbers of one destination."""

    name: str
    state: str
    lag: LogLag
    status: Status


class DestinationMeter:
    """Reads the numbers of all destinations."""

    def __init__(
        self, store: Destinations, consumer_store: Consumers, log: Log, clock: Clock
    ) -> None:
        self._store, self._consumer_store = store, consumer_store
        self._log, self._clock = log, clock

    async def numbers(self) -> Sequence[DestinationNumbers]:
        """Numbers of all destinations by name, of many of the first; none if the store is away."""
        try:
            return await self._numbers()
        except GatewayError as error:
            # A scrape tells of the rest all the same.
            _LOGGER.warning("destinations cannot be counted now: %s", error.detail)
            return ()

    async def _numbers(self) -> list[DestinationNumbers]:
        destinations = (await self._store.all())[:_MOST]
        if not destinations:
            return []
        statuses = await self._store.statuses()
        cursors = {row.name: row.cursor for row in await self._consumer_store.all(OWNER)}
        head = format_cursor(self._log.epoch, self._log.head)
        found = []
        for one in destinations:
            status = decode_status(statuses.get(one.name))
            lag = await lag_behind(self._log, cursors.get(one.name, head), self._clock.now())
            found.append(DestinationNumbers(one.name, state_of(one, status), lag, status))
        return found
