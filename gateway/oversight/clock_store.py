"""Store of trusted time, on which all processes and replicas agree."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.access.keys.key_store import Notes, SharedTime
from gateway.clock import Clock, boot_id
from gateway.trusted_clock import JUMP_SECONDS, ClockState, Reading, TrustedClock, initial_time

KIND = "clock"
# How many times as fast as time the horizon of retention catches up after a stop.
RATE = 24
_STATE = "state"
_HORIZON = "horizon"
_DECODE = msgspec.json.Decoder(ClockState).decode
_ENCODE = msgspec.json.Encoder().encode


class ClockStore(Notes, SharedTime, Protocol):
    """Store of trusted time, which may have a wall clock of its own."""


class RetentionHorizon(msgspec.Struct, frozen=True):
    """Retention by age deletes what was recorded before `at` (microseconds since 1970); `moved_at`
    is the trusted time of its last move."""

    at: int
    moved_at: float


_DECODE_HORIZON = msgspec.json.Decoder(RetentionHorizon).decode


async def read_clock(store: SharedTime, machine: Clock) -> Reading:
    """Read the wall clock that counts: that of a shared database, or the machine's own."""
    before = machine.boottime()
    shared = await store.wall_time()
    wall = machine.now() if shared is None else shared
    half = (machine.boottime() - before) / 2
    return Reading(wall, before + half, boot_id(), half)


async def kept_state(store: Notes) -> ClockState | None:
    """Trusted time as it was stored last."""
    document = await store.note(KIND, _STATE)
    return None if document is None else _DECODE(document)


async def keep_state(store: Notes, state: ClockState, *, anyway: bool) -> None:
    """Store the trusted time of this process. Unless `anyway`, a differing one that another process
    has just stored is kept, and taken over at the next poll."""

    def noting(document: bytes | None) -> bytes | None:
        if document is not None and not anyway:
            known = _DECODE(document)
            theirs = None if known.by == state.by else known.fresh(_reading(state))
            if theirs is not None and abs(theirs - state.trusted) > JUMP_SECONDS:
                return document
        return _ENCODE(state)

    await store.update_notes(KIND, {_STATE: noting})


async def open_clock(store: ClockStore, machine: Clock) -> TrustedClock:
    """Trusted clock that goes on from the stored state."""
    state = await kept_state(store)
    reading = await read_clock(store, machine)
    theirs = None if state is None else state.fresh(reading)
    trusted = initial_time(state, reading) if theirs is None else theirs
    return TrustedClock(machine, reading, trusted)


async def move_horizon(
    store: Notes, *, target: int, now: float, observed: float, oldest: int | None
) -> int | None:
    """Move the horizon of retention towards `target`, `RATE` times as fast as time; return it.

    The time that counts is trusted time since its last move, at most the `observed` seconds that
    passed in this process. Without a horizon it begins at `oldest`, when the oldest event was
    recorded; None if there is no event either.
    """
    moved: list[int | None] = []

    def noting(document: bytes | None) -> bytes | None:
        moved.clear()
        known = None if document is None else _DECODE_HORIZON(document)
        if known is None:
            at = oldest
        else:
            # Other processes may have moved it for a part of this time.
            passed = max(0.0, min(now - known.moved_at, observed))
            at = known.at + int(passed * RATE * 1_000_000)
        at = None if at is None else min(at, target)
        moved.append(at)
        return document if at is None else _ENCODE(RetentionHorizon(at, now))

    await store.update_notes(KIND, {_HORIZON: noting})
    return moved[0]


def _reading(state: ClockState) -> Reading:
    return Reading(state.wall, state.boottime, state.boot_id)
