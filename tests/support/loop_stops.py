"""How long the event loop of a test stands still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def longest_stop(work: Awaitable[T]) -> tuple[T, int]:
    """What the work returns, and how long the loop stopped at the most meanwhile, in ms."""
    longest = 0.0
    done = False

    async def beat() -> None:
        nonlocal longest
        while not done:
            # Time in which this thread did not run is not its fault.
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)
            await asyncio.sleep(0.001)

    beating = asyncio.create_task(beat())
    found = await work
    done = True
    await beating
    return found, int(longest * 1000)
