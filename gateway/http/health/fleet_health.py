"""Health of the whole gateway: each process reports, and the one that is asked puts it together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway import __version__
from gateway.clock import format_time
from gateway.cursor import advance, distance, format_cursor
from gateway.delivery.running.meter import DestinationNumbers
from gateway.errors import GatewayError, TooManyRequests
from gateway.fleet.health import (
    Delivery,
    DestinationHealth,
    FailedAttempt,
    Fault,
    FindingsHealth,
    GatewayAnswer,
    LogHealth,
    ProcessReport,
    ReasonAnswer,
    Standing,
    StatusAnswer,
    decide,
    slowest,
    streams_of,
)
from gateway.fleet.processes import Process, Processes
from gateway.histogram import Histogram
from gateway.http.health.faults import faults_of
from gateway.http.request.context import Context
from gateway.log.lag import recorded_behind
from gateway.streaming.health.delivery_window import DeliveryWindow

_KIND = "health"
_REPORT = msgspec.json.Decoder(ProcessReport)
_STOPPED = {"failing": "destination_failing", "disabled": "destination_disabled"}


class FleetHealth:
    """Health of this process, and of all. Implements
    `gateway.http.request.context.HealthSource`."""

    def __init__(self, context: Context, processes: Processes) -> None:
        self._context = context
        self._processes = processes
        self._window = DeliveryWindow()
        self._started_at = context.clock.now()
        self._standing = Standing(self._started_at)
        # What is told of the whole gateway, since when.
        self._whole = Standing(self._started_at)
        # The same of what is told of delivery alone.
        self._asked = Standing(self._started_at)
        processes.answer(_KIND, self._answer)

    def look(self) -> None:
        """Look at what is wrong, to know since when it is. Call about once a second."""
        context = self._context
        context.canary.look()
        deliveries = Histogram()
        deliveries.add(context.canary.seconds)
        for transport in context.hub.totals.transports.values():
            deliveries.add(transport.seconds)
        self._window.look(deliveries.cells, context.clock.monotonic())
        self.faults()

    def faults(self) -> Sequence[Fault]:
        """What is wrong with this process."""
        return self._standing.note(
            faults_of(self._context, self._window), self._context.clock.now()
        )

    async def delivery(self) -> tuple[Delivery, float, Sequence[ReasonAnswer]]:
        """What delivery is for all processes, since when, and why."""
        reports, _, found = await self._ask_all("")
        return decide(reports, self._asked.note(found, self._context.clock.now()))

    async def status(self, by: str = "") -> StatusAnswer:
        """Health of the whole gateway, for the key `by`. Waits for other processes for a second at
        most. Raises `TooManyRequests` if too much is asked for that key."""
        context = self._context
        reports, missing, found = await self._ask_all(by)
        try:
            newest_at, oldest_at = await self._ages()
        except GatewayError as error:
            newest_at = oldest_at = None
            found.append(Fault("store_away", error.detail))
        open_findings = None
        try:
            findings = await context.detector.findings.all()
            open_findings = sum(one.state == "open" for one in findings)
        except GatewayError as error:
            found.append(Fault("keys_unavailable", error.detail))
        destinations = await context.deliveries.numbers()
        found += _about_destinations(destinations)
        delivery, since, reasons = decide(reports, self._whole.note(found, context.clock.now()))
        return StatusAnswer(
            delivery=delivery, since=format_time(since), reasons=reasons,
            gateways=sorted(
                [*(one.gateway for one in reports), *map(_silent, missing)],
                key=lambda one: (one.replica, one.worker),
            ),
            log=self._log(newest_at, oldest_at), streams=streams_of(reports),
            destinations=list(map(_shown, destinations)), findings=FindingsHealth(open_findings),
        )  # fmt: skip

    async def _ask_all(self, by: str) -> tuple[list[ProcessReport], list[Process], list[Fault]]:
        try:
            replies = await self._processes.ask(_KIND, b"{}", by=by)
        except TooManyRequests:
            raise
        except GatewayError as error:
            own = _REPORT.decode(await self._answer(b""))
            return [own], [], [Fault("keys_unavailable", error.detail)]
        reports, unknown = replies.read(_REPORT)
        silent = [
            Fault(
                "gateway_silent", f"{one.name} did not answer within a second", about=one.name,
                since=one.seen,
            )
            for one in unknown
        ]  # fmt: skip
        return reports, unknown, silent

    async def _answer(self, body: bytes) -> bytes:
        """Report of this process, in JSON."""
        context, own = self._context, self._processes.own
        faults, now = list(self.faults()), context.clock.now()
        totals, minute = context.hub.totals, self._window.minute
        certificates, away = context.certificates, not context.shared.health().up
        gateway = GatewayAnswer(
            name=own.name, replica=own.replica, worker=own.worker, answers=True,
            version=__version__,
            started_at=format_time(self._started_at), ready=context.ready,
            delivery=self._standing.level, streams=len(context.hub.subscriptions),
            connections=context.connections.open,
            canary_behind_seconds=round(context.canary.behind, 3), p99_seconds=slowest(minute),
            loop_delay_max_seconds=round(
                context.loop_delay.longest(context.clock.monotonic()), 4
            ),
            redis=("away" if away else "up") if context.settings.redis.url else "none",
            certificate_expires_at=(
                format_time(certificates.expires) if certificates is not None else None
            ),
        )  # fmt: skip
        report = ProcessReport(
            gateway, faults, min(self._standing.level_since, now), minute,
            {name: one.open for name, one in totals.transports.items()},
            totals.stalled, context.hub.overdue(),
        )  # fmt: skip
        return msgspec.json.encode(report)

    async def _ages(self) -> tuple[float | None, float | None]:
        """When the newest and the oldest event were recorded, in seconds since 1970."""
        log = self._context.log
        if log.head <= log.floor:
            return None, None
        newest = await recorded_behind(log, advance(log.head, -1))
        return newest, await recorded_behind(log, log.floor)

    def _log(self, newest_at: float | None, oldest_at: float | None) -> LogHealth:
        log, settings = self._context.log, self._context.settings
        return LogHealth(
            store="postgresql" if settings.on_postgres else "sqlite",
            takes_events=log.degraded_reason is None, events=distance(log.floor, log.head),
            head=format_cursor(log.epoch, log.head), newest_at=_moment(newest_at),
            oldest_at=_moment(oldest_at), retention_age=settings.store.retention_age or None,
            retention_bytes=settings.store.retention_bytes or None,
        )  # fmt: skip


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)


def _silent(process: Process) -> GatewayAnswer:
    return GatewayAnswer.silent(process.name, process.replica, process.worker)


def _about_destinations(destinations: Sequence[DestinationNumbers]) -> list[Fault]:
    found: list[Fault] = []
    for one in destinations:
        if (code := _STOPPED.get(one.state)) is not None:
            error = one.status.last_error
            why = f": {error.kind} {error.status or ''}".rstrip() if error else ""
            found.append(
                Fault(
                    code, f"{one.name} is {one.state}{why}", about=one.name,
                    since=one.status.failing_since,
                )
            )  # fmt: skip
    return found


def _shown(one: DestinationNumbers) -> DestinationHealth:
    error: Any = one.status.last_error
    return DestinationHealth(
        name=one.name, state=one.state, lag_events=one.lag.events,
        lag_seconds=round(one.lag.seconds, 3),
        failing_since=_moment(one.status.failing_since or None),
        last_error=error and FailedAttempt(
            at=error.at, kind=error.kind, status=error.status, message=error.message
        ),
    )  # fmt: skip
