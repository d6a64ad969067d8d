"""Accounts of one delivery: what was taken, what was refused, and what failed last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.clock import format_time
from gateway.cursor import format_cursor
from gateway.delivery.batch_machine import Rejection
from gateway.delivery.definition import Definition
from gateway.delivery.destination import MOST_DEAD_LETTERS, TOO_MANY_REJECTED, Destination
from gateway.delivery.health import DestinationError, Status, public_words
from gateway.delivery.outlets.outlet import (
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
)
from gateway.delivery.ports import DeadLetter
from gateway.delivery.quotes import Unquoted
from gateway.delivery.running.encoded_batch import EncodedBatch, SentEvents
from gateway.delivery.running.outlets import Stopped
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.stream import DeliveryStream
from gateway.tracing.spans import TracedSpan

_COMPARED_AT_ONCE = 32


async def unquoted(verdict: DeliveryVerdict, sent: Sequence[EncodedEvent]) -> DeliveryVerdict:
    """Verdict in whose words nothing is quoted of the events that were sent."""
    if not sent or not verdict.message:
        return verdict
    if verdict.result in (DeliveryResult.SUCCESS, DeliveryResult.PERMANENT):
        # They are about what is refused.
        return verdict._replace(message="")
    words = Unquoted(verdict.message)
    for number, encoded in enumerate(sent, 1):
        words.compare(encoded.json)
        if number % _COMPARED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return verdict._replace(message=words.text)


class DeliveryAccounts:
    """Counts into the `status` of a destination, and stores its dead letters."""

    def __init__(self, parts: DeliveryParts, status: Status) -> None:
        self.status = status
        self._parts = parts
        # As it was when its stream was opened last.
        self._served: Definition | None = None

    async def begins(self, destination: Destination, position: int) -> None:
        """Record from which cursor on another selection or format holds."""
        before, self._served = self._served, destination.definition
        if before is not None and not before.same_delivery(destination.definition):
            here = format_cursor(self._parts.log.epoch, position)
            await self._parts.record("destination.changed", destination, {"from": here})

    def answered(self, verdict: DeliveryVerdict, seconds: float) -> None:
        """Count a request."""
        self.status.answered(verdict.result.value, seconds, verdict.duplicates)

    def delivered(self, sent: SentEvents, stream: DeliveryStream | None) -> None:
        """Count events that the receiver has taken."""
        self.status.succeeded(self._parts.clock.now(), sent.events, sent.size)
        self.status.counters.reduced += sent.reduced
        if stream is not None:
            stream.confirmed_events += sent.events

    async def rejected(
        self, destination: Destination, batch: EncodedBatch, rejections: Sequence[Rejection]
    ) -> int:
        """Store dead letters, before the cursor passes them; return how many. Raises `Stopped` at
        too many."""
        if not rejections:
            return 0
        letters = [self._letter(destination, batch, one) for one in rejections]
        await self._store(destination, letters, len(letters))
        return len(letters)

    async def unidentified(
        self, destination: Destination, sent: Sequence[EncodedEvent], verdict: DeliveryVerdict
    ) -> None:
        """Store that the receiver refused some of these events without saying which."""
        if not verdict.unidentified:
            return
        letter = DeadLetter(
            cursor=sent[-1].cursor, first=sent[0].cursor, event_id="",
            tenant=sent[-1].outbound.members.tenant, status=verdict.status, attempts=1,
            reason=f"unidentified: {verdict.unidentified} of {len(sent)}",
            at=self._parts.clock.now(),
        )  # fmt: skip
        await self._store(destination, [letter], verdict.unidentified)

    def failed(self, destination: Destination, verdict: DeliveryVerdict, pause: float) -> None:
        """Note a failed attempt, and after how many seconds the next one comes; 0 for none."""
        if verdict.result is DeliveryResult.CONFIG:
            self._parts.outlets.refused(destination)
        self.status.counters.retries += 1
        now = self._parts.clock.now()
        words = public_words(verdict.message, self._parts.outlets.secret_values(destination))
        kind = verdict.kind or verdict.result.value
        error = DestinationError(format_time(now), kind, verdict.status, words)
        self.status.failed(now, error, now + pause if pause else 0.0)
        self._parts.changed(destination.name)

    def _letter(
        self, destination: Destination, batch: EncodedBatch, rejection: Rejection
    ) -> DeadLetter:
        outbound = OutboundEvent(batch.lines[rejection.index])
        members = outbound.members
        return DeadLetter(
            cursor=outbound.cursor,
            event_id=members.id,
            tenant=members.tenant,
            reason=public_words(rejection.reason, self._parts.outlets.secret_values(destination)),
            status=rejection.status,
            attempts=rejection.attempts,
            at=self._parts.clock.now(),
        )

    async def _store(
        self, destination: Destination, letters: Sequence[DeadLetter], events: int
    ) -> None:
        count = await self._parts.store.add_dead_letters(destination.name, letters)
        self.status.counters.rejected += events
        self._parts.rejected(destination, letters)
        if count >= MOST_DEAD_LETTERS:
            raise Stopped(TOO_MANY_REJECTED)


def describe(
    span: TracedSpan, destination: Destination, events: int, verdict: DeliveryVerdict
) -> None:
    """Set the attributes of an attempt to deliver some events."""
    span.set("audit.destination.type", destination.definition.type)
    span.set("audit.events", events)
    span.set("audit.result", verdict.result.name.lower())
    if verdict.result is not DeliveryResult.SUCCESS:
        span.fail(verdict.kind)
