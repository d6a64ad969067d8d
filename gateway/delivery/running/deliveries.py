"""All deliveries of one process: which destinations it holds, and the leases and positions of them.

One row of the consumers each (`gateway.streaming.consumers`) has position and claim. All rows that
moved are written in one transaction, at most once a second. A process whose claim was taken over
moves nothing any more, and one that cannot prolong its claims stops sending before they end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.clock import until_next_poll
from gateway.cursor import format_cursor, parse_cursor
from gateway.delivery.answer import TestAnswer
from gateway.delivery.destination import (
    OTHER_LOG,
    OWNER,
    Destination,
    Replay,
    same_replay,
    without_ended_secrets,
)
from gateway.delivery.health import Status, decode_status, encode_status
from gateway.delivery.position import position_row, start_of
from gateway.delivery.running.delivery_reports import DeliveryReports, Held, ReportSignal
from gateway.delivery.running.encoded_batch import DeliveryLease
from gateway.delivery.running.meter import DestinationMeter, DestinationNumbers
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.replay import ReplayWorker
from gateway.delivery.running.worker import DeliveryWorker
from gateway.errors import GatewayError
from gateway.log.gap import gap_message
from gateway.streaming.consumers.ports import Consumers
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move, further

LEASE_SECONDS = 10.0
_RENEW_SECONDS = 3.0
_MARGIN_SECONDS = 1.0
_POLL_SECONDS = 0.5
_COMMIT_SECONDS = 1.0
_STATUS_SECONDS = 5.0
_STOP_SECONDS = 5.0
_GONE_SECONDS = 1.0
_LOGGER = logging.getLogger(__name__)


class DeliverySupervisor:
    """Deliveries of one process; `run` as a task, and `close` before the streams are drained."""

    def __init__(
        self,
        parts: DeliveryParts,
        consumer_store: Consumers,
        replica: str,
        report: ReportSignal,
        *,
        alone: bool = False,
    ) -> None:
        """`alone`: no other process delivers from this store, so that whoever holds something is
        dead."""
        self.parts = parts
        self._alone = alone
        self.reports = DeliveryReports(parts, report)
        self._meter = DestinationMeter(parts.store, consumer_store, parts.log, parts.clock)
        self._consumer_store = consumer_store
        # The name that the rows have while this process holds them.
        self.replica = replica
        self._reader = f"{replica}/{secrets.token_hex(4)}"
        self._version = -1
        self._known: dict[str, Destination] = {}
        self._held: dict[str, Held] = {}
        self._turn = asyncio.Lock()
        self._committed_at = float("-inf")
        self._closing = False

    async def run(self) -> None:
        """Take, hold and leave destinations until cancelled."""
        away = False
        while True:
            try:
                await self.poll()
                away = False
            except GatewayError as error:
                if not away:
                    _LOGGER.warning("destinations cannot be held: %s", error.detail)
                away = True
            await self.parts.clock.sleep(until_next_poll(self.parts.clock, _POLL_SECONDS))

    async def poll(self) -> None:
        """Look for changed destinations, write what moved, and take what nobody holds."""
        async with self._turn:
            if self._closing:
                return
            await self._refresh()
            self._end_finished()
            await self._leave()
            now = self.parts.clock.monotonic()
            # A poll may come a little early, and the next one would be half a second late.
            due = self._committed_at + _COMMIT_SECONDS - _POLL_SECONDS / 2
            if (self._known or self._held) and now >= due:
                self._committed_at = now
                await self._commit()
                await self.reports.tell(self._held, self._known)
                await self._forget_secrets()
            await self._carry_replays()
            await self._keep_statuses()

    async def close(self) -> None:
        """Finish what is under way, store the positions, and let others take over at once."""
        async with self._turn:
            self._closing = True
            await self._stop(list(self._held), _STOP_SECONDS)

    async def numbers(self) -> Sequence[DestinationNumbers]:
        """Numbers of all destinations, for metrics."""
        return await self._meter.numbers()

    def status_of(self, name: str) -> Status | None:
        """Live status of a destination that this process holds, as of now: it moves no more."""
        held = self._held.get(name)
        return None if held is None else decode_status(encode_status(_status(held)))

    def position_of(self, name: str) -> str | None:
        """Cursor up to which a destination held here is delivered, stored or not."""
        held = self._held.get(name)
        return None if held is None else self._cursor(held)

    def with_progress(self, destination: Destination) -> Destination:
        """The destination with how far its replay is, if it goes on here."""
        held, stored = self._held.get(destination.name), destination.replay
        if held is None or held.replay is None or not same_replay(stored, held.replay.replay):
            return destination
        assert stored is not None
        # Its end counts once it is stored.
        return replace(destination, replay=_ended_as(held.replay.progress(), stored))

    async def test(self, destination: Destination) -> TestAnswer:
        """Send a test event the whole way, beside the delivery and without moving it."""
        return await self.parts.outlets.test(destination, self.parts.log)

    # Definitions

    async def _refresh(self) -> None:
        version = await self.parts.store.version()
        if version == self._version:
            return
        known = {one.name: one for one in await self.parts.store.all()}
        self._version, before, self._known = version, self._known, known
        for name, held in self._held.items():
            found = known.get(name)
            if found is not None and found != before.get(name):
                held.worker.change(found)
                if held.replay is not None:
                    held.replay.change(found)
        self._committed_at = float("-inf")

    async def _forget_secrets(self) -> None:
        """Delete replaced values of secrets once they count no more."""
        now = self.parts.clock.now()
        for name, known in self._known.items():
            if without_ended_secrets(known, now) is not known:
                await self.parts.store.change(
                    name,
                    lambda one, others: None if one is None else without_ended_secrets(one, now),
                )

    async def _leave(self) -> None:
        """Stop what was deleted at once, and what is no longer active after its last request."""
        gone = [name for name in self._held if name not in self._known]
        for name in gone:
            held = self._held[name]
            held.worker.interrupt()
            if held.replay is not None:
                held.replay.interrupt()
        await self._stop(gone, _GONE_SECONDS)

    def _end_finished(self) -> None:
        for name, held in list(self._held.items()):
            if held.task.done():
                self.parts.changed(name)

    # Leases and positions

    async def _commit(self) -> None:
        clock = self.parts.clock
        now, began = clock.now(), clock.boottime()
        for name in [name for name, held in self._held.items() if held.task.done()]:
            await self._release(name)
        moves = {}
        for name, held in self._held.items():
            cursor = self._cursor(held)
            renews = began - held.renewed_at >= _RENEW_SECONDS
            if renews or cursor != held.cursor:
                moves[ConsumerKey(OWNER, name)] = Move(
                    at=now, generation=held.worker.lease.generation, cursor=cursor, sent=cursor,
                    lease_until=now + LEASE_SECONDS,
                )  # fmt: skip
        wanted = [
            name
            for name, one in self._known.items()
            if one.state == "active" and name not in self._held
        ]
        if not moves and not wanted:
            return
        watched = [ConsumerKey(OWNER, name) for name in wanted]
        rows = await self._consumer_store.commit(moves, watched)
        for key, move in moves.items():
            self._note_row(key.name, move, rows.get(key), began)
        for key in watched:
            row = rows.get(key)
            if row is None:
                await self._place_again(key.name)
            elif self._alone or not row.held(now):
                await self._claim(key.name)

    def _note_row(self, name: str, move: Move, row: ConsumerRow | None, began: float) -> None:
        held = self._held.get(name)
        if held is None:
            return
        if row is None or row.generation != held.worker.lease.generation:
            # Another process has taken over, or it was deleted.
            held.worker.lease.until = 0.0
            held.worker.stop()
            held.worker.interrupt()
            return
        held.cursor = row.cursor
        held.renewed_at = began
        held.worker.lease.until = began + LEASE_SECONDS - _MARGIN_SECONDS

    async def _place_again(self, name: str) -> None:
        """Give a destination whose position is lost that of the oldest event, as after a backup
        that was made while the destination was: an event that comes twice is none that is lost."""
        destination = await self.parts.store.get(name)
        if destination is None:
            return
        log = self.parts.log
        row = position_row(name, format_cursor(log.epoch, log.floor), self.parts.clock.now())
        await self._consumer_store.change(OWNER, name, lambda before, others: before or row)
        data = {"from": row.cursor}
        await self.parts.record("destination.position_lost", destination, data, 3)

    async def _claim(self, name: str) -> None:
        clock = self.parts.clock
        now, began = clock.now(), clock.boottime()

        def claim(row: ConsumerRow | None, others: int) -> ConsumerRow | None:
            if row is None or (row.held(now) and not self._alone):
                return row
            # Rows move within one epoch only; here the log is another one than it was.
            here = format_cursor(log.epoch, start_of(log, row.cursor))
            return replace(
                row, generation=row.generation + 1, reader=self._reader, cursor=here,
                sent=further(here, row.sent), lease_until=now + LEASE_SECONDS, updated_at=now,
            )  # fmt: skip

        log = self.parts.log
        known = await self._consumer_store.get(OWNER, name)
        row = await self._consumer_store.change(OWNER, name, claim)
        if row is None or row.reader != self._reader or name in self._held:
            return
        destination = self._known[name]
        status = decode_status(await self.parts.store.status(name))
        status.replica, status.in_flight, status.next_attempt = self.replica, 0, 0.0
        lease = DeliveryLease(row.generation, began + LEASE_SECONDS - _MARGIN_SECONDS)
        position = start_of(log, row.cursor)
        before = parse_cursor(known.cursor) if known is not None else None
        if before is not None and before[0] != log.epoch:
            gap = gap_message(log, "cursor_unknown", before, position)
            self.parts.gaps.append((destination, gap))
        worker = DeliveryWorker(self.parts, destination, lease, position, status)
        task = self.parts.tasks.run("destination", worker.run)
        held = self._held[name] = Held(worker, row.cursor, task)
        held.renewed_at = began
        self.parts.changed(name)

    async def _stop(self, names: list[str], within: float) -> None:
        """Stop workers: after the request under way, or at once if that takes long. One that a disk
        holds even then is left to itself: the claims of all others have to be prolonged."""
        held = [self._held[name] for name in names]
        for one in held:
            one.worker.stop()
            if one.replay is not None:
                one.replay.stop()
        tasks = [task for one in held for task in (one.task, one.replaying) if task is not None]
        running = [task for task in tasks if not task.done()]
        if running:
            await asyncio.wait(running, timeout=within)
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_GONE_SECONDS)
        for name in names:
            await self._release(name)

    async def _release(self, name: str) -> None:
        """Store the position of an ended worker, and give its claim back."""
        held = self._held[name]
        cursor = self._cursor(held)
        move = Move(
            at=self.parts.clock.now(), generation=held.worker.lease.generation, cursor=cursor,
            sent=cursor, lease_until=0.0,
        )  # fmt: skip
        key = ConsumerKey(OWNER, name)
        # While the store is away, how far it is stays known here.
        row = (await self._consumer_store.commit({key: move})).get(key)
        del self._held[name]
        held.worker.status.replica = ""
        if row is not None and row.generation == move.generation:
            await self.parts.store.put_statuses({name: encode_status(held.worker.status)})

    def _cursor(self, held: Held) -> str:
        return format_cursor(self.parts.log.epoch, held.worker.position)

    # Replays

    async def _carry_replays(self) -> None:
        """Begin the replays of what is held, and store the end of each."""
        for name, held in self._held.items():
            destination = self._known.get(name)
            replay = None if destination is None else destination.replay
            if destination is None or replay is None:
                continue
            worker, task = held.replay, held.replaying
            if worker is not None and task is not None:
                done = task.done()
                await worker.forget_settled()
                if done:
                    held.replay = held.replaying = None
                    if worker.outcome or replay.outcome:
                        await self._end_replay(destination, worker)
            elif not replay.outcome and not held.task.done():
                worker = ReplayWorker(self.parts, destination, held.worker.lease, replay)
                if parse_cursor(replay.begin)[0] != self.parts.log.epoch:
                    # Its cursors mean nothing here any more.
                    worker.outcome = OTHER_LOG
                    await self._end_replay(destination, worker)
                    continue
                held.replay = worker
                held.replaying = self.parts.tasks.run("destination", worker.run)

    async def _end_replay(self, destination: Destination, worker: ReplayWorker) -> None:
        done = replace(worker.progress(), ended_at=self.parts.clock.now())

        def end(before: Destination | None, others: int) -> Destination | None:
            if before is None or before.replay is None or not same_replay(before.replay, done):
                return before
            if not before.replay.outcome:
                return replace(before, replay=done)
            # It was cancelled.
            return replace(before, replay=_ended_as(done, before.replay))

        stored = await self.parts.store.change(destination.name, end)
        replay = None if stored is None else stored.replay
        if replay is None or not same_replay(replay, done):
            return
        data = {"outcome": replay.outcome, "delivered": done.delivered, "rejected": done.rejected}
        await self.parts.record("destination.replay_ended", destination, data)

    # Status

    async def _keep_statuses(self) -> None:
        """Store the status of destinations, together: at once when something happened, else now and
        then, and never that of one which another process may have taken over."""
        clock = self.parts.clock
        now, time = clock.monotonic(), clock.boottime()
        changed = {}
        for name, held in self._held.items():
            waits = name not in self.parts.noted and now - held.status_at < _STATUS_SECONDS
            if waits or time >= held.worker.lease.until:
                continue
            document = encode_status(_status(held))
            held.status_at = now
            if document != held.status:
                changed[name] = document
        if changed:
            await self.parts.store.put_statuses(changed)
            for name, document in changed.items():
                self._held[name].status = document
        self.parts.noted.clear()


def _status(held: Held) -> Status:
    """Status of what is held here, with what waits for its confirmation in flight."""
    status, receipts = held.worker.status, held.worker.receipts
    waiting = 0 if receipts is None else receipts.events
    return replace(status, in_flight=status.in_flight + waiting)


def _ended_as(progress: Replay, stored: Replay) -> Replay:
    """How far a replay is, and how and when it ended, if it did, as it is stored."""
    return replace(progress, outcome=stored.outcome, ended_at=stored.ended_at)
