"""Cache of chunks: parts of the log for one interest, encoded.

Streams that catch up on the same query from the same position, such as all that were demoted at
once, share the reading and the encoding.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from gateway.cursor import IN_JSON, advance, distance, offset_in
from gateway.errors import GatewayError
from gateway.filters.expression import FilterCost
from gateway.log.ports import Log, RetentionExceeded
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.formatting import format_in_slices
from gateway.streaming.live.interest import Interest
from gateway.wire.formatted import Formatted

_CHUNK_EVENTS = 1000
_MOST_BYTES = 16 << 20
# Bytes of the objects around each chunk, also an empty one.
_OVERHEAD = 512
# More reads at a time would not be faster, and would hold up the live tail.
_READS_AT_ONCE = 4


class Chunk(msgspec.Struct, frozen=True):
    """`count` encoded events, the offset that they reach, the cost of the filter, the offset of
    each, unless nobody has asked for them, and those of the first and the last one."""

    data: bytes
    count: int
    reached: int
    cost: FilterCost = msgspec.field(default_factory=FilterCost)
    offsets: Sequence[int] | None = ()
    first: int = 0
    last: int = 0


ChunkKey = tuple[Interest, int]


class EventFailed(Exception):
    """Event that cannot be matched, masked or encoded for a reader, which is a bug."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the event at the offset {offset} cannot be delivered")
        self.offset = offset


class ReplayCache:
    """Reads chunks, and keeps the last few megabytes of them."""

    def __init__(self, log: Log, work: LoopWork) -> None:
        self._log = log
        self._work = work
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        # Slow filters do not hold up other reads.
        self._costly_reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._known: OrderedDict[ChunkKey, Chunk] = OrderedDict()
        self._bytes = 0
        self._reading: dict[ChunkKey, asyncio.Future[Chunk | None]] = {}

    async def get(
        self,
        interest: Interest,
        after: int,
        until: int,
        limit: int | None,
        key_id: str,
        *,
        placed: bool = False,
    ) -> Chunk:
        """Chunk behind `after`, up to `until`, with at most `limit` events, and with their offsets
        if it is to be `placed`. A costly filter makes it shorter; its cost is charged to the key.
        Raises what `Log.read` raises."""
        if limit is not None and limit < _CHUNK_EVENTS:
            return await self._read(interest, after, until, limit, key_id, placed)
        key = (interest, after)
        while (reading := self._reading.get(key)) is not None:
            # Also a chunk that is not kept, as those who follow the log all ask for the newest one.
            read = await asyncio.shield(reading)
            if read is not None and self._suits(read, after, until, placed):
                return read
        known = self._known.get(key)
        if known is not None and self._suits(known, after, until, placed):
            self._known.move_to_end(key)
            return known
        done = self._reading[key] = asyncio.get_running_loop().create_future()
        chunk = None
        try:
            chunk = await self._read(interest, after, until, _CHUNK_EVENTS, key_id, placed)
        finally:
            del self._reading[key]
            done.set_result(chunk)
        if chunk.reached < until:
            self._remember(key, chunk)
        return chunk

    def _suits(self, chunk: Chunk, after: int, until: int, placed: bool) -> bool:
        """Whether a chunk read behind `after` is what is asked for."""
        return (
            chunk.reached <= until
            and after >= self._log.floor
            and not (placed and chunk.offsets is None)
        )

    async def _read(
        self, interest: Interest, after: int, until: int, limit: int, key_id: str, placed: bool
    ) -> Chunk:
        """Read up to the event that fails, if there is one. Raises `EventFailed` at it."""
        while True:
            try:
                return await self._read_whole(interest, after, until, limit, key_id, placed)
            except (GatewayError, RetentionExceeded):
                raise
            except Exception as error:
                count = min(distance(after, until), _CHUNK_EVENTS)
                if count <= 1:
                    raise EventFailed(advance(after, 1)) from error
                until = advance(after, count // 2)

    async def _read_whole(
        self, interest: Interest, after: int, until: int, limit: int, key_id: str, placed: bool
    ) -> Chunk:
        query, wire = interest.query, interest.wire
        hint = query.scan_hint()
        counted = query.filter is not None and query.filter.counted
        async with self._costly_reads if counted else self._reads:
            if self._log.can_read_raw(hint):
                read = await self._log.read_raw(after, until, limit=limit, hint=hint)
                if not read.count:
                    return Chunk(b"", 0, read.reached)
                if isinstance(wire, Formatted):
                    data = await self._formatted(wire, read.text.split(b"\n"), key_id)
                else:
                    data = wire.text(read.text)
                # They cost as much as the rest of a chunk.
                offsets = read.offsets(after) if placed else None
                newest = read.text.rfind(b"\n") + 1
                first, last = offset_in(read.text[IN_JSON]), offset_in(read.text[newest:][IN_JSON])
                return Chunk(
                    data, read.count, read.reached, offsets=offsets, first=first, last=last
                )
            page = await self._log.read(after, until, limit=_CHUNK_EVENTS, hint=hint)
            selector = EventSelector(query, self._work, key_id, self._work.filters.chunk_steps)
            chosen, looked = await selector.select(page.events)
        reached = page.reached_by(looked)
        if len(chosen) > limit:
            chosen = chosen[:limit]
            reached = chosen[-1].offset
        if not chosen:
            data = b""
        elif isinstance(wire, Formatted):
            data = await self._formatted(wire, [event.json for event in chosen], key_id)
        else:
            data = wire.events(chosen)
        offsets = array("q", [event.offset for event in chosen]) if placed else None
        first, last = (chosen[0].offset, chosen[-1].offset) if chosen else (0, 0)
        return Chunk(data, len(chosen), reached, selector.cost, offsets, first, last)

    async def _formatted(self, wire: Formatted, natives: Sequence[bytes], key_id: str) -> bytes:
        encoded = await format_in_slices(wire.format, natives, self._work.slices(key_id))
        return wire.framed([native[IN_JSON] for native in natives], encoded)

    def _remember(self, key: ChunkKey, chunk: Chunk) -> None:
        if key in self._known:
            self._forget(self._known.pop(key))
        self._known[key] = chunk
        self._bytes += _size(chunk)
        while self._bytes > _MOST_BYTES:
            self._forget(self._known.popitem(last=False)[1])

    def _forget(self, chunk: Chunk) -> None:
        self._bytes -= _size(chunk)


def _size(chunk: Chunk) -> int:
    return len(chunk.data) + _OVERHEAD + 8 * chunk.count
