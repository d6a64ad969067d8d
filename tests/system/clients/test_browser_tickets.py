"""Tickets in a browser: its own EventSource and WebSocket, which never hold a key."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.system.clients.browser import Browser
from tests.system.clients.conftest import MakeScene, Scene
from tests.system.clients.fault_proxy import Fault
from tests.system.clients.test_browser import _EVENT_SOURCE, page_of, script

_OPENED = """
new Promise((resolve) => {
  const source = new EventSource(PATH);
  source.onopen = () => { source.close(); resolve("opened"); };
  source.onerror = () => source.readyState === EventSource.CLOSED && resolve("closed for good");
})
"""
_WEB_SOCKET = """
new Promise((resolve, reject) => {
  const bearer = btoa(TICKET).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const socket = new WebSocket(
    `${location.origin.replace("http", "ws")}/v1/stream`,
    ["audit.v1", `base64url.bearer.authorization.audit.${bearer}`]);
  const actions = [];
  socket.onmessage = ({ data }) => {
    const { type, event } = JSON.parse(data);
    if (type !== "event") return;
    actions.push(event.action);
    if (event.action === LAST_ACTION) resolve([socket.protocol, actions]);
  };
  socket.onclose = ({ code }) => resolve(["closed", code]);
})
"""


def ticket(scene: Scene, **parameters: Any) -> str:
    """Minted by the page's own backend, which holds the key."""
    status, answer = scene.gateway.ask(
        "POST", "/v1/tickets", scene.key, parameters or {"from": "now"}
    )
    assert status == 201, answer
    text: str = answer["ticket"]
    return text


async def test_event_source_comes_back_with_its_cookie_and_gets_each_event_once(
    make_scene: MakeScene, browser: Browser
) -> None:
    faults = (Fault("reset", 4000), Fault("half-close", 100_000))
    async with make_scene(*faults) as scene, page_of(scene, browser, adds_key=False) as page:
        scene.send_hostile()
        path = f"/v1/stream?ticket={ticket(scene, **{'from': 'start'})}"
        received, _ = await asyncio.gather(
            page.evaluate(script(_EVENT_SOURCE, PATH=path)),
            scene.send_live(after_connections=3),
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2
        first, *others = scene.proxy.heads
        assert b"cookie:" not in first.lower()
        assert len(others) >= 2
        for head in others:
            assert b"cookie: audit_stream_" in head.lower()
            assert b"last-event-id: " in head.lower()
        assert scene.key.encode() not in b"".join(scene.proxy.heads)
        assert await page.evaluate("document.cookie") == "", "scripts can read the cookie"


async def test_two_pages_with_tickets_of_their_own_do_not_mix(
    make_scene: MakeScene, browser: Browser
) -> None:
    """They share a jar of cookies; each comes back to its own stream."""
    async with make_scene() as scene, page_of(scene, browser, adds_key=False) as page:
        one, other = ticket(scene), ticket(scene, tenant="nobody")
        for text in (one, other):
            path = f"/v1/stream?ticket={text}"
            assert await page.evaluate(script(_OPENED, PATH=path)) == "opened"
        # Both tickets are used; with its cookie each opens again.
        for text in (other, one):
            path = f"/v1/stream?ticket={text}"
            assert await page.evaluate(script(_OPENED, PATH=path)) == "opened"
        assert scene.proxy.heads[-1].lower().count(b"audit_stream_") == 2


async def test_without_its_cookie_a_used_ticket_is_closed_for_good(
    make_scene: MakeScene, browser: Browser
) -> None:
    async with make_scene() as scene, page_of(scene, browser, adds_key=False) as page:
        text = ticket(scene)
        path = f"/v1/stream?ticket={text}"
        assert await page.evaluate(script(_OPENED, PATH=path)) == "opened"
    async with make_scene() as again, page_of(again, browser, adds_key=False) as page:
        assert await page.evaluate(script(_OPENED, PATH=path)) == "closed for good"


async def test_a_ticket_opens_a_web_socket_once(make_scene: MakeScene, browser: Browser) -> None:
    async with make_scene() as scene, page_of(scene, browser, adds_key=False) as page:
        scene.send_hostile()
        text = ticket(scene, **{"from": "start"})
        answer, _ = await asyncio.gather(
            page.evaluate(script(_WEB_SOCKET, TICKET=text)), scene.send_live(after_connections=1)
        )
        protocol, actions = answer
        assert protocol == "audit.v1"
        assert len(actions) == len(scene.sent)
        assert (await page.evaluate(script(_WEB_SOCKET, TICKET=text)))[0] == "closed"
