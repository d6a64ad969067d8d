"""curl, as README.md shows it, from a shell that keeps the cursor."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable

import pytest

from tests.system.clients.conftest import MakeScene, Scene
from tests.system.clients.fault_proxy import Fault
from tests.system.clients.hostile_events import LAST_ACTION

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
# What curl says of a connection that broke: partial file, gave up waiting, cannot receive.
_BROKEN = (18, 28, 56)
Receive = Callable[[Scene], Awaitable[list[str]]]


async def curl(scene: Scene, accept: str, begin: list[str]) -> list[bytes]:
    """The whole lines that one run of curl prints; it is ended at the last event."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--disable", "--no-progress-meter", "--no-buffer", "--noproxy", "*",
        # The gateway says something every second: two without a byte are a dead network.
        "--speed-time", "2", "--speed-limit", "1",
        "-H", f"Authorization: Bearer {scene.key}", "-H", f"Accept: {accept}", *begin,
        stdout=PIPE, limit=2**20,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        async for line in process.stdout:
            if not line.endswith(b"\n"):
                break
            lines.append(line[:-1])
            if f'"action":"{LAST_ACTION}"'.encode() in line:
                return lines
        assert await process.wait() in _BROKEN
        return lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def receive_sse(scene: Scene) -> list[str]:
    """Over as many runs as it takes, each beginning behind the last id."""
    received: list[str] = []
    last_id: list[str] = []
    while True:
        url = f"{scene.proxy.url}/v1/stream?from=start"
        lines = await curl(scene, SSE, [url, *last_id])
        blocks = b"\n".join(lines).split(b"\n\n")
        # What no empty line follows is not whole, but the last event need not wait for it.
        if lines and LAST_ACTION.encode() not in lines[-1]:
            blocks.pop()
        for block in blocks:
            if data := re.search(rb"^data: (.*)$", block, re.MULTILINE):
                received.append(data[1].decode())
            if cursor := re.search(rb"^id: (.*)$", block, re.MULTILINE):
                last_id = ["-H", f"Last-Event-ID: {cursor[1].decode()}"]
        if received and json.loads(received[-1])["action"] == LAST_ACTION:
            return received


async def receive_ndjson(scene: Scene) -> list[str]:
    """Over as many runs as it takes, each beginning behind the last cursor."""
    received: list[str] = []
    begin = "from=start"
    while True:
        for line in await curl(scene, NDJSON, [f"{scene.proxy.url}/v1/stream?{begin}"]):
            message = json.loads(line)
            begin = f"after={message['cursor']}"
            if "type" in message:
                assert message["type"] == "bookmark"
                continue
            received.append(line.decode())
            if message["action"] == LAST_ACTION:
                return received


@pytest.mark.parametrize(
    ("receive", "faults"),
    [
        (receive_sse, (Fault("reset", 4000), Fault("half-close", 100_000))),
        (receive_sse, (Fault("half-close", 300), Fault("reset", 150_000))),
        (receive_ndjson, (Fault("reset", 4000), Fault("half-close", 100_000))),
        (receive_ndjson, (Fault("half-close", 300), Fault("black hole", 150_000))),
    ],
)
async def test_curl_gets_each_event_once_over_two_cuts(
    make_scene: MakeScene, receive: Receive, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene:
        scene.send_hostile()
        received, _ = await asyncio.gather(receive(scene), scene.send_live(after_connections=3))
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
