"""A gateway with its console, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.clients.browser import Browser
from tests.system.console.console_page import ConsolePage

EVERYTHING = {
    "actions": ["stream", "pull", "ingest", "keys.admin", "usage.read", "ops.read", "ops.act"],
    "categories": ["**", "gateway.**"],
}
_TEST_SECONDS = 60


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder / "data", settings={}) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a module: a page shares nothing with those of others."""
    started = Browser()
    yield started
    started.close()


OpenConsole = Callable[..., AbstractAsyncContextManager[ConsolePage]]


@pytest.fixture
def console(gateway: GatewayProcess, browser: Browser) -> OpenConsole:
    """`async with console(key) as page`: signed in, if there is a key; it must stay quiet."""

    @asynccontextmanager
    async def opened(
        key: str = "", at: str = "", *, refusals: bool = False
    ) -> AsyncIterator[ConsolePage]:
        async with (
            asyncio.timeout(patience(_TEST_SECONDS)),
            browser.page(f"{gateway.url}/{at}", ConsolePage) as page,
        ):
            await page.look()
            if key:
                await page.sign_in(key)
            yield page
            await page.keep_coverage()
            # Asking for the session is refused until somebody has signed in.
            page.check_quiet(gateway.url, refusals=refusals or bool(key))

    return opened


def tenant_of(request: pytest.FixtureRequest) -> str:
    """A tenant of the test's own, called by it."""
    return str(request.node.name).replace("_", "-")[:40].rstrip("-")


@pytest.fixture
def key(gateway: GatewayProcess, request: pytest.FixtureRequest) -> str:
    """A key that reads that tenant alone."""
    grant = {"categories": ["**"], "tenants": [tenant_of(request)]}
    return gateway.make_key({"actions": ["pull", "stream"], **grant})


@pytest.fixture
def send(gateway: GatewayProcess, request: pytest.FixtureRequest) -> Any:
    """`send(*events)`: as events of that tenant."""

    def sent(*events: dict[str, Any]) -> None:
        tenant = tenant_of(request)
        gateway.post([{"tenant": tenant, **one} for one in events], gateway.first_key)

    return sent
