"""The private attributes of aiohttp still are what the gateway takes them for.

Each test names one of them: what fails here after an update has to be looked at in
`gateway/http/framework/aiohttp_internals.py`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.test_utils import make_mocked_request

from gateway.errors import Unavailable
from gateway.http.connection.line_connection import LineConnection
from gateway.http.connection.request_connection import _Connection
from gateway.http.framework import aiohttp_internals as internals
from tests.support.machine_time import eventually

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
# The most pipelined requests that aiohttp parses ahead are fewer.
MANY = 100


class Recording(internals.KeptWhileBusy):
    """A connection that notes the errors it has to answer."""

    __slots__ = ("errors",)

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.errors: list[BaseException | None] = []

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        self.errors.append(exc)
        return super().handle_error(request, status, None, message)


async def answer(request: web.Request) -> web.Response:
    return web.Response()


def runner(handle: Callable[[web.Request], Awaitable[web.StreamResponse]] = answer) -> Any:
    """A runner of an empty application, whose requests are handled by a function."""
    return internals.OwnConnectionRunner(
        web.Application(), Recording, lambda: handle, max_line_size=1234, shutdown_timeout=0.01
    )


@asynccontextmanager
async def connected(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]] = answer,
) -> AsyncIterator[Recording]:
    """A connection that waits for its first request."""
    running = runner(handle)
    await running.setup()
    near, far = socket.socketpair()
    with far:
        loop = asyncio.get_running_loop()
        _, connection = await loop.connect_accepted_socket(running.server, near)
        await eventually(lambda: internals.is_idle(connection))
        yield connection
    await running.cleanup()


@pytest.fixture
async def connection() -> AsyncIterator[Recording]:
    """A connection whose handler never answers."""
    async with connected(lambda request: asyncio.Event().wait()) as made:  # type: ignore[arg-type]
        yield made
        made.force_close()


async def test_app_runner_make_server_makes_the_server_at_setup() -> None:
    running = runner()
    await running.setup()
    assert running.server.request_handler is answer
    await running.cleanup()


async def test_server_loop_and_kwargs_are_what_connections_are_made_with() -> None:
    async with connected() as connection:
        assert connection.max_line_size == 1234


async def test_application_handle_is_the_handler_of_its_server() -> None:
    app = web.Application()
    app.router.add_get("/", answer)
    usual = web.AppRunner(app)
    await usual.setup()
    assert usual.server is not None
    assert usual.server.request_handler == app._handle
    request = make_mocked_request("GET", "/", app=app)
    assert (await internals.handle_by_application(app, request)).status == 200
    await usual.cleanup()


async def test_request_match_info_is_what_match_info_returns() -> None:
    app = web.Application()
    route = app.router.add_get("/", answer)
    match = web.UrlMappingMatchInfo({}, route)
    match.add_app(app)
    match.freeze()
    request = make_mocked_request("GET", "/")
    internals.set_match(request, match)
    assert request.match_info is match
    assert request.app is app


async def test_message_tail_keeps_what_comes_behind_an_upgrade(connection: Recording) -> None:
    connection.data_received(UPGRADE + b"early")
    assert internals.bytes_behind_upgrade(connection) == b"early"
    connection.data_received(b" bytes")
    assert internals.bytes_behind_upgrade(connection) == b"early bytes"


async def test_upgraded_is_true_behind_an_upgrade(connection: Recording) -> None:
    connection.data_received(GET)
    assert not internals.is_upgraded(connection)
    connection.data_received(UPGRADE)
    assert internals.is_upgraded(connection)


async def test_payload_parser_is_none_until_one_is_set(connection: Recording) -> None:
    assert not internals.has_payload_parser(connection)

    class Parser:
        def feed_eof(self) -> None:
            """Told when the connection is lost."""

    connection.set_parser(Parser())  # type: ignore[arg-type]
    assert internals.has_payload_parser(connection)


async def test_reading_paused_is_true_while_a_body_is_not_read(connection: Recording) -> None:
    connection.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n")
    assert not internals.is_reading_paused(connection)
    connection.data_received(b"x" * (8 << 20))
    assert internals.is_reading_paused(connection)


async def test_buffer_paused_is_true_while_too_many_requests_wait(connection: Recording) -> None:
    assert not internals.is_buffer_paused(connection)
    connection.data_received(GET * MANY)
    assert internals.is_buffer_paused(connection)


async def test_force_close_is_true_once_nothing_more_is_taken(connection: Recording) -> None:
    assert not internals.closes_after_answer(connection)
    connection.force_close()
    assert internals.closes_after_answer(connection)


async def test_request_count_grows_with_each_head(connection: Recording) -> None:
    connection.data_received(GET + GET[:-2])
    assert internals.requests_parsed(connection) == 1
    connection.data_received(GET[-2:])
    assert internals.requests_parsed(connection) == 2


async def test_messages_are_the_requests_that_wait_with_their_bodies(connection: Recording) -> None:
    connection.data_received(GET + b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
    (first, _), (second, body) = internals.waiting_requests(connection)
    assert (first.method, second.method) == ("GET", "PUT")
    assert second.headers["Content-Length"] == "1"
    assert (body.total_bytes, body.is_eof()) == (0, False)
    connection.data_received(b"x")
    assert (body.total_bytes, body.is_eof()) == (1, True)


async def test_request_in_progress_is_true_while_a_handler_is_at_work(
    connection: Recording,
) -> None:
    assert not internals.is_request_in_progress(connection)
    connection.data_received(GET)
    await eventually(lambda: internals.is_request_in_progress(connection))


async def test_waiter_exists_while_the_next_request_is_awaited() -> None:
    go_on = asyncio.Event()

    async def late(request: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    async with connected(late) as connection:
        connection.data_received(GET)
        await eventually(lambda: internals.is_request_in_progress(connection))
        assert not internals.is_idle(connection)
        go_on.set()
        await eventually(lambda: internals.is_idle(connection))


async def test_err_info_stands_for_a_head_that_cannot_be_parsed(connection: Recording) -> None:
    connection.data_received(GET)
    connection.data_received(b"what is this\r\n\r\n")
    (request, _), (error, _) = internals.waiting_requests(connection)
    assert not internals.is_parse_error(request)
    assert internals.is_parse_error(error)
    assert isinstance(error.exc, HttpProcessingError)


async def test_err_info_that_is_queued_wakes_the_connection_and_is_answered() -> None:
    async with connected() as connection:
        refusal = Unavailable("come again later")
        internals.queue_error(connection, refusal)
        await eventually(lambda: connection.errors == [refusal])


async def test_next_keepalive_close_time_puts_off_the_end_of_an_idle_connection() -> None:
    loop = asyncio.get_running_loop()
    async with connected() as connection:
        internals.keep_open(connection, loop.time() - 2 * connection.keepalive_timeout)
        connection._process_keepalive()
        await eventually(lambda: connection.transport is None)
    async with connected() as connection:
        internals.keep_open(connection, loop.time())
        connection._process_keepalive()
        assert connection.transport is not None
        assert connection._waiter is not None
        assert not connection._waiter.cancelled()


async def test_process_keepalive_is_put_off_while_a_connection_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    async with connected() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(internals.KeptWhileBusy, "busy", True)
            internals.keep_open(connection, loop.time() - 2 * connection.keepalive_timeout)
            connection._process_keepalive()
            await asyncio.sleep(0)
            assert connection.transport is not None
        internals.keep_open(connection, loop.time() - 2 * connection.keepalive_timeout)
        connection._process_keepalive()
        await eventually(lambda: connection.transport is None)


def test_keep_alive_and_cookies_are_none_until_they_are_said() -> None:
    response = web.Response()
    assert internals.is_left_to_aiohttp(response)
    response.force_close()
    assert not internals.is_left_to_aiohttp(response)
    response = web.Response()
    response.set_cookie("name", "value")
    assert not internals.is_left_to_aiohttp(response)


async def test_eof_sent_and_keep_alive_end_a_response_whose_connection_stays() -> None:
    response = web.Response(body=b"not sent")
    internals.set_sent(response)
    assert response.prepared
    assert response.keep_alive
    # Nothing is there that it could be written to.
    await response.write_eof()


def test_no_attribute_of_ours_is_one_of_aiohttp_too() -> None:
    theirs = {name for one in web.RequestHandler.__mro__ for name in vars(one)}
    ours = {name for one in (_Connection, LineConnection) for name in one.__slots__}
    assert not ours & theirs


def test_methods_of_the_line_of_a_connection_are_none_of_aiohttp_but_its_shutdown() -> None:
    theirs = {name for one in web.RequestHandler.__mro__ for name in vars(one)}
    ours = {
        name
        for one in (LineConnection, internals.KeptWhileBusy)
        for name in vars(one)
        if not name.startswith("__")
    }
    ours -= set(LineConnection.__slots__)
    assert ours & theirs == {"shutdown", "_process_keepalive"}


def test_methods_that_connections_override_are_still_called_that() -> None:
    ours = {name for name, value in vars(_Connection).items() if callable(value)}
    theirs = {name for one in web.RequestHandler.__mro__ for name in vars(one)}
    assert {"finish_response", "handle_error", "data_received", "eof_received"} <= ours & theirs


def test_aiohttp_is_pinned_below_its_next_minor_version() -> None:
    dependencies = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    major, minor, _ = version("aiohttp").split(".", 2)
    [pin] = [one for one in dependencies if re.match(r"aiohttp\b", one)]
    assert pin.split(",")[-1] == f"<{major}.{int(minor) + 1}"
