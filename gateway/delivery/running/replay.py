"""Replay: a second, bounded pass over a part of the log for one destination, with the same ids.

It goes on beside the delivery and moves no position. After a pause or a crash it begins again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.cursor import format_cursor, parse_cursor
from gateway.delivery.destination import DONE, Destination, Replay, same_replay
from gateway.delivery.health import Status
from gateway.delivery.outlets.outlet import EncodedEvent, offset_of
from gateway.delivery.running.encoded_batch import DeliveryLease, SentEvents
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.stream import DeliveryStream
from gateway.delivery.running.worker import DeliveryWorker


class ReplayWorker(DeliveryWorker):
    """Worker of a replay. `outcome` says how it ended; it is empty while it goes on, and where it
    was broken off and has to begin again."""

    follows_receiver = False
    replays = True
    # The log may have nothing more for the key up to the end, of which nobody tells.
    longest_wait = 0.25

    def __init__(
        self, parts: DeliveryParts, destination: Destination, lease: DeliveryLease, replay: Replay
    ) -> None:
        begin = parse_cursor(replay.begin)[1]
        super().__init__(parts, destination, lease, begin, Status())
        self.replay = replay
        self.outcome = ""
        self._until = parse_cursor(replay.until)[1]
        chosen = replay.dead_letters
        self._wanted = frozenset(parse_cursor(one)[1] for one in chosen) if chosen else None
        self._settled: list[str] = []

    @property
    def _cancelled(self) -> bool:
        replay = self.destination.replay
        return not same_replay(replay, self.replay) or (replay is not None and bool(replay.outcome))

    @property
    def _over(self) -> bool:
        return super()._over or self._cancelled

    def change(self, destination: Destination) -> None:
        super().change(destination)
        if self._cancelled:
            self.interrupt()

    def _ready(self, stream: DeliveryStream) -> int:
        lines = stream.inbox.lines
        while lines:
            offset = offset_of(lines[0])
            if offset > self._until:
                break
            if self._wanted is None:
                return bisect_right(lines, self._until, key=offset_of)
            if offset in self._wanted:
                return 1
            lines.popleft()
            stream.inbox.taken()
        self.exhausted = bool(lines) or stream.cursor >= self._until
        return 0

    def _finish(self) -> None:
        self.outcome = DONE

    async def _stopped(self, reason_code: str) -> None:
        """The destination itself finds out, if it concerns more than these events."""
        self.outcome = reason_code
        self.stopping = True

    def _tally(self, events: Sequence[EncodedEvent], refused: int) -> SentEvents:
        tally = super()._tally(events, refused)
        if self._wanted is None:
            return tally
        return tally._replace(cursors=[event.cursor for event in events])

    def _taken(self, sent: SentEvents) -> None:
        super()._taken(sent)
        self._settled += sent.cursors

    def progress(self) -> Replay:
        """The replay with how far it is."""
        counters = self.status.counters
        return replace(
            self.replay,
            cursor=self.replay.until
            if self.outcome == DONE
            else format_cursor(parse_cursor(self.replay.begin)[0], self.position),
            delivered=counters.delivered.events,
            rejected=counters.rejected,
            outcome=self.outcome,
        )

    async def forget_settled(self) -> None:
        """Delete the dead letters that were taken now."""
        settled, self._settled = self._settled, []
        if settled:
            await self._parts.store.delete_dead_letters(self.destination.name, settled)
