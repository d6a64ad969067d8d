"""The sequencer: gives committed events their offsets, and knows the head.

Any process may take the next step; the database lets one at a time (see `sequence` in
`sql/postgres_log_010.sql`). So there is no leader to lose, and nobody waits for a dead process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg
import msgspec

from gateway.adapters.postgres.database import Database
from gateway.errors import GatewayError, Unavailable
from gateway.log.ports import REPLACED

# Events per step: bounds how long one step holds up the others.
_STEP_EVENTS = 10_000
# Pauses between polls: while events arrive, when it is quiet, while the database is away.
_BUSY_SECONDS = 0.002
_QUIET_SECONDS = 0.05
_AWAY_SECONDS = 0.25
# How long polling waits for an append of this process, which takes a step itself.
_APPEND_SECONDS = 0.05
_SLOWER = 1.5
_LOGGER = logging.getLogger(__name__)

_STEP = """
SELECT *, current_setting('transaction_read_only') = 'on' AS read_only FROM sequence($1, $2, $3)
"""
_LOOK = """
SELECT head, floor, (SELECT epoch FROM log), current_setting('transaction_read_only') = 'on'
                                                 AS read_only FROM newest_step()
"""


class Step(msgspec.Struct, frozen=True):
    """Result of one step for the batch asked about; `more` if it left rows behind. `conflicts` are
    the offsets of the batch's events stored under another id."""

    first: int
    accepted: int
    more: bool
    conflicts: list[int]


class Sequencer:
    """Half of `Log` that moves its head: takes steps when asked, and on its own while it finds
    events. `_start` in the subclass sets `epoch`."""

    def __init__(self, writes: Database) -> None:
        self.epoch = ""
        self.head = self.floor = 0
        self._writes = writes
        self._listeners: list[Callable[[], None]] = []
        self._wanted = asyncio.Event()
        self._polled_at = 0.0
        self._appends = 0
        self._lost: str | None = None
        # Rows of a followed table stored under another id, because theirs was taken.
        self.renamed = 0
        # Why events cannot be accepted now, as far as the steps show.
        self.degraded_reason: Unavailable | None = None

    def on_append(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def poll_now(self) -> None:
        self._wanted.set()

    @contextmanager
    def _appending(self) -> Iterator[None]:
        """Hold back polling while the body appends: if another step placed its events, it would
        have to look each of them up."""
        self._appends += 1
        try:
            yield
        finally:
            self._appends -= 1

    async def _step(self, *, patient: bool, mine: int = 0) -> Step:
        """Give committed events their offsets; `mine` is the batch to report on.

        Unless `patient`, return at once while another step is running.
        """
        self._check()
        known = self.head
        async with self._writes.connection("the log cannot be read") as connection:
            row = await connection.fetchrow(_STEP, patient, mine, _STEP_EVENTS)
        self._polled_at = asyncio.get_running_loop().time()
        self.degraded_reason = _read_only() if row["read_only"] else None
        await self._note(row, known)
        if row["renamed"]:
            if not self.renamed:
                _LOGGER.warning("ids of rows of a followed table are taken; such rows come under "
                                "ids that are made of their keys")  # fmt: skip
            self.renamed += row["renamed"]
        return Step(row["first"] or 0, row["accepted"], row["more"], row["conflicts"])

    async def catch_up(self) -> None:
        # Without a step: what was acknowledged is placed already.
        self._check()
        known = self.head
        async with self._writes.connection("the log cannot be read") as connection:
            row = await connection.fetchrow(_LOOK)
        await self._note(row, known)

    def _check(self) -> None:
        """Raise `Unavailable` once the database turned out to hold another log."""
        if self._lost is not None:
            raise Unavailable(self._lost, code=REPLACED, retry_after=30)

    async def _watch(self) -> None:
        """Poll until cancelled."""
        pause = _BUSY_SECONDS
        away = False
        while True:
            await self._pause(pause)
            before = self.head
            try:
                step = await self._step(patient=False)
            except GatewayError as error:
                if isinstance(error, Unavailable):
                    self.degraded_reason = error
                if not away:
                    _LOGGER.error("%s; trying again (%s)", error.detail, error.__cause__)
                away, pause = True, _AWAY_SECONDS
                continue
            if self.degraded_reason is not None:
                if not away:
                    _LOGGER.error("%s; trying again", self.degraded_reason.detail)
                away, pause = True, _AWAY_SECONDS
                continue
            if away:
                away = False
                _LOGGER.warning("the database is back")
            if step.more:
                pause = 0.0
            elif self.head > before:
                pause = _BUSY_SECONDS
            else:
                pause = min(max(pause, _BUSY_SECONDS) * _SLOWER, _QUIET_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait until `poll_now`, or until `seconds` after the last step."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not self._wanted.is_set():
            due = max(begun, self._polled_at) + seconds
            if self._appends:
                due = max(due, begun + _APPEND_SECONDS)
            if loop.time() >= due:
                break
            try:
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            except TimeoutError:
                pass
        self._wanted.clear()

    async def _note(self, row: asyncpg.Record, known: int) -> None:
        epoch, head = row["epoch"], row["head"]
        if row["read_only"]:
            # After a failover the old primary may still answer, and a standby may lag behind.
            await self._writes.let_go()
            if head < known:
                raise _read_only()
        if epoch != self.epoch or head < known:
            # Acknowledged events are missing: a failover lost them, or the database was restored.
            self._lost = (
                "the database holds another log than before: it was restored, or a failover lost "
                "events; restart the gateway"
            )
            _LOGGER.critical("%s (epoch %s, head %d; was %s, %d)", self._lost, epoch, head,
                             self.epoch, known)  # fmt: skip
            self._check()
        self.floor = max(self.floor, row["floor"])
        if head > self.head:
            self.head = head
            for listener in self._listeners:
                listener()


def _read_only() -> Unavailable:
    return Unavailable("the database accepts no writes", code="store_read_only", retry_after=10)
