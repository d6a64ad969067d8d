"""Private attributes of aiohttp that the gateway reads or sets, each behind a named function.

aiohttp may change them in any minor version, so `pyproject.toml` pins it below the next one, and
`tests/unit/http/test_aiohttp_internals.py` has a test for each. No other module uses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from gateway.errors import GatewayError

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Protect = Callable[[asyncio.Protocol], asyncio.Protocol]
# Parsed requests that wait for their handler: each a head, or an error, and a body.
Waiting = Any


class OwnConnectionRunner(web.AppRunner):
    """`AppRunner` whose connections are made by `connect`, and whose requests go to a handler.

    `protect` puts each connection behind TLS. `make_handle` is called once the application is
    frozen. Relies on `AppRunner._make_server`, which starts the application and makes its server.
    """

    def __init__(
        self,
        app: web.Application,
        connect: Callable[..., web.RequestHandler],
        make_handle: Callable[[], Handle],
        protect: Protect | None = None,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._connect = connect
        self._protect = protect
        self._make_handle = make_handle

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            self._connect,
            self._make_handle(),
            self._protect,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    """`Server` whose connections are made by `connect`.

    Relies on `Server._loop` and `Server._kwargs`: the loop and the options of its connections.
    """

    def __init__(
        self,
        connect: Callable[..., web.RequestHandler],
        handle: Handle,
        protect: Protect | None,
        **options: Any,
    ) -> None:
        super().__init__(handle, **options)  # type: ignore[arg-type]
        self._connect = connect
        self._protect = protect

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        connection = self._connect(self, loop=self._loop, **self._kwargs)
        return connection if self._protect is None else self._protect(connection)


class KeptWhileBusy(web.RequestHandler):
    """A connection that is not closed as idle while it is `busy` otherwise than aiohttp knows.

    Relies on `RequestHandler._process_keepalive`, which is called when it is to be closed, and on
    `_next_keepalive_close_time`, until which that waits again.
    """

    __slots__ = ()

    @property
    def busy(self) -> bool:
        return False

    def _process_keepalive(self) -> None:
        if self.busy:
            keep_open(self, self._loop.time())
        super()._process_keepalive()


def handle_by_application(
    app: web.Application, request: web.Request
) -> Awaitable[web.StreamResponse]:
    """Awaitable answer of an application, with its own routing and middlewares.

    Relies on `Application._handle`, the handler that it gives to its server.
    """
    return app._handle(request)


def set_match(request: web.Request, match: web.UrlMappingMatchInfo) -> None:
    """Set the route of a request.

    Relies on `Request._match_info`, the source of `Request.match_info` and of its application.
    """
    request._match_info = match


def bytes_behind_upgrade(connection: web.RequestHandler) -> bytes:
    """Bytes received after an upgrade request.

    Relies on `RequestHandler._message_tail`, which keeps them for a payload parser.
    """
    return connection._message_tail


def has_payload_parser(connection: web.RequestHandler) -> bool:
    """Whether incoming bytes belong to another protocol and go to its parser.

    Relies on `RequestHandler._payload_parser`, which is None otherwise.
    """
    return connection._payload_parser is not None


def is_upgraded(connection: web.RequestHandler) -> bool:
    """Whether a request asked for another protocol, so that no request head follows.

    Relies on `RequestHandler._upgraded`.
    """
    return connection._upgraded


def is_reading_paused(connection: web.RequestHandler) -> bool:
    """Whether aiohttp paused reading because the handler does not read the body.

    Relies on `RequestHandler._reading_paused`.
    """
    return connection._reading_paused


def is_buffer_paused(connection: web.RequestHandler) -> bool:
    """Whether aiohttp paused reading because too many requests, or bytes after an upgrade, wait.

    Relies on `RequestHandler._buffer_paused`.
    """
    return connection._buffer_paused


def closes_after_answer(connection: web.RequestHandler) -> bool:
    """Whether aiohttp ignores all further input and will close the connection.

    Relies on `RequestHandler._force_close`.
    """
    return connection._force_close


def requests_parsed(connection: web.RequestHandler) -> int:
    """Number of request heads parsed on a connection.

    Relies on `RequestHandler._request_count`.
    """
    return connection._request_count


def is_request_in_progress(connection: web.RequestHandler) -> bool:
    """Whether a handler runs or its answer is being sent.

    Relies on `RequestHandler._request_in_progress`.
    """
    return connection._request_in_progress


def waiting_requests(connection: web.RequestHandler) -> Waiting:
    """Parsed requests that wait for their handler: pairs of a head, or an error, and a body.

    Relies on `RequestHandler._messages`, from whose left end aiohttp takes the next.
    """
    return connection._messages


def is_idle(connection: web.RequestHandler) -> bool:
    """Whether all parsed requests are answered.

    Relies on `RequestHandler._waiter`, a future that exists while the next request is awaited.
    """
    return connection._waiter is not None and not connection._messages


def keep_open(connection: web.RequestHandler, now: float) -> None:
    """Put off the end of a connection that nothing comes from, as an answer was sent at `now`.

    Relies on `RequestHandler._next_keepalive_close_time`, which the timer looks at when it fires.
    """
    connection._next_keepalive_close_time = now + connection.keepalive_timeout


def is_left_to_aiohttp(response: web.StreamResponse) -> bool:
    """Whether a response has no cookie, and no decision on closing its connection.

    Relies on `StreamResponse._keep_alive` and `_cookies`, which are None until then.
    """
    return response._keep_alive is None and response._cookies is None


def set_sent(response: web.StreamResponse) -> None:
    """Mark a response as completely written, on a connection that stays open.

    Relies on `StreamResponse._eof_sent`, after which aiohttp writes nothing, and `_keep_alive`.
    """
    response._keep_alive = response._eof_sent = True


def is_parse_error(message: object) -> bool:
    """Whether an error takes the place of a request head that could not be parsed.

    Relies on `web_protocol._ErrInfo`, with the exception in `exc`.
    """
    return isinstance(message, _ErrInfo)


def queue_error(connection: web.RequestHandler, error: GatewayError) -> None:
    """Have `handle_error` answer with an error after the waiting requests.

    Relies on `web_protocol._ErrInfo`, and on `RequestHandler._messages` and `_waiter`.
    """
    message = _ErrInfo(status=error.status, exc=error, message="")
    connection._messages.append((message, EMPTY_PAYLOAD))
    if connection._waiter is not None and not connection._waiter.done():
        connection._waiter.set_result(None)
