"""Declarations of the metrics: names, types, labels, and sources of values.

Every set of label values is closed, and defined here or at its counter. No label holds what a
client chooses: a tenant, an address, a category; but the names of durable consumers and of
destinations, of which there are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from gateway.cursor import distance
from gateway.delivery.running.meter import FAILURES, RESULTS, STATES, DestinationNumbers
from gateway.histogram import SECONDS, Histogram, width
from gateway.http.connection.loop_delay import BOUNDS
from gateway.http.request.context import Context
from gateway.http.response.request_metrics import (
    KINDS,
    OTHER,
    REFUSALS,
    SIGN_INS,
    STATUSES,
    counted_as,
)
from gateway.http.routes.table import ROUTES
from gateway.looking.bounds import KINDS as LOOK_KINDS
from gateway.looking.looks import OFFSETS
from gateway.oversight.consumer_watch import ConsumerNumbers
from gateway.oversight.detection.finding import SIGNALS
from gateway.oversight.detection.key_inventory import KEY_STATES, WITHIN
from gateway.wire.framing import END_CODES, TRANSPORTS

AnyNumbers = TypeVar("AnyNumbers")
# In place of a transport.
CANARY = "canary"


class Metric(NamedTuple):
    """Metric whose values of all workers are combined."""

    name: str
    kind: str
    about: str
    of: Callable[[Context], float]
    together: Callable[[Iterable[float]], float]


class WorkerMetric(NamedTuple):
    """Gauge shown for each worker."""

    name: str
    about: str
    of: Callable[[Context], float]


class LabelledMetric(NamedTuple):
    """Metric over all workers, one number for each of the `values` of its labels."""

    name: str
    kind: str
    about: str
    labels: tuple[str, ...]
    values: Sequence[tuple[str, ...]]
    of: Callable[[Context], Iterable[float]]


class NamedMetric(NamedTuple, Generic[AnyNumbers]):
    """Metric of things that the store knows by name, read at each scrape: of the whole gateway,
    whichever worker answers. `of` tells the number of one; if the last of the labels has several
    `values`, a number for each of them."""

    name: str
    kind: str
    about: str
    labels: tuple[str, ...]
    of: Callable[[AnyNumbers], Iterable[float]]
    values: tuple[str, ...] = ()


class HistogramMetric(NamedTuple):
    """Histogram over all workers, one for each of the `values` of its label, if any. Of its bounds
    only those in `shown` are buckets, if any are named: the numbers up to them stay exact."""

    name: str
    about: str
    bounds: Sequence[float]
    of: Callable[[Context], Iterable[Histogram]]
    label: str = ""
    values: Sequence[str] = ("",)
    shown: Sequence[float] = ()

    @property
    def width(self) -> int:
        """Number of cells of each histogram."""
        return width(self.bounds)


METRICS = (
    Metric("streams", "gauge", "Open streams.", lambda c: len(c.hub.subscriptions), sum),
    Metric("streams_opened_total", "counter", "Streams opened.",
           lambda c: c.hub.totals.opened, sum),
    Metric("streams_ended_total", "counter", "Streams ended.", lambda c: c.hub.totals.ended, sum),
    Metric("delivered_events_total", "counter", "Events written to streams.",
           lambda c: c.hub.totals.events, sum),
    Metric("delivered_bytes_total", "counter", "Bytes of events written to streams.",
           lambda c: c.hub.totals.bytes, sum),
    Metric("demotions_total", "counter", "Streams that fell behind and went on from the store.",
           lambda c: c.hub.totals.demotions, sum),
    Metric("overdue_streams", "gauge",
           "Live streams that are owed events for over 5 seconds: more than 0 is a bug.",
           lambda c: c.hub.overdue(), sum),
    Metric("stalled_streams", "gauge",
           "Streams whose peers have taken nothing for 5 seconds or more, though something waits.",
           lambda c: c.hub.totals.stalled, sum),
    Metric("recorded_uses_total", "counter", "Uses of keys, and refusals, noted for the record.",
           lambda c: c.access_log.accesses, sum),
    Metric("record_events_total", "counter", "Events of the record that are in the log.",
           lambda c: c.access_log.written, sum),
    Metric("record_waiting", "gauge", "Events of the record that are not in the log yet.",
           lambda c: c.access_log.waiting, sum),
    Metric("findings_total", "counter", "Signs of unusual activity.",
           lambda c: c.detector.findings.found.total(), sum),
    Metric("peppers", "gauge", "Peppers that count for keys.",
           lambda c: len(c.keyring.peppers.all), min),
    Metric("peppers_coming", "gauge", "1 from `pepper add` to `pepper switch`.",
           lambda c: c.keyring.peppers.all[0].standing == "coming", max),
    Metric("limited_requests_total", "counter", "Requests that a limit answered with 429.",
           lambda c: c.limits.refusals, sum),
    Metric("filter_steps_total", "counter",
           "Steps (0.1 us) that filters with loops, searches or patterns took.",
           lambda c: c.work.totals.steps, sum),
    Metric("filter_exceeded_total", "counter",
           "Events that did not match because a filter ran out of its budget on them.",
           lambda c: c.work.totals.exceeded, sum),
    Metric("filter_left_live_total", "counter",
           "Streams that left the live group because of what their filters cost.",
           lambda c: c.work.totals.left_live, sum),
    Metric("filter_refused_total", "counter",
           "Requests refused because the filters of their key had used up their share.",
           lambda c: c.work.totals.refused, sum),
    Metric("looks_refused_total", "counter",
           "Requests refused with 429 `busy`, as too many looked at much of the log at once.",
           lambda c: c.looks.refused, sum),
    Metric("connections", "gauge", "Open connections.", lambda c: c.connections.open, sum),
    Metric("connections_refused_total", "counter",
           "Connections and requests beyond the limits of connections.",
           lambda c: c.connections.refused, sum),
    Metric("unfinished_head_bytes", "gauge", "Bytes of URLs and headers that are not whole yet.",
           lambda c: c.connections.unfinished, sum),
    Metric("heads_refused_total", "counter", "Requests whose URL and headers were too much.",
           lambda c: c.connections.refused_heads, sum),
    Metric("bytes_in_flight", "gauge", "Bytes of bodies and pages that requests hold.",
           lambda c: c.in_flight.held, sum),
    Metric("bytes_in_flight_refused_total", "counter", "Requests that would have held too many.",
           lambda c: c.in_flight.refused, sum),
    Metric("redis_up", "gauge", "Whether Redis answers; 1 also where none is set.",
           lambda c: int(c.shared.health().up), min),
    Metric("redis_outages_total", "counter", "Times that Redis was found to be away.",
           lambda c: c.shared.health().outages, sum),
    Metric("redis_failed_calls_total", "counter", "Calls of Redis that failed or took too long.",
           lambda c: c.shared.health().failed_calls, sum),
    Metric("limits_decided_alone_total", "counter",
           "Limits that one process decided alone while Redis was away.",
           lambda c: c.shared.health().local_decisions, sum),
    Metric("limits_closed_total", "counter",
           "Requests refused while Redis was away, as limits.closed_without_redis says.",
           lambda c: c.shared.health().closed_decisions, sum),
    Metric("log_head_offset", "gauge", "Newest offset of the log.", lambda c: c.log.head, max),
    Metric("log_floor_offset", "gauge", "Newest offset deleted by retention.",
           lambda c: c.log.floor, max),
    Metric("store_away", "gauge", "1 while the store takes no events, as far as is known.",
           lambda c: c.degraded_reason is not None, max),
    Metric("id_conflicts_total", "counter",
           "Events sent under an id that another event had, and stored under one of their own.",
           lambda c: c.writer.conflicts, sum),
    Metric("followed_rows_total", "counter", "Rows of the followed table brought into the log.",
           lambda c: c.followed.rows if c.followed else 0, sum),
    Metric("followed_marked_total", "counter", "Those of them that made only a marked event.",
           lambda c: c.followed.marked if c.followed else 0, sum),
    Metric("followed_renamed_total", "counter",
           "Rows of followed tables whose id was taken, and that came under another.",
           lambda c: c.log.renamed, sum),
    Metric("followed_away", "gauge", "1 while there is a followed table that cannot be read.",
           lambda c: c.followed is not None and c.followed.degraded_reason is not None, max),
    Metric("followed_horizon_seconds", "gauge",
           "How long the newest rows of a read-only table have been waiting.",
           lambda c: int(c.followed.waits.seconds) if c.followed and c.followed.waits else 0, max),
    Metric("followed_blocking_pid", "gauge", "The process whose transaction they wait for, or 0.",
           lambda c: (c.followed.waits.pid or 0) if c.followed and c.followed.waits else 0, max),
    Metric("clock_offset_seconds", "gauge",
           "How far the wall clock is ahead of trusted time; beyond 2 it was set.",
           lambda c: round(c.clock.offset), lambda rows: max(rows, key=abs)),
    Metric("clock_steps_total", "counter", "Times that the wall clock was found to have been set.",
           lambda c: c.clock.steps, max),
    Metric("tail_lag_events", "gauge", "Events not yet handed to live streams.",
           lambda c: distance(c.hub.position, c.log.head), max),
    Metric("canary_behind_seconds", "gauge",
           "For how long an event was not handed to the gateway's own subscriber; beyond 5 "
           "delivery is stalled.",
           lambda c: c.canary.behind, max),
    Metric("sessions", "gauge", "Sessions of the console that have not ended.",
           lambda c: c.inventory.sessions, sum),
    Metric("keys_rotation_due", "gauge",
           "Active keys whose schedule says that they are to be rotated by now.",
           lambda c: c.inventory.rotation_due, sum),
    Metric("keys_unused", "gauge",
           "Keys that have not ended, were made more than 30 days ago, and not used since.",
           lambda c: c.inventory.unused, sum),
    Metric("tls_expires_timestamp_seconds", "gauge",
           "When the certificate of the listener expires, in seconds since 1970; 0 without TLS.",
           lambda c: c.certificates.expires if c.certificates is not None else 0, min),
)  # fmt: skip
WORKER_METRICS = (
    WorkerMetric("worker_streams", "Open streams of each worker process.",
                 lambda c: len(c.hub.subscriptions)),
    WorkerMetric("loop_delay_max_seconds",
                 "The longest delay of the event loop of each worker in the last minute or two.",
                 lambda c: c.loop_delay.longest(c.clock.monotonic())),
)  # fmt: skip
# Without the method: many consumers split the lines at spaces.
_ROUTES = (*dict.fromkeys(counted_as(route.documented_path) for route in ROUTES), OTHER)


def _classes(path: str) -> Iterator[str]:
    """Classes of statuses that the routes of a path answer with; any may be refused or fail."""
    found = [status for route in ROUTES if counted_as(route.documented_path) == path
             for status in route.answers]  # fmt: skip
    if path == OTHER or any(status < 300 for status in found):
        yield STATUSES[0]
    if any(300 <= status < 400 for status in found):
        yield STATUSES[1]
    yield from STATUSES[2:]


_ANSWERS = tuple((path, status) for path in _ROUTES for status in _classes(path))
# Buckets of durations of which the finer ones tell nothing.
_SHOWN = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
DESTINATION_SHOWN = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
# To the second, but for those that are not behind.
_LAGS_SHOWN = (0.001, 1.0, 2.5, 5.0, 10.0, 60.0)
_STORES = ("log", "keys")
_LOOKS = tuple((kind,) for kind in LOOK_KINDS)
_TRANSPORTS = tuple((transport,) for transport in TRANSPORTS)
LABELLED = (
    LabelledMetric("open_streams", "gauge", "Open streams by transport.",
                   ("transport",), _TRANSPORTS,
                   lambda c: (one.open for one in c.hub.totals.transports.values())),
    LabelledMetric("stream_events_total", "counter", "Events written to streams by transport.",
                   ("transport",), _TRANSPORTS,
                   lambda c: (one.events for one in c.hub.totals.transports.values())),
    LabelledMetric("stream_bytes_total", "counter",
                   "Bytes of events written to streams by transport.",
                   ("transport",), _TRANSPORTS,
                   lambda c: (one.bytes for one in c.hub.totals.transports.values())),
    LabelledMetric("stream_ends_total", "counter",
                   "Streams ended by the code of their end; `client_gone` where the peer left.",
                   ("code",), tuple((code,) for code in END_CODES),
                   lambda c: map(c.hub.totals.ends.__getitem__, END_CODES)),
    LabelledMetric("requests_total", "counter", "Requests answered.", ("route", "status"),
                   _ANSWERS, lambda c: map(c.requests.answers.__getitem__, _ANSWERS)),
    LabelledMetric("refusals_total", "counter", "Requests answered with 401, 403, 410 or 429.",
                   ("reason",), tuple((code,) for code in REFUSALS),
                   lambda c: map(c.requests.refusals.__getitem__, REFUSALS)),
    LabelledMetric("findings_found_total", "counter", "Signs of unusual activity by their signal.",
                   ("signal",), tuple((signal,) for signal in SIGNALS),
                   lambda c: map(c.detector.findings.found.__getitem__, SIGNALS)),
    LabelledMetric("looks_total", "counter", "Requests that looked at the log, by what they asked.",
                   ("kind",), _LOOKS, lambda c: map(c.looks.done.__getitem__, LOOK_KINDS)),
    LabelledMetric("look_cut_total", "counter",
                   "Those that a bound of the settings `[look]` has ended before they were done.",
                   ("kind",), _LOOKS, lambda c: map(c.looks.cut.__getitem__, LOOK_KINDS)),
    LabelledMetric("ingested_events_total", "counter",
                   "Events that were sent, by what became of them; what was invalid is in the log "
                   "as a marked event.",
                   ("result",), (("accepted",), ("duplicate",), ("invalid",)),
                   lambda c: (c.requests.accepted, c.requests.duplicates, c.requests.invalid)),
    LabelledMetric("ingest_refused_total", "counter",
                   "Requests to send events that were refused as not valid (400, 413, 415, 422): "
                   "nothing of them is in the log.",
                   ("result",), (("invalid",),), lambda c: (c.requests.refused_ingests,)),
    LabelledMetric("sign_ins_total", "counter", "Sign-ins to the console.", ("kind", "result"),
                   SIGN_INS,
                   lambda c: map(c.requests.sign_ins.__getitem__, SIGN_INS)),
    LabelledMetric("keys", "gauge", "Keys.", ("state",), tuple((state,) for state in KEY_STATES),
                   lambda c: map(c.inventory.states.__getitem__, KEY_STATES)),
    LabelledMetric("keys_expiring", "gauge", "Active and draining keys that end within a time.",
                   ("within",), tuple((name,) for name in WITHIN),
                   lambda c: map(c.inventory.expiring.__getitem__, WITHIN)),
    LabelledMetric("findings_open", "gauge", "Findings that nobody has marked as expected.",
                   ("signal",), tuple((signal,) for signal in SIGNALS),
                   lambda c: map(c.inventory.open_findings.__getitem__, SIGNALS)),
)  # fmt: skip
# Rows come only from what is there already, by no live stream.
_LIVE_TRANSPORTS = tuple(transport for transport in TRANSPORTS if transport != "csv")


def _delivery_seconds(context: Context) -> Iterator[Histogram]:
    for transport in _LIVE_TRANSPORTS:
        yield context.hub.totals.transports[transport].seconds
    yield context.canary.seconds


_CONSUMER, _DESTINATION = ("consumer", "key"), ("destination",)
CONSUMERS: tuple[NamedMetric[ConsumerNumbers], ...] = (
    NamedMetric("consumer_lag_events", "gauge",
                "Events of the log behind the position of a durable consumer.",
                _CONSUMER, lambda one: [one.lag_events]),
    NamedMetric("consumer_lag_seconds", "gauge",
                "For how long the first event behind the position is in the log; 0 at the head.",
                _CONSUMER, lambda one: [one.lag_seconds]),
    NamedMetric("consumer_unacknowledged", "gauge",
                "Events that a durable consumer was sent and has not acknowledged.",
                _CONSUMER, lambda one: [one.unacknowledged]),
    NamedMetric("consumer_redelivered_total", "counter",
                "Events that a durable consumer was sent again.",
                _CONSUMER, lambda one: [one.redelivered]),
)  # fmt: skip
DESTINATIONS: tuple[NamedMetric[DestinationNumbers], ...] = (
    NamedMetric("destination_state", "gauge", "1 for the state that a destination is in.",
                (*_DESTINATION, "state"), lambda one: [one.state == state for state in STATES],
                STATES),
    NamedMetric("destination_up", "gauge",
                "1 while a destination is active and its attempts do not fail.",
                _DESTINATION, lambda one: [one.state == STATES[0]]),
    NamedMetric("destination_lag_events", "gauge",
                "Events of the log that a destination has before it, whoever may see them.",
                _DESTINATION, lambda one: [one.lag.events]),
    NamedMetric("destination_lag_seconds", "gauge",
                "For how long the first of them is in the log; 0 at the head.",
                _DESTINATION, lambda one: [one.lag.seconds]),
    NamedMetric("destination_delivered_events_total", "counter",
                "Events that the receiver has confirmed.",
                _DESTINATION, lambda one: [one.status.counters.delivered.events]),
    NamedMetric("destination_events_total", "counter",
                "The same, by the name that all streams of events are counted under.",
                _DESTINATION, lambda one: [one.status.counters.delivered.events]),
    NamedMetric("destination_requests_total", "counter", "Requests to the receiver.",
                (*_DESTINATION, "result"),
                lambda one: [one.status.results.get(result, 0) for result in RESULTS], RESULTS),
    NamedMetric("destination_rejected_events_total", "counter",
                "Events that the receiver did not take, and that became dead letters.",
                _DESTINATION, lambda one: [one.status.counters.rejected]),
    NamedMetric("destination_failures_total", "counter",
                "Requests that failed: for now, for this content, or by their configuration.",
                (*_DESTINATION, "reason"),
                lambda one: [one.status.results.get(reason, 0) for reason in FAILURES], FAILURES),
    NamedMetric("destination_retries_total", "counter", "Attempts that failed.",
                _DESTINATION, lambda one: [one.status.counters.retries]),
)  # fmt: skip
DESTINATION_SECONDS = (
    "destination_request_seconds",
    "How long the receiver of a destination took to answer, its confirmation with that.",
)
HISTOGRAMS = (
    HistogramMetric("delivery_seconds",
                    "How long after it was recorded an event was written to a live stream, of "
                    "those read together by the first; what catches up is not counted. `canary` is "
                    "the gateway's own subscriber, which is there also when nobody is connected.",
                    SECONDS, _delivery_seconds, "transport", (*_LIVE_TRANSPORTS, CANARY)),
    HistogramMetric("stream_lag_seconds",
                    "How long the next event of each stream had been in the log, to the second, "
                    "when all were looked at: once a second.",
                    SECONDS, lambda c: (c.hub.totals.lag,), shown=_LAGS_SHOWN),
    HistogramMetric("request_seconds",
                    "How long requests took to be answered, streams to be opened; pages that wait "
                    "for events with that.",
                    SECONDS, lambda c: c.requests.seconds.values(), "kind", KINDS, _SHOWN),
    HistogramMetric("look_offsets", "How many events of the log each of these requests passed.",
                    OFFSETS, lambda c: c.looks.offsets.values(), "kind", LOOK_KINDS),
    HistogramMetric("commit_seconds",
                    "How long the log took to store a batch durably, and the key store a change.",
                    SECONDS, lambda c: (c.writer.commit_seconds, c.key_store.commit_seconds),
                    "store", _STORES, _SHOWN),
    HistogramMetric("store_read_seconds", "How long reads took that were not answered from memory.",
                    SECONDS, lambda c: (c.log.read_seconds, c.key_store.read_seconds),
                    "store", _STORES, _SHOWN),
    HistogramMetric(
        "loop_delay_seconds",
        "By how much the event loop was late, looked at 20 times a second while there are "
        "connections.",
        BOUNDS, lambda c: (c.loop_delay.seconds,),
    ),
)  # fmt: skip
# Metrics whose values are made in the exposition.
INTERNAL_ERRORS = "internal_errors_total"
BUILD = "build"
