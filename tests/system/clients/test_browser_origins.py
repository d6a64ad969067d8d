"""A page of another origin in a browser: CORS, cookies, and how EventSource ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.request import urlopen

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.clients.browser import Browser
from tests.system.clients.front_proxy import FrontProxy
from tests.system.clients.test_browser import script

_PAGES = """
(async () => {
  const ask = async (path, options) => {
    const answer = await fetch(GATEWAY + path, {
      headers: { Authorization: `Bearer ${KEY}`, Accept: "application/x-ndjson" }, ...options });
    const text = await answer.text();
    return [answer.status, answer.headers.get("Audit-Cursor") !== null, text.includes(CODE)];
  };
  return [
    await ask("/v1/events?from=start"),
    await ask("/v1/events?form=start"),
    await ask("/v1/tickets", { method: "POST", body: "{}", headers: {
      Authorization: `Bearer ${KEY}`, "Content-Type": "application/json" } }),
  ];
})()
"""
# Resolves when EventSource has given up: how often it was opened, and what it got.
_TO_THE_END = """
new Promise((resolve) => {
  const got = [];
  let opened = 0;
  const source = new EventSource(GATEWAY + PATH, { withCredentials: true });
  source.onopen = () => { opened += 1; };
  source.onmessage = ({ data }) => got.push(JSON.parse(data).id);
  source.onerror = () => source.readyState === EventSource.CLOSED && resolve([opened, got]);
})
"""
_BLOCKED = """
fetch(GATEWAY + "/v1/events", { headers: { Authorization: `Bearer ${KEY}` } })
  .then(() => "read", () => "blocked")
"""


def started(folder: Path, origin: str) -> GatewayProcess:
    settings = {
        "AUDIT_GATEWAY_SERVER__ALLOWED_ORIGINS": origin,
        "AUDIT_GATEWAY_STREAM__RETRY_MS": "100",
        "AUDIT_GATEWAY_STREAM__MAX_AGE": "1s",
    }
    return GatewayProcess(folder / "data", settings=settings)


def _streams_opened(gateway: GatewayProcess) -> int:
    with urlopen(f"{gateway.url}/metrics", timeout=patience(30)) as answer:
        text = answer.read().decode()
    [line] = [one for one in text.splitlines() if one.startswith("audit_gateway_streams_opened_")]
    return int(float(line.rpartition(" ")[2]))


async def opened(gateway: GatewayProcess, times: int) -> None:
    """Wait until streams have been opened so often."""
    while await asyncio.to_thread(_streams_opened, gateway) < times:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_a_page_of_an_allowed_origin_reads_pages_errors_and_streams_to_their_end(
    tmp_path: Path, browser: Browser
) -> None:
    async with asyncio.timeout(patience(60)), FrontProxy("127.0.0.1", 1, "") as front:
        with started(tmp_path, front.url) as gateway:
            key = gateway.make_key({"actions": ["stream", "pull"], "categories": ["auth"]})
            async with browser.page(front.url) as page:
                names = {"GATEWAY": gateway.url, "KEY": key, "CODE": "unknown_parameter"}
                assert await page.evaluate(script(_PAGES, **names)) == [
                    [200, True, False],
                    [400, False, True],
                    [201, False, False],
                ]
                status, answer = gateway.ask("POST", "/v1/tickets", key, {"limit": 4})
                assert status == 201
                path = f"/v1/stream?ticket={answer['ticket']}"
                watching = asyncio.create_task(
                    page.evaluate(script(_TO_THE_END, PATH=path, GATEWAY=gateway.url))
                )
                await opened(gateway, 1)
                for number, times in enumerate((2, 3, 3, 3)):
                    event = {"id": str(number), "category": "auth", "action": "user.login"}
                    gateway.post([event], gateway.first_key)
                    # Its life is over meanwhile, and it comes back with its cookie.
                    await opened(gateway, times)
                times_opened, got = await watching
                assert got == ["0", "1", "2", "3"], "four in all, over however many connections"
                assert times_opened >= 3


async def test_a_page_of_a_foreign_origin_is_kept_out_by_the_browser(
    tmp_path: Path, browser: Browser
) -> None:
    async with asyncio.timeout(patience(60)), FrontProxy("127.0.0.1", 1, "") as front:
        with started(tmp_path, "https://siem.example") as gateway:
            key = gateway.make_key({"actions": ["pull"], "categories": ["auth"]})
            async with browser.page(front.url) as page:
                names = {"GATEWAY": gateway.url, "KEY": key}
                assert await page.evaluate(script(_BLOCKED, **names)) == "blocked"
