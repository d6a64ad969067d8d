"""Live: events in the browser as they are recorded."""

from __future__ import annotations

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import EVERYTHING, OpenConsole


def event(**members: object) -> dict[str, object]:
    return {"category": "auth", "action": "user.login", "outcome": "success", **members}


async def test_events_are_shown_as_they_are_recorded(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING)) as page:
        await page.sees("live")
        gateway.post([event(action="door.opened", actor={"id": "ann"})], gateway.first_key)
        await page.sees("door.opened")
        await page.shoot("live")
