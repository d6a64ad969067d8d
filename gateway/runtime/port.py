"""The ports of a gateway: opened last, closed first."""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from gateway.errors import GatewayError
from gateway.http.app import make_app, make_metrics_app
from gateway.http.connection.connections import Connections
from gateway.http.connection.request_connection import MOST_LINE, Runner
from gateway.http.framework.aiohttp_internals import Protect
from gateway.http.intake.single_events import SINGLE_EVENTS
from gateway.http.request.context import Context
from gateway.http.tls.certificate import CertificateRefused
from gateway.http.tls.certificates import Certificates
from gateway.oversight.detection.finding import CERTIFICATE_REFUSED
from gateway.oversight.detection.signals import Signal
from gateway.runtime.process.listening import SharedAddress
from gateway.settings.declarations import Settings
from gateway.tasks import stop as stop_tasks

# Connections that wait in the kernel, and how many are accepted before other work has its turn.
_BACKLOG = 4096
_AT_ONCE = 8
# Connections to the listener for metrics.
_MOST_SCRAPERS = 64
_LOGGER = logging.getLogger(__name__)


async def open_port(
    context: Context, stack: AsyncExitStack, sockets: list[socket.socket] | None = None
) -> str:
    """Listen on `sockets`, or on the address of the settings, until the stack unwinds; return the
    URL.

    Raises `GatewayError` if the address is in use, or the certificate cannot be used.
    """
    server = context.settings.server
    address = SharedAddress(server.host, server.port)
    certificates = None
    if server.tls.certificate:
        certificates = context.certificates = Certificates(
            server.tls, context.clock, partial(_record_refused, context)
        )
        stack.callback(certificates.close)
        following = context.tasks.keep("certificates", certificates.run)
        stack.push_async_callback(stop_tasks, [following])
    runner = await _runner(
        context, stack, make_app(context), context.connections,
        certificates.protect if certificates is not None else None,
    )  # fmt: skip
    url = await _listen(runner, address, sockets)
    return url if certificates is None else url.replace("http:", "https:", 1)


def metrics_address(settings: Settings) -> SharedAddress | None:
    """Address of the listener for metrics, if `metrics.port` is set."""
    metrics = settings.metrics
    if not metrics.port:
        return None
    return SharedAddress(metrics.host, metrics.port, "metrics.host and metrics.port")


async def open_metrics_port(
    context: Context, stack: AsyncExitStack, sockets: list[socket.socket] | None = None
) -> None:
    """Listen for scrapes on `metrics.port`, if it is set, until the stack unwinds.

    Raises `GatewayError` if the address is in use.
    """
    address, server = metrics_address(context.settings), context.settings.server
    if address is None:
        return
    # Counted apart: clients that use up all connections must not hide the metrics.
    connections = Connections(
        _MOST_SCRAPERS, _MOST_SCRAPERS, server.max_head_bytes, server.max_unfinished_heads
    )
    runner = await _runner(context, stack, make_metrics_app(context, connections), connections)
    _LOGGER.info("metrics are at %s/metrics", await _listen(runner, address, sockets))


async def _runner(
    context: Context,
    stack: AsyncExitStack,
    app: web.Application,
    connections: Connections,
    protect: Protect | None = None,
) -> Runner:
    runner = Runner(
        app,
        connections,
        app.get(SINGLE_EVENTS),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        max_line_size=MOST_LINE,
        max_field_size=MOST_LINE,
        keepalive_timeout=context.settings.server.keepalive,
        shutdown_timeout=1.0,
        protect=protect,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _record_refused(context: Context, refused: CertificateRefused) -> None:
    """Add a finding of a certificate that is refused."""
    data = {"reason": refused.members["reason"], "setting": refused.members["setting"]}
    signal = Signal(CERTIFICATE_REFUSED, context.clock.now(), 1, data)
    try:
        await context.detector.findings.add(signal, "")
    except GatewayError as error:
        _LOGGER.warning("the finding of the refused certificate is not kept: %s", error.detail)


async def _listen(
    runner: Runner, address: SharedAddress, sockets: list[socket.socket] | None = None
) -> str:
    if sockets is None:
        sockets = address.bind()
    # The event loop accepts up to `backlog` connections in one round.
    sites = [web.SockSite(runner, sock, backlog=_AT_ONCE) for sock in sockets]
    try:
        for site in sites:
            await site.start()
        for sock in sockets:
            sock.listen(_BACKLOG)
    except OSError as error:
        raise address.unusable(error) from None
    host, port = runner.addresses[0][:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
