"""Changes that are decided anew if what they were decided by has changed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import ChangedMeanwhile

Decided = TypeVar("Decided")
MOST_ATTEMPTS = 5


async def decided_anew(decide: Callable[[], Awaitable[Decided]]) -> Decided:
    """Result of a change that is decided by a key as it is: again, if the gateway itself has moved
    the key to another pepper meanwhile, or somebody has changed it otherwise."""
    for _ in range(MOST_ATTEMPTS - 1):
        try:
            return await decide()
        except ChangedMeanwhile:
            continue
    return await decide()
