"""Cursor loop: reads the log for one reader, from its cursor on and at its pace.

A reader receives events in order and without gaps: a stream that catches up, or anything else with
a cursor, such as a receiver that is pushed to. The loop knows neither connections nor the hub.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

from gateway.clock import Clock
from gateway.cursor import earlier
from gateway.errors import GatewayError
from gateway.log.gap import gap_message
from gateway.log.ports import Log, RetentionExceeded
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.delivery_gate import DeliveryGate
from gateway.streaming.live.delivery_pacer import Pacer
from gateway.streaming.live.interest import Interest
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.replay_cache import Chunk, EventFailed, ReplayCache
from gateway.wire.framing import OVERTAKEN, QUOTA_EXHAUSTED, End

_RETRY_SECONDS = 1.0


class ReadProgress(Protocol):
    """Position of a reader, and what it reads. The loop moves `cursor` and counts `sent`."""

    key_id: str
    # Query, view of the key, and wire. It may be replaced at any time: what was read through the
    # previous one is not delivered.
    interest: Interest
    cursor: int
    # Number of delivered events; the number, and the offset, at which the reader is complete.
    sent: int
    limit: int | None
    until: int | None
    # Whether to go on behind what retention has deleted, or to end there.
    skip_gaps: bool
    # Pacer, if the key has delivery limits.
    pacer: Pacer | None


class LogReader(Protocol):
    """Receiver of what a cursor loop reads.

    Ordering: each chunk begins where the one before ended. No method but `quiet` is called before
    `drained` has returned for the chunk before. Nothing is delivered while the gate is closed for
    the key.
    """

    @property
    def progress(self) -> ReadProgress:
        """Position and query of the reader."""

    @property
    def reading(self) -> bool:
        """Whether the loop goes on."""

    @property
    def newest(self) -> int:
        """Offset up to which events may be read now."""

    @property
    def wants_offsets(self) -> bool:
        """Whether it has to know the offset of each event of a chunk."""

    @property
    def sharing(self) -> int:
        """Number of readers that share the delivery limits of the key, including this one."""

    def join(self) -> bool:
        """Go on without the loop, from the cursor, if that is possible now; this ends the loop."""

    async def await_more(self, seconds: float) -> bool:
        """Wait, with the cursor at `newest`, for more to read; False after so many seconds."""

    def deliver(self, chunk: Chunk) -> None:
        """Take the next chunk, to whose end the cursor has moved; it may hold no event."""

    async def drained(self) -> None:
        """Return when there is room for the next chunk."""

    def quiet(self) -> None:
        """Nothing was delivered for a while; the cursor may have moved."""

    def skip(self, gap: dict[str, Any]) -> None:
        """Take the members of a `gap` message for events missing in front of the cursor."""

    def complete(self) -> None:
        """End: `limit` or `until` is reached."""

    def fail(self, failed: EventFailed) -> None:
        """End: the next event cannot be delivered."""

    def end(self, end: End) -> None:
        """End: the reader may read no more, for that reason."""


class ReadingContext(NamedTuple):
    """Parts that all cursor loops over one log share."""

    log: Log
    clock: Clock
    timings: StreamTimings
    work: LoopWork
    chunks: ReplayCache
    gate: DeliveryGate


class CursorLoop:
    """Carries one reader from its cursor towards the end of the log."""

    def __init__(self, context: ReadingContext, reader: LogReader) -> None:
        self._log, self._clock, self._timings, self._work, self._chunks, self._gate = context
        self._reader = reader
        self._progress = reader.progress
        self._heard_at = self._clock.monotonic()

    async def run(self) -> None:
        """Read until the reader goes on without the loop, is complete, or reads no more."""
        progress, reader = self._progress, self._reader
        await reader.drained()
        while reader.reading:
            if not self._gate.admits(progress.key_id):
                await self._await_gate()
                continue
            # No `await` between this check of the position and joining.
            if reader.join():
                return
            if self._is_complete():
                reader.complete()
                return
            target = self._target()
            if progress.cursor >= target:
                if not await reader.await_more(self._timings.heartbeat):
                    self._quiet()
                continue
            if seconds := self._wait_for_share():
                await self._clock.sleep(seconds)
                continue
            interest = progress.interest
            chunk = await self._read(target)
            if progress.pacer is not None and chunk is not None and chunk.count:
                await self._await_turn(progress.pacer)
            while not self._gate.admits(progress.key_id):
                await self._await_gate()
            # What was read for a previous view of the key is not delivered.
            narrowed = progress.interest is not interest
            if chunk is not None and not narrowed and reader.reading:
                self._deliver(chunk)
                await reader.drained()
                # Others run in between, above all the tail.
                await asyncio.sleep(0)

    def _target(self) -> int:
        until, newest = self._progress.until, self._reader.newest
        return newest if until is None else earlier(until, newest)

    def _is_complete(self) -> bool:
        progress = self._progress
        if progress.limit is not None and progress.sent >= progress.limit:
            return True
        return progress.until is not None and progress.cursor >= progress.until

    async def _await_gate(self) -> None:
        """Wait until the gate admits the key, or a sign of life is due."""
        gate, key_id = self._gate, self._progress.key_id
        if not await gate.renewed.until(lambda: gate.admits(key_id), self._timings.heartbeat):
            self._quiet()

    def _wait_for_share(self) -> float:
        """Seconds to wait because the key's filters have used up their share."""
        chosen = self._progress.interest.query.filter
        if chosen is None or not chosen.counted:
            return 0.0
        seconds = self._work.wait(self._progress.key_id)
        if seconds and self._is_quiet_for(self._timings.scanning):
            self._quiet()
        return min(seconds, _RETRY_SECONDS)

    async def _await_turn(self, pacer: Pacer) -> None:
        """Wait until more may be sent, or end the reader if that would take too long."""
        while seconds := pacer.wait():
            if pacer.given_up:
                self._reader.end(QUOTA_EXHAUSTED)
                return
            if self._is_quiet_for(self._timings.heartbeat):
                self._quiet()
            await self._clock.sleep(seconds)

    async def _read(self, target: int) -> Chunk | None:
        progress = self._progress
        left = None if progress.limit is None else progress.limit - progress.sent
        if progress.pacer is not None:
            left = progress.pacer.most(left, self._reader.sharing)
        try:
            return await self._chunks.get(
                progress.interest, progress.cursor, target, left, progress.key_id,
                placed=self._reader.wants_offsets,
            )  # fmt: skip
        except RetentionExceeded:
            self._skip_deleted()
        except EventFailed as failed:
            self._reader.fail(failed)
        except GatewayError:
            # The store is away; the reader stays and goes on from its cursor.
            await self._clock.sleep(_RETRY_SECONDS)
        return None

    def _deliver(self, chunk: Chunk) -> None:
        progress = self._progress
        progress.cursor = chunk.reached
        progress.sent += chunk.count
        if chunk.count and progress.pacer is not None:
            progress.pacer.sent(chunk.count, len(chunk.data))
        self._reader.deliver(chunk)
        if chunk.count:
            self._heard_at = self._clock.monotonic()
        elif self._is_quiet_for(self._timings.scanning):
            self._quiet()

    def _skip_deleted(self) -> None:
        """Go on behind what retention has deleted, or end the reader."""
        log, progress = self._log, self._progress
        if not progress.skip_gaps:
            self._reader.end(OVERTAKEN)
            return
        after, begin = (log.epoch, progress.cursor), log.floor
        progress.cursor = begin
        self._reader.skip(gap_message(log, "cursor_expired", after, begin))

    def _is_quiet_for(self, seconds: float) -> bool:
        return self._clock.monotonic() - self._heard_at >= seconds

    def _quiet(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._reader.quiet()
