"""What is not HTTP is answered and logged without being quoted.

aiohttp repeats the line that it cannot parse, to the sender and in its log,
and a key may stand in that line.
"""

from __future__ import annotations

import logging
import secrets

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import GatewayError, InvalidRequest
from gateway.server.problem import problem

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
    __slots__ = ()

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
            error = InvalidRequest("this is not well-formed HTTP/1.1", code="malformed_http")
        else:
            _LOGGER.error("request %s failed", request_id, exc_info=exc)
            error = GatewayError(
                f"an error of ours; please report it with the request id {request_id}"
            )
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is out already")
        response = problem(error, request_id)
        response.force_close()
        return response
