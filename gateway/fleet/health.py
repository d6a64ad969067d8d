"""Health of a gateway as a whole: what its processes report, and the decision on it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from gateway.clock import Moment, format_time
from gateway.cursor import Cursor
from gateway.histogram import SECONDS, quantile
from gateway.json_members import about

Delivery = Literal["ok", "slow", "stalled", "down"]
# From best to worst.
LEVELS: tuple[Delivery, ...] = ("ok", "slow", "stalled", "down")
SLOWEST = 0.99
# Names of gateways that a reason tells.
_MOST_NAMES = 5


class ReasonKind(NamedTuple):
    """What a reason means for delivery, and what to do about it."""

    delivery: Delivery
    advice: str


REASONS: dict[str, ReasonKind] = {
    "store_away": ReasonKind(
        "down", "see whether the database answers, or the disk of the data folder is there and has "
        "room; nothing that was accepted is lost"),
    "keys_unavailable": ReasonKind(
        "down", "see whether the store of keys answers: until it is known what keys may see, "
        "nothing is delivered"),
    "internal_error": ReasonKind(
        "stalled", "the process ends to be started again: see that a service manager does so, and "
        "report the traceback in its log"),
    "gateway_silent": ReasonKind(
        "stalled", "see whether that process still runs and has processor time; if it was stopped "
        "for good, it is forgotten within two minutes"),
    "streams_overdue": ReasonKind(
        "stalled", "start the gateway again, whose clients then resume, and report it: it is a "
        "bug"),
    "canary_behind": ReasonKind(
        "stalled", "see whether the store can be read and the event loop keeps up "
        "(loop_delay_max_seconds); with more readers than it can serve, add workers or replicas"),
    "delivery_slow": ReasonKind(
        "slow", "see what keeps the event loop or the store busy: loop_delay_max_seconds, "
        "store_read_seconds, and GET /v1/streams by bytes"),
    "not_ready": ReasonKind("ok", "wait: it starts, or stops"),
    "redis_away": ReasonKind(
        "ok", "see whether Redis answers; meanwhile each process decides on limits alone"),
    "record_waiting": ReasonKind(
        "ok", "see why the log takes so few events (commit_seconds): records of use wait in "
        "memory"),
    "peers_stalled": ReasonKind(
        "ok", "GET /v1/streams?state=stalled says whose they are: their clients read nothing"),
    "loop_late": ReasonKind(
        "ok", "see what else uses the processor of this machine; add workers or replicas"),
    "position_at_risk": ReasonKind(
        "ok", "see why its reader does not get on, or raise store.retention_age or "
        "store.retention_bytes: events that it was not sent are deleted soon"),
    "destination_failing": ReasonKind(
        "ok", "GET /v1/destinations/{name} tells the last error; what failed is tried again"),
    "destination_disabled": ReasonKind(
        "ok", "GET /v1/destinations/{name} tells why it was disabled; mend that, and resume it"),
    "clock_stepped": ReasonKind(
        "ok", "set the clock right; if the new time is the right one, run `audit-gateway log "
        "trust-clock`"),
    "pepper_missing": ReasonKind("ok", "put the pepper back; until then its keys are refused"),
    "followed_away": ReasonKind(
        "ok", "see whether the database of the followed table answers, and what it grants"),
    "followed_waiting": ReasonKind(
        "ok", "end the transaction that its newest rows wait for"),
    "certificate_refused": ReasonKind(
        "ok", "the log of the gateway says what is wrong with the new pair; the earlier one serves "
        "on"),
    "certificate_expiring": ReasonKind("ok", "replace the files of the certificate"),
    "plain_text": ReasonKind(
        "ok", "set server.tls.certificate, or name the proxy that ends TLS in "
        "server.trusted_proxies"),
}  # fmt: skip


# Of a process of another version.
_UNKNOWN = ReasonKind("ok", "ask that process itself: it has another version than the one asked")


def _kind(code: str) -> ReasonKind:
    return REASONS.get(code, _UNKNOWN)


class Fault(msgspec.Struct, frozen=True):
    """Something that one process has found wrong. `about`: which thing, of several that the same
    code is told of. `since`: seconds since 1970."""

    code: str
    detail: str
    about: str = ""
    since: float = 0.0


class ReasonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why the gateway is not well."""

    code: Annotated[str, about(enum=list(REASONS))]
    detail: str
    since: Moment
    advice: Annotated[str, about("What to do about it.")]


class GatewayAnswer(msgspec.Struct, kw_only=True):
    """One process of the gateway; null where it did not answer."""

    name: str
    replica: str
    worker: int
    answers: Annotated[bool, about("Whether it answered within a second.")]
    version: str | None
    started_at: Moment | None
    ready: bool | None
    delivery: Delivery | None
    streams: int | None
    connections: int | None
    canary_behind_seconds: float | None
    p99_seconds: Annotated[
        float | None, about("Slowest hundredth of its deliveries of the last minute.")
    ]
    loop_delay_max_seconds: float | None
    redis: Literal["up", "away", "none"] | None
    certificate_expires_at: Moment | None
    settings: Annotated[
        str | None, about("Digest of its settings, but for those of one replica alone.")
    ] = None

    @classmethod
    def silent(cls, name: str, replica: str, worker: int) -> GatewayAnswer:
        """Process that did not answer."""
        return cls(
            name=name, replica=replica, worker=worker, answers=False, version=None,
            started_at=None, ready=None, delivery=None, streams=None, connections=None,
            canary_behind_seconds=None, p99_seconds=None, loop_delay_max_seconds=None, redis=None,
            certificate_expires_at=None,
        )  # fmt: skip


class ProcessReport(msgspec.Struct):
    """What one process says of itself. `minute`: cells of a histogram of its deliveries of the last
    minute; `level_since`: since when its own delivery is what it is."""

    gateway: GatewayAnswer
    faults: list[Fault]
    level_since: float
    minute: list[float]
    transports: dict[str, int]
    stalled: int
    overdue: int


class LogHealth(msgspec.Struct, kw_only=True):
    """The log, as the answering process sees it."""

    store: Literal["sqlite", "postgresql"]
    takes_events: bool
    events: int
    head: Cursor
    newest_at: Moment | None
    oldest_at: Moment | None
    retention_age: Annotated[int | None, about("Seconds; null: events are kept for ever.")]
    retention_bytes: Annotated[int | None, about("Null: there is no bound.")]


class StreamsHealth(msgspec.Struct, kw_only=True):
    """Live streams of all processes that answered."""

    open: int
    stalled: Annotated[int, about("Their peers have taken nothing for 5 seconds or more.")]
    overdue: Annotated[int, about("Owed events for over 5 seconds: more than 0 is a bug.")]
    transports: dict[str, int]
    p99_seconds: Annotated[
        float | None,
        about("Slowest hundredth of all deliveries of the last minute, the canaries' with that."),
    ]


class FailedAttempt(msgspec.Struct, kw_only=True):
    """Last attempt of a destination that failed."""

    at: Moment
    kind: str
    status: int | None
    message: str


class DestinationHealth(msgspec.Struct, kw_only=True):
    """One destination."""

    name: str
    state: str
    lag_events: int
    lag_seconds: float
    failing_since: Moment | None
    last_error: FailedAttempt | None


class FindingsHealth(msgspec.Struct):
    """Findings; null while they cannot be read."""

    open: int | None


class StatusAnswer(msgspec.Struct, kw_only=True):
    """Health of the whole gateway."""

    delivery: Delivery
    since: Annotated[Moment, about("Since when delivery is so.")]
    reasons: Annotated[list[ReasonAnswer], about("Worst first; none if all is well.")]
    gateways: list[GatewayAnswer]
    log: LogHealth
    streams: StreamsHealth
    destinations: list[DestinationHealth]
    findings: FindingsHealth


class ReadinessAnswer(msgspec.Struct, kw_only=True):
    """Whether one process takes requests, and what is wrong with it all the same."""

    ready: bool
    reasons: list[ReasonAnswer]


def worst(found: Iterable[Fault]) -> Delivery:
    """What the reasons mean for delivery together."""
    return LEVELS[max((_level(one.code) for one in found), default=0)]


def reasons_of(found: Iterable[tuple[str, Fault]]) -> list[ReasonAnswer]:
    """Reasons, worst first and of these the oldest, from what was found, each with the name of the
    process that found it ("" for what is told of the whole). The same of several is one."""
    same: dict[tuple[str, str], list[tuple[str, Fault]]] = {}
    for name, one in found:
        same.setdefault((one.code, one.about), []).append((name, one))
    ranked = []
    for (code, _), tellers in same.items():
        first = min((one for _, one in tellers), key=lambda one: one.since)
        named = [name for name, _ in tellers if name]
        told = f"{_names(named)}: {first.detail}" if named else first.detail
        reason = ReasonAnswer(
            code=code, detail=told, since=format_time(first.since), advice=_kind(code).advice
        )
        ranked.append((-_level(code), first.since, code, reason))
    return [reason for *_, reason in sorted(ranked, key=lambda one: one[:3])]


def decide(
    reports: Sequence[ProcessReport], found: Sequence[Fault]
) -> tuple[Delivery, float, list[ReasonAnswer]]:
    """Whether delivery works, since when, and why not: from what all processes report of
    themselves, and what was `found` of the whole."""
    named = len(reports) > 1
    told = [("", one) for one in found]
    for report in reports:
        told += [(report.gateway.name if named else "", one) for one in report.faults]
    delivery = worst(one for _, one in told)
    if delivery == "ok":
        since = max((report.level_since for report in reports), default=0.0)
    else:
        since = min(one.since for _, one in told if _kind(one.code).delivery == delivery)
    return delivery, since, reasons_of(told)


def streams_of(reports: Iterable[ProcessReport]) -> StreamsHealth:
    """Streams of all processes together."""
    transports: Counter[str] = Counter()
    minute = [0.0] * (len(SECONDS) + 2)
    stalled = overdue = 0
    for report in reports:
        transports.update(report.transports)
        stalled += report.stalled
        overdue += report.overdue
        # A process of another version may count otherwise.
        if len(report.minute) == len(minute):
            minute = [one + more for one, more in zip(minute, report.minute, strict=True)]
    return StreamsHealth(
        open=transports.total(), stalled=stalled, overdue=overdue, transports=dict(transports),
        p99_seconds=slowest(minute),
    )  # fmt: skip


def slowest(cells: Sequence[float]) -> float | None:
    """Slowest hundredth of deliveries, to the millisecond's tenth."""
    found = quantile(SECONDS, cells, SLOWEST) if cells else None
    return None if found is None else round(found, 4)


def _level(code: str) -> int:
    return LEVELS.index(_kind(code).delivery)


def _names(names: Sequence[str]) -> str:
    told = sorted(names)
    more = len(told) - _MOST_NAMES
    return ", ".join(told[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class Standing:
    """Since when each thing that a process finds has been so, and its delivery what it is."""

    def __init__(self, now: float) -> None:
        self.level: Delivery = "ok"
        self.level_since = now
        self._since: dict[tuple[str, str], float] = {}

    def note(self, found: Iterable[Fault], now: float) -> list[Fault]:
        """What is found now, with the time since when; what is no longer found is forgotten."""
        seen = [
            one
            if one.since
            else msgspec.structs.replace(one, since=self._since.get((one.code, one.about), now))
            for one in found
        ]
        self._since = {(one.code, one.about): one.since for one in seen}
        level = worst(seen)
        if level != self.level:
            self.level, self.level_since = level, now
        return seen
