"""The end of all streams of a process, each with its cursor."""

from __future__ import annotations

import random

from gateway.http.request.context import Context
from gateway.wire.framing import RESTART

_LAST_BYTES_SECONDS = 2.0


async def drain(context: Context) -> None:
    """End all streams, spread over part of the drain time so that clients return gradually."""
    context.ready = False
    context.appends.notify()
    hub, seconds = context.hub, context.settings.server.drain_timeout
    streams = list(hub.subscriptions)
    random.shuffle(streams)
    # Few streams end at once; thousands are spread over half of the drain time.
    portion = max(200, len(streams) // 50)
    pause = seconds / 2 / 50 if len(streams) > portion else 0.0
    for start in range(0, len(streams), portion):
        for subscription in streams[start : start + portion]:
            hub.end(subscription, RESTART)
        if start + portion < len(streams):
            await context.clock.sleep(pause)
    # Streams that were opened meanwhile.
    for subscription in list(hub.subscriptions):
        hub.end(subscription, RESTART)
    # `StreamTimings.finish` bounds slow peers; this bound is a safety net.
    await hub.emptied.until(lambda: not hub.ending, _LAST_BYTES_SECONDS)
