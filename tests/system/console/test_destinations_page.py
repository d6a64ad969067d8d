"""Destinations: whether outside systems get their events, and what is done if not."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.support.scripted_receiver import Received, Reply, ScriptedReceiver, scripted_receiver
from tests.system.console.conftest import OpenConsole

OPERATES = {"actions": ["ops.read", "ops.act"], "categories": ["**"]}
LOOKS = {"actions": ["ops.read", "stream"], "categories": ["**"]}
MAKES = {
    "actions": ["ops.read", "ops.act", "destinations.admin", "stream", "pull", "ingest"],
    "categories": ["**", "gateway.**"],
}  # fmt: skip
QUICK = {"min": "10ms", "max": "100ms"}
POISON = b"poison"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway") / "data"
    settings = {"AUDIT_GATEWAY_DESTINATIONS__ALLOW_NETWORKS": "127.0.0.0/8"}
    with GatewayProcess(folder, settings=settings) as process:
        yield process


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    """It refuses events that are poison."""

    def good(received: Received) -> Reply:
        return Reply(400 if POISON in received.body else 200)

    async with scripted_receiver(good) as started:
        yield started


@pytest.fixture(scope="module")
def maker(gateway: GatewayProcess) -> str:
    return gateway.make_key(MAKES)


def delete(gateway: GatewayProcess, path: str) -> None:
    """Its answer has no body."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(30))
    connection.request("DELETE", path, headers={"Authorization": f"Bearer {gateway.first_key}"})
    assert connection.getresponse().status == 204
    connection.close()


@pytest.fixture
def make(gateway: GatewayProcess, maker: str) -> Iterator[Any]:
    """Makes destinations of the reader's key, and deletes them afterwards."""
    made: list[str] = []
    reader = gateway.make_key({"actions": ["stream"], "categories": ["auth"]})

    def one(name: str, url: str) -> None:
        body = {
            "name": name, "type": "http", "key": reader[5:17], "settings": {"url": url},
            "retry": QUICK,
        }  # fmt: skip
        status, answer = gateway.ask("POST", "/v1/destinations", gateway.first_key, body)
        assert status == 201, answer
        made.append(name)

    yield one
    for name in made:
        delete(gateway, f"/v1/destinations/{name}")


def shown(gateway: GatewayProcess, name: str) -> Any:
    return gateway.ask("GET", f"/v1/destinations/{name}", gateway.first_key)[1]


async def post(gateway: GatewayProcess, *actions: str) -> None:
    events = [{"category": "auth", "action": action} for action in actions]
    await asyncio.to_thread(gateway.post, events, gateway.first_key)


async def test_a_destination_that_delivers_is_shown_with_its_health(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    await post(gateway, "user.login", "user.logout")
    async with console(gateway.make_key(OPERATES), "#/destinations") as page:
        await page.sees("siem")
        await page.sees("active")
        await page.accessible("destinations")
        await page.find("link", "siem", "it.focus()")
        await page.press("Enter")
        await page.sees("2 events,")
        await page.sees(f"http://127.0.0.1:{receiver.port}/in")
        await page.accessible("destinations-open")
        await page.click("Test")
        await page.sees("Test event to siem: success, 200")
        await page.click("Close")
        await page.until("location.hash === '#/destinations'")


async def test_pausing_says_what_it_does_and_is_taken_back_by_undo(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    async with console(gateway.make_key(OPERATES), "#/destinations/siem") as page:
        await page.click("Pause …")
        await page.sees("events wait in the log")
        await page.accessible("destinations-pause")
        await page.fill("Reason", "they upgrade")
        await page.click("Pause")
        await page.sees("siem is paused.")
        await page.sees("they upgrade")
        await page.sees("Backlog")
        assert shown(gateway, "siem")["state"] == "paused"
        await page.accessible("destinations-paused")
        await page.click("Undo")
        await page.sees("siem goes on.")
        assert shown(gateway, "siem")["state"] == "active"
        await page.sees("Pause …")
        await page.click("Pause …")
        await page.fill("Reason", "again")
        await page.click("Pause")
        await page.click("Resume …")
        await page.fill("Reason", "they are back")
        await page.click("Resume")
        await page.sees("siem goes on from its position.")
        assert shown(gateway, "siem")["state"] == "active"


async def test_one_that_fails_says_why(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    receiver.good = lambda _: Reply(503, b"out of order")
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    await post(gateway, "user.login")
    async with console(gateway.make_key(OPERATES), "#/destinations") as page:
        await page.sees("failing")
        await page.sees("503")
        await page.accessible("destinations-failing")


async def test_dead_letters_are_shown_sent_again_and_forgotten(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver,
    maker: str,
) -> None:  # fmt: skip
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    await post(gateway, "user.login", POISON.decode(), "user.logout")
    async with console(maker, "#/destinations/siem") as page:
        await page.sees("Dead letters")
        await page.sees("http 400")
        await page.accessible("destinations-dead-letters")
        receiver.good = lambda _: Reply(200)
        await page.click("Send again …")
        await page.sees("beside the delivery")
        await page.fill("Reason", "the receiver is mended")
        await page.click("Send again")
        await page.sees("1 events are sent to siem again.")
        await page.sees("done: 1 sent again")
        receiver.good = lambda received: Reply(400 if POISON in received.body else 200)
        await post(gateway, "user.login", POISON.decode())
        await page.click("Forget all …")
        await page.sees("cannot be taken back")
        await page.click("Forget them")
        await page.sees("are forgotten.")
        await page.sees_no("Send again …")


async def test_a_replay_is_cancelled_after_a_question(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    await post(gateway, "before")
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    receiver.good = lambda _: Reply(503)
    body = {"from": "start", "reason": "lost there"}
    status, answer = gateway.ask("POST", "/v1/destinations/siem/replay", gateway.first_key, body)
    assert status == 200, answer
    async with console(gateway.make_key(OPERATES), "#/destinations/siem") as page:
        await page.sees("running: 0 sent again")
        await page.click("Cancel the replay …")
        await page.sees("What was sent again stays there.")
        await page.click("Cancel the replay")
        await page.sees("The replay to siem was cancelled.")
        await page.sees("cancelled: 0 sent again")


async def test_without_the_right_to_there_are_no_buttons(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    async with console(gateway.make_key(LOOKS), "#/destinations/siem") as page:
        await page.sees("Last success")
        await page.sees_no("Pause")
        await page.sees_no("Test")


async def test_the_page_is_absent_where_nothing_is_declared_and_nothing_may_be_made(
    gateway: GatewayProcess, console: OpenConsole, make: Any, maker: str,
    receiver: ScriptedReceiver,
) -> None:  # fmt: skip
    async with console(gateway.make_key(LOOKS), "#/streams") as page:
        await page.sees("Nobody reads a stream now")
        await page.until(
            "performance.getEntriesByName(location.origin + '/v1/destinations').length", "an answer"
        )
        await page.until("!document.querySelector('nav').innerText.includes('Destinations')")
    async with console(maker) as page:
        await page.click("Destinations", "link")
        await page.sees("Events go to no outside system.")
        await page.sees("This makes a destination")
        await page.accessible("destinations-empty")
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    async with console(gateway.make_key(LOOKS), "#/streams") as page:
        await page.click("Destinations", "link")
        await page.sees("siem")


async def test_a_failure_keeps_what_is_shown_and_says_since_when(
    gateway: GatewayProcess, console: OpenConsole, make: Any, receiver: ScriptedReceiver
) -> None:
    make("siem", f"http://127.0.0.1:{receiver.port}/in")
    async with console(gateway.make_key(OPERATES), "#/destinations", refusals=True) as page:
        await page.sees("active")
        await page.evaluate(
            "{ const before = window.fetch; window.fetch = (to, how) => window.away"
            " ? Promise.reject(new TypeError('away')) : before(to, how); window.away = true } true"
        )
        await page.sees("The gateway does not answer. What you see is of")
        await page.sees("siem")
        await page.accessible("destinations-stale")
        await page.evaluate("void (window.away = false)")
        await page.click("Try again")
        await page.sees_no("What you see is of")
