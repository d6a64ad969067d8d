"""The port of a gateway: opened last, closed first."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

from aiohttp import web

from gateway.http.app import make_app
from gateway.http.connection.request_connection import MOST_LINE, Runner
from gateway.http.request.context import Context
from gateway.runtime.process.listening import SharedAddress, cannot_listen

# Connections that wait in the kernel, and how many are accepted before other work has its turn.
_BACKLOG = 4096
_AT_ONCE = 8


async def open_port(
    context: Context, stack: AsyncExitStack, sockets: list[socket.socket] | None = None
) -> str:
    """Listen on the address of the settings, or on `sockets`, until the stack unwinds; return the
    URL.

    Raises `GatewayError` if the address is in use.
    """
    server = context.settings.server
    runner = Runner(
        make_app(context),
        context.connections,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        max_line_size=MOST_LINE,
        max_field_size=MOST_LINE,
        keepalive_timeout=server.keepalive,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if sockets is None:
        sockets = SharedAddress(server.host, server.port).bind()
    # The event loop accepts up to `backlog` connections in one round.
    sites = [web.SockSite(runner, sock, backlog=_AT_ONCE) for sock in sockets]
    try:
        for site in sites:
            await site.start()
        for sock in sockets:
            sock.listen(_BACKLOG)
    except OSError as error:
        raise cannot_listen(server.host, server.port, error) from None
    host, port = runner.addresses[0][:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
