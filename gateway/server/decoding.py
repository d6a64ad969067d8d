"""Decoding the events of a request in slices: whatever is sent, others have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gateway.clock import Clock
from gateway.errors import InvalidEvents
from gateway.event import Draft
from gateway.ingest.decode import decode_events, refused_events
from gateway.ingest.ids import new_ids
from gateway.ingest.split import pieces_of

# What the worst bytes cost (about a microsecond each) decides on a slice, not what most do.
_SLICE_BYTES = 16 * 1024
_SLICE_EVENTS = 250
_TURN_SECONDS = 0.002


class Decoder:
    """Decodes bodies. Events that are a slice by themselves are for a thread of its own."""

    def __init__(self, clock: Clock) -> None:
        self._now, self._monotonic = clock.now, clock.monotonic
        self._thread = ThreadPoolExecutor(1, "decoder")
        # Not when threads are short.
        self._thread.submit(lambda: None)

    async def decode(
        self, body: bytes, *, lines: bool, most: int, mapped: bool = False
    ) -> list[Draft]:
        """All events of a body of NDJSON `lines` or JSON, at most `most`.

        Raises `InvalidEvents` with every refusal.
        """
        drafts: list[Draft] = []
        errors: list[dict[str, Any]] = []
        ids = new_ids(self._now)
        index = 0
        turn = self._monotonic()
        decode = partial(decode_events, new_id=ids, mapped=mapped)
        for piece in pieces_of(body, lines=lines, most=most):
            for part in _slices(piece):
                try:
                    drafts += await self._decode(part, decode)
                except InvalidEvents as refused:
                    found = refused.members["errors"]
                    errors += [{**error, "index": error["index"] + index} for error in found]
                index += len(part)
                turn = await self._let_others(turn)
            turn = await self._let_others(turn)
        if errors:
            raise refused_events(len(errors), errors)
        return drafts

    async def _let_others(self, since: float) -> float:
        """Give up the event loop for a moment, if this has had it for long enough."""
        if self._monotonic() - since < _TURN_SECONDS:
            return since
        await asyncio.sleep(0)
        return self._monotonic()

    def close(self) -> None:
        self._thread.shutdown()

    async def _decode(
        self, part: list[bytes], decode: Callable[[list[bytes]], list[Draft]]
    ) -> list[Draft]:
        if len(part) == 1 and len(part[0]) > _SLICE_BYTES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, decode, part)
        return decode(part)


def _slices(piece: list[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for item in piece:
        if part and (size + len(item) > _SLICE_BYTES or len(part) == _SLICE_EVENTS):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item)
    if part:
        yield part
