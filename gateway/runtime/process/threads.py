"""Threads of the event loop: those that resolve host names, and those that do slices of work; and
how all threads take turns."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from gateway.tasks import no_threads

_RESOLVERS = 4
# One for what is decoded, one for what is looked at.
_WORKERS = 2
# How long a thread that computes goes on while the event loop waits for it, which it does at each
# look at its sockets. The interpreter's own 5 ms, a dozen times in one round, are felt by all.
_SWITCH_SECONDS = 0.00025


def start_threads() -> None:
    """Start what the running loop would start when it first connects somewhere, perhaps at a time
    when threads cannot be had.

    Raises `GatewayError` where they cannot be now.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    asyncio.get_running_loop().set_default_executor(_started(_RESOLVERS, "resolver"))


def worker_threads() -> ThreadPoolExecutor:
    """Threads that do slices of work which cannot be ended in their middle. Raises as above."""
    return _started(_WORKERS, "worker")


def _started(count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, name)
    all_there = threading.Barrier(count)
    started: list[Future[int]] = []
    try:
        # Each waits for the last one: else one that is idle would be used again.
        for _ in range(count):
            started.append(executor.submit(all_there.wait))
    except RuntimeError as error:
        all_there.abort()
        executor.shutdown(wait=False, cancel_futures=True)
        raise no_threads(error) from error
    for one in started:
        one.result()
    return executor
