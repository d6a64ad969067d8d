"""The end of a process: of its streams, each with its cursor, and by failures."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from functools import partial

from gateway.clock import until_next_poll
from gateway.http.request.context import Context
from gateway.runtime.background import Background
from gateway.tasks import stop as stop_tasks
from gateway.wire.framing import RESTART

_LAST_BYTES_SECONDS = 2.0
_TICK_SECONDS = 1.0


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


async def _await_lost_log(context: Context, stop: asyncio.Event) -> None:
    while context.failure is None:
        await context.clock.sleep(until_next_poll(context.clock, _TICK_SECONDS))
    stop.set()


def watch_for_failure(
    context: Context, background: Background, stack: AsyncExitStack, stop: asyncio.Event | None
) -> None:
    """Mark the gateway as ready, until a background task is given up."""

    def failed() -> None:
        context.ready = False
        context.appends.notify()
        if stop is not None:
            stop.set()

    context.ready = True
    background.on_failure(failed)
    if stop is not None:
        asyncio.get_running_loop().set_exception_handler(background.report_callback)
        waiting = background.keep("end", partial(_await_lost_log, context, stop))
        stack.push_async_callback(stop_tasks, [waiting])
