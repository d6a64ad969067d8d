"""Appends to the embedded log by reading processes, through the process that writes it.

The follower's end of a Unix socket in the data folder, and its protocol. A frame is its length in
four bytes, most significant first, and one message in MessagePack. The follower sends requests; the
writer answers them in order, and announces head and floor in between.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.errors import PayloadTooLarge, Unavailable
from gateway.event import Draft
from gateway.log.ports import Appended

# A larger frame counts as damage. The settings of ingest bound frames far below this.
MOST_BYTES = 1 << 30
BUFFER_BYTES = 1 << 20
# Drafts encoded or decoded at once, so that live streams have their turn in between.
_PART_EVENTS = 500
_LONGEST_ADDRESS = 100
_RECONNECT_SECONDS = 0.05
_LOGGER = logging.getLogger(__name__)


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    pass


class Append(_Message, frozen=True):
    """Store batches. `sizes` are their sizes; `parts` holds all their drafts in chunks."""

    number: int
    sizes: list[int]
    parts: list[msgspec.Raw]


class Trim(_Message, frozen=True):
    """`Log.trim`."""

    number: int
    before_micros: int | None
    max_bytes: int | None


class Stored(_Message, frozen=True):
    """Answer to `Append`."""

    number: int
    results: list[Appended]


class Trimmed(_Message, frozen=True):
    """Answer to `Trim`."""

    number: int
    deleted: int


class WriteRefused(_Message, frozen=True):
    """Answer to a failed request: the members of an `Unavailable`."""

    number: int
    detail: str
    code: str
    retry_after: int


class Moved(_Message, frozen=True):
    """Head and floor of the log. Only a hint: one may be lost."""

    head: int
    floor: int


Request = Append | Trim
Answer = Stored | Trimmed | WriteRefused

_ENCODER = msgspec.msgpack.Encoder()
_DRAFTS = msgspec.msgpack.Decoder(list[Draft])
REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_ANSWERS: msgspec.msgpack.Decoder[Answer | Moved] = msgspec.msgpack.Decoder(Answer | Moved)


def frame(message: _Message) -> bytes:
    """Frame of a message. Raises `PayloadTooLarge` if it exceeds the largest frame."""
    data = _ENCODER.encode(message)
    if len(data) > MOST_BYTES:
        raise PayloadTooLarge("these events are too large to be stored at once: send them in parts")
    return len(data).to_bytes(4, "big") + data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Content of the next frame. Raises `EOFError` at the end of the stream or within a frame."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MOST_BYTES:
        raise EOFError(f"a frame of {size} bytes is damage")
    return await reader.readexactly(size)


async def encode_batches(number: int, batches: Sequence[Sequence[Draft]]) -> Append:
    """Request to store these batches."""
    drafts = list(chain.from_iterable(batches))
    parts = []
    for start in range(0, len(drafts), _PART_EVENTS):
        if start:
            await asyncio.sleep(0)
        parts.append(msgspec.Raw(_ENCODER.encode(drafts[start : start + _PART_EVENTS])))
    return Append(number, [len(batch) for batch in batches], parts)


async def decode_batches(request: Append) -> list[list[Draft]]:
    drafts: list[Draft] = []
    for part in request.parts:
        if drafts:
            await asyncio.sleep(0)
        drafts += _DRAFTS.decode(part)
    ends = itertools.accumulate(request.sizes)
    return [drafts[end - size : end] for size, end in zip(request.sizes, ends, strict=True)]


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Address of a Unix socket. Systems take about 100 bytes of it: the folder of a longer path is
    opened and named by its descriptor, which Linux allows."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class WriterLink:
    """The follower's end. Run `run()` as a task, which connects and reconnects."""

    def __init__(self, path: Path, clock: Clock, moved: Callable[[int, int], None]) -> None:
        self._path = path
        self._clock = clock
        self._moved = moved
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._connection: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Keep connected, until cancelled."""
        while True:
            try:
                with socket_address(self._path) as address:
                    reader, self._connection = await asyncio.open_unix_connection(
                        address, limit=BUFFER_BYTES
                    )
            except OSError:
                await self._clock.sleep(_RECONNECT_SECONDS)
                continue
            try:
                await self._listen(reader)
            except (OSError, EOFError):
                if self._connected.is_set():
                    _LOGGER.warning("the process that writes the log is away")
            except msgspec.MsgspecError:
                _LOGGER.exception("the process that writes the log is not understood")
                await self._clock.sleep(_RECONNECT_SECONDS)
            finally:
                self._disconnect()

    async def connected(self) -> None:
        """Wait until the writer has accepted the connection."""
        await self._connected.wait()

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """`Log.append` through the writing process."""
        answer = await self._ask(await encode_batches(next(self._numbers), batches))
        assert isinstance(answer, Stored)
        return answer.results

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        """`Log.trim` through the writing process."""
        answer = await self._ask(Trim(next(self._numbers), before_micros, max_bytes))
        assert isinstance(answer, Trimmed)
        return answer.deleted

    async def _ask(self, request: Request) -> Answer:
        connection = self._connection
        if connection is None:
            raise Unavailable(
                "the process that writes the log is being started again; send again after the "
                "pause in Retry-After",
                code="writer_away",
                retry_after=1,
            )
        data = frame(request)
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = waiting
        try:
            connection.write(data)
            answer: Answer = await waiting
        finally:
            self._waiting.pop(request.number, None)
        if isinstance(answer, WriteRefused):
            raise Unavailable(answer.detail, code=answer.code, retry_after=answer.retry_after)
        return answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = _ANSWERS.decode(await read_frame(reader))
            if isinstance(message, Moved):
                self._moved(message.head, message.floor)
                # The writer's first message.
                self._connected.set()
                continue
            waiting = self._waiting.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    def _disconnect(self) -> None:
        self._connected.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        lost = Unavailable(
            "the process that writes the log ended before it answered; it is not known whether "
            "the events were stored: send them again with the same ids, then what is there "
            "counts as duplicates",
            code="outcome_unknown",
            retry_after=1,
        )
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(lost)
