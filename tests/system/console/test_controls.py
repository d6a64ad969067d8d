"""Buttons, fields and links that no page's own story uses, each doing what it says.

The gateway looks at 100 events at a time, so that counting and looking go on when asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import EVERYTHING, OpenConsole
from tests.system.console.test_investigate_page import shows
from tests.system.console.test_live_page import event


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    bounds = ("OFFSETS", "VIEWED_EVENTS", "RENDERED_EVENTS")
    settings = {f"AUDIT_GATEWAY_LOOK__{name}": "100" for name in bounds}
    with GatewayProcess(folder / "data", settings=settings) as process:
        yield process


async def test_the_frame_copies_switches_the_zone_skips_and_signs_out(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="a"))
    async with console(key, "#/investigate") as page:
        await page.sees("1 event, exact")
        await page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        copy = (
            "[...document.querySelectorAll('button')].find((one) => /^Copy/.test(one.textContent))"
        )
        # Browsers let nobody but a person copy.
        await page.ask("Runtime.evaluate", expression=f"{copy}.click()", userGesture=True)
        await page.sees("Copied")
        await page.sees("Copy link")
        await page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
        await page.click("Copy link")
        await page.sees("The browser does not let it be copied")
        await page.ask("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
        # The first time to UTC, which a machine's own zone may be called as well.
        await page.click("UTC")
        await page.click("UTC")
        await page.sees("Asia/Tokyo")
        await page.click("Asia/Tokyo")
        await page.sees_no("Asia/Tokyo")
        await page.evaluate("document.querySelector('.skip').click()")
        await page.until("document.activeElement.id === 'main'")
        await page.click("Sign out")
        await page.sees("You are signed out.")
        await page.sees("Provisioning key")


async def test_events_of_a_query_are_saved_as_files(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="a"), event(action="b"))
    async with console(key, "#/investigate") as page:
        await page.sees("2 events, exact")
        await page.ask("Browser.setDownloadBehavior", behavior="deny")
        await page.click("Save CSV")
        await page.sees("Saved ")
        await page.until("document.body.innerText.includes('.csv,')")
        await page.click("Save NDJSON")
        await page.until("document.body.innerText.includes('.ndjson,')")


async def test_a_range_is_fixed_by_hand_by_numbers_and_by_dragging(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="a"))
    async with console(key, "#/investigate") as page:
        await page.sees("1 event, exact")
        await page.fill("Range", "fixed")
        await page.until("location.hash.includes('until=')")
        await page.fill("From", "2026-01-01T00:00:00Z")
        await page.fill("To", "2026-01-02T00:00:00Z")
        await page.click("Apply")
        await page.sees("0 events, exact")
        await page.sees("There is no event that you may see in this range")
        await page.go("#/investigate?since=1h")
        await page.sees("1 event, exact")
        await page.click("Numbers")
        await page.evaluate("document.querySelector('.histogram table button').click()")
        await page.until("location.hash.includes('until=')")
        await page.sees("1 event, exact")
        await page.until("Boolean(document.querySelector('.histogram .u-over'))")
        before = await page.evaluate("location.hash")
        await page.evaluate("document.querySelector('.histogram').scrollIntoView()")
        box = await page.evaluate(
            "(({left, top, width}) => ({left, top, width}))"
            "(document.querySelector('.u-over').getBoundingClientRect())"
        )
        y = box["top"] + 20
        for kind, share in (("mousePressed", 0.2), ("mouseMoved", 0.6), ("mouseReleased", 0.6)):
            await page.ask(
                "Input.dispatchMouseEvent", type=kind, x=box["left"] + share * box["width"], y=y,
                button="left", buttons=1, clickCount=1,
            )  # fmt: skip
        await page.until(f"location.hash !== {before!r}")


async def test_counting_and_looking_go_on_when_asked(
    key: str, send: Any, console: OpenConsole
) -> None:
    for _ in range(3):
        send(*(event(action=f"a{n}", actor={"id": f"u{n % 3}"}) for n in range(80)))
    async with console(key, "#/investigate?filter=action%20!%3D%20%22none%22") as page:
        await page.sees("counted back to")
        await page.click("Count further")
        await page.until(
            "!document.body.innerText.includes('Older ones are not counted') ||"
            " document.querySelector('strong').textContent !== '100'"
        )
        await page.go("#/investigate?filter=action%20%3D%3D%20%22none%22")
        await page.sees("Nothing found so far.")
        for _ in range(2):
            await page.click("Look further")
            await page.until("!document.body.innerText.includes('Loading')")
        await page.sees("No events with these conditions.")


async def test_an_event_narrows_live_and_what_is_around_it(
    key: str, send: Any, console: OpenConsole
) -> None:
    async with console(key, "#/live?category=auth&category=door") as page:
        await page.sees("No events yet with these conditions.")
        send(event(action="a", outcome="denied"), event(action="b"))
        await page.sees("denied")
        await page.find("row", "denied", "it.click()")
        await page.click("Not outcome denied")
        await page.until("location.hash.includes('filter=')")
        await page.sees("No events yet with these conditions.")
        await page.click("Drop filter")
        await page.until("!location.hash.includes('filter=')")
        await page.go("#/investigate")
        await page.sees("2 events, exact")
        await page.find("row", "denied", "it.click()")
        await page.click("Around it")
        await page.sees("Around an event")
        await page.find("row", "success", "it.click()")
        await page.click("Only outcome success")
        await page.sees("1 event, exact")
        await shows(page, ["b"])
        await page.find("row", "success", "it.click()")
        await page.click("Not action b")
        # Nothing is left, however far back was looked.
        await page.until(
            "location.hash.includes('filter=') && !document.querySelector('.grid-box [role=row]')"
        )


async def test_lists_are_narrowed_by_each_of_their_fields(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING), "#/findings?state=all") as page:
        await page.fill("Signal", "probing")
        await page.until("location.hash.includes('signal=probing')")
        await page.fill("Key", "AAAAAAAAAAAA")
        await page.until("location.hash.includes('key=AAAAAAAAAAAA')")
        await page.go("#/streams")
        await page.fill("Key", "AAAAAAAAAAAA")
        await page.until("location.hash.includes('key=AAAAAAAAAAAA')")
        await page.fill("Transport", "sse")
        await page.fill("State", "live")
        await page.fill("Order", "opened")
        await page.sees("with these conditions")
        await page.click("Drop the key")
        await page.go("#/keys")
        await page.sees("tests")
        await page.fill("Owner", "tests")
        await page.until("location.hash.includes('owner=')")
        await page.fill("State", "suspended")
        await page.sees("No keys with these conditions")
        await page.click("Drop the owner")
        await page.until("!location.hash.includes('owner=')")
