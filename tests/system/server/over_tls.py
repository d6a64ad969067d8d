"""Fixtures of a gateway whose port speaks TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from conftest import settings_of
from gateways import Gateway, Start

from gateway.clock import Clock
from gateway.runtime.compose import running
from gateway.settings.declarations import Settings
from gateway.settings.tls import TlsSettings
from tests.support.certificates import PairFiles, client_context


def over_tls(folder: Path, sections: dict[str, dict[str, Any]]) -> Settings:
    """Settings with the pair in the folder `tls`; the section `tls` may say more."""
    settings = settings_of(folder, sections)
    tls = TlsSettings(**PairFiles(folder / "tls").settings, **sections.get("tls", {}))
    return replace(settings, server=replace(settings.server, tls=tls))


def trusting() -> aiohttp.ClientSession:
    """Session of a client that trusts the authority of the tests alone."""
    connector = aiohttp.TCPConnector(ssl=client_context())
    return aiohttp.ClientSession(auto_decompress=False, connector=connector)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that trusts the gateway's certificate."""
    async with trusting() as session:
        yield session


@pytest.fixture
async def start(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Start]:
    """Start a gateway that speaks TLS, with settings by section."""
    async with AsyncExitStack() as stack:

        async def start(clock: Clock | None = None, **sections: dict[str, Any]) -> Gateway:
            started = await stack.enter_async_context(running(over_tls(tmp_path, sections), clock))
            assert started.url.startswith("https://")
            assert started.first_key is not None
            gateway = Gateway(started.url, started.first_key, session, started.context)
            stack.callback(gateway.disconnect)
            await gateway.make_user()
            return gateway

        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One gateway that speaks TLS for all tests of a module."""
    settings = over_tls(tmp_path_factory.mktemp("shared"), {})
    async with trusting() as session, running(settings, None) as started:
        assert started.first_key is not None
        yield Gateway(started.url, started.first_key, session, started.context)
