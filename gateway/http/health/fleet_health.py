"""Health of the whole gateway: each process reports, and the one that is asked puts it together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway import __version__
from gateway.clock import format_time
from gateway.errors import GatewayError, TooManyRequests
from gateway.fleet.health import (
    Delivery,
    Fault,
    FindingsHealth,
    GatewayAnswer,
    ProcessReport,
    ReasonAnswer,
    Standing,
    StatusAnswer,
    decide,
    slowest,
    streams_of,
)
from gateway.fleet.processes import Process, Processes
from gateway.health.stores import (
    Ages,
    destination_faults,
    destination_health,
    log_ages,
    log_health,
    settings_digest,
)
from gateway.histogram import Histogram
from gateway.http.health.faults import faults_of
from gateway.http.request.context import Context
from gateway.streaming.health.delivery_window import DeliveryWindow

_KIND = "health"
_REPORT = msgspec.json.Decoder(ProcessReport)


class FleetHealth:
    """Health of this process, and of all. Implements
    `gateway.http.request.context.HealthSource`."""

    def __init__(self, context: Context, processes: Processes) -> None:
        self._context = context
        self._processes = processes
        self._window = DeliveryWindow()
        self._digest = settings_digest(context.settings)
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
        ages: Ages
        try:
            ages = await log_ages(context.log)
        except GatewayError as error:
            ages = None, None
            found.append(Fault("store_away", error.detail))
        open_findings = None
        try:
            findings = await context.detector.findings.all()
            open_findings = sum(one.state == "open" for one in findings)
        except GatewayError as error:
            found.append(Fault("keys_unavailable", error.detail))
        destinations = await context.deliveries.numbers()
        found += destination_faults(destinations)
        delivery, since, reasons = decide(reports, self._whole.note(found, context.clock.now()))
        return StatusAnswer(
            delivery=delivery, since=format_time(since), reasons=reasons,
            gateways=sorted(
                [*(one.gateway for one in reports), *map(_silent, missing)],
                key=lambda one: (one.replica, one.worker),
            ),
            log=log_health(context.log, context.settings, ages), streams=streams_of(reports),
            destinations=list(map(destination_health, destinations)),
            findings=FindingsHealth(open_findings),
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
            settings=self._digest,
        )  # fmt: skip
        report = ProcessReport(
            gateway, faults, min(self._standing.level_since, now), minute,
            {name: one.open for name, one in totals.transports.items()},
            totals.stalled, context.hub.overdue(),
        )  # fmt: skip
        return msgspec.json.encode(report)


def _silent(process: Process) -> GatewayAnswer:
    return GatewayAnswer.silent(process.name, process.replica, process.worker)
