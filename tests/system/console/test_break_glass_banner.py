"""All pages say that a key for an emergency works."""

from __future__ import annotations

from tests.support.gateway_process import GatewayProcess, run_program
from tests.system.console.conftest import EVERYTHING, OpenConsole


async def test_every_page_says_that_a_key_for_an_emergency_works(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    folder = ("--data", str(gateway.data))
    made = run_program("keys", "break-glass", "--reason", "the provider is away", *folder)
    assert made.returncode == 0, made.stderr
    key = gateway.make_key(EVERYTHING)
    async with console(key, "#/keys") as page:
        await page.sees("A break-glass key works until")
        await page.accessible("break-glass")
        for address in ("#/health", "#/live"):
            await page.go(address)
            await page.sees("A break-glass key works until")
        await page.click("See the finding", "link")
        await page.sees("Emergency key made")
