"""Context of the handlers: made by `gateway.runtime.compose`, kept in the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Protocol

from aiohttp import web

from gateway.access.credentials.ticket import UsedTickets
from gateway.access.keyring import Keyring
from gateway.access.keys.key_store import KeyStore
from gateway.access.limits.ports import Shared
from gateway.access.missing_peppers import MissingPeppers
from gateway.access.usage.meter import Meter
from gateway.delivery.ports import Destinations
from gateway.delivery.running.deliveries import DeliverySupervisor
from gateway.delivery.running.meter import DestinationNumbers
from gateway.errors import GatewayError, Unavailable
from gateway.fleet.health import Delivery, Fault, ReasonAnswer, StatusAnswer
from gateway.fleet.live_streams import LiveStreams
from gateway.http.connection.connections import Connections
from gateway.http.connection.loop_delay import LoopDelay
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.http.request.admission import AdmissionControl
from gateway.http.request.decoding import Decoder
from gateway.http.request.in_flight import InFlight
from gateway.http.request.limits import AppliedLimits
from gateway.http.response.request_metrics import RequestMetrics
from gateway.http.tls.certificates import Certificates
from gateway.ingest.followed_table import FollowedTable
from gateway.ingest.sources.catalog import Sources
from gateway.ingest.writer import Writer
from gateway.log.identity import KeyedValues
from gateway.log.ports import REPLACED, Log
from gateway.looking.count_cache import CountCache
from gateway.looking.looks import Looks
from gateway.notifier import Notifier
from gateway.oversight.access_log.access_log import AccessLog
from gateway.oversight.consumer_watch import ConsumerNumbers, ConsumerWatch
from gateway.oversight.detection.anomaly_detector import AnomalyDetector
from gateway.oversight.detection.key_inventory import KeyInventory
from gateway.people.sign_in import SignIn
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import Settings
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumer_pages import ConsumerPages
from gateway.streaming.consumers.ports import Consumers
from gateway.streaming.enforcement import Enforcement
from gateway.streaming.health.canary import Canary
from gateway.streaming.live.hub import Hub
from gateway.streaming.session_streams import SessionStreams
from gateway.tasks import PLAIN, Tasks
from gateway.trusted_clock import TrustedClock
from gateway.wire.formatted import Wires


class MetricsSource(Protocol):
    """Metrics of all processes of this gateway."""

    def update(self, context: Context) -> None:
        """Update the metrics of this process."""

    def exposition(
        self,
        kind: str,
        consumers: Sequence[ConsumerNumbers] = (),
        destinations: Sequence[DestinationNumbers] = (),
    ) -> tuple[bytes, str]:
        """All metrics in the format of a media type, and that type in full. May run on a thread."""


class HealthSource(Protocol):
    """Health of this process and, by asking all others, of the whole gateway."""

    def look(self) -> None:
        """Look at what is wrong, to know since when it is. Call about once a second."""

    def faults(self) -> Sequence[Fault]:
        """What is wrong with this process."""

    async def delivery(self) -> tuple[Delivery, float, Sequence[ReasonAnswer]]:
        """What delivery is for all processes, since when (seconds since 1970), and why."""

    async def status(self, by: str = "") -> StatusAnswer:
        """Health of the whole gateway, for the key `by`. Waits for other processes for a second at
        most."""


class KeptFile(Protocol):
    """File that stays open while the gateway runs."""

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Fault of the file; None if it has none."""


@dataclass
class Context:
    """Parts of a running gateway."""

    settings: Settings
    clock: TrustedClock
    log: Log
    appends: Notifier
    writer: Writer
    hub: Hub
    canary: Canary
    wires: Wires
    write_scheduler: WriteScheduler
    key_store: KeyStore
    consumer_store: Consumers
    destination_store: Destinations
    deliveries: DeliverySupervisor
    consumers: ConsumerClaims
    consumer_pages: ConsumerPages
    consumer_watch: ConsumerWatch
    live_streams: LiveStreams
    keyring: Keyring
    enforcement: Enforcement
    missing_peppers: MissingPeppers
    access_log: AccessLog
    detector: AnomalyDetector
    inventory: KeyInventory
    usage: Meter
    shared: Shared
    limits: AppliedLimits
    session_streams: SessionStreams
    admission: AdmissionControl
    decoder: Decoder
    sources: Sources
    # Turns of decompressing and decoding large bodies.
    intake: LoopWork
    connections: Connections
    in_flight: InFlight
    looks: Looks
    keyed: KeyedValues
    metrics: MetricsSource
    health_of: InitVar[Callable[[Context], HealthSource]]
    health: HealthSource = field(init=False)
    count_cache: CountCache = field(default_factory=CountCache)
    requests: RequestMetrics = field(default_factory=RequestMetrics)
    loop_delay: LoopDelay = field(default_factory=LoopDelay)
    used_tickets: UsedTickets = field(default_factory=UsedTickets)
    followed: FollowedTable | None = None
    # Open files of the data folder, beside the log.
    files: tuple[KeptFile, ...] = ()
    tasks: Tasks = PLAIN
    # By the identity provider, if there is one.
    sign_in: SignIn | None = None
    # Of the listener, if it speaks TLS.
    certificates: Certificates | None = None
    # One scrape at a time, so that the event loop waits for one thread only.
    scrape: asyncio.Lock = field(default_factory=asyncio.Lock)
    ready: bool = False

    def __post_init__(self, health_of: Callable[[Context], HealthSource]) -> None:
        self.health = health_of(self)

    @property
    def work(self) -> LoopWork:
        """Turns of long work, and the shares of keys in it."""
        return self.hub.work

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Why the gateway should get no requests now, as far as is known without trying."""
        reasons = (self.log.degraded_reason, *(file.degraded_reason for file in self.files))
        return next((one for one in reasons if one is not None), None)

    @property
    def failure(self) -> GatewayError | None:
        """Why this gateway cannot continue and has to be restarted."""
        if self.tasks.failure is not None:
            return self.tasks.failure
        degraded_reason = self.log.degraded_reason
        return (
            degraded_reason
            if degraded_reason is not None and degraded_reason.code == REPLACED
            else None
        )


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
