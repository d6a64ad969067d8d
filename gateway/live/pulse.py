"""Waiting for something to become true, without queues and without lost wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pulse:
    """Wakes everybody who waits, each time it beats; they look for themselves."""

    def __init__(self) -> None:
        self._beat: asyncio.Event | None = None

    def beat(self) -> None:
        """Something may have changed."""
        if self._beat is not None:
            self._beat.set()
            self._beat = None

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return True as soon as `condition()` holds after a beat, False after so many seconds.

        Does not give up control when the condition holds already.
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    if self._beat is None:
                        self._beat = asyncio.Event()
                    await self._beat.wait()
        except TimeoutError:
            return condition()
        return True
