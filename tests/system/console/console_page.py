"""The console in a browser, driven as a person does it: by what stands on the page.

Whatever it does, it may report no error, break no policy, and leave the gateway's origin never:
`check_quiet` tells.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.setup_clients import CLIENTS
from tests.support.machine_time import patience
from tests.system.clients.browser import Page

_AXE = CLIENTS / "node_modules" / "axe-core" / "axe.min.js"
# Sizes and schemes in which pages are looked at.
LOOKS = ({"width": 1280, "height": 800}, {"width": 360, "height": 740, "dark": True})
# Named by its text, its label, or what it is described as, like a person would.
_FIND = """
(kind, name) => {
  const shown = (one) => one.checkVisibility() && !one.closest("[inert]");
  const named = (one) => {
    const label = one.getAttribute("aria-label")
      || (one.labels?.length ? one.labels[0].querySelector("span")?.textContent : "")
      || one.textContent;
    return label.trim().replace(/\\s+/g, " ");
  };
  const kinds = {
    button: "button, .button, summary", link: "a[href]", field: "input, select, textarea",
    heading: "h1, h2, h3", row: "[role=row], tr",
  };
  const open = document.querySelector("dialog[open]");
  const found = [...(open || document).querySelectorAll(kinds[kind])].filter(shown);
  return found.find((one) => named(one) === name) || found.find((one) => named(one).includes(name));
}
"""
_SET = """
(field, value) => {
  const prototype = Object.getPrototypeOf(field);
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(field, value);
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
}
"""
_KEYS = {
    "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9, "End": 35,
    "Home": 36,
}  # fmt: skip
# Screenshots go there, where it is set; tests look at nothing of them.
_SHOTS = os.environ.get("CONSOLE_SCREENSHOTS", "")
# Which functions ran is kept there, where it is set.
_COVERAGE = os.environ.get("CONSOLE_COVERAGE", "")
_POLL_SECONDS = 0.02


class ConsolePage(Page):
    """A page of the console."""

    async def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Network", "Log", "Profiler"):
            await self.ask(f"{domain}.enable")
        await self.ask("Profiler.startPreciseCoverage", callCount=False, detailed=False)

    async def look(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Let the page have a size and a colour scheme."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def until(self, script: str, what: str = "") -> Any:
        """What an expression becomes, once that is true."""
        began = time.monotonic()
        while not (value := await self.evaluate(script)):
            if time.monotonic() - began > patience(10):
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(
                    f"never {what or script}; the page says:\n{text[:3000]}\n{self.complaints()}"
                )
            await self.evaluate(f"new Promise((go) => setTimeout(go, {1000 * _POLL_SECONDS}))")
        return value

    async def sees(self, text: str) -> None:
        """Wait until a text stands on the page."""
        await self.until(
            # Between two pages there is no body.
            f"document.body?.innerText.replace(/\\s+/g, ' ').includes({json.dumps(text)})",
            text,
        )

    async def sees_no(self, text: str) -> None:
        """Wait until a text is gone."""
        await self.until(
            f"!document.body.innerText.includes({json.dumps(text)})", f"without {text}"
        )

    async def find(self, kind: str, name: str, then: str) -> Any:
        """What an expression over `it` becomes: the thing of that kind and name, once there is."""
        called = f"({_FIND})({json.dumps(kind)}, {json.dumps(name)})"
        await self.until(f"Boolean({called})", f"{kind} {name!r}")
        return await self.evaluate(f"((it) => {{ return {then}; }})({called})")

    async def click(self, name: str, kind: str = "button") -> None:
        await self.find(kind, name, "it.click()")
        # What it does is on the page two frames later, for a click that follows.
        frame = "new Promise((go) => requestAnimationFrame(() => go(true)))"
        await self.evaluate(f"{frame}.then(() => {frame})")

    async def fill(self, name: str, value: str) -> None:
        """Put a value into a field."""
        await self.find("field", name, f"({_SET})(it, {json.dumps(value)})")

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            members: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
            text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
            await self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **members)
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **members)

    async def go(self, address: str) -> None:
        """Go to a view, such as `#/keys`."""
        await self.evaluate(f"void (location.hash = {json.dumps(address)})")

    async def sign_in(self, key: str) -> None:
        await self.fill("Provisioning key", key)
        await self.click("Sign in")
        await self.sees("Sign out")

    async def accessible(self, name: str) -> None:
        """Fail if axe finds a breach of WCAG 2.2 AA, in a large light page or a small dark one, or
        if a small one scrolls sideways. Screenshots are called by `name`."""
        await self.evaluate(_AXE.read_text() + "; true")
        for look in LOOKS:
            await self.look(**look)
            await self.shoot(f"{name}-{look['width']}")
            found = await self.evaluate(
                "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})"
                ".then(({violations}) => violations.map(({id, help, nodes}) => ({id, help,"
                " nodes: nodes.slice(0, 3).map(({html, failureSummary}) =>"
                " html + failureSummary)})))"
            )
            assert found == [], json.dumps(found, indent=1)[:3000]
            wide = await self.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name}: {wide} px too wide at {look['width']}"
        await self.look()

    async def shoot(self, name: str) -> None:
        """Keep a screenshot, if somebody wants to look at them."""
        if _SHOTS:
            shot = await self.ask("Page.captureScreenshot", format="png")
            folder = Path(_SHOTS)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    async def keep_coverage(self) -> None:
        """Add the functions of the console's own code, with whether they ran, to a file, if
        somebody wants to know."""
        if not _COVERAGE:
            return
        taken = await self.ask("Profiler.takePreciseCoverage")
        folder = Path(_COVERAGE)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{os.getpid()}.ndjson").open("a") as file:
            for script in taken["result"]:
                if found := re.search(r"/own-([\w-]+)\.\w+\.js$", script["url"]):
                    functions = [
                        [one["functionName"], one["ranges"][0]["startOffset"],
                         one["ranges"][0]["count"]]
                        for one in script["functions"]
                    ]  # fmt: skip
                    file.write(json.dumps([found[1], functions]) + "\n")

    def requests(self) -> list[str]:
        """URLs of all that the page has asked for."""
        heard = [one for name, one in self.said if name == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in heard] + [
            one["url"] for name, one in self.said if name == "Network.webSocketCreated"
        ]

    def complaints(self, *, refusals: bool = False) -> list[str]:
        """Errors and breaches of the policy that the browser has reported. `refusals`: answers of
        4xx and 5xx are meant to come."""
        found = [
            str(one["exceptionDetails"]) for name, one in self.said
            if name == "Runtime.exceptionThrown"
        ]  # fmt: skip
        entries = [one["entry"] for name, one in self.said if name == "Log.entryAdded"]
        found += [
            entry["text"] for entry in entries
            if entry["level"] in ("error", "warning")
            and not (refusals and entry["source"] == "network")
        ]  # fmt: skip
        calls = [one for name, one in self.said if name == "Runtime.consoleAPICalled"]
        return found + [str(one["args"]) for one in calls if one["type"] in ("error", "warning")]

    def check_quiet(self, origin: str, *, refusals: bool = False) -> None:
        """Fail if the page has complained, or has asked anybody but the gateway."""
        self.check_quiet_in((origin,), refusals=refusals)

    def check_quiet_in(self, origins: Sequence[str], *, refusals: bool = False) -> None:
        """Fail if the page has complained, or has asked anybody but these."""
        complaints = self.complaints(refusals=refusals)
        assert complaints == [], complaints
        asked = {urlsplit(url).netloc for url in self.requests()}
        assert asked <= {urlsplit(origin).netloc for origin in origins}, asked
