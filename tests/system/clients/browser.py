"""Chromium without a window, through its DevTools protocol.

Pages, on which tests evaluate JavaScript. The browser reaches nothing but the loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect

from tests.setup_clients import chromium_program
from tests.support.machine_time import patience, wait_until

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--no-default-browser-check",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--remote-debugging-port=0",
)  # fmt: skip
_LOADED = """
document.readyState === "complete" || new Promise((go) => addEventListener("load", () => go(true)))
"""
_START_SECONDS = 20
_END_SECONDS = 5
# A promise of a page may wait for all that a test sends.
_ANSWER_SECONDS = 60


class Page:
    """A page of the browser."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._session: dict[str, str] = {}
        self._number = 0
        # What the page said unasked: the name of the event, and its members.
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def open(self, url: str) -> None:
        """A fresh page, loaded, that shares nothing with other pages."""
        alone = await self.ask("Target.createBrowserContext", disposeOnDetach=True)
        target = await self.ask("Target.createTarget", url="about:blank", **alone)
        session = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        await self.prepare()
        failed = (await self.ask("Page.navigate", url=url)).get("errorText")
        assert not failed, f"{url}: {failed}"
        await self.evaluate(_LOADED)

    async def prepare(self) -> None:
        """Called before the page is loaded, for those that watch it."""

    async def evaluate(self, script: str) -> Any:
        """The JSON value of an expression; of a promise, what it resolves to."""
        answer = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer. Commands are given one after the other."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **self._session}
        async with asyncio.timeout(patience(_ANSWER_SECONDS)):
            await self._devtools.send(json.dumps(message))
            while True:
                answer = json.loads(await self._devtools.recv())
                if "method" in answer:
                    self.said.append((answer["method"], answer["params"]))
                if answer.get("id") == number:
                    assert "error" not in answer, answer["error"]
                    result: dict[str, Any] = answer["result"]
                    return result


AnyPage = TypeVar("AnyPage", bound=Page)


class Browser:
    """A running browser, for any number of tests; `close` ends it and removes what it wrote."""

    def __init__(self) -> None:
        program = chromium_program()
        assert program is not None, "Chromium is missing: run tests/setup_clients.py"
        # Its socket is in there, too, whose path has to be short.
        self._folder = TemporaryDirectory(prefix="browser-")
        folder = Path(self._folder.name)
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
                env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
                stdin=DEVNULL, stdout=DEVNULL, stderr=said, start_new_session=True,
            )  # fmt: skip
        self._address = ""
        try:
            wait_until(self._listens, "Chromium listens", _START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _listens(self) -> bool:
        said = self._said.read_text(errors="replace")
        assert self._process.poll() is None, f"Chromium did not start:\n{said}"
        for line in said.splitlines(keepends=True):
            if line.startswith("DevTools listening on ") and line.endswith("\n"):
                self._address = line.split()[-1]
        return bool(self._address)

    @asynccontextmanager
    async def page(self, url: str, kind: type[AnyPage] = Page) -> AsyncIterator[AnyPage]:  # type: ignore[assignment]
        """A page at `url` with cookies, caches and connections of its own."""
        async with connect(
            self._address, max_size=None, proxy=None, ping_interval=None
        ) as devtools:
            page = kind(devtools)
            await page.open(url)
            yield page

    def close(self) -> None:
        """End the browser and the processes that it started, which are one group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience(_END_SECONDS))
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()
