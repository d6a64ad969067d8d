"""Handing a connection off from aiohttp once its request is answered with a stream.

aiohttp keeps a task, a request, a response and two parsers while a handler runs. A stream needs
none: the transport gets a protocol of our own, and aiohttp is told that the connection is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.http.connection.connections import Connections
from gateway.http.framework.aiohttp_internals import bytes_behind_upgrade


class HandedOff(web.StreamResponse):
    """Response that a handler returns after `hand_off`: aiohttp sends nothing more."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        raise ConnectionResetError("the connection belongs to a stream now")


def half_closed(request: web.Request) -> bool:
    """Whether the client has closed its sending side and only reads."""
    return getattr(request.protocol, "half_closed", False)


def sent_behind(request: web.Request) -> bytes:
    """Bytes that a client sent after its upgrade request, too early."""
    return bytes_behind_upgrade(request.protocol)


def hand_off(
    request: web.Request, connections: Connections
) -> tuple[asyncio.Transport, Callable[[], None]]:
    """Transport of a request, detached from aiohttp, and the callback for its end.

    The caller sets a protocol on it and returns `HandedOff()` without awaiting in between. Raises
    `ConnectionResetError` if the client is gone.
    """
    protocol = request.protocol
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    assert isinstance(transport, asyncio.Transport)
    leave = connections.keep_place(request)
    # Without a transport, this deregisters and stops the protocol, and leaves the socket alone.
    protocol.transport = None
    protocol.connection_lost(None)
    return transport, leave


def response_head(status: HTTPStatus, headers: list[str], now: float) -> bytes:
    """Head of a response, with the date."""
    first = f"HTTP/1.1 {status.value} {status.phrase}"
    return "\r\n".join([first, _date(int(now)), *headers, "", ""]).encode("latin-1")


@lru_cache(2)
def _date(second: int) -> str:
    """Date header (RFC 9110, section 6.6.1)."""
    return f"Date: {formatdate(second, usegmt=True)}"
