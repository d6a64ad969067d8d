"""Port to destinations, and what every adapter promises.

One contract suite (`tests/contract/test_destinations_contract.py`) runs over all adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.delivery.destination import Destination

# The destination as it is (None: there is none), and the number of others; the result is the one to
# store, and None deletes it.
DestinationChange = Callable[[Destination | None, int], Destination | None]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Pointer to an event that a receiver did not take. Its content stays in the log alone.

    `at` is in seconds since 1970. `event_id` is "" where the receiver did not say which event of a
    range it was, and the range is `first` to `cursor`.
    """

    cursor: str
    event_id: str
    tenant: str
    reason: str
    status: int | None = None
    attempts: int
    at: float
    first: str = ""


class Destinations(Protocol):
    """Destinations, their dead letters and the last status of each, shared by all processes and
    replicas of one gateway.

    Ordering: the changes of destinations are in one total order, the same for all processes, and
    `version` grows with each. Atomicity: a call changes all that it changes, or nothing; with a
    destination its dead letters and its status go. Durability: when a call returns, what it has
    changed survives the death of process and machine; a status survives the process.

    Every call raises `Unavailable` when the store is away.
    """

    async def version(self) -> int:
        """Number of the newest change of a destination; 0 if there never was one. Cheap."""

    async def all(self) -> list[Destination]:
        """All destinations, by name."""

    async def get(self, name: str) -> Destination | None:
        """One destination."""

    async def change(self, name: str, change: DestinationChange) -> Destination | None:
        """Create, change or delete one by a pure function; return what is stored then, with its
        revision. Nothing is written if the function returns what it was given, or raises. Changes
        exclude each other, so it may decide by the number of others. It may run on another thread.
        """

    async def add_dead_letters(self, name: str, letters: Sequence[DeadLetter]) -> int:
        """Add dead letters of a destination, each cursor once, and return how many it has. Nothing
        is added to a destination that does not exist."""

    async def dead_letters(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        """Dead letters behind the cursor `after`, in the order of the log, at most so many."""

    async def count_dead_letters(self, name: str) -> int:
        """Number of dead letters of a destination."""

    async def delete_dead_letters(self, name: str, cursors: Sequence[str] | None) -> int:
        """Delete dead letters, all of them with None; return how many there were."""

    async def put_statuses(self, statuses: Mapping[str, bytes]) -> None:
        """Keep the last statuses of those destinations that exist, by their names."""

    async def status(self, name: str) -> bytes | None:
        """Last status that was kept."""

    async def statuses(self) -> dict[str, bytes]:
        """Last statuses that were kept, by the names of their destinations."""

    async def close(self) -> None:
        """Free the connections; no call may follow."""
