"""Thread pools of the event loop, for name resolution and for slices of work; thread switching."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from gateway.tasks import threads_unavailable

_RESOLVERS = 4
# One for decoding requests, one for examining events.
_WORKERS = 2
# How long a computing thread keeps the interpreter from the event loop, which waits after each poll
# of its sockets. Python's default of 5 ms, a dozen times a round, is felt by all streams.
_SWITCH_SECONDS = 0.00025


def start_threads() -> None:
    """Start the resolver threads now: the loop would start them at its first connection, when
    threads may be short.

    Raises `GatewayError` if they cannot be started.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    asyncio.get_running_loop().set_default_executor(_started(_RESOLVERS, "resolver"))


def worker_threads() -> ThreadPoolExecutor:
    """Threads for uninterruptible slices of work. Raises `GatewayError` if none can be started."""
    return _started(_WORKERS, "worker")


def _started(count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, name)
    all_there = threading.Barrier(count)
    started: list[Future[int]] = []
    try:
        # All wait for each other: an idle thread would be used again.
        for _ in range(count):
            started.append(executor.submit(all_there.wait))
    except RuntimeError as error:
        all_there.abort()
        executor.shutdown(wait=False, cancel_futures=True)
        raise threads_unavailable(error) from error
    for one in started:
        one.result()
    return executor
