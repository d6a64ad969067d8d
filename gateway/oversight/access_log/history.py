"""History of one key: the records about it in the log, page by page."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.access.grants.mask import Masks, masked
from gateway.access.keys.change import key_urn
from gateway.access.policy.decision import MasksFor
from gateway.clock import Clock
from gateway.cursor import later
from gateway.event import Event
from gateway.filters.scope import RESERVED, Scope
from gateway.log.ports import Log, ScanHint
from gateway.scheduling.loop_work import Slices

_READ_EVENTS = 1000
_OWN = Scope(category=(f"{RESERVED}.**",))
_HINT = ScanHint(_OWN, (_OWN,))


class HistoryPage(msgspec.Struct, frozen=True):
    """Records in the order of the log, and the offset up to which it was scanned."""

    events: list[Event]
    reached: int


async def read_history(
    log: Log,
    clock: Clock,
    key_id: str,
    after: int,
    masks_for: MasksFor,
    *,
    limit: int,
    seconds: float,
    slices: Slices,
    hold: Callable[[int], bool] = lambda size: True,
) -> HistoryPage:
    """Records behind `after` that the key made or that are about it, with masks applied. A record
    whose subject is masked is about nobody.

    Ends at the head, at `limit`, after some time, or when `hold` refuses more bytes. Raises
    `RetentionExceeded`.
    """
    urn = key_urn(key_id)
    own = _OWN.compile()
    began = clock.monotonic()
    events: list[Event] = []
    reached = after
    while reached < log.head and len(events) < limit:
        page = await log.read(reached, log.head, limit=_READ_EVENTS, hint=_HINT)
        chosen = [
            masked(event, masks)
            async for event in slices.each(page.events)
            if own(event)
            and (masks := masks_for(event)) is not None
            and _is_seen_about(event, masks, key_id, urn)
        ]
        room = limit - len(events)
        events += chosen[:room]
        reached = page.reached if len(chosen) <= room else events[-1].offset
        held = hold(sum(len(event.json) for event in chosen[:room]))
        if not held or clock.monotonic() - began > seconds:
            break
    return HistoryPage(events, reached)


async def history_start(log: Log, created_at: float) -> int:
    """Offset behind which the history of a key begins that was created then."""
    return later(log.floor, await log.last_before(int(created_at * 1_000_000)))


def _is_seen_about(event: Event, masks: Masks, key_id: str, urn: str) -> bool:
    # Masked members are not even compared, so that timing does not reveal them.
    if not masks.hides("actor.id") and event.actor == key_id:
        return True
    return not masks.hides("targets.urn") and urn in event.resources.split("\n")
