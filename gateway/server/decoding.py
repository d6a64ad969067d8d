"""Decoding the events of a request in slices: whatever is sent, others have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from gateway.clock import Clock
from gateway.errors import InvalidEvents
from gateway.event import Draft
from gateway.ingest.decode import decode_events, refused_events
from gateway.ingest.ids import new_ids
from gateway.ingest.marked import Lenient, decode_leniently
from gateway.ingest.split import pieces_of, split_body
from gateway.live.work import LoopWork

T = TypeVar("T")

# What the worst bytes cost (about a microsecond each) decides on a slice, not what most do.
_SLICE_BYTES = 16 * 1024
_SLICE_EVENTS = 250
_TURN_SECONDS = 0.002
_MOST_REST_SECONDS = 0.05


class Decoder:
    """Decodes bodies. Events that are a slice by themselves are for a thread of its own."""

    def __init__(self, clock: Clock, turns: LoopWork) -> None:
        self._now, self._monotonic = clock.now, clock.monotonic
        self._turns = turns
        self._thread = ThreadPoolExecutor(1, "decoder")
        # Not when threads are short.
        self._thread.submit(lambda: None)

    async def decode(
        self, body: bytes, key_id: str, *, lines: bool, most: int, mapped: bool = False
    ) -> list[Draft]:
        """All events of a body of NDJSON `lines` or JSON, at most `most`.

        Raises `InvalidEvents` with every refusal.
        """
        if len(body) <= _SLICE_BYTES:
            items = split_body(body, lines=lines, most=most)
            if len(items) <= _SLICE_EVENTS:
                # One slice, before which nobody has to have a turn.
                return decode_events(items, new_ids(self._now), mapped=mapped)
        drafts: list[Draft] = []
        errors: list[dict[str, Any]] = []
        decode = partial(decode_events, new_id=new_ids(self._now), mapped=mapped)
        async for index, part in self._parts(body, key_id, lines, most):
            try:
                drafts += await self._decode(part, decode)
            except InvalidEvents as refused:
                found = refused.members["errors"]
                errors += [{**error, "index": error["index"] + index} for error in found]
        if errors:
            raise refused_events(len(errors), errors)
        return drafts

    async def decode_leniently(
        self, body: bytes, key_id: str, *, lines: bool, most: int, mapped: bool = False
    ) -> Lenient:
        """The same without a refusal: what became of each item."""
        found = Lenient()
        decode = partial(decode_leniently, new_id=new_ids(self._now), mapped=mapped)
        async for index, part in self._parts(body, key_id, lines, most, loosely=True):
            found.add(await self._decode(part, partial(decode, first=index)))
        return found

    async def _parts(
        self, body: bytes, key_id: str, lines: bool, most: int, loosely: bool = False
    ) -> AsyncIterator[tuple[int, list[bytes]]]:
        """The items some at a time, each time with the place of the first."""
        index = 0
        turn = self._monotonic()
        for piece in pieces_of(body, lines=lines, most=most, loosely=loosely):
            for part in _slices(piece):
                yield index, part
                index += len(part)
                turn = await self._let_others(turn, key_id)
            turn = await self._let_others(turn, key_id)

    async def _let_others(self, since: float, key_id: str) -> float:
        """Wait for another turn, if this one has lasted for long enough."""
        if self._monotonic() - since < _TURN_SECONDS:
            return since
        await self._turns.turn(key_id)
        return self._monotonic()

    def close(self) -> None:
        self._thread.shutdown()

    async def _decode(self, part: list[bytes], decode: Callable[[list[bytes]], T]) -> T:
        if len(part) == 1 and len(part[0]) > _SLICE_BYTES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, _by_half, decode, part)
        return decode(part)


def _by_half(decode: Callable[[list[bytes]], T], part: list[bytes]) -> T:
    """Decode, and leave the interpreter to the other threads for as long: of a large event it is
    held for milliseconds at a time, in which the event loop comes to nothing."""
    began = time.perf_counter()
    try:
        return decode(part)
    finally:
        time.sleep(min(time.perf_counter() - began, _MOST_REST_SECONDS))


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
