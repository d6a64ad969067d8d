"""deploy/embedding.md: its page and its call, as printed, in a browser; and what attackers get."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import ROOT, GatewayProcess, run_program
from tests.support.machine_time import becomes, patience
from tests.system.clients.browser import Browser
from tests.system.console.console_page import ConsolePage

PAGE = (ROOT / "deploy" / "embedding.md").read_text()
HOST_PAGE = re.findall(r"```html\n(.*?)```", PAGE, re.DOTALL)[0]
CALLS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
CALL = next(one for one in CALLS if "/v1/tickets" in one)
SHOWN = {
    "actions": ["pull", "stream"],
    "categories": ["auth.**"],
    "fields": {"mask": ["source.ip"]},
}
_TEST_SECONDS = 90


class Portal:
    """A server of somebody else's product, on an origin of its own. `tickets` it has given, `asked`
    paths and referrers; `call` is what it runs for a ticket."""

    def __init__(self) -> None:
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(portal.page.encode(), "text/html")

            def do_POST(self) -> None:
                self._send(portal.ticket().encode(), "application/json")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.page, self.gateway, self.key, self.call = "", "", "", CALL
        self.given: list[str] = []
        # Given in place of a new one, if there are some.
        self.spent: list[str] = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def shows(self, gateway: GatewayProcess, key: str) -> None:
        self.gateway, self.key = gateway.url, key
        self.page = HOST_PAGE.replace("https://audit.example", gateway.url)
        assert self.page != HOST_PAGE

    def ticket(self) -> str:
        if self.spent:
            return json.dumps({"ticket": self.spent.pop(0)})
        known = {"GATEWAY": self.gateway, "KEY": self.key}
        made = subprocess.run(
            ["sh", "-c", self.call], check=True, capture_output=True, text=True,
            timeout=patience(30), env={**os.environ, **known},
        ).stdout  # fmt: skip
        self.given.append(json.loads(made)["ticket"])
        return made

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class FramedPage(ConsolePage):
    """A page of the portal, of which what is asked and clicked is the frame's."""

    frame = ""

    async def inside(self) -> None:
        """Go on inside of the frame, once it is there."""
        urls = await becomes(self.frames, lambda found: bool(found and "/embed" in found[0][0]))
        self.frame = urls[0][1]

    async def frames(self) -> list[tuple[str, str]]:
        """URLs and ids of the frames in the page."""
        tree = (await self.ask("Page.getFrameTree"))["frameTree"]
        inner = [one["frame"] for one in tree.get("childFrames", [])]
        return [(one.get("unreachableUrl") or one["url"], one["id"]) for one in inner]

    async def evaluate(self, script: str) -> Any:
        if not self.frame:
            return await super().evaluate(script)
        world = await self.ask("Page.createIsolatedWorld", frameId=self.frame, worldName="tests")
        answer = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            contextId=world["executionContextId"],
        )  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def outside(self, script: str) -> Any:
        """What an expression becomes in the page around the frame."""
        return await super().evaluate(script)


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    made = Portal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, portal: Portal) -> Iterator[GatewayProcess]:
    settings = {"AUDIT_GATEWAY_SERVER__ALLOWED_ORIGINS": portal.origin}
    folder: Path = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder / "data", settings=settings) as process:
        yield process


@pytest.fixture
def key(gateway: GatewayProcess, portal: Portal) -> str:
    made = gateway.make_key(SHOWN)
    portal.shows(gateway, made)
    portal.call, portal.given, portal.spent = CALL, [], []
    return made


@asynccontextmanager
async def framed(browser: Browser, portal: Portal) -> AsyncIterator[FramedPage]:
    async with (
        asyncio.timeout(patience(_TEST_SECONDS)),
        browser.page(portal.origin, FramedPage) as page,
    ):
        await page.until("document.querySelector('iframe').src", "a frame with a ticket")
        await page.inside()
        yield page
        await page.keep_coverage()


def send(gateway: GatewayProcess, *events: dict[str, Any]) -> None:
    whole = [{"category": "auth.session", "action": "user.login", **one} for one in events]
    status, answer = gateway.ask("POST", "/v1/events", gateway.first_key, whole)
    assert status == 201, answer


def test_the_key_of_the_page_is_made_as_printed(tmp_path: Path) -> None:
    line = next(one for one in CALLS if "keys create" in one).replace("\\\n", " ")
    done = run_program(*shlex.split(line)[1:], "--data", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "alpk_" in done.stdout


async def test_a_customer_sees_its_own_part_of_the_log_in_a_page_of_the_product(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    send(
        gateway,
        {"tenant": "acme", "actor": {"id": hostile}, "source": {"ip": "192.0.2.7"}},
        {"tenant": "globex", "actor": {"id": "stranger"}},
    )
    async with framed(browser, portal) as page:
        await page.sees(hostile)
        await page.sees("1 event")
        await page.sees_no("stranger")
        await page.sees("live")
        assert await page.evaluate("location.hash") == ""
        assert await page.evaluate("document.cookie") == ""
        assert await page.evaluate("document.querySelectorAll('#app img').length") == 0
        newer = {"tenant": "acme", "actor": {"id": "bob"}, "source": {"ip": "192.0.2.7"}}
        send(gateway, newer, {"tenant": "globex"})
        await page.sees("bob")
        await page.sees("1 event, 1 newer")
        await page.accessible("viewer")
        # By keyboard: the newest event is opened, and closed.
        await page.find("button", "20", "it.focus()")
        await page.press("Enter")
        await page.sees("source.ip")
        await page.sees("***")
        await page.sees_no("192.0.2.7")
        await page.accessible("viewer-open")
        await page.press("Escape")
        await page.sees_no("source.ip")
        await page.press("/")
        await page.until("document.activeElement.dataset.search === '1'")
        await page.fill("Text", "nobody")
        await page.sees("No events with these conditions.")
        await page.click("Drop the text")
        await page.sees("bob")
        # What the browser says of every frame that has both, of whatever origin, and of a stream
        # that was not wanted any more before it was open.
        harmless = ("escape its sandboxing", "closed before the connection is established")
        page.said = [one for one in page.said if not any(text in str(one) for text in harmless)]
        page.check_quiet_in((gateway.url, portal.origin))


async def test_a_file_is_saved_from_within_the_sandbox(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str, tmp_path: Path
) -> None:
    send(gateway, {"tenant": "acme", "actor": {"id": "carol"}})

    async def saved() -> list[Path]:
        return list(tmp_path.glob("*.csv"))

    async with framed(browser, portal) as page:
        await page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await page.sees("carol")
        await page.click("Save CSV")
        await page.sees("Saved ")
        files = await becomes(saved, bool)
        text = files[0].read_bytes().decode()
        assert text.startswith("time,action,actor.id\r\n")
        assert "carol" in text


@pytest.mark.parametrize("theme", ["plain", "slate", "sand", "contrast"])
async def test_themes_can_be_read_in_both_schemes(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str, theme: str
) -> None:
    send(gateway, {"tenant": "acme", "outcome": "denied"})
    portal.call = CALL.replace('"since"', f'"theme": "{theme}", "since"').replace(
        '["time", "action", "actor.id"]', '["time", "category", "action", "actor.id", "outcome"]'
    )
    async with framed(browser, portal) as page:
        await page.sees("denied")
        await page.accessible(f"viewer-{theme}")


async def test_what_the_ticket_does_not_allow_is_not_offered(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    send(gateway, {"tenant": "acme", "actor": {"id": "dan"}})
    portal.call = CALL.replace('["text", "export", "live"]', "[]").replace('"30d"', '"1h"')
    async with framed(browser, portal) as page:
        await page.sees("dan")
        for absent in ("Live", "Save CSV", "Text"):
            await page.sees_no(absent)
        ranges = await page.find("field", "Range", "[...it.options].map((one) => one.value)")
        assert ranges == ["15m", "1h"]


async def test_a_spent_ticket_is_followed_by_another_that_the_page_around_it_gives(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    send(gateway, {"tenant": "acme", "actor": {"id": "eve"}})
    used = json.loads(await asyncio.to_thread(portal.ticket))["ticket"]
    gateway.ask("POST", "/v1/viewer/session", "", {"ticket": used})
    portal.spent = [used]
    async with framed(browser, portal) as page:
        await page.sees("eve")
        assert len(portal.given) == 2


async def test_revoking_the_key_ends_what_is_shown(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    send(gateway, {"tenant": "acme", "actor": {"id": "fay"}})
    async with framed(browser, portal) as page:
        await page.sees("fay")
        await page.sees("live")
        gateway.ask("POST", f"/v1/keys/{key[5:17]}/revoke", gateway.first_key, {})
        await page.sees("this key was revoked")
        await page.accessible("viewer-ended")


async def test_a_page_of_another_origin_is_shown_nothing(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    foreign = Portal()
    try:
        foreign.shows(gateway, key)
        async with (
            asyncio.timeout(patience(_TEST_SECONDS)),
            browser.page(foreign.origin, FramedPage) as page,
        ):
            await page.until("document.querySelector('iframe').src")

            async def complaints() -> list[str]:
                await page.evaluate("1")
                return [one for one in page.complaints() if "frame-ancestors" in one]

            await becomes(complaints, bool)
            assert not any("/console/" in url for url in page.requests())
    finally:
        foreign.close()


async def test_messages_of_other_windows_and_origins_are_not_taken(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    send(
        gateway,
        {"tenant": "acme", "actor": {"id": "gil"}},
        {"tenant": "globex", "actor": {"id": "hal"}},
    )
    async with framed(browser, portal) as page:
        await page.sees("gil")
        portal.call = CALL.replace("acme", "globex")
        other = json.loads(await asyncio.to_thread(portal.ticket))["ticket"]
        message = json.dumps({"type": "audit-gateway.ticket", "ticket": other})
        # A frame beside it, and one without an origin, know the window as well.
        for sandbox in ("allow-scripts allow-same-origin", "allow-scripts"):
            await page.outside(
                "new Promise((go) => { const beside = document.createElement('iframe');"
                f" beside.sandbox = {json.dumps(sandbox)}; beside.onload = () => go(true);"
                f" beside.srcdoc = '<script>parent.frames[0].postMessage({message}, \"*\")'"
                " + '</script>';"
                " document.body.append(beside); })"
            )
        sent = [url for url in page.requests() if url.endswith("/v1/viewer/session")]
        await page.sees("gil")
        await page.sees_no("hal")
        assert len(sent) == 1
        status, _ = gateway.ask("POST", "/v1/viewer/session", "", {"ticket": other})
        assert status == 201, "nobody has spent it"


async def test_no_request_has_a_ticket_in_its_address_or_referrer(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    send(gateway, {"tenant": "acme", "actor": {"id": "ivy"}})
    async with framed(browser, portal) as page:
        await page.sees("ivy")
        asked = [one["request"] for name, one in page.said if name == "Network.requestWillBeSent"]
        [given] = portal.given
        for one in asked:
            assert given not in one["url"]
            assert "alpv_" not in one["url"]
            assert "alp" not in one["headers"].get("Referer", "")
        assert any(one["url"].endswith("/embed") for one in asked)


async def test_a_first_visit_loads_little(
    gateway: GatewayProcess, portal: Portal, browser: Browser, key: str
) -> None:
    portal.call = CALL.replace("acme", "empty")
    async with framed(browser, portal) as page:
        await page.sees("Nothing has happened")
        await page.accessible("viewer-empty")
        assert not any("uplot" in url for url in page.requests())
        size = await page.evaluate(
            "performance.getEntriesByType('resource')"
            ".filter(({name}) => name.includes('/console/'))"
            ".reduce((sum, {encodedBodySize}) => sum + encodedBodySize, 0)"
        )
        assert 0 < size <= 45_000, size
