"""Streams: who reads now, how far behind, and what ends a stream."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.console.conftest import EVERYTHING, OpenConsole
from tests.system.console.console_page import ConsolePage

READS = {"actions": ["stream"], "categories": ["**"]}
ON_CALL = {"actions": ["ops.read", "ops.act"], "categories": ["**"]}
LOOKS = {"actions": ["ops.read"], "categories": ["**"]}

_KEY = "document.querySelector('[data-search]').value"


def make_key(gateway: GatewayProcess, name: str, owner: str = "soc") -> str:
    wanted = {"name": name, "purpose": "alerts", "owner": owner, "grants": [READS]}
    status, answer = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    assert status == 201, answer
    key: str = answer["key"]
    return key


@contextmanager
def reading(
    gateway: GatewayProcess, key: str, query: str = "", client: str = "collector/1.0"
) -> Iterator[http.client.HTTPResponse]:
    """An open stream of a key, of which the first line was read."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(30))
    headers = {
        "Authorization": f"Bearer {key}", "Accept": "application/x-ndjson",
        "User-Agent": client,
    }  # fmt: skip
    connection.request("GET", f"/v1/stream?from=now{query}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    try:
        yield answer
    finally:
        connection.close()


@pytest.fixture
def key(gateway: GatewayProcess) -> str:
    return make_key(gateway, "siem-acme")


async def test_a_stream_tells_who_reads_from_where_and_what(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    admin = gateway.make_key(ON_CALL)
    with reading(gateway, key, "&category=auth.**"), reading(gateway, key):
        async with console(admin, "#/streams") as page:
            await page.sees("siem-acme")
            await page.sees("2 of 2 streams")
            for text in ("soc", key[5:17], "ndjson", "127.0.0.1", "collector/1.0", "auth.**"):
                await page.sees(text)
            await page.sees("everything it may see")
            await page.accessible("streams")


async def test_ending_a_stream_says_what_will_happen_and_does_it(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    admin = gateway.make_key(ON_CALL)
    with reading(gateway, key) as stream:
        async with console(admin, "#/streams") as page:
            await page.find("button", "End the stream of siem-acme", "it.focus()")
            await page.press("Enter")
            for text in ("End this stream?", key[5:17], "collector/1.0 at 127.0.0.1"):
                await page.sees(text)
            await page.sees("come back from there after a pause")
            await page.accessible("streams-end")
            await page.press("Escape")
            await page.sees_no("End this stream?")
            await page.sees("siem-acme")
            await page.click("End the stream of siem-acme")
            await page.fill("Reason", "it starves the others")
            await page.click("End the stream")
            await page.sees("The stream of siem-acme has ended")
            await page.sees("Nobody reads a stream now")
        last = json.loads(stream.read().splitlines()[-1])
        assert (last["type"], last["code"]) == ("end", 4005)


async def test_nobody_ends_streams_without_the_right_to(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    with reading(gateway, key):
        async with console(gateway.make_key(LOOKS), "#/streams") as page:
            await page.sees("siem-acme")
            await page.sees_no("End …")


async def test_a_key_without_the_right_sees_its_own_streams_only(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    other = make_key(gateway, "other")
    with reading(gateway, key), reading(gateway, other):
        async with console(other, "#/streams") as page:
            await page.sees("Those of your own key.")
            await page.sees("other")
            await page.sees_no("siem-acme")


async def test_conditions_that_leave_nothing_can_be_dropped(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    with reading(gateway, key):
        async with console(gateway.make_key(ON_CALL), "#/streams?transport=sse") as page:
            await page.sees("No streams with these conditions.")
            await page.accessible("streams-filtered")
            await page.click("Drop the transport")
            await page.sees("siem-acme")
            await page.fill("State", "stalled")
            await page.sees("No streams with these conditions.")
            assert await page.evaluate("location.hash") == "#/streams?state=stalled"


async def test_the_streams_of_one_key_are_chosen_by_its_id(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    other = make_key(gateway, "other")
    with reading(gateway, key), reading(gateway, other):
        async with console(gateway.make_key(ON_CALL), "#/streams") as page:
            await page.sees("2 of 2 streams")
            await page.press("/")
            await page.until("document.activeElement.dataset.search === '1'")
            await page.fill("Key", key[5:17])
            await page.sees("1 of 1 streams")
            await page.sees_no("other")
            await page.fill("Transport", "sse")
            await page.click("Drop the key")
            await page.until(f"location.hash === '#/streams?transport=sse' && {_KEY} === ''")


async def test_names_and_clients_stay_text(gateway: GatewayProcess, console: OpenConsole) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    key = make_key(gateway, hostile, "<script>alert(1)</script>")
    with reading(gateway, key, client=hostile):
        async with console(gateway.make_key(ON_CALL), "#/streams") as page:
            await page.sees(hostile)
            await page.sees("<script>alert(1)</script>")
            await page.click(f"End the stream of {hostile}")
            await page.sees(f"{hostile} at 127.0.0.1")
            assert await page.evaluate("document.querySelectorAll('img, #app script').length") == 0


async def test_nobody_reading_is_told_with_how_to(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(ON_CALL), "#/streams") as page:
        await page.sees("Nobody reads a stream now")
        await page.sees(f"{gateway.url}/v1/stream")
        await page.accessible("streams-empty")


async def test_addresses_and_conditions_that_grants_hide_are_told_as_hidden(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    hides = {
        "actions": ["pull"], "categories": ["gateway.access"],
        "fields": {"mask": ["source.ip", "source.user_agent", "data.parameters"]},
    }  # fmt: skip
    with reading(gateway, key, "&category=auth.**"):
        async with console(gateway.make_key(ON_CALL, hides), "#/streams") as page:
            await page.sees("siem-acme")
            await page.sees("hidden")
            await page.sees_no("auth.**")
            await page.sees_no("collector/1.0")


async def _answers(page: ConsolePage, answer: dict[str, object]) -> None:
    """Have the page's next looks at streams answered so: a silent replica is rare."""
    await page.evaluate(
        "{ const before = window.fetch; window.fetch = (to, how) =>"
        " String(to).startsWith('/v1/streams') ? Promise.resolve(new Response("
        f"{json.dumps(json.dumps(answer))})) : before(to, how); }} true"
    )


async def test_replicas_that_do_not_answer_are_named(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING)) as page:
        await _answers(page, {"streams": [], "total": 0, "partial": True, "missing": ["gw-2"]})
        await page.go("#/streams")
        await page.sees("Without those of gw-2")
        await page.accessible("streams-partial")


async def test_a_failure_is_told_with_its_code_and_a_way_to_try_again(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(ON_CALL), refusals=True) as page:
        await page.go("#/streams?order=nothing")
        await page.sees("order: one of lag, opened, bytes")
        await page.sees("invalid_request")
        await page.accessible("streams-failed")
        await page.click("Try again")
        await page.sees("invalid_request")
