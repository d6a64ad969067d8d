"""Watch over durable consumers: findings, records of what was given up, and the end of unused ones.

Of the positions of other deliveries, such as destinations, it finds which retention comes near to.

Records wait in memory while the log is away; their ids follow from what they say, so that each is
stored once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

from gateway.access.keys.change import key_urn
from gateway.clock import Clock, format_time, until_next_poll
from gateway.cursor import distance, parse_cursor
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.ingest.gateway_event import DELIVERY, new_gateway_event
from gateway.log.lag import LogLag, lag_behind, recorded_behind
from gateway.log.ports import Log
from gateway.oversight.access_log.access_log import Appender
from gateway.oversight.detection.finding import CONSUMER_STUCK, POSITION_AT_RISK
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.signals import Signal
from gateway.streaming.consumers.claims import is_stuck, reader_of
from gateway.streaming.consumers.ports import Consumers
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow

POLL_SECONDS = 30.0
_WRITE_SECONDS = 1.0
# Part of the way to being overtaken from which on a position is at risk.
AT_RISK = 0.8
_MOST_RECORDS = 1000
# Consumers that metrics tell of, and for how long what was read of them serves.
_MOST_NUMBERS, _NUMBERS_SECONDS = 1000, 5.0
_LOGGER = logging.getLogger(__name__)
# Is told of a delivery that is no key's and has come near to being overtaken, and how far behind it
# is.
DeliveryAtRisk = Callable[[ConsumerRow, dict[str, Any]], Awaitable[None]]


class ConsumerNumbers(NamedTuple):
    """Numbers of one consumer, for metrics."""

    consumer: str
    key: str
    lag_events: float
    lag_seconds: float
    unacknowledged: float
    redelivered: float


class ConsumerLimits:
    """What ends a consumer or its events, in seconds and bytes; 0 is never."""

    def __init__(self, *, age: int, size: int, expire_after: int) -> None:
        self.age, self.size, self.expire_after = age, size, expire_after


class ConsumerWatch:
    """Looks at all consumers of a gateway from time to time."""

    def __init__(
        self, store: Consumers, log: Log, writer: Appender, findings: Findings, clock: Clock,
        limits: ConsumerLimits,
    ) -> None:  # fmt: skip
        self._store = store
        self._log = log
        self._writer = writer
        self._findings = findings
        self._clock = clock
        self._limits = limits
        self._records: list[Draft] = []
        # Consumers and other deliveries at risk that were told of.
        self.at_risk: set[ConsumerKey] = set()
        self._risk_listeners: list[Callable[[Collection[ConsumerKey]], None]] = []
        self._delivery_listeners: list[DeliveryAtRisk] = []
        self._numbers: list[ConsumerNumbers] = []
        self._numbers_at = -math.inf
        # Newest offset that was deleted when positions were compared with it.
        self._floor = log.floor

    def on_risk(self, listener: Callable[[Collection[ConsumerKey]], None]) -> None:
        """Call `listener` with all rows, of any owner, that have come near to being overtaken."""
        self._risk_listeners.append(listener)

    def on_delivery_risk(self, listener: DeliveryAtRisk) -> None:
        """Call `listener` with each other delivery that has come near to being overtaken."""
        self._delivery_listeners.append(listener)

    async def run(self) -> None:
        """Write records, and look at all consumers from time to time, until cancelled."""
        polled_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(until_next_poll(self._clock, _WRITE_SECONDS))
            try:
                await self.write()
                if self._clock.monotonic() - polled_at >= self._pause:
                    polled_at = self._clock.monotonic()
                    await self.poll()
                elif self._log.floor != self._floor:
                    await self.compare()
            except GatewayError as error:
                _LOGGER.warning("consumers cannot be looked at, trying again: %s", error.detail)

    @property
    def _pause(self) -> float:
        """Seconds from one look to the next: several in the last fifth of a short age."""
        shortest = self._limits.age * (1 - AT_RISK) / 4
        return min(POLL_SECONDS, shortest) if shortest else POLL_SECONDS

    async def compare(self) -> None:
        """Compare positions with what retention has just deleted, which may come near to them in
        less time than from one look to the next. Reads nothing of the log."""
        self._floor = self._log.floor
        rows = await self._store.all()
        await self._tell_at_risk(
            rows, {row.key for row in rows if row.key in self.at_risk or self._is_near(row)}
        )

    async def poll(self) -> None:
        """Look at all consumers once, delete unused ones, and write the records that wait."""
        await self.write()
        self._floor = self._log.floor
        rows = await self._store.all()
        await self._tell_at_risk(rows, {row.key for row in rows if await self._is_at_risk(row)})
        now = self._clock.now()
        for row in rows:
            if row.of_key and self._is_unused(row, now):
                await self._expire(row.key, now)
        await self.write()

    async def _tell_at_risk(self, rows: Sequence[ConsumerRow], at_risk: set[ConsumerKey]) -> None:
        self.at_risk &= at_risk
        for row in rows:
            if row.key in at_risk and row.key not in self.at_risk:
                await self._found_at_risk(row)
                # Not before, as that may fail.
                self.at_risk.add(row.key)
                for listener in self._risk_listeners:
                    listener((row.key,))

    async def _consumers(self) -> list[ConsumerRow]:
        return [row for row in await self._store.all() if row.of_key]

    async def _expire(self, key: ConsumerKey, now: float) -> None:
        """Delete a consumer that nobody has used for long."""
        gone: list[ConsumerRow] = []

        def delete(known: ConsumerRow | None, others: int) -> ConsumerRow | None:
            if known is None or not self._is_unused(known, now):
                return known
            gone.append(known)
            return None

        await self._store.change(*key, delete)
        for row in gone:
            self.note("consumer.expired", row, {"updated_at": format_time(row.updated_at)})

    def _is_unused(self, row: ConsumerRow, now: float) -> bool:
        after = self._limits.expire_after
        return bool(after) and not row.held(now) and now - row.updated_at >= after

    async def claimed(self, row: ConsumerRow) -> None:
        """Look at a consumer that a reader has just claimed."""
        # Where nothing is behind the position, readers only come and go.
        if is_stuck(row) and (await self.lag(row))[0]:
            await self._found(CONSUMER_STUCK, row)

    async def lag(self, row: ConsumerRow) -> LogLag:
        """Number of events behind the position, and for how many seconds the first has waited."""
        return await lag_behind(self._log, row.cursor, self._clock.now())

    async def numbers(self) -> Sequence[ConsumerNumbers]:
        """Numbers of consumers, of many those of the first; a few seconds old."""
        now = self._clock.monotonic()
        if now - self._numbers_at >= _NUMBERS_SECONDS:
            self._numbers_at = now
            try:
                rows = (await self._consumers())[:_MOST_NUMBERS]
                self._numbers = [await self._numbers_of(row) for row in rows]
            except GatewayError as error:
                # A scrape tells of the rest all the same.
                _LOGGER.warning("consumers cannot be counted now: %s", error.detail)
                self._numbers = []
        return self._numbers

    async def _numbers_of(self, row: ConsumerRow) -> ConsumerNumbers:
        events, seconds = await self.lag(row)
        key = reader_of(row).key or row.owner
        return ConsumerNumbers(row.name, key, events, seconds, row.unacknowledged, row.redelivered)

    def is_overtaken(self, row: ConsumerRow) -> bool:
        """Whether events behind the position are gone, or it is of another log."""
        epoch, position = parse_cursor(row.cursor)
        return epoch != self._log.epoch or position < self._log.floor

    def _is_near(self, row: ConsumerRow) -> bool:
        """Whether a full log will soon delete what is behind a position, or it is gone already."""
        log, (epoch, position) = self._log, parse_cursor(row.cursor)
        behind = distance(position, log.head)
        if not behind or epoch != log.epoch:
            return False
        if position < log.floor:
            return True
        near = behind >= AT_RISK * distance(log.floor, log.head)
        return bool(self._limits.size and log.floor) and near

    async def _is_at_risk(self, row: ConsumerRow) -> bool:
        if self._is_near(row):
            return True
        log, limits = self._log, self._limits
        epoch, position = parse_cursor(row.cursor)
        if not limits.age or epoch != log.epoch or not distance(position, log.head):
            return False
        recorded = await recorded_behind(log, position)
        return recorded is not None and self._clock.now() - recorded >= AT_RISK * limits.age

    async def _found(self, name: str, row: ConsumerRow) -> None:
        reader = reader_of(row)
        data = {"consumer": row.name, **await self._behind(row), "address": reader.address}
        await self._findings.add(Signal(name, self._clock.now(), 1, data), reader.key or row.owner)

    async def _found_at_risk(self, row: ConsumerRow) -> None:
        if row.of_key:
            await self._found(POSITION_AT_RISK, row)
            return
        behind = await self._behind(row)
        for listener in self._delivery_listeners:
            await listener(row, behind)

    async def _behind(self, row: ConsumerRow) -> dict[str, Any]:
        """Position of a row and how far it is behind, as findings have it."""
        events, seconds = await self.lag(row)
        return {"cursor": row.cursor, "events": events, "seconds": int(seconds)}

    # Records

    async def record_gap(self, row: ConsumerRow, gap: dict[str, Any]) -> None:
        """Record durably that events were given up, before the reader goes on behind them. Raises
        `Unavailable` while the log is away."""
        await self._writer.append([_record("consumer.gap", row, gap, failed=True)])

    def note(
        self, action: str, row: ConsumerRow, data: dict[str, Any], *, by: str = "", reason: str = ""
    ) -> None:
        """Record soon what became of a consumer."""
        record = _record(action, row, data, by=by, reason=reason, at=self._clock.now())
        if len(self._records) < _MOST_RECORDS:
            self._records.append(record)
        else:
            _LOGGER.error("a record of a consumer is lost: the log is away for too long")

    async def write(self) -> None:
        """Write the records that wait. Raises `Unavailable` while the log is away."""
        while self._records:
            record = self._records[0]
            await self._writer.append([record])
            self._records.remove(record)


def _record(
    action: str, row: ConsumerRow, data: dict[str, Any], *, by: str = "", reason: str = "",
    at: float = 0.0, failed: bool = False,
) -> Draft:  # fmt: skip
    reader = reader_of(row)
    # Of a gap, the same whoever tells of it; of a change, its own.
    told = f"{at:.6f}" if at else data["cursor"]
    return new_gateway_event(
        id=f"{action}-{row.owner}-{row.name}-{row.generation}-{told}",
        category=DELIVERY,
        action=action,
        outcome="failure" if failed else "success",
        severity=4 if failed else 2,
        at=at,
        by=by,
        reason=reason,
        about=[f"consumer:{row.owner}/{row.name}", key_urn(reader.key or row.owner)],
        data={"consumer": row.name, "key": reader.key or row.owner, **data},
    )
