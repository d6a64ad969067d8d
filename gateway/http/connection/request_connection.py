"""Connections of requests: malformed HTTP, stalled readers, half-closed connections, large heads.

aiohttp quotes a line that it cannot parse to the sender and in its log, though a key may be in it:
here it is not quoted. aiohttp waits forever for a peer that does not read its answer: here the
connection is cut. aiohttp drops a request whose sender has closed its side: here it is answered
(RFC 9112, section 9.6). aiohttp bounds each line of a head but not their sum: here bytes count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from gateway.errors import GatewayError, InvalidRequest
from gateway.http.connection.connections import RESERVE_SECONDS, Connections
from gateway.http.connection.handoff import HandedOff
from gateway.http.connection.line_connection import LineConnection
from gateway.http.connection.routing import Routes
from gateway.http.framework.aiohttp_internals import (
    OwnConnectionRunner,
    closes_after_answer,
    has_payload_parser,
    is_idle,
    is_parse_error,
    is_reading_paused,
    is_request_in_progress,
    is_upgraded,
    queue_error,
    requests_parsed,
    waiting_requests,
)
from gateway.http.pipelining.ingest_line import IngestLine, Intake
from gateway.http.response.answer import ALWAYS
from gateway.http.response.problem import MALFORMED, from_aiohttp, problem

# A peer that reads less than this in that time is cut off. (Streams have their own rule.)
STALLED_SECONDS = 30.0
LEAST_BYTES = 16 * 1024
# For the first line and each header: the longest filter with every byte percent-encoded.
MOST_LINE = 16 * 1024
_LOGGER = logging.getLogger(__name__)


# Bytes parsed at once, so that little is kept of a head that is too large; and seconds after which
# a body parsed slowly, such as in chunks of one byte, yields.
_SLICE = 4 * 1024
_SLOW_SECONDS = 0.0003
# Bytes read from a connection before others have their turn; large bodies can wait.
_READ_BYTES = 64 * 1024
# Longest wait for others.
_REST_SECONDS = 0.02
# How long a refused peer may go on sending what is not read.
_LINGER_SECONDS = 0.5
# Pause between two reads of it.
_DROP_SECONDS = 0.05


class Runner(OwnConnectionRunner):
    """`AppRunner` with counted connections that answer malformed requests with problems."""

    def __init__(
        self, app: web.Application, connections: Connections, intake: Intake | None, **options: Any
    ) -> None:
        super().__init__(
            app, partial(_Connection, connections, intake), lambda: Routes(app).handle, **options
        )


class _Connection(LineConnection):
    __slots__ = (
        "_connections",
        "_declared",
        "_head",
        "_held",
        "_intake",
        "_newest",
        "_refused",
        "_stalled",
        "_unsent",
        "half_closed",
        "in_reserve",
        "leave",
    )

    def __init__(
        self, connections: Connections, intake: Intake | None, server: web.Server, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._intake = intake
        self.line = None
        self.settled = None
        self.turns = connections.line_scheduler
        self.length = 0
        self.unparsed = None
        # Bytes received of the present head.
        self._head = 0
        self._held: list[Callable[[], None]] = []
        self._refused = False
        # Above the limits: only health checks are answered.
        self.in_reserve = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else None
        leave = self._connections.enter(self, address)
        if leave is None:
            self.in_reserve = True
            leave = self._connections.enter_reserve(self)
            asyncio.get_running_loop().call_later(RESERVE_SECONDS, self.abort)
        elif address is not None and self._intake is not None:
            self.line = IngestLine(self, self._intake, address.encode())
        self.leave: Callable[[], object] = leave
        self._stalled: asyncio.TimerHandle | None = None
        self._unsent = 0
        # Body of the last request.
        self._newest: StreamReader | None = None
        # Its Content-Length; 0 if it is chunked.
        self._declared = 0
        # The peer has closed its sending side and still reads.
        self.half_closed = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._drop()
            return
        if len(data) == _READ_BYTES and self._connections.crowded():
            self._rest()
        if self.line is None or not data or not self.line.receive(data):
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """Give bytes to aiohttp, some at a time."""
        if has_payload_parser(self):
            super().data_received(data)
        elif not data:
            # aiohttp continues with what it has parsed in part.
            self._receive(data)
        elif self.unparsed is not None:
            self.unparsed += data
            self.pause()
        elif len(data) <= _SLICE and not self._in_body():
            self._receive(data)
        else:
            self._receive_in_slices(memoryview(data))

    def _receive_in_slices(self, data: memoryview) -> None:
        """Parse in slices; continue a slow body in turns."""
        while len(data):
            began = perf_counter()
            size = max(_SLICE, self._left_of_body())
            self._receive(bytes(data[:size]))
            data = data[size:]
            if self._refused:
                return
            if perf_counter() - began > _SLOW_SECONDS and self._in_body():
                self.unparsed = bytearray(data)
                self.pause()
                self._connections.parse_scheduler.schedule(self._go_on)
                return

    def _left_of_body(self) -> int:
        """Rest of a body of declared length, which needs no parsing."""
        body = self._newest
        return 0 if body is None or body.is_eof() else self._declared - body.total_bytes

    def _go_on(self) -> None:
        """Parse the next part, in a turn of this connection."""
        rest, self.unparsed = self.unparsed, None
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if rest and not self._refused:
            self._receive_in_slices(memoryview(bytes(rest)))
        self.read_on()

    def _receive(self, data: bytes) -> None:
        body = self._newest
        if body is not None and body.is_eof():
            body = None
        size = 0 if body is None else body.total_bytes
        count = requests_parsed(self)
        super().data_received(data)
        if waiting := waiting_requests(self):
            message, self._newest = waiting[-1]
            if is_parse_error(message):
                # The traceback would keep all read bytes alive, in a cycle with its frames.
                self._refused = True
                if message.exc is not None:
                    message.exc.__traceback__ = None
            else:
                length = int(message.headers.get("Content-Length", 0))
                self.length = None if message.chunked or message.upgrade else length
                if not self._newest.is_eof():
                    self._declared = length
        grown = body is not None and (body.total_bytes != size or body.is_eof())
        if requests_parsed(self) != count or grown or is_upgraded(self):
            # Bytes of the next head in the same read are too few to count.
            if self._head:
                self._head = 0
                self._connections.head_ends(self)
        elif data and not closes_after_answer(self) and not is_reading_paused(self):
            # Chunk extensions and trailers count too: they may be endless.
            self._head += len(data)
            if self._head <= self._connections.head_bytes:
                self._connections.head_grows(self, self._head)
            elif body is None:
                self.refuse(self._connections.head_too_large())
            else:
                self._refuse_body(body)

    def _refuse_body(self, body: StreamReader) -> None:
        """Fail the body for the handler that reads it, unless it was already answered."""
        self._refused = True
        self._connections.head_ends(self)
        if is_request_in_progress(self) and not waiting_requests(self):
            body.set_exception(self._connections.trailers_too_large())
        else:
            self.abort()

    def _rest(self) -> None:
        """Let clients that send little go first while many send."""
        transport = self.transport
        if transport is not None:
            transport.pause_reading()
            self._connections.when_idle(self.read_on, _REST_SECONDS)

    def _drop(self) -> None:
        """Read and discard slowly."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(_DROP_SECONDS, self._drop_more, transport)

    def _drop_more(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.resume_reading()

    def _in_body(self) -> bool:
        return self._newest is not None and not self._newest.is_eof()

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error after the earlier requests, and read no more."""
        self._refused = True
        self._connections.head_ends(self)
        queue_error(self, error)

    def abort(self) -> None:
        """Close without an answer."""
        if self.transport is not None:
            self.transport.abort()

    def hold(self, release: Callable[[], None]) -> None:
        """Call `release` when the request is answered or the connection lost."""
        self._held.append(release)

    def _release(self) -> None:
        while self._held:
            self._held.pop()()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for the answers to complete requests."""
        if self.unparsed and not self._refused:
            # These are the last bytes.
            rest, self.unparsed = bytes(self.unparsed), bytearray()
            self._receive(rest)
        line_busy = self.line is not None and self.line.end()
        whole = not is_idle(self) and self._newest is not None and self._newest.is_eof()
        self.half_closed = line_busy or whole
        return self.half_closed

    def connection_lost(self, exc: BaseException | None) -> None:
        self._watch_no_more()
        self._release()
        self._connections.head_ends(self)
        self.leave()
        self.leave = _nothing
        # Each knows the other.
        self.line = None
        if self.settled is not None:
            self.settle()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    @property
    def stalled(self) -> bool:
        return self._stalled is not None

    def resume_writing(self) -> None:
        self._watch_no_more()
        if self.line is not None:
            self.line.ask_turn()
        super().resume_writing()

    def _watch(self) -> None:
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stalled = asyncio.get_running_loop().call_later(STALLED_SECONDS, self._probe_peer)

    def _watch_no_more(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _probe_peer(self) -> None:
        """Cut the peer off unless it has read something."""
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > self._unsent - LEAST_BYTES:
            _LOGGER.debug("a peer does not take its answer: it is cut off")
            transport.abort()
        else:
            self._watch()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            # Raised by aiohttp before our code runs, as for an unknown `Expect`.
            resp = problem(from_aiohttp(resp, request), secrets.token_hex(8))
            resp.headers.update(ALWAYS)
            resp.force_close()
        line = self.line
        if self.half_closed and not waiting_requests(self) and (line is None or not line.busy):
            resp.force_close()
        try:
            finished = await super().finish_response(request, resp, start_time)
        finally:
            self._release()
            if line is not None:
                line.answered()
        last = self._refused and not waiting_requests(self)
        if last and self.transport is not None and self.transport.can_write_eof():
            # Data still under way would be answered with a reset, which may overtake the response.
            with contextlib.suppress(OSError):  # It is gone already.
                self.transport.write_eof()
            await asyncio.sleep(_LINGER_SECONDS)
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            # The client is gone or was cut off.
            _LOGGER.debug("a client has gone before it was answered: %s", exc)
            return HandedOff()
        request_id = secrets.token_hex(8)
        error: GatewayError
        if isinstance(exc, GatewayError):
            error = exc
        elif isinstance(exc, HttpProcessingError):
            _LOGGER.debug("%s sent what is not HTTP: %s", request.remote, type(exc).__name__)
            # Closing at once would answer data still under way with a reset.
            self._refused = True
            if isinstance(exc, LineTooLong):
                error = InvalidRequest(
                    f"the URL or a header is longer than {MOST_LINE} bytes; a long filter goes "
                    "into the body of POST /v1/stream",
                    code="line_too_long",
                )
            else:
                error = InvalidRequest("this is not well-formed HTTP/1.1", code=MALFORMED)
        else:
            _LOGGER.error(
                "request %s failed", request_id, exc_info=exc, extra={"request_id": request_id}
            )
            error = GatewayError(
                f"an error of ours; please report it with the request id {request_id}"
            )
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is out already")
        response = problem(error, request_id)
        response.headers.update(ALWAYS)
        response.force_close()
        return response


def _nothing() -> None:
    """Do nothing: the place was given back, or belongs to a stream now."""
