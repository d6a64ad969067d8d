"""Worker of one destination: carries what its key may see to the receiver, batch by batch.

The worker opens a stream of the key (`gateway.delivery.running.stream`), so all that holds for
streams holds for it. A change of what the key sees interrupts the request under way, and the stream
begins again behind the last event that is confirmed: what was read and not confirmed is never sent
under former rights. What it holds is bounded: a batch, what waits in the stream, and one page; what
waits for its confirmation is read again if that does not come.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence

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
    outbound_of,
)
from gateway.delivery.records import test_event
from gateway.delivery.reduction import encode_within_limits
from gateway.delivery.running.accounts import DeliveryAccounts
from gateway.delivery.running.encoded_batch import (
    DeliveryLease,
    EncodedBatch,
    SentEvents,
    Unconfirmed,
    batch_bounds,
)
from gateway.delivery.running.outlets import Stopped
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.stream import DeliveryStream
from gateway.errors import GatewayError
from gateway.notifier import Notifier
from gateway.wire.framing import CLIENT_CLOSED, LIFETIME_REACHED, RESTART

# Events that are encoded before others have their turn.
_AT_ONCE = 64
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
        # What was sent and is not confirmed, oldest first.
        self._unconfirmed: deque[Unconfirmed] = deque()
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
            self.stopping = True
        except GatewayError as error:
            await self._failed(DeliveryVerdict(
                DeliveryResult.CONFIG if error.status < 500 else DeliveryResult.TRANSIENT,
                kind=error.code, message=error.detail,
            ))  # fmt: skip
        except Exception as error:
            await self._internal(error)

    async def _stopped(self, reason_code: str) -> None:
        """Act on why nothing more can be delivered."""
        await self._parts.disable(self.destination, reason_code)

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
        self._stream = await self._parts.open_stream(
            self.destination, self._confirmed, self._woken.notify, self.interrupt
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
        stream = self._stream
        self._unconfirmed.clear()
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
        stream, outlet = self._stream, self._outlet
        assert stream is not None
        assert outlet is not None
        inbox, clock = stream.inbox, self._parts.clock
        while self._unconfirmed and not self._has_next(stream):
            if self._leaves or not await self._confirm_down_to(len(self._unconfirmed) - 1):
                return None
        stream.idle = not self._unconfirmed
        while not self._has_next(stream):
            if self.exhausted:
                self._finish()
                self.stop()
            if self._leaves:
                return None
            await self._woken.until(lambda: bool(inbox.lines) or self._leaves, self.longest_wait)
        # All before what is there now is delivered, or is not for this key.
        stream.idle = False
        most_events, most_bytes, max_wait = batch_bounds(
            self.destination.definition.batch, outlet.limits
        )
        due = clock.monotonic() + max_wait
        events: list[EncodedEvent | None] = []
        lines: list[bytes] = []
        size = 0
        while len(events) < most_events:
            if not self._has_next(stream):
                left = due - clock.monotonic()
                if left <= 0 or self._leaves or self.exhausted:
                    break
                await self._woken.until(lambda: bool(inbox.lines) or self._leaves, left)
                continue
            encoded = encode_within_limits(outlet, outbound_of(inbox.lines[0]))
            more = 0 if encoded is None else len(encoded.body)
            if events and size + more > most_bytes:
                break
            lines.append(inbox.take())
            events.append(encoded)
            size += more
            if len(events) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if inbox.closed and not events:
            return None
        return EncodedBatch(events, lines)

    def _finish(self) -> None:
        """Take note that all is delivered."""

    def _has_next(self, stream: DeliveryStream) -> bool:
        """Whether there is an event to deliver."""
        return bool(stream.inbox.lines)

    async def _carry(self, batch: EncodedBatch) -> None:
        """Send a batch until each event of it is delivered or rejected, or the session ends."""
        machine = batch.machine(self._whole, self._refused)
        told = 0
        while (attempt := machine.next(self._most())) is not None:
            if self._leaves:
                break
            await self._parts.await_rights(self._stream)
            if self._parts.clock.boottime() >= self.lease.until:
                self.stop()
                break
            assert self._outlet is not None
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
                if verdict.receipt is not None:
                    self._unconfirmed.append(Unconfirmed(verdict.receipt, taken))
                elif delivered:
                    self._taken(taken)
            told += await self.accounts.rejected(self.destination, batch, machine.rejections[told:])
            if machine.settled:
                self._confirm(batch.offset(machine.settled - 1))
            if not await self._confirm_down_to(self._window - 1):
                return
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

    @property
    def _window(self) -> int:
        """Number of requests that may be unconfirmed."""
        return 1 if self._outlet is None else max(1, self._outlet.limits.unconfirmed)

    async def _send(self, attempt: Attempt, sending: Sequence[EncodedEvent]) -> DeliveryVerdict:
        outlet, status, clock = self._outlet, self.status, self._parts.clock
        assert outlet is not None
        status.in_flight += len(sending)
        began = clock.monotonic()
        try:
            verdict = await (outlet.test(sending[0]) if attempt.tests else outlet.send(sending))
            if verdict.receipt is not None and self._window == 1:
                verdict = await outlet.confirm(verdict.receipt)
        finally:
            status.in_flight -= len(sending)
        status.confirmation = outlet.confirmation
        self.accounts.answered(verdict, clock.monotonic() - began)
        if verdict.result is DeliveryResult.PERMANENT and not attempt.tests:
            # It may quote what it refuses, and health is shown to people who see no events.
            return verdict._replace(message="")
        return verdict

    def _tally(self, events: Sequence[EncodedEvent], refused: int) -> SentEvents:
        return SentEvents.of(events, refused)

    def _taken(self, sent: SentEvents) -> None:
        """Count what the receiver has confirmed."""
        self.accounts.delivered(sent, self._stream)

    def _confirm(self, offset: int) -> None:
        """Move the position, or have it moved when what was sent before is confirmed."""
        if self._unconfirmed:
            self._unconfirmed[-1].offset = offset
        elif self._stream is not None:
            self._stream.confirmed = offset

    # Receipts

    async def _confirm_down_to(self, most: int) -> bool:
        """Wait for receipts until at most so many are left. If one is not confirmed, it and all
        behind it are read and sent again, and the session has to end: False."""
        outlet, stream = self._outlet, self._stream
        assert outlet is not None
        while len(self._unconfirmed) > most:
            oldest = self._unconfirmed[0]
            verdict = await outlet.confirm(oldest.receipt)
            if verdict.result is not DeliveryResult.SUCCESS:
                self._unconfirmed.clear()
                self._renewed = True
                await self._failed(verdict)
                return False
            self._unconfirmed.popleft()
            self._failures = 0
            self._taken(oldest.sent)
            if oldest.offset is not None and stream is not None:
                stream.confirmed = oldest.offset
        return True

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
