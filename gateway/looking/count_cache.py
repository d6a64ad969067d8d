"""Counts of whole blocks of the log, which never change, kept within a number of bytes. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import msgspec

from gateway.log.counts import Counts

MOST_BYTES = 16 << 20
# Bytes of a block beside its encoded counts.
_ENTRY_BYTES = 120
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Counts).decode


class CountCache:
    """Counts of blocks by query; the query that was not asked for longest goes first.

    A query is all that its counts depend on: also the epoch, and what the key may see."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._queries: OrderedDict[Hashable, KeptCounts] = OrderedDict()

    def of(self, query: Hashable) -> KeptCounts:
        """Kept counts of a query."""
        kept = self._queries.get(query)
        if kept is None:
            kept = self._queries[query] = KeptCounts(self, len(repr(query)))
            self.bytes += kept.bytes
        self._queries.move_to_end(query)
        while self.bytes > self.most_bytes and len(self._queries) > 1:
            self.drop_first()
        return kept

    def drop_first(self) -> None:
        """Drop the query that was not asked for longest."""
        self._queries.popitem(last=False)[1].drop()

    def room_for(self, size: int, kept: KeptCounts) -> bool:
        """Whether there is room for so many bytes of a query, when others have gone."""
        while self.bytes + size > self.most_bytes and next(iter(self._queries.values())) != kept:
            self.drop_first()
        return self.bytes + size <= self.most_bytes


class KeptCounts:
    """Counts of blocks of one query."""

    def __init__(self, cache: CountCache, size: int) -> None:
        self.bytes = size
        self._cache = cache
        self._blocks: dict[int, bytes] = {}
        self._dropped = False

    def get(self, block: int) -> Counts | None:
        """Counts of a block, if they are kept."""
        encoded = self._blocks.get(block)
        return None if encoded is None else _DECODE(encoded)

    def put(self, block: int, counts: Counts) -> None:
        """Keep the counts of a block, if there is room for them."""
        if self._dropped or block in self._blocks:
            return
        encoded = _ENCODE(counts)
        size = len(encoded) + _ENTRY_BYTES
        while not self._cache.room_for(size, self):
            # The oldest block goes, which is the first to be trimmed.
            oldest = min(self._blocks, default=block)
            if oldest >= block:
                return
            self._grow(-len(self._blocks.pop(oldest)) - _ENTRY_BYTES)
        self._blocks[block] = encoded
        self._grow(size)

    def drop(self) -> None:
        """Drop all of it, for whoever still holds it, too."""
        self._dropped = True
        self._blocks.clear()
        self._grow(-self.bytes)

    def _grow(self, size: int) -> None:
        self.bytes += size
        self._cache.bytes += size
