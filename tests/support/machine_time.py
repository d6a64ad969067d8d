"""Deadlines and durations in the time of this machine, which may be slow or busy.

A number of seconds in a test means seconds of a quiet machine. Use it in three ways:

Wait for a condition, with a generous bound that only a hang reaches:

    await eventually(lambda: hub.position >= 5, "the tail is at 5")
    async with asyncio.timeout(patience()):
        await stream.read()

Assert an upper bound of a duration with a stopwatch, which counts quiet seconds:

    watch = Stopwatch()
    await gateway.stop()
    assert watch.seconds < 3

Assert a lower bound with `watch.elapsed`, in seconds of the wall clock, as a busy machine only
makes it longer. Prefer an injected clock, where the time is the gateway's own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

# How long the fixed piece of work takes on a quiet machine of two cores, in seconds.
_QUIET_WORK = 0.0015
_ROUNDS = 20_000
# A wait that succeeds costs nothing, so its bound is far away.
_PATIENCE = 4.0
_LOAD_SECONDS = 0.2
_POLL_SECONDS = 0.005


@cache
def _speed() -> float:
    """How many times as long as on a quiet machine a fixed piece of work takes, without waiting."""

    def work() -> float:
        began = time.thread_time()
        numbers: dict[int, int] = {}
        for number in range(_ROUNDS):
            numbers[number & 0xFF] = numbers.get(number & 0x7F, 0) + number
        return time.thread_time() - began

    return max(1.0, min(work() for _ in range(3)) / _QUIET_WORK)


class _Load:
    """How many processes want each core; read again when the last reading is old."""

    def __init__(self) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._read_at = float("-inf")
        self._load = 1.0

    def __call__(self) -> float:
        if time.monotonic() - self._read_at > _LOAD_SECONDS:
            # The mean of the last minute, and those that run or wait for a core just now.
            mean, _, _, now, _ = Path("/proc/loadavg").read_text().split()
            wanted = max(float(mean), float(now.partition("/")[0]))
            self._load = max(1.0, wanted / self._cores)
            self._read_at = time.monotonic()
        return self._load


_load = _Load()


def slowness() -> float:
    """How many times as long as on a quiet machine work takes now; at least 1."""
    return _speed() * _load()


def patience(seconds: float = 10.0) -> float:
    """The bound of a wait for a condition that holds within `seconds` on a quiet machine."""
    return seconds * _PATIENCE * slowness()


class Stopwatch:
    """The time since it was made."""

    def __init__(self) -> None:
        self._slowness = slowness()
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of the wall clock."""
        return time.monotonic() - self._began

    @property
    def seconds(self) -> float:
        """Seconds of a quiet machine: compare upper bounds with this."""
        elapsed = self.elapsed
        self._slowness = max(self._slowness, slowness())
        return elapsed / self._slowness


async def eventually(
    condition: Callable[[], bool], what: str = "the condition holds", seconds: float = 5.0
) -> None:
    """Return once the condition holds; fail when it does not within `patience(seconds)`."""
    began = time.monotonic()
    while not condition():
        # Asked for at each turn: the machine may have become busy since.
        bound = patience(seconds)
        assert time.monotonic() - began < bound, f"not within {bound:.0f} seconds: {what}"
        await asyncio.sleep(_POLL_SECONDS)


async def becomes(
    ask: Callable[[], Awaitable[Answer]], condition: Callable[[Answer], object]
) -> Answer:
    """The first answer for which the condition holds; fail when none comes in time."""
    began = time.monotonic()
    while not condition(answer := await ask()):
        assert time.monotonic() - began < patience(), f"it does not become so: {answer}"
        await asyncio.sleep(_POLL_SECONDS)
    return answer


def wait_until(
    condition: Callable[[], bool], what: str = "the condition holds", seconds: float = 5.0
) -> None:
    """`eventually` without an event loop."""
    began = time.monotonic()
    while not condition():
        bound = patience(seconds)
        assert time.monotonic() - began < bound, f"not within {bound:.0f} seconds: {what}"
        time.sleep(_POLL_SECONDS)
