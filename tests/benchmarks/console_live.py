"""The live page of the console under load, in a real Chromium.

    python -m tests.benchmarks.console_live [EVENTS_PER_SECOND] [SECONDS]

Batches of a tenth of a second are posted to a gateway of its own; the page says what it took and
how long its tasks and frames were. Not among the rows of the other benchmarks: it needs a browser.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.system.clients.browser import Browser
from tests.system.console.console_page import ConsolePage

_GRANT = {"actions": ["stream"], "categories": ["**"]}
_WATCH = """
window.tasks = []; window.frames_ = []; window.last = performance.now();
new PerformanceObserver((list) => list.getEntries().forEach((one) => tasks.push(one.duration)))
  .observe({ entryTypes: ["longtask"] });
(function frame(now) { frames_.push(now - last); last = now; requestAnimationFrame(frame); })(last);
true
"""
# Events that the page has taken, whether it still has them or not.
_TAKEN = """(
  Number(document.querySelector(".grid")?.getAttribute("aria-rowcount") || 1) - 1
  + Number((document.body.innerText.match(/([0-9,]+) older ones/)?.[1] || "0").replaceAll(",", ""))
)"""
_RESULT = """
(() => {
  const sorted = frames_.slice(5).sort((a, b) => a - b);
  const at = (share) => Math.round(10 * sorted[Math.floor(share * (sorted.length - 1))]) / 10;
  return {
    frame_ms: { p50: at(0.5), p95: at(0.95) },
    long_tasks: tasks.length, longest_task_ms: Math.round(Math.max(0, ...tasks)),
    rows_in_dom: document.querySelectorAll(".grid-box [role=row]").length,
    rows: Number(document.querySelector(".grid").getAttribute("aria-rowcount")) - 1,
    dropped: document.body.innerText.match(/([0-9,]+) older ones were dropped/)?.[1] || "0",
  };
})()
"""


async def send(gateway: GatewayProcess, rate: int, seconds: int) -> int:
    """Post events at a rate; return how many."""
    batch = rate // 10
    event = {
        "category": "auth", "action": "user.login", "outcome": "success",
        "actor": {"id": "u-1", "name": "Ann"}, "source": {"ip": "192.0.2.1"},
        "data": {"session": "x" * 200},
    }  # fmt: skip
    body = json.dumps([event] * batch).encode()
    headers = {
        "Authorization": f"Bearer {gateway.first_key}", "Content-Type": "application/json",
    }  # fmt: skip
    began, sent = time.monotonic(), 0
    async with aiohttp.ClientSession() as session:
        while (passed := time.monotonic() - began) < seconds:
            due = int(10 * passed) + 1 - sent // batch
            for _ in range(due):
                url = f"{gateway.url}/v1/events"
                async with session.post(url, data=body, headers=headers) as answer:
                    assert answer.status == 201, await answer.text()
                sent += batch
            await asyncio.sleep(0.01)
    return sent


async def measure(rate: int, seconds: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder, GatewayProcess(Path(folder) / "data") as gateway:
        browser = Browser()
        try:
            async with browser.page(f"{gateway.url}/", ConsolePage) as page:
                await page.look()
                await page.sign_in(gateway.make_key(_GRANT))
                await page.sees("live")
                await page.evaluate(_WATCH)
                sent = await send(gateway, rate, seconds)
                await page.until(f"{_TAKEN} >= {sent}", f"all of {sent} events")
                found: dict[str, Any] = await page.evaluate(_RESULT)
                heap = await page.ask("Runtime.getHeapUsage")
                shown = found["rows"] + int(found["dropped"].replace(",", ""))
                return {
                    "sent": sent, "shown_or_dropped": shown, **found,
                    "heap_MiB": round(heap["usedSize"] / 2**20),
                }  # fmt: skip
        finally:
            browser.close()


def main() -> None:
    given = [int(one) for one in sys.argv[1:]]
    rate, seconds = (*given, *(5000, 60)[len(given) :])
    print(json.dumps(asyncio.run(measure(rate, seconds)), indent=1))


if __name__ == "__main__":
    main()
