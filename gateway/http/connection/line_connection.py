"""A connection of aiohttp as the line of its ingest requests sees it."""

from __future__ import annotations

import asyncio

from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.http.framework.aiohttp_internals import (
    KeptWhileBusy,
    closes_after_answer,
    is_buffer_paused,
    is_idle,
    is_reading_paused,
    is_request_in_progress,
    keep_open,
    requests_parsed,
    waiting_requests,
)
from gateway.http.pipelining.ingest_line import IngestLine


class LineConnection(KeptWhileBusy):
    """Adapts `web.RequestHandler` to `gateway.http.pipelining.ingest_line.Connection`."""

    __slots__ = ("length", "line", "settled", "turns", "unparsed")

    # The requests that need no object; None where all go to aiohttp.
    line: IngestLine | None
    # Length of the body of the request that was parsed last; None where only its end tells it.
    length: int | None
    # What has been read and is parsed in a turn, if a turn is waited for.
    unparsed: bytearray | None
    # Of the lines of all connections.
    turns: WriteScheduler
    # Waits for the answers of the line, as the connection is to be closed.
    settled: asyncio.Future[None] | None

    @property
    def parsed(self) -> int:
        return requests_parsed(self)

    @property
    def at_rest(self) -> bool:
        return is_idle(self) and self.unparsed is None

    @property
    def answering(self) -> bool:
        return is_request_in_progress(self) or bool(waiting_requests(self))

    @property
    def closing(self) -> bool:
        transport = self.transport
        return transport is None or transport.is_closing() or closes_after_answer(self)

    def declared(self) -> int | None:
        return self.length

    def write(self, data: bytes) -> None:
        transport = self.transport
        assert transport is not None
        transport.write(data)
        keep_open(self, asyncio.get_running_loop().time())
        if self.line is not None and not self.line.in_flight:
            self.settle()

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Read again, unless somebody else waits for something."""
        waits = is_reading_paused(self) or is_buffer_paused(self) or self.unparsed is not None
        waits = waits or (self.line is not None and self.line.waits)
        transport = self.transport
        if not waits and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def soon(self, line: IngestLine) -> None:
        asyncio.get_running_loop().call_soon(line.resume)

    def turn(self, line: IngestLine) -> None:
        self.turns.schedule(line.take_turn)

    def finish(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def settle(self) -> None:
        """Nothing more is to be answered."""
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)

    @property
    def busy(self) -> bool:
        """Whether requests of the line are in flight, of which aiohttp knows nothing."""
        return self.line is not None and self.line.busy

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Close, once what was taken has been answered."""
        line = self.line
        if line is not None and line.in_flight and not self.closing:
            line.stopped = True
            self.settled = asyncio.get_running_loop().create_future()
            await asyncio.wait([self.settled], timeout=timeout)
        await super().shutdown(timeout)
