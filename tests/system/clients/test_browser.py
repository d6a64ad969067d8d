"""A browser's own EventSource and WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.system.clients.browser import Browser, Page
from tests.system.clients.conftest import MakeScene, Scene
from tests.system.clients.fault_proxy import Fault
from tests.system.clients.front_proxy import FrontProxy
from tests.system.clients.hostile_events import LAST_ACTION

# Resolves to the data of all events up to the last, in the order of their arrival.
_EVENT_SOURCE = """
new Promise((resolve, reject) => {
  const received = [];
  const source = new EventSource(PATH);
  source.onmessage = (event) => {
    const { action, cursor } = JSON.parse(event.data);
    if (event.lastEventId !== cursor) reject(new Error(`id ${event.lastEventId}: ${cursor}`));
    received.push(event.data);
    if (action !== LAST_ACTION) return;
    source.close();
    resolve(received);
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) reject(new Error("closed for good"));
  };
})
"""
_WEB_SOCKET = """
new Promise((resolve, reject) => {
  const received = [];
  const bearer = btoa(KEY).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  let begin = "from=start";
  let done = false;
  const connect = () => {
    const url = `${location.origin.replace("http", "ws")}/v1/stream?${begin}`;
    const socket = new WebSocket(
      url, ["audit.v1", `base64url.bearer.authorization.audit.${bearer}`]);
    socket.onopen = () => {
      if (socket.protocol !== "audit.v1") reject(new Error(`subprotocol ${socket.protocol}`));
      if (socket.extensions !== "") reject(new Error(`extensions ${socket.extensions}`));
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      begin = `after=${(message.event ?? message).cursor}`;
      if (message.type !== "event") return;
      received.push(data.slice('{"type":"event","event":'.length, -1));
      if (message.event.action !== LAST_ACTION) return;
      done = true;
      socket.close();
      resolve(received);
    };
    socket.onclose = () => done || setTimeout(connect, 50);
  };
  connect();
})
"""
# Resolves when both streams are open; `ends` to what they end with, once EventSource has
# given up coming back.
_WATCHED_STREAMS = """
var bearer = btoa(KEY).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
var source = new EventSource("/v1/stream");
var socket = new WebSocket(
  `${location.origin.replace("http", "ws")}/v1/stream`,
  ["audit.v1", `base64url.bearer.authorization.audit.${bearer}`]);
var ends = Promise.all([
  new Promise((resolve) => {
    let end;
    source.addEventListener("end", (event) => { end = JSON.parse(event.data); });
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve(end);
  }),
  new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ code, ...JSON.parse(reason) });
  }),
]);
Promise.all([source, socket].map((one) => new Promise((resolve) => { one.onopen = resolve; })))
  .then(() => true)
"""


def script(text: str, **values: str) -> str:
    """JavaScript with values for its names."""
    names = {**values, "LAST_ACTION": LAST_ACTION}
    return "".join(f"var {name} = {json.dumps(value)};\n" for name, value in names.items()) + text


@asynccontextmanager
async def page_of(scene: Scene, browser: Browser, *, adds_key: bool) -> AsyncIterator[Page]:
    """A page on the origin of a front proxy that reaches the gateway through the faulty way."""
    key = scene.key if adds_key else ""
    front = FrontProxy("127.0.0.1", scene.proxy.port, key)
    async with front, browser.page(front.url) as page:
        yield page


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 300), Fault("reset", 150_000)),
    ],
)
async def test_event_source_comes_back_by_itself_and_gets_each_event_once(
    make_scene: MakeScene, browser: Browser, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene, page_of(scene, browser, adds_key=True) as page:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            page.evaluate(script(_EVENT_SOURCE, PATH="/v1/stream?from=start")),
            scene.send_live(after_connections=3),
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
        assert b"last-event-id: " in scene.proxy.heads[2].lower()


async def test_event_source_cut_before_its_first_event_misses_none(
    make_scene: MakeScene, browser: Browser
) -> None:
    opening = Fault("half-close", b"\n\n", hold=True)
    async with make_scene(opening) as scene, page_of(scene, browser, adds_key=True) as page:
        # A page that fails ends the waits.
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(
                page.evaluate(script(_EVENT_SOURCE, PATH="/v1/stream?from=now"))
            )
            await scene.proxy.faults_struck(1)
            scene.send_hostile()
            scene.proxy.let_in()
            await scene.send_live(after_connections=2)
        scene.assert_exactly_once(receiving.result())


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 200), Fault("reset", 150_000)),
    ],
)
async def test_web_socket_gets_each_event_once_over_two_cuts(
    make_scene: MakeScene, browser: Browser, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene, page_of(scene, browser, adds_key=False) as page:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            page.evaluate(script(_WEB_SOCKET, KEY=scene.key)),
            scene.send_live(after_connections=3),
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
        assert b"authorization: bearer" not in b"".join(scene.proxy.heads).lower()


async def test_a_revoked_key_ends_event_source_and_web_socket_for_good(
    make_scene: MakeScene, browser: Browser
) -> None:
    async with make_scene() as scene, page_of(scene, browser, adds_key=True) as page:
        await page.evaluate(script(_WATCHED_STREAMS, KEY=scene.key))
        revoke = f"/v1/keys/{scene.key.split('_')[1]}/revoke"
        status, _ = scene.gateway.ask("POST", revoke, scene.gateway.first_key, {"reason": "test"})
        assert status == 200
        source, socket = await page.evaluate("ends")
        _assert_revoked(source)
        _assert_revoked(socket)
        assert source["reconnect"] is False


def _assert_revoked(end: dict[str, Any]) -> None:
    assert end["code"] == 4501
    assert end["reason"] == "key_revoked"
    assert end["cursor"]
