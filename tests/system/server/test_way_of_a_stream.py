"""The way of a request that opens a stream, as a reader of `gateway.http` follows it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from types import FrameType
from typing import Any

from gateways import Gateway

from gateway.http.connection.handoff import HandedOff
from gateway.http.routes import stream

MOST_MODULES, MOST_RETURNS = 14, 6


@contextmanager
def functions_of_http() -> Iterator[list[tuple[str, str]]]:
    """The module and name of each function in `gateway.http` that a request for a stream enters, in
    the order in which it first does, from its handler to where the connection is handed over."""
    entered: dict[tuple[str, str], None] = {}
    found: list[tuple[str, str]] = []
    task: asyncio.Task[Any] | None = None
    over = False

    def note(frame: FrameType, event: str, result: object) -> None:
        nonlocal task, over
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        # What stands for aiohttp's own attributes is as little a module to read as aiohttp is.
        ours = module.startswith("gateway.http.") and ".framework." not in module
        if over or not ours:
            return
        if task is None and code is stream.stream.__code__:
            task = asyncio.current_task()
        if task is None or asyncio.current_task() is not task:
            return
        if event == "call":
            entered.setdefault((module, code.co_qualname))
        over = isinstance(result, HandedOff)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        found += entered


async def test_the_way_to_an_open_stream_leads_through_few_modules(gateway: Gateway) -> None:
    async def open_one() -> None:
        headers = {"Authorization": f"Bearer {gateway.user}"}
        async with gateway.session.get(f"{gateway.url}/v1/stream", headers=headers) as response:
            assert response.status == 200

    # Once before: what is looked up for the first time goes another way.
    await open_one()
    with functions_of_http() as functions:
        await open_one()
    stays = [module for module, _ in groupby(module for module, _ in functions)]
    modules = set(stays)
    assert "gateway.http.connection.stream_connection" in modules
    assert len(modules) <= MOST_MODULES, stays
    assert len(stays) - len(modules) <= MOST_RETURNS, stays
