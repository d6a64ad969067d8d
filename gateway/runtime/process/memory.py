"""Memory that was freed goes back to the machine.

glibc keeps what is freed between blocks that are still in use: after some large requests that is a
hundred megabytes for ever. `malloc_trim` gives it back. Other C libraries have no such call.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from gateway.clock import Clock, until_next_poll

_EVERY_SECONDS = 1.0
# What has grown by less is not worth the look.
_WORTH_BYTES = 8 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


async def give_back_memory(clock: Clock) -> None:
    """Give memory back until cancelled; returns at once where there is no way to."""
    trim = _trim()
    if trim is None:
        return
    least = _resident()
    while True:
        await clock.sleep(until_next_poll(clock, _EVERY_SECONDS))
        before = _resident()
        least = min(least, before)
        if before - least > _WORTH_BYTES:
            # A thread, as other threads wait for it only where they share the same heap.
            await asyncio.get_running_loop().run_in_executor(None, trim, 0)
            if before - _resident() < _WORTH_BYTES // 16:
                # It is in use.
                least += _WORTH_BYTES


def _trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except OSError:
        return None
    return trim


def _resident() -> int:
    """Resident bytes of this process; 0 where the machine does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
