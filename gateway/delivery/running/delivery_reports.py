"""Reports on the deliveries of one process: records and findings."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from gateway.delivery.destination import OWNER, Destination
from gateway.delivery.health import Status
from gateway.delivery.records import down_record, resolved_record
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.replay import ReplayWorker
from gateway.delivery.running.worker import DeliveryWorker
from gateway.errors import GatewayError
from gateway.oversight.detection.finding import (
    DESTINATION_FAILING,
    DESTINATION_REJECTING,
    POSITION_AT_RISK,
)
from gateway.oversight.detection.signals import Signal
from gateway.streaming.consumers.row import ConsumerRow

FAILING_SECONDS = 300.0
DOWN_SECONDS = 60.0
_TELL_SECONDS = 60.0
_MOST_REASONS = 10
_LOGGER = logging.getLogger(__name__)
# Counts a signal of a key.
ReportSignal = Callable[[Signal, str], Awaitable[object]]


class Held:
    """A destination that this process delivers, and what of it is stored."""

    def __init__(self, worker: DeliveryWorker, cursor: str, task: asyncio.Task[None]) -> None:
        self.worker = worker
        self.cursor = cursor
        self.task = task
        self.renewed_at = 0.0
        self.status_at = 0.0
        self.status = b""
        self.replay: ReplayWorker | None = None
        self.replaying: asyncio.Task[None] | None = None


class DeliveryReports:
    """Records and findings about destinations."""

    def __init__(self, parts: DeliveryParts, report: ReportSignal) -> None:
        self._parts = parts
        self._report = report
        self._told_at = parts.clock.monotonic()
        # Since when each failed that was reported.
        self._told_failing: dict[str, float] = {}
        # Since when those that were down have not failed.
        self._clear_since: dict[str, float] = {}

    async def tell(self, holdings: Mapping[str, Held], known: Mapping[str, Destination]) -> None:
        """Report what fails for long, at once, and what was rejected, once a minute."""
        now = self._parts.clock.now()
        gaps, self._parts.gaps = self._parts.gaps, []
        for about, gap in gaps:
            await self._parts.record("destination.gap", about, gap, 3)
        for name, held in holdings.items():
            since = held.worker.status.failing_since
            if not since:
                self._told_failing.pop(name, None)
            elif now - since >= FAILING_SECONDS and self._told_failing.get(name) != since:
                error = held.worker.status.last_error
                kind = error.kind if error is not None else ""
                signal = Signal(DESTINATION_FAILING, now, 1, {"destination": name, "kind": kind})
                await self._report(signal, held.worker.destination.definition.key)
                self._told_failing[name] = since
            await self._tell_outage(held, now)
        elapsed = self._parts.clock.monotonic()
        if elapsed - self._told_at < _TELL_SECONDS:
            return
        for name in list(self._parts.refused):
            # What follows may fail: then the others wait for the next call.
            letters = self._parts.refused.pop(name)
            destination = known.get(name)
            if destination is None:
                continue
            reasons = Counter([letter.reason for letter in letters]).most_common(_MOST_REASONS)
            counted = {"count": len(letters), "reasons": dict(reasons)}
            await self._parts.record("destination.rejected", destination, counted, 3)
            signal = Signal(
                DESTINATION_REJECTING, now, len(letters), {"destination": name, **counted}
            )
            await self._report(signal, destination.definition.key)
        self._told_at = elapsed

    async def _tell_outage(self, held: Held, now: float) -> None:
        """Record that a destination is down, once it has failed for a minute, and the end of that.
        What the log does not take now is recorded at the next call."""
        status, destination = held.worker.status, held.worker.destination
        since = status.failing_since
        try:
            if not status.down_since and since and now - since >= DOWN_SECONDS:
                await self._parts.writer.append(
                    [down_record(destination, since, status.last_error)]
                )
                status.down_since = since
            elif status.down_since and self._is_over(destination.name, status, now):
                ended = resolved_record(destination, status.down_since, now)
                await self._parts.writer.append([ended])
                status.down_since = 0.0
            else:
                return
        except GatewayError as error:
            _LOGGER.warning("the outage of %s waits: %s", destination.name, error.detail)
        self._parts.changed(destination.name)

    def _is_over(self, name: str, status: Status, now: float) -> bool:
        """Whether an outage is over: something was delivered since it began, or, as a worker that
        has just begun knows of no failure, nothing has failed for a minute."""
        if status.last_success > status.down_since or status.failing_since:
            self._clear_since.pop(name, None)
            return status.last_success > status.down_since
        return now - self._clear_since.setdefault(name, now) >= DOWN_SECONDS

    async def at_risk(self, row: ConsumerRow, behind: Mapping[str, object]) -> None:
        """Report a destination, active or not, whose position retention comes near to."""
        destination = await self._parts.store.get(row.name) if row.owner == OWNER else None
        if destination is not None:
            signal = Signal(
                POSITION_AT_RISK, self._parts.clock.now(), 1, {"destination": row.name, **behind}
            )
            await self._report(signal, destination.definition.key)
