"""The connections of requests: what is not HTTP, who does not take answers, and half-closes.

aiohttp repeats the line that it cannot parse, to the sender and in its log,
and a key may stand in that line: here it is answered and logged without being
quoted. And aiohttp waits for ever for a peer that does not read its answer,
which may be a page of megabytes: here the connection is cut. And aiohttp drops
a request whose sender has closed its side of the connection: here it is
answered (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from gateway.errors import GatewayError, InvalidRequest
from gateway.server.problem import MALFORMED, SERVER, from_aiohttp, problem

# Whoever takes less of an answer in that time is cut off. (Streams have their own rule.)
STALLED_SECONDS = 30.0
LEAST_BYTES = 16 * 1024
# Of the first line and of each header: a filter of the longest, with every byte of it escaped.
MOST_LINE = 16 * 1024
_LOGGER = logging.getLogger(__name__)


class Runner(web.AppRunner):
    """An `AppRunner` whose connections answer malformed requests with problem documents."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_newest", "_stalled", "_unsent", "half_closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stalled: asyncio.TimerHandle | None = None
        self._unsent = 0
        # The body of the request that came last.
        self._newest: StreamReader | None = None
        # The peer sends nothing more, and still reads.
        self.half_closed = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._newest = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers to what has arrived whole."""
        idle = self._waiter is not None and not self._messages
        self.half_closed = not idle and self._newest is not None and self._newest.is_eof()
        return self.half_closed

    def connection_lost(self, exc: BaseException | None) -> None:
        self._watch_no_more()
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
            self._stalled = self._loop.call_later(STALLED_SECONDS, self._look)

    def _watch_no_more(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _look(self) -> None:
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
            resp.headers["Server"] = SERVER
            resp.force_close()
        if self.half_closed and not self._messages:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        request_id = secrets.token_hex(8)
        error: GatewayError
        if isinstance(exc, HttpProcessingError):
            _LOGGER.debug("%s sent what is not HTTP: %s", request.remote, type(exc).__name__)
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
        response.headers["Server"] = SERVER
        response.force_close()
        return response
