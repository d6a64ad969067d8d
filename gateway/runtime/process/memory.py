"""Return of freed memory to the system.

glibc keeps freed blocks that lie between used ones: after some large requests, a hundred megabytes
for good. `malloc_trim` returns them. Other C libraries have no such call.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from gateway.clock import Clock, until_next_poll

_EVERY_SECONDS = 1.0
# Smaller growth is not worth a try.
_WORTH_BYTES = 8 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


async def give_back_memory(clock: Clock) -> None:
    """Return memory to the system until cancelled; end at once if the C library cannot."""
    trim = _trim()
    if trim is None:
        return
    least = _resident()
    while True:
        await clock.sleep(until_next_poll(clock, _EVERY_SECONDS))
        before = _resident()
        least = min(least, before)
        if before - least > _WORTH_BYTES:
            # On a thread: others only wait if they share its heap.
            await asyncio.get_running_loop().run_in_executor(None, trim, 0)
            if before - _resident() < _WORTH_BYTES // 16:
                # The memory is in use.
                least += _WORTH_BYTES


def _trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except OSError:
        return None
    return trim


def _resident() -> int:
    """Resident bytes of this process; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
