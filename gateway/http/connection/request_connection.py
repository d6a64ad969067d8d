"""The connections of requests: what is not HTTP, who does not take answers, and half-closes.

aiohttp repeats the line that it cannot parse, to the sender and in its log,
and a key may stand in that line: here it is answered and logged without being
quoted. And aiohttp waits for ever for a peer that does not read its answer,
which may be a page of megabytes: here the connection is cut. And aiohttp drops
a request whose sender has closed its side of the connection: here it is
answered (RFC 9112, section 9.6). And aiohttp bounds each line of a head, but not
all of them: here the bytes are counted before its parser keeps them.
"""

from __future__ import annotations

import asyncio
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
from gateway.http.connection.routing import Routes
from gateway.http.framework.aiohttp_internals import (
    OwnConnectionRunner,
    closes_after_answer,
    has_payload_parser,
    is_buffer_paused,
    is_idle,
    is_parse_error,
    is_reading_paused,
    is_request_in_progress,
    is_upgraded,
    queue_error,
    requests_parsed,
    waiting_requests,
)
from gateway.http.response.answer import ALWAYS
from gateway.http.response.problem import MALFORMED, from_aiohttp, problem

# Whoever takes less of an answer in that time is cut off. (Streams have their own rule.)
STALLED_SECONDS = 30.0
LEAST_BYTES = 16 * 1024
# Of the first line and of each header: a filter of the longest, with every byte of it escaped.
MOST_LINE = 16 * 1024
_LOGGER = logging.getLogger(__name__)


# So much is parsed at once: little is kept of a head that is too large, and a body may be of chunks
# of one byte, for each of which so much time is taken that the others have their turn.
_SLICE = 4 * 1024
_SLOW_SECONDS = 0.0003
# So much is taken from a connection before others have their turn; large bodies are in no hurry.
_READ_BYTES = 64 * 1024
# How long it waits for others, if they have no end.
_REST_SECONDS = 0.02
# How long somebody who was refused may go on sending what nobody reads.
_LINGER_SECONDS = 0.5
# Between two looks at it.
_DROP_SECONDS = 0.05


class Runner(OwnConnectionRunner):
    """An `AppRunner` whose connections answer malformed requests with problem documents, and are
    counted by `connections`."""

    def __init__(self, app: web.Application, connections: Connections, **options: Any) -> None:
        super().__init__(
            app, partial(_Connection, connections), lambda: Routes(app).handle, **options
        )


class _Connection(web.RequestHandler):
    __slots__ = (
        "_connections",
        "_declared",
        "_head",
        "_held",
        "_newest",
        "_refused",
        "_stalled",
        "_unparsed",
        "_unsent",
        "half_closed",
        "in_reserve",
        "leave",
    )

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        # Bytes of the head that is being received.
        self._head = 0
        self._held: list[Callable[[], None]] = []
        self._refused = False
        # What has been read and is parsed in a turn, if a turn is waited for.
        self._unparsed: bytearray | None = None
        # One too many: only health checks are answered.
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
        self.leave: Callable[[], object] = leave
        self._stalled: asyncio.TimerHandle | None = None
        self._unsent = 0
        # The body of the request that came last.
        self._newest: StreamReader | None = None
        # The bytes that it has by its head, unless it comes in chunks.
        self._declared = 0
        # The peer sends nothing more, and still reads.
        self.half_closed = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._drop()
            return
        if len(data) == _READ_BYTES and self._connections.crowded():
            self._rest()
        if has_payload_parser(self):
            super().data_received(data)
        elif not data:
            # aiohttp goes on with what it has parsed in part.
            self._receive(data)
        elif self._unparsed is not None:
            self._unparsed += data
            self._pause()
        elif len(data) <= _SLICE and not self._in_body():
            self._receive(data)
        else:
            self._receive_in_slices(memoryview(data))

    def _receive_in_slices(self, data: memoryview) -> None:
        """Parse as much as may be parsed at once; what is slow goes on in turns."""
        while len(data):
            began = perf_counter()
            size = max(_SLICE, self._left_of_body())
            self._receive(bytes(data[:size]))
            data = data[size:]
            if self._refused:
                return
            if perf_counter() - began > _SLOW_SECONDS and self._in_body():
                self._unparsed = bytearray(data)
                self._pause()
                self._connections.parse_scheduler.schedule(self._go_on)
                return

    def _left_of_body(self) -> int:
        """Bytes of a body that need no parsing, as their number was declared."""
        body = self._newest
        return 0 if body is None or body.is_eof() else self._declared - body.total_bytes

    def _go_on(self) -> None:
        """Parse the next part, as this connection has its turn."""
        rest, self._unparsed = self._unparsed, None
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if rest and not self._refused:
            self._receive_in_slices(memoryview(bytes(rest)))
        if self._unparsed is None and not (is_reading_paused(self) or is_buffer_paused(self)):
            transport.resume_reading()

    def _pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

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
                # What was raised would keep all that was read alive, in a circle with its frames.
                self._refused = True
                if message.exc is not None:
                    message.exc.__traceback__ = None
            elif not self._newest.is_eof():
                self._declared = int(message.headers.get("Content-Length", 0))
        grown = body is not None and (body.total_bytes != size or body.is_eof())
        if requests_parsed(self) != count or grown or is_upgraded(self):
            # What has come of the next head, if anything, is less than was read at once.
            if self._head:
                self._head = 0
                self._connections.head_ends(self)
        elif data and not closes_after_answer(self) and not is_reading_paused(self):
            # Also what stands around the chunks of a body: it may be trailers without end.
            self._head += len(data)
            if self._head <= self._connections.head_bytes:
                self._connections.head_grows(self, self._head)
            elif body is None:
                self.refuse(self._connections.head_too_large())
            else:
                self._refuse_body(body)

    def _refuse_body(self, body: StreamReader) -> None:
        """Fail the body for the handler that reads it, if it was not answered before."""
        self._refused = True
        self._connections.head_ends(self)
        if is_request_in_progress(self) and not waiting_requests(self):
            body.set_exception(self._connections.trailers_too_large())
        else:
            self.abort()

    def _rest(self) -> None:
        """Let clients that send little go first, where many send."""
        transport = self.transport
        if transport is not None:
            transport.pause_reading()
            self._connections.when_idle(partial(self._read_on, transport), _REST_SECONDS)

    def _read_on(self, transport: asyncio.Transport) -> None:
        waits = is_reading_paused(self) or is_buffer_paused(self) or self._unparsed is not None
        if not (waits or transport.is_closing()):
            transport.resume_reading()

    def _drop(self) -> None:
        """Nobody reads what comes, so it need not come fast."""
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
        """Answer with an error behind the earlier requests, and read nothing more."""
        self._refused = True
        self._connections.head_ends(self)
        queue_error(self, error)

    def abort(self) -> None:
        """Close without an answer."""
        if self.transport is not None:
            self.transport.abort()

    def hold(self, release: Callable[[], None]) -> None:
        """Call `release` when the request has been answered, or the connection is lost."""
        self._held.append(release)

    def _release(self) -> None:
        while self._held:
            self._held.pop()()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers to what has arrived whole."""
        if self._unparsed and not self._refused:
            # Nothing comes behind it.
            rest, self._unparsed = bytes(self._unparsed), bytearray()
            self._receive(rest)
        self.half_closed = not is_idle(self) and self._newest is not None and self._newest.is_eof()
        return self.half_closed

    def connection_lost(self, exc: BaseException | None) -> None:
        self._watch_no_more()
        self._release()
        self._connections.head_ends(self)
        self.leave()
        self.leave = _nothing
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._watch_no_more()
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
        """Cut the peer off unless it has taken something."""
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
            # Raised before any of our code was asked, as for an `Expect` that is not known.
            resp = problem(from_aiohttp(resp, request), secrets.token_hex(8))
            resp.headers.update(ALWAYS)
            resp.force_close()
        if self.half_closed and not waiting_requests(self):
            resp.force_close()
        try:
            finished = await super().finish_response(request, resp, start_time)
        finally:
            self._release()
        last = self._refused and not waiting_requests(self)
        if last and self.transport is not None and self.transport.can_write_eof():
            # What is still on its way would be answered with a reset, which may overtake this.
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
            # The client has gone, or was cut off: there is nobody to answer.
            _LOGGER.debug("a client has gone before it was answered: %s", exc)
            return HandedOff()
        request_id = secrets.token_hex(8)
        error: GatewayError
        if isinstance(exc, GatewayError):
            error = exc
        elif isinstance(exc, HttpProcessingError):
            _LOGGER.debug("%s sent what is not HTTP: %s", request.remote, type(exc).__name__)
            # Closed at once, what is still on its way would be answered with a reset.
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
            _LOGGER.error("request %s failed", request_id, exc_info=exc)
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
