"""Sink of an export: a stream that ends at the head of the log, and that is saved as a file.

    stream -> content: digest, coding, chunks -> connection

The digest is that of the content before the coding: what lies in the file. Large parts are worked
on by a thread while the stream waits. An export that did not reach its end lacks the last chunk,
unless its content says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.http.connection.stream_connection import StreamConnection
from gateway.http.response.coding import FOR_A_THREAD, compressor
from gateway.http.response.export_plan import ExportPlan
from gateway.streaming.live.subscription import Subscription
from gateway.tasks import Tasks
from gateway.wire.framing import COMPLETE
from gateway.wire.http_body import LAST_CHUNK, chunk

# Hashing alone is so fast that a part of this size takes a millisecond.
_HASHED_AT_ONCE = 1 << 20

InThread = Callable[[Callable[[], bytes]], Awaitable[bytes]]
# Told once, when all bytes of an export are on their way, or its client is gone.
Listener = Callable[["ExportSink"], None]


class ExportSink:
    """Implements `gateway.streaming.live.subscription.StreamSink`.

    `descriptor` is never written to past this sink: an export does not go live.
    """

    descriptor = -1

    def __init__(
        self,
        connection: StreamConnection,
        plan: ExportPlan,
        in_thread: InThread,
        tasks: Tasks,
        listener: Listener,
    ) -> None:
        self.plan = plan
        # Bytes of the content.
        self.size = 0
        # Its stream, as soon as that is open.
        self.subscription: Subscription | None = None
        self._connection = connection
        self._in_thread = in_thread
        self._tasks = tasks
        self._listener: Listener | None = listener
        self._digest = hashlib.sha256()
        self._compressor = None if plan.coding is None else compressor(plan.coding)
        self._at_once = _HASHED_AT_ONCE if plan.coding is None else FOR_A_THREAD
        self._parts: list[bytes | memoryview] = []
        self._held = 0
        self._working = False
        self._idle: asyncio.Future[None] | None = None
        # Seconds for the last bytes, as soon as there are no others.
        self._finishing: float | None = None
        self._gone = False

    @property
    def digest(self) -> str:
        """SHA-256 of the content so far."""
        return self._digest.hexdigest()

    @property
    def complete(self) -> bool:
        """Whether the stream has reached its end."""
        return self.subscription is not None and self.subscription.end == COMPLETE

    @property
    def clear(self) -> bool:
        return not self._held and self._connection.clear

    @property
    def waited(self) -> int:
        return self._connection.waited

    @property
    def unsent(self) -> int:
        return self._held + self._connection.unsent

    @property
    def vanished(self) -> bool:
        return self._connection.vanished

    def write(self, data: bytes | memoryview) -> bool:
        if self._gone or self._finishing is not None:
            return True
        self._add(data)
        return not self._working

    async def drained(self) -> None:
        while self._working and not self._gone:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            # Not shielded: a stream has one replay, so there is one waiter.
            await self._idle
        await self._connection.drained()

    def finish(self, last: bytes, within: float) -> None:
        if self._gone or self._finishing is not None:
            return
        self._finishing = within
        self._add(last)

    def abort(self) -> None:
        self._connection.abort()

    def lost(self) -> None:
        """Note that the connection is lost."""
        if self._finishing is None:
            self._gone = True
            self._wake()
            if not self._working:
                self._tell()

    # Work on the content

    def _add(self, data: bytes | memoryview) -> None:
        if data:
            self._parts.append(data)
            self._held += len(data)
        if self._working:
            return
        if self._held > self._at_once:
            self._working = True
            self._tasks.run("export", self._work)
            return
        if self._held:
            try:
                self._send(self._take())
            except BaseException:
                # Without the rest it must look broken.
                self._connection.abort()
                raise
        self._settle()

    async def _work(self) -> None:
        try:
            while self._parts and not self._gone:
                taken, self._parts = self._parts, []
                self._send(await self._in_thread(partial(self._made_of, taken)))
        except BaseException:
            self._connection.abort()
            raise
        finally:
            self._working = False
            self._wake()
            self._settle()

    def _take(self) -> bytes:
        taken, self._parts = self._parts, []
        return self._made_of(taken)

    def _made_of(self, parts: list[bytes | memoryview]) -> bytes:
        """Bytes of the body for parts of the content."""
        content = b"".join(parts)
        self._digest.update(content)
        self.size += len(content)
        return content if self._compressor is None else self._compressor.feed(content)

    def _send(self, made: bytes) -> None:
        self._held = sum(map(len, self._parts))
        if made and not self._gone:
            self._connection.write(chunk(made) if self.plan.chunked else made)

    def _settle(self) -> None:
        """Finish, if there is nothing left to do."""
        if self._gone:
            self._tell()
        elif self._finishing is not None:
            last = b""
            if self.complete or self.plan.says_end:
                rest = b"" if self._compressor is None else self._compressor.finish()
                last = chunk(rest) + LAST_CHUNK if self.plan.chunked else rest
            self._connection.finish(last, self._finishing)
            self._tell()

    def _wake(self) -> None:
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    def _tell(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener(self)
