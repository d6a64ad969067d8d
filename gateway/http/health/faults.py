"""What one process finds wrong with itself and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.errors import GatewayError
from gateway.fleet.health import Fault
from gateway.http.request.context import Context
from gateway.oversight.clock_watch import step_warning
from gateway.settings.server import PLAIN_TEXT_WARNING
from gateway.streaming.health.delivery_window import SLOW_SECONDS, DeliveryWindow

_BEHIND_SECONDS = 5.0
_LATE_SECONDS = 5.0
_UNREAD_SECONDS = 2.0
# As many records of use are made at a time; more wait.
_MANY_RECORDS = 1000


def faults_of(context: Context, window: DeliveryWindow) -> Iterator[Fault]:
    """All that this process finds."""
    yield from _about_stores(context)
    yield from _about_delivery(context, window)
    yield from _about_the_rest(context)
    yield from _about_followed(context)
    yield from _about_tls(context)


def _about_stores(context: Context) -> Iterator[Fault]:
    if (reason := context.degraded_reason) is not None:
        yield Fault("store_away", reason.detail)
    freshness = context.enforcement.freshness
    if not freshness.keys_known:
        failure = freshness.keys.failure
        if isinstance(failure, GatewayError):
            yield Fault("keys_unavailable", f"the keys cannot be read: {failure.detail}")
        elif freshness.keys.seconds >= _UNREAD_SECONDS:
            told = f"the keys were not read for {freshness.keys.seconds:.0f} s"
            yield Fault("keys_unavailable", told)


def _about_delivery(context: Context, window: DeliveryWindow) -> Iterator[Fault]:
    now = context.clock.monotonic()
    if (failure := context.tasks.failure) is not None:
        yield Fault("internal_error", failure.detail)
    elif not context.ready:
        yield Fault("not_ready", "it starts or stops")
    if overdue := context.hub.overdue():
        yield Fault("streams_overdue", f"{overdue} live streams are owed events for over 5 s")
    if (behind := context.canary.behind) >= _BEHIND_SECONDS:
        yield Fault(
            "canary_behind", f"an event has waited for {behind:.0f} s to be handed over",
            since=context.clock.now() - behind,
        )  # fmt: skip
    if slow := window.slow_for(now):
        yield Fault(
            "delivery_slow",
            f"the slowest hundredth of events took over {SLOW_SECONDS:.0f} s to be handed over",
            since=context.clock.now() - slow,
        )
    if stalled := context.hub.totals.stalled:
        yield Fault("peers_stalled", f"{stalled} streams have peers that take nothing")
    if (late := context.loop_delay.longest(now)) > _LATE_SECONDS:
        yield Fault("loop_late", f"the event loop was {late:.1f} s late in the last two minutes")


def _about_the_rest(context: Context) -> Iterator[Fault]:
    if not context.shared.health().up:
        yield Fault("redis_away", "Redis does not answer")
    if (waiting := context.access_log.waiting) >= _MANY_RECORDS:
        yield Fault("record_waiting", f"{waiting} records of use are not in the log yet")
    for owner, name in sorted(context.consumer_watch.at_risk):
        yield Fault(
            "position_at_risk", f"retention comes near to the position of {name!r} of {owner}",
            about=f"{owner}/{name}",
        )  # fmt: skip
    if context.clock.waiting is not None:
        yield Fault("clock_stepped", step_warning(context.clock.offset))
    for line in context.missing_peppers.lines():
        yield Fault("pepper_missing", line, about=line)


def _about_followed(context: Context) -> Iterator[Fault]:
    """Problems of a followed table, which do not affect anything else."""
    table = context.followed
    if table is None:
        return
    if table.degraded_reason is not None:
        yield Fault(
            "followed_away", f"{table.name} is not followed: {table.degraded_reason.detail}"
        )
    elif (waits := table.waits) is not None:
        whom = "a transaction" if waits.pid is None else f"the transaction of process {waits.pid}"
        told = f"rows of {table.name} have been waiting for {waits.seconds:.0f} s for {whom}"
        yield Fault("followed_waiting", told)


def _about_tls(context: Context) -> Iterator[Fault]:
    """Problems of TLS, with which the gateway serves on."""
    if context.settings.server.is_readable_on_the_way:
        yield Fault("plain_text", PLAIN_TEXT_WARNING)
    if context.certificates is not None:
        for code, line in context.certificates.warnings():
            yield Fault(code, line)
