"""Both adapters of what replicas share, under one name each."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from gateway.access.limits.ports import Shared
from gateway.adapters.memory.backend import shared_in_process
from gateway.adapters.redis.address import RedisAddress, parse_address
from gateway.adapters.redis.backend import shared_over_redis
from gateway.adapters.redis.link import CALL_SECONDS
from gateway.clock import Clock
from tests.support.memory_ledger import MemoryLedger

START = 1_700_000_000.0
ADAPTERS = ("memory", "redis")
ALWAYS_THERE = 60.0
_PREFIXES = itertools.count()

Opening = AbstractAsyncContextManager[Shared]
Opens = Callable[[Clock], Opening]


def new_prefix() -> str:
    """Names at the server that no other test uses."""
    return f"test{next(_PREFIXES)}"


def replicas_of(
    address: RedisAddress | str,
    *,
    server_time: bool = True,
    lease_seconds: float = 10.0,
    prefix: str | None = None,
    call_seconds: float = CALL_SECONDS,
) -> Opens:
    """Opens replicas that share everything with each other and nothing with another test.

    With `server_time=False` they decide by the clock they are opened with. `ALWAYS_THERE` as
    `call_seconds` is for tests of a server that never goes: on a busy machine it only seems so.
    """
    chosen = prefix or new_prefix()
    parsed = parse_address(address) if isinstance(address, str) else address

    def opens(clock: Clock) -> Opening:
        return shared_over_redis(
            parsed, clock, prefix=chosen, server_time=server_time, lease_seconds=lease_seconds,
            call_seconds=call_seconds,
        )  # fmt: skip

    return opens


def adapter(name: str, url: str) -> Opens:
    """How to open an adapter that decides by the clock it is given."""
    return (
        (lambda clock: shared_in_process(clock, MemoryLedger()))
        if name == "memory"
        else replicas_of(url, server_time=False, call_seconds=ALWAYS_THERE)
    )


class StillClock:
    """Time that a test moves by hand and nobody waits for. Implements `gateway.clock.Clock`."""

    began = 0.0

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return START + self.passed

    def monotonic(self) -> float:
        return self.passed

    def boottime(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        await asyncio.get_running_loop().create_future()

    def tick(self, seconds: float) -> None:
        self.passed += seconds
