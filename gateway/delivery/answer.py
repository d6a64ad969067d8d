"""Answers about destinations, as HTTP and the command line show them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.clock import Moment, format_time
from gateway.cursor import Cursor
from gateway.delivery.definition import (
    Definition,
    DestinationBatch,
    DestinationRetry,
    DestinationSelect,
    DestinationTimeout,
    DestinationTls,
    Name,
)
from gateway.delivery.destination import Destination, ManagedBy, Replay
from gateway.delivery.health import (
    DeliveredTotals,
    DestinationCounters,
    DestinationError,
    Status,
    state_of,
)
from gateway.delivery.ports import DeadLetter
from gateway.json_members import about
from gateway.log.lag import LogLag


class DestinationLag(msgspec.Struct, frozen=True):
    """How far a destination is behind the log."""

    events: Annotated[int, about("Events of the log behind the cursor, whoever may see them.")]
    seconds: Annotated[float, about("Since the first of them was recorded; 0 at the head.")]


class DestinationSecretAnswer(msgspec.Struct, frozen=True):
    """A secret that is set. Its value is never shown."""

    set: Literal[True]
    set_at: Moment
    fingerprint: Annotated[str, about("Tells values apart; it reveals nothing of them.")]


class ReplayProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A second pass over a part of the log."""

    begin: Cursor = msgspec.field(name="from")
    until: Cursor = msgspec.field(name="to")
    dead_letters: Annotated[int, about("How many of them are sent again, if it is about them.")] = 0
    state: Annotated[str, about("`running`, `done`, `cancelled`, or why it was given up.")]
    cursor: Annotated[Cursor, about("How far it is.")]
    delivered: int
    rejected: int
    by: str
    reason: str = ""
    started_at: Moment
    ended_at: Moment = ""


def public_replay(replay: Replay) -> ReplayProgress:
    """A replay as it is shown, as it was stored last."""
    return ReplayProgress(
        begin=replay.begin, until=replay.until, dead_letters=len(replay.dead_letters),
        state=replay.outcome or "running",
        cursor=replay.cursor or replay.begin,
        delivered=replay.delivered, rejected=replay.rejected, by=replay.by, reason=replay.reason,
        started_at=format_time(replay.started_at), ended_at=_moment(replay.ended_at),
    )  # fmt: skip


class DestinationAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A destination and its health."""

    name: Name
    type: str
    key: str
    select: DestinationSelect
    start: str = msgspec.field(name="from")
    batch: DestinationBatch
    retry: DestinationRetry
    timeout: DestinationTimeout
    format: str | UnsetType = UNSET
    compression: Literal["gzip", "none"]
    tls: DestinationTls
    plaintext: bool
    on_gap: Literal["skip", "fail"]
    settings: dict[str, Any]
    secrets: dict[str, DestinationSecretAnswer]
    managed_by: ManagedBy
    created_at: Moment
    created_by: str
    state: Literal["active", "failing", "paused", "disabled"]
    reason_code: Annotated[str, about("Why the gateway has disabled it.")] = ""
    reason: Annotated[str, about("Why somebody has paused or resumed it.")] = ""
    since: Moment
    by: Annotated[str, about("Who paused or resumed it last.")] = ""
    cursor: Annotated[Cursor, about("Everything up to here needs no further delivery.")]
    lag: DestinationLag
    last_success: Moment = ""
    last_error: DestinationError | None = None
    delivered: DeliveredTotals
    duplicates: Annotated[int, about("Events that the receiver had already.")]
    retries: Annotated[int, about("Attempts that failed.")]
    rejected: Annotated[int, about("Events that the receiver has refused for good.")]
    reduced: Annotated[int, about("Events that were delivered without some members.")]
    replay: ReplayProgress | None = None
    dead_letters: int
    in_flight: int
    next_attempt: Moment = ""
    replica: Annotated[str, about("The process that delivers it.")] = ""
    confirmation: Annotated[Literal["", "stored", "received", "sent"], about(
        "What a success means: the receiver has stored the events, has taken them, or only its "
        "kernel has."
    )] = ""  # fmt: skip


class DeadLetterAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pointer to an event that the receiver did not take; its content is in the log."""

    id: Annotated[str, about("The cursor of the event, which is the id of the dead letter.")]
    event: Annotated[str, about("The id of the event.")] = ""
    first: Annotated[
        str, about("The first event of a range of which the receiver did not say which it refused.")
    ] = ""
    tenant: str
    reason: str
    status: int | None = None
    attempts: int
    at: Moment


class DeletedDeadLetters(msgspec.Struct, frozen=True):
    """How many dead letters were deleted."""

    deleted: int


class TestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a test event."""

    result: Literal["success", "transient", "permanent", "config"]
    status: int | None
    message: str
    took_ms: int


def public_dead_letter(letter: DeadLetter) -> DeadLetterAnswer:
    """A dead letter as it is shown."""
    return DeadLetterAnswer(
        id=letter.cursor, event=letter.event_id, first=letter.first, tenant=letter.tenant,
        reason=letter.reason, status=letter.status, attempts=letter.attempts,
        at=format_time(letter.at),
    )  # fmt: skip


def public(
    destination: Destination, status: Status, cursor: str, lag: LogLag, dead_letters: int
) -> DestinationAnswer:
    """A destination as it is shown, with its health but without its secrets."""
    definition = destination.definition
    state, active = state_of(destination, status), destination.state == "active"
    failing = state == "failing"
    return DestinationAnswer(
        **_defined(definition),
        secrets={
            name: DestinationSecretAnswer(True, format_time(one[0].set_at), one[0].fingerprint)
            for name, one in destination.secrets.items()
        },
        managed_by=destination.managed_by,
        created_at=format_time(destination.created_at),
        created_by=destination.created_by,
        state=state,
        reason_code=destination.reason_code,
        reason=destination.reason,
        since=format_time(status.failing_since if failing else destination.since),
        by=destination.by,
        cursor=cursor,
        lag=DestinationLag(lag.events, round(lag.seconds, 3)),
        last_success=_moment(status.last_success),
        last_error=status.last_error,
        **_counted(status.counters),
        replay=None if destination.replay is None else public_replay(destination.replay),
        dead_letters=dead_letters,
        in_flight=status.in_flight if active else 0,
        next_attempt=_moment(status.next_attempt) if failing else "",
        replica=status.replica if active else "",
        confirmation=status.confirmation,
    )


def _defined(definition: Definition) -> dict[str, Any]:
    return {name: getattr(definition, name) for name in definition.__struct_fields__}


def _counted(counters: DestinationCounters) -> dict[str, Any]:
    return {name: getattr(counters, name) for name in counters.__struct_fields__}


def _moment(seconds: float) -> str:
    return format_time(seconds) if seconds else ""
