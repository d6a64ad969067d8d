"""The Node packages `eventsource` and `ws`."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.setup_clients import node_program
from tests.system.clients.conftest import MakeScene
from tests.system.clients.fault_proxy import Fault
from tests.system.clients.hostile_events import LAST_ACTION

_HERE = Path(__file__).parent


async def run_script(name: str, *arguments: str) -> list[str]:
    """The texts that a script prints."""
    process = await asyncio.create_subprocess_exec(
        str(node_program()), str(_HERE / name), *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        printed, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert errors == b""
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 300), Fault("reset", 150_000)),
    ],
)
async def test_eventsource_comes_back_by_itself_and_gets_each_event_once(
    make_scene: MakeScene, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene:
        scene.send_hostile()
        url = f"{scene.proxy.url}/v1/stream?from=start"
        received, _ = await asyncio.gather(
            run_script("eventsource_client.mjs", url, scene.key, LAST_ACTION),
            scene.send_live(after_connections=3),
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
        assert b"last-event-id: " in scene.proxy.heads[2].lower()


async def test_eventsource_cut_before_its_first_event_misses_none(make_scene: MakeScene) -> None:
    opening = Fault("half-close", b"\n\n", hold=True)
    async with make_scene(opening) as scene:
        url = f"{scene.proxy.url}/v1/stream?from=now"
        # A client that fails ends the waits.
        async with asyncio.TaskGroup() as group:
            script = group.create_task(
                run_script("eventsource_client.mjs", url, scene.key, LAST_ACTION)
            )
            await scene.proxy.faults_struck(1)
            scene.send_hostile()
            await scene.proxy.connected(2)
            scene.proxy.let_in()
            await scene.send_live(after_connections=2)
        scene.assert_exactly_once(script.result())


@pytest.mark.parametrize("subprotocol", [[], ["audit.v1"]])
@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 200), Fault("black hole", 150_000)),
    ],
)
async def test_ws_gets_each_event_once_over_two_cuts(
    make_scene: MakeScene, subprotocol: list[str], faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene:
        scene.send_hostile()
        url = scene.proxy.url.replace("http", "ws") + "/v1/stream"
        received, _ = await asyncio.gather(
            run_script("ws_client.mjs", url, scene.key, LAST_ACTION, *subprotocol),
            scene.send_live(after_connections=3),
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
