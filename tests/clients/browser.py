"""Chromium without a window, through its DevTools protocol.

One page, on which a test evaluates JavaScript. The browser reaches nothing but the loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.machine_time import patience
from tests.setup_clients import chromium_program

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--no-default-browser-check",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)  # fmt: skip
_LOADED = """
document.readyState === "complete" || new Promise((go) => addEventListener("load", () => go(true)))
"""
_START_SECONDS = 20
_END_SECONDS = 5


class Page:
    """A page of the browser."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._session: dict[str, str] = {}
        self._number = 0

    async def open(self, url: str) -> None:
        """A fresh page, loaded."""
        target = await self._ask("Target.createTarget", url="about:blank")
        session = await self._ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = {"sessionId": session["sessionId"]}
        failed = (await self._ask("Page.navigate", url=url)).get("errorText")
        assert not failed, f"{url}: {failed}"
        await self.evaluate(_LOADED)

    async def evaluate(self, script: str) -> Any:
        """The JSON value of an expression; of a promise, what it resolves to."""
        answer = await self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer. Commands are given one after the other."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **self._session}
        await self._devtools.send(json.dumps(message))
        while True:
            answer = json.loads(await self._devtools.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result


@asynccontextmanager
async def browser(profile: Path, url: str) -> AsyncIterator[Page]:
    """A page at `url` in a browser of its own; `profile` is an empty folder for it."""
    program = chromium_program()
    assert program is not None, "Chromium is missing: run tests/setup_clients.py"
    # Where it puts its socket, whose path has to be short, and does not remove it.
    with TemporaryDirectory(prefix="browser-") as temporary:
        process = await asyncio.create_subprocess_exec(
            program, *_FLAGS, f"--user-data-dir={profile}", "about:blank",
            env={**os.environ, "HOME": str(profile), "TMPDIR": temporary},
            stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        reading: asyncio.Task[bytes] | None = None
        try:
            address = await asyncio.wait_for(_address(process.stderr), patience(_START_SECONDS))
            reading = asyncio.create_task(process.stderr.read())
            async with connect(address, max_size=None, proxy=None, ping_interval=None) as devtools:
                page = Page(devtools)
                await page.open(url)
                yield page
        finally:
            await _end(process)
            if reading is not None:
                await reading


async def _address(errors: asyncio.StreamReader) -> str:
    said = []
    async for line in errors:
        said.append(line.decode(errors="replace"))
        if said[-1].startswith("DevTools listening on "):
            return said[-1].split()[-1]
    raise AssertionError("Chromium did not start:\n" + "".join(said))


async def _end(process: asyncio.subprocess.Process) -> None:
    """The browser and the processes that it started, which are one group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience(_END_SECONDS))
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
