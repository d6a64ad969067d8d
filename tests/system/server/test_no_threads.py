"""A machine that gives no more threads: the start says so, and nothing later needs one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import aiohttp
import pytest
from gateway_client import event
from gateways import Gateway, Start

from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import GatewayError
from gateway.runtime.process.threads import start_threads


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_start_without_threads_says_what_to_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start() -> None:
        start_threads()

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(GatewayError, match="pids limit") as refused:
        SqliteKeys(tmp_path / "keys.db")
    assert refused.value.code == "no_threads"
    with pytest.raises(GatewayError, match="ulimit -u"):
        asyncio.run(start())


async def test_a_gateway_that_runs_starts_no_thread(
    start: Start, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway: Gateway = await start()
    start_threads()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    await gateway.send_many(300)
    page = await gateway.pull(limit="300")
    assert len(page["events"]) == 300
    key = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    await gateway.revoke(key)
    await gateway.send(event(id="last"))
    answer = await gateway.get("/v1/events/last")
    assert answer.status == 200
    # What resolves a name.
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert found
    assert not any(gateway.context.tasks.errors.values())
