"""Port to the durable positions of readers, and what every adapter promises.

One contract suite (`tests/contract/test_consumers_contract.py`) runs over all adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from gateway.histogram import Histogram
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move

# The row as it is (None: there is none), and the number of other rows of its owner; the result is
# the row to store, and None deletes it.
RowChange = Callable[[ConsumerRow | None, int], ConsumerRow | None]


class Consumers(Protocol):
    """Rows of all owners, shared by the processes and replicas of one gateway.

    Ordering: the changes of a row are in one total order, the same for all processes; each sees the
    row as the change before left it. Atomicity: a call changes all that it changes, or nothing.
    Durability: when a call returns, what it has changed survives the death of process and machine.

    Every call raises `Unavailable` when the store is away; it may then have been done or not, and
    repeating it does no harm.
    """

    @property
    def commit_seconds(self) -> Histogram:
        """Times of its write transactions, which so are counted."""

    async def get(self, owner: str, name: str) -> ConsumerRow | None:
        """One row."""

    async def all(self, owner: str | None = None) -> list[ConsumerRow]:
        """Rows of an owner, or of all, by owner and name."""

    async def change(self, owner: str, name: str, change: RowChange) -> ConsumerRow | None:
        """Create, change or delete one row by a pure function; return what is stored then.

        Nothing is written if the function returns the row that it was given, or raises. The changes
        of one owner exclude each other, so that it may decide by the number of the others. It may
        run on another thread, and is called once.
        """

    async def commit(
        self, moves: Mapping[ConsumerKey, Move], watched: Collection[ConsumerKey] = ()
    ) -> dict[ConsumerKey, ConsumerRow]:
        """Apply moves by `gateway.streaming.consumers.row.moved`, in one transaction; return the
        rows after it, and those that are only `watched`. Rows that do not exist are left out.

        Nothing is written where no row would change.
        """

    async def close(self) -> None:
        """Free the connections; no call may follow."""
