"""Search of the log for the values behind a pseudonym, as far as a reader may see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from gateway.access.grants.pseudonym import Pseudonyms
from gateway.access.grants.pseudonymizer import find_values
from gateway.access.policy.decision import Projection
from gateway.clock import Clock
from gateway.cursor import later
from gateway.event import Event
from gateway.log.ports import Log, RetentionExceeded
from gateway.scheduling.loop_work import Slices

_READ_EVENTS = 500
# Pseudonyms of a value are few: it has some kinds of members, and not many paths.
MOST_VALUES = 100


class Sought(msgspec.Struct, frozen=True):
    """A pseudonym that is sought behind the offset `after`, up to `until`, among the pseudonyms of
    one domain and version."""

    pseudonym: str
    pseudonyms: Pseudonyms
    after: int
    until: int


class FoundValue(msgspec.Struct, frozen=True):
    """A value, the path at which it stood, and the cursor of the first event that it stood in."""

    path: str
    value: str
    first_cursor: str


class PseudonymSearch(msgspec.Struct, frozen=True):
    """Values that were found, and the offset up to which the log was searched."""

    values: list[FoundValue]
    reached: int


async def search(
    log: Log,
    clock: Clock,
    project: Projection,
    sought: Sought,
    *,
    seconds: float,
    slices: Slices,
    hold: Callable[[int], bool],
) -> PseudonymSearch:
    """Search events as `project` shows them. Ends early after some time, or when `hold` refuses
    more bytes."""
    began = clock.monotonic()
    reached, until = sought.after, sought.until
    found: dict[tuple[str, str], FoundValue] = {}
    while reached < until and len(found) < MOST_VALUES:
        try:
            page = await log.read(reached, until, limit=_READ_EVENTS)
        except RetentionExceeded:
            reached = later(reached, log.floor)
            continue
        seen: Sequence[Event] = [
            event async for one in slices.each(page.events) if (event := project(one)) is not None
        ]
        # An event may hold tens of thousands of values.
        natives = [(one.tenant, one.json) for one in seen]
        work = partial(find_values, natives, sought.pseudonyms, sought.pseudonym)
        for number, path, value in await slices.in_process(work):
            cursor = seen[number].cursor.decode()
            found.setdefault((path, value), FoundValue(path, value, cursor))
        reached = page.reached
        if not hold(sum(len(one.json) for one in seen)) or clock.monotonic() - began > seconds:
            break
    return PseudonymSearch(list(found.values()), reached)
