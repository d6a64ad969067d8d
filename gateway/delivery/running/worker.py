"""Worker of one destination: carries what its key may see to the receiver, batch by batch.

The worker opens a stream of the key (`gateway.delivery.running.stream`), so all that holds for
streams holds for it. A change of what the key sees interrupts the request under way, and the stream
begins again behind the last event that is confirmed: what was read and not confirmed is never sent
under former rights. What it holds is bounded: the batch that is sent, the next one, what waits in
the stream, and one page; what waits for its confirmation is read again if that does not come.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import partial

from gateway.cursor import later, parse_cursor
from gateway.delivery.backoff import MOST_AFTER_FAILURE, pause
from gateway.delivery.batch_machine import Attempt, NextStep
from gateway.delivery.destination import GONE, TOO_MANY_REJECTED, Destination
from gateway.delivery.health import Status
from gateway.delivery.outlets.outlet import (
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    Outlet,
)
from gateway.delivery.records import test_event
from gateway.delivery.running.accounts import DeliveryAccounts, describe, unquoted
from gateway.delivery.running.encoded_batch import (
    DeliveryLease,
    EncodedBatch,
    OpenBatch,
    SentEvents,
)
from gateway.delivery.running.outlets import Stopped
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.receipts import Receipts, Unconfirmed
from gateway.delivery.running.stream import DeliveryStream
from gateway.delivery.running.upcoming import Upcoming
from gateway.errors import GatewayError
from gateway.notifier import Notifier
from gateway.tracing.spans import begin
from gateway.wire.framing import CLIENT_CLOSED, LIFETIME_REACHED, RESTART

# What is read of the next batch of a type whose batches are as large as memory has room for.
_AHEAD_BYTES = 8 << 20
_INTERNAL = "internal error of the gateway; its log has the details"


class DeliveryWorker:
    """Worker of a destination while this process holds its lease."""

    # Whether it begins where the receiver says that it is, if it says so.
    follows_receiver = True
    # Whether it sends beside the delivery what was sent before.
    replays = False
    longest_wait = 3600.0
    # Whether nothing comes behind what was read.
    exhausted = False

    def __init__(
        self,
        parts: DeliveryParts,
        destination: Destination,
        lease: DeliveryLease,
        position: int,
        status: Status,
    ) -> None:
        self.destination = destination
        self.lease = lease
        self.status = status
        self.accounts = DeliveryAccounts(parts, status)
        self._confirmed = position
        self.stopping = False
        self._parts = parts
        self._outlet: Outlet | None = None
        self._stream: DeliveryStream | None = None
        self._scope: asyncio.Timeout | None = None
        self._woken = Notifier()
        # Failures in a row, and events refused since one was accepted.
        self._failures = self._refused = 0
        # Whether nothing fails but what was before it began, or to prepare the receiver.
        self._unopened = True
        # Of the session: what was sent and is not confirmed, and the batches that come next.
        self.receipts: Receipts | None = None
        self._upcoming: Upcoming | None = None
        # Whether the definition has changed since the stream and the outlet were opened.
        self._renewed = False

    # From outside

    @property
    def position(self) -> int:
        """Offset up to which nothing is left to deliver."""
        if self._stream is not None:
            self._confirmed = self._stream.position
        return self._confirmed

    def change(self, destination: Destination) -> None:
        """Go on with another definition or state, after the request that is under way."""
        self.destination = destination
        self._renewed = True
        self._woken.notify()

    def stop(self) -> None:
        """End after the request that is under way."""
        self.stopping = True
        self._woken.notify()

    def interrupt(self) -> None:
        """Break off the request that is under way, if there is one, and begin again."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    # The work

    async def run(self) -> None:
        """Deliver until stopped."""
        try:
            while not self._over:
                self._renewed = False
                await self._session()
                await self._close()
        finally:
            await self._close()

    @property
    def _over(self) -> bool:
        return self.stopping or self.destination.state != "active"

    @property
    def _leaves(self) -> bool:
        """Whether the session has to end between two requests."""
        stream = self._stream
        return self._over or self._renewed or stream is None or stream.inbox.closed

    async def _session(self) -> None:
        """Deliver until interrupted, changed or stopped; pause after a failure."""
        scope = asyncio.timeout(None)
        try:
            try:
                async with scope:
                    self._scope = scope
                    await self._open()
                    await self._deliver()
            finally:
                # Nothing is left to be interrupted, also while it pauses below.
                self._scope = None
        except TimeoutError as error:
            if not scope.expired():
                await self._internal(error)
        except Stopped as stopped:
            await self._stopped(stopped.reason_code)
        except GatewayError as error:
            await self._failed(DeliveryVerdict(
                DeliveryResult.CONFIG if error.status < 500 else DeliveryResult.TRANSIENT,
                kind=error.code, message=error.detail,
            ))  # fmt: skip
        except Exception as error:
            await self._internal(error)

    async def _stopped(self, reason_code: str) -> None:
        """Act on why nothing more can be delivered; if the store is away, soon again."""
        try:
            await self._parts.disable(self.destination, reason_code)
        except GatewayError as error:
            verdict = DeliveryVerdict(DeliveryResult.TRANSIENT, kind=error.code)
            await self._failed(verdict._replace(message=error.detail))
        else:
            self.stopping = True

    async def _internal(self, error: Exception) -> None:
        self._parts.tasks.report("destination", error)
        verdict = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="internal", message=_INTERNAL)
        await self._failed(verdict)

    async def _open(self) -> None:
        """Prepare the receiver, and open the stream behind what is confirmed."""
        self._outlet = self._parts.outlets.make(self.destination, replay=self.replays)
        self.status.confirmation = self._outlet.confirmation
        while not (self._over or self._renewed):
            verdict = await self._outlet.open()
            if verdict.result is DeliveryResult.SUCCESS:
                break
            self._unopened = self._unopened or not self.status.failing_since
            await self._failed(verdict)
        if self._over or self._renewed:
            return
        if self._unopened:
            self._unopened = False
            self.status.recovered()
        if verdict.cursor is not None and self.follows_receiver:
            epoch, offset = parse_cursor(verdict.cursor)
            if epoch == self._parts.log.epoch:
                self._confirmed = later(self._confirmed, offset)
        opened = OpenBatch(self._outlet, self.destination.definition.batch)
        stream = self._stream = await self._parts.open_stream(
            self.destination, self._confirmed, self._woken.notify, self.interrupt, opened.max_wait
        )
        self._upcoming = Upcoming(
            opened, self._outlet, stream.inbox, self._parts.clock, self._woken,
            lambda: self._ready(stream), lambda: self._leaves or self.exhausted,
        )  # fmt: skip
        self.receipts = Receipts(
            self._outlet, self._parts.tasks, self._confirmed_later, self._woken.notify
        )
        if not self.replays:
            await self.accounts.begins(self.destination, self._confirmed)

    async def _deliver(self) -> None:
        while not self._leaves and (batch := await self._next_batch()) is not None:
            await self._carry(batch)
        if self._stream is not None and not self._stream.inbox.closed:
            await self._confirm_down_to(0)
        end = None if self._stream is None else self._stream.ended_by
        if end is not None and end.reconnect and end not in (LIFETIME_REACHED, RESTART):
            await self._failed(DeliveryVerdict(DeliveryResult.TRANSIENT, kind=end.reason))

    async def _close(self) -> None:
        """End the stream at what is confirmed, and the connection to the receiver."""
        receipts, self.receipts = self.receipts, None
        if receipts is not None:
            await receipts.close()
        stream, self._upcoming = self._stream, None
        if stream is not None:
            self._confirmed = stream.position
            self._stream = None
            self._parts.hub.end(stream, CLIENT_CLOSED)
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            await outlet.close()

    # Batches

    async def _next_batch(self) -> EncodedBatch | None:
        """The next batch, once it is full or old enough; None if the session has to end."""
        stream, upcoming, receipts = self._stream, self._upcoming, self.receipts
        assert stream is not None
        assert upcoming is not None
        assert receipts is not None
        while not upcoming and not self._ready(stream):
            ends = self.exhausted or receipts.failure is not None
            if ends and not await self._confirm_down_to(0):
                return None
            # All before what is there now is delivered, or is not for this key.
            stream.idle = not receipts
            if self.exhausted:
                self._finish()
                self.stop()
            if self._leaves:
                return None
            left = receipts.state
            await self._woken.until(
                lambda: not stream.inbox.clear or self._leaves or receipts.state != left,  # noqa: B023
                self.longest_wait,
            )
        stream.idle = False
        return await upcoming.next(self.longest_wait)

    def _finish(self) -> None:
        """Take note that all is delivered."""

    def _ready(self, stream: DeliveryStream) -> int:
        """How many of the lines that wait are to be delivered, from the first on."""
        return len(stream.inbox.lines)

    async def _carry(self, batch: EncodedBatch) -> None:
        """Send a batch until each event of it is delivered or rejected, or the session ends."""
        machine, told = batch.machine(self._whole, self._refused), 0
        while (attempt := machine.next(self._most())) is not None:
            if self._leaves:
                break
            assert self._outlet is not None
            if not await self._confirm_down_to(self._outlet.limits.unconfirmed - 1):
                return
            await self._parts.await_rights(self._stream)
            if self._leaves:
                # It was changed or paused during the wait.
                break
            if self._parts.clock.boottime() >= self.lease.until:
                self.stop()
                break
            sending = batch.sent_by(attempt, self._outlet)
            if attempt.tests:
                sending = [test_event(self._outlet, self._parts.log, self._parts.clock.now())]
            verdict = await self._send(attempt, sending)
            step = machine.answered(attempt, verdict)
            self._refused = machine.in_a_row
            delivered = verdict.delivered(len(sending))
            if not attempt.tests:
                await self.accounts.unidentified(self.destination, sending, verdict)
                events = [sending[at] for at in sorted(delivered)]
                taken = self._tally(events, verdict.unidentified)
                if verdict.receipt is not None and self.receipts is not None:
                    self.receipts.add(Unconfirmed(verdict.receipt, taken))
                elif delivered:
                    self._taken(taken)
            told += await self.accounts.rejected(self.destination, batch, machine.rejections[told:])
            if machine.settled:
                self._confirm(batch.offset(machine.settled - 1))
            if verdict.gone or step is not NextStep.NEXT:
                quotable = () if attempt.tests or self._whole else sending
                verdict = await unquoted(verdict, quotable)
            if verdict.gone:
                await self._failed(verdict, waits=False)
                raise Stopped(GONE)
            if step is NextStep.DISABLE:
                await self._failed(verdict, waits=False)
                raise Stopped(TOO_MANY_REJECTED)
            if step is not NextStep.NEXT:
                await self._failed(verdict)
            elif delivered and verdict.receipt is None:
                # What is refused, or waits for a receipt, does not show that it works again.
                self._failures = 0
        else:
            told += await self.accounts.rejected(self.destination, batch, machine.rejections[told:])
            self._confirm(batch.offset(-1))

    def _most(self) -> int:
        return MOST_AFTER_FAILURE if self._failures and not self._whole else 1 << 30

    @property
    def _whole(self) -> bool:
        """Whether a batch is sent again as it was."""
        return self._outlet is not None and self._outlet.limits.planned

    async def _send(self, attempt: Attempt, sending: Sequence[EncodedEvent]) -> DeliveryVerdict:
        outlet, status, clock = self._outlet, self.status, self._parts.clock
        assert outlet is not None
        status.in_flight += len(sending)
        began = clock.monotonic()
        ahead = None
        if self._upcoming is not None:
            most = _AHEAD_BYTES if self._whole else outlet.limits.max_bytes
            prepare = partial(self._upcoming.prepare, self.longest_wait, most)
            ahead = self._parts.tasks.run("destination", prepare)
        try:
            with begin("deliver", "client") as span:
                verdict = await (outlet.test(sending[0]) if attempt.tests else outlet.send(sending))
                if verdict.receipt is not None and outlet.limits.unconfirmed == 1:
                    verdict = await outlet.confirm(verdict.receipt)
                describe(span, self.destination, len(sending), verdict)
        finally:
            status.in_flight -= len(sending)
            if ahead is not None:
                ahead.cancel()
        status.confirmation = outlet.confirmation
        self.accounts.answered(verdict, clock.monotonic() - began)
        return verdict

    def _tally(self, events: Sequence[EncodedEvent], refused: int) -> SentEvents:
        return SentEvents.of(events, refused)

    def _taken(self, sent: SentEvents) -> None:
        """Count what the receiver has confirmed."""
        self.accounts.delivered(sent, self._stream)

    def _confirm(self, offset: int) -> None:
        """Move the position, or have it moved when what was sent before is confirmed."""
        newest = None if self.receipts is None else self.receipts.newest
        if newest is not None:
            newest.offset = offset
        elif self._stream is not None:
            self._stream.confirmed = offset

    # Receipts

    async def _confirm_down_to(self, most: int) -> bool:
        """Wait for receipts until at most so many are left. If one is not confirmed, it and all
        behind it are read and sent again, and the session has to end: False."""
        failure = None if self.receipts is None else await self.receipts.down_to(most)
        if failure is None:
            return True
        self._renewed = True
        await self._failed(failure)
        return False

    def _confirmed_later(self, one: Unconfirmed) -> None:
        """Count what was sent before and is confirmed now."""
        self._failures = 0
        self._taken(one.sent)
        if one.offset is not None and self._stream is not None:
            self._stream.confirmed = one.offset

    # Failures

    async def _failed(self, verdict: DeliveryVerdict, *, waits: bool = True) -> None:
        """Note a failure, and pause before the next attempt."""
        self._failures += 1
        least, most = self.destination.definition.retry_seconds()
        seconds = pause(self._failures - 1, least, most, verdict.retry_after, random.random())
        self.accounts.failed(self.destination, verdict, seconds if waits else 0.0)
        if waits:
            stream = self._stream
            await self._woken.until(
                lambda: self._over or self._renewed or (stream is not None and self._leaves),
                seconds,
            )
