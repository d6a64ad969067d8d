"""A place of a limit on concurrency, given back once."""

from __future__ import annotations

from collections.abc import Callable


class Place:
    """One place of a limit. Implements `gateway.access.limits.ports.Lease`."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
