"""Watch of delivery over all processes: one record in the log for each change of what it is.

One process at a time watches for all of them, by a note in the key store that it renews. What the
log says last is in that note, so a change is recorded once, whoever watches then, also after all
were started again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.access.keys.key_store import Notes
from gateway.clock import Clock, format_time, until_next_poll
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.fleet.health import LEVELS, Delivery, ReasonAnswer
from gateway.fleet.processes import Processes
from gateway.ingest.gateway_event import DELIVERY, new_gateway_event
from gateway.oversight.access_log.access_log import Appender

_KIND, _NAME = "delivery_level", "all"
_POLL_SECONDS = 10.0
# Whoever has watched last goes on watching so long after its last poll.
_LEASE_SECONDS = 30.0
# What is better has to be so for a minute, so that a gateway that wavers makes few records.
BETTER_SECONDS = 60.0
_SEVERITY: dict[Delivery, int] = {"ok": 1, "slow": 3, "stalled": 4, "down": 5}
_MOST_REASONS = 10
_LOGGER = logging.getLogger(__name__)


class DeliverySource(Protocol):
    """Health of the whole gateway, as far as delivery is concerned."""

    async def delivery(self) -> tuple[Delivery, float, Sequence[ReasonAnswer]]:
        """What delivery is, since when (seconds since 1970), and why."""


class RecordedLevel(msgspec.Struct, frozen=True):
    """What the newest record says of delivery, and since when.

    `better_since` is 0 while delivery is not better than that. `by` is the tag of the process that
    watches, up to the time `watched_to`. Times are seconds since 1970.
    """

    level: Delivery = "ok"
    since: float = 0.0
    better_since: float = 0.0
    by: str = ""
    watched_to: float = 0.0


_DECODER = msgspec.json.Decoder(RecordedLevel)


def next_recorded(
    recorded: RecordedLevel, level: Delivery, since: float, now: float
) -> RecordedLevel:
    """What is to be recorded once delivery is at a level: what is worse at once, what is better
    when it has been so for a minute."""
    if LEVELS.index(level) > LEVELS.index(recorded.level):
        return msgspec.structs.replace(recorded, level=level, since=since, better_since=0.0)
    if level == recorded.level:
        return msgspec.structs.replace(recorded, better_since=0.0)
    if not recorded.better_since:
        return msgspec.structs.replace(recorded, better_since=now)
    if now - recorded.better_since < BETTER_SECONDS:
        return recorded
    return msgspec.structs.replace(
        recorded, level=level, since=recorded.better_since, better_since=0.0
    )


def level_record(
    before: RecordedLevel, after: RecordedLevel, reasons: Sequence[ReasonAnswer]
) -> Draft:
    """Record of a change. Its id follows from it, so it is stored once. One of what is better has
    the severity of what is over, so that whoever selects the one gets the other."""
    resolved = after.level == "ok"
    return new_gateway_event(
        id=f"delivery-{after.level}-{int(after.since * 1000)}",
        category=DELIVERY,
        action="delivery.resolved" if resolved else f"delivery.{after.level}",
        at=after.since,
        outcome="success" if resolved else "failure",
        severity=max(_SEVERITY[before.level], _SEVERITY[after.level]),
        by="gateway",
        data={
            "delivery": after.level,
            "before": before.level,
            "since": format_time(after.since),
            "reasons": [
                {"code": one.code, "detail": one.detail, "since": one.since}
                for one in reasons[:_MOST_REASONS]
            ],
        },
    )


class DeliveryWatch:
    """Watch of one process."""

    def __init__(
        self,
        source: DeliverySource,
        processes: Processes,
        notes: Notes,
        writer: Appender,
        clock: Clock,
    ) -> None:
        self._source = source
        self._processes = processes
        self._notes = notes
        self._writer = writer
        self._clock = clock
        # Since when nothing could be read or recorded: nobody else could then, either, if nobody
        # else has watched meanwhile.
        self._away_since = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))
            await self.poll()

    async def poll(self) -> None:
        """Record what has changed, if this process is the one that watches; what the store does not
        take is recorded when it is there again."""
        try:
            await self._look()
        except GatewayError as error:
            if not self._away_since:
                self._away_since = self._clock.now()
                _LOGGER.warning("delivery is not watched now: %s", error.detail)

    async def _look(self) -> None:
        now = self._clock.now()
        recorded = await self._claim(now)
        if recorded is None:
            self._away_since = 0.0
            return
        if self._away_since and now - self._away_since >= _POLL_SECONDS:
            recorded = await self._record(recorded, "down", self._away_since, ())
        self._away_since = 0.0
        level, since, reasons = await self._source.delivery()
        await self._record(recorded, level, since, reasons)

    async def _record(
        self,
        recorded: RecordedLevel,
        level: Delivery,
        since: float,
        reasons: Sequence[ReasonAnswer],
    ) -> RecordedLevel:
        changed = next_recorded(recorded, level, since, self._clock.now())
        if changed == recorded:
            return recorded
        if changed.level != recorded.level:
            await self._writer.append([level_record(recorded, changed, reasons)])
        await self._notes.update_notes(_KIND, {_NAME: lambda _: msgspec.json.encode(changed)})
        return changed

    async def _claim(self, now: float) -> RecordedLevel | None:
        """What was recorded, if this process watches, and goes on watching; None otherwise."""
        known = _decoded(await self._notes.note(_KIND, _NAME))
        own = self._processes.own.tag
        left = known.watched_to - now
        # Of one that is longer than any lease the clock was set back.
        held = 0 < left <= _LEASE_SECONDS
        if self._processes.alone or (known.by == own and left > _LEASE_SECONDS / 2):
            return known
        if held and known.by != own:
            return None
        claimed: list[RecordedLevel] = []

        def claim(note: bytes | None) -> bytes | None:
            before = _decoded(note)
            claimed.clear()
            if (before.by, before.watched_to) != (known.by, known.watched_to):
                # Another process was first.
                return note
            renewed = msgspec.structs.replace(before, by=own, watched_to=now + _LEASE_SECONDS)
            claimed.append(renewed)
            return msgspec.json.encode(renewed)

        await self._notes.update_notes(_KIND, {_NAME: claim})
        return claimed[0] if claimed else None


def _decoded(note: bytes | None) -> RecordedLevel:
    """What is noted; nothing where another version wrote it."""
    try:
        return RecordedLevel() if note is None else _DECODER.decode(note)
    except msgspec.DecodeError:
        return RecordedLevel()
