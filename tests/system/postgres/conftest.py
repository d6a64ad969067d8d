"""Real PostgreSQL servers, one per major version that is there, and databases in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import asyncpg
import pytest

from gateway.adapters.postgres.database import SCHEMA
from tests.support.examples import examples
from tests.support.services.postgres import PostgresServer, installations


@pytest.fixture(params=sorted(installations()), ids="postgres{}".format)
def major(request: pytest.FixtureRequest) -> str:
    """Each major version in turn."""
    version: str = request.param
    return version


@pytest.fixture
def postgres(major: str, server_of: Callable[[str], PostgresServer]) -> PostgresServer:
    return server_of(major)


@pytest.fixture
def rows(major: str) -> int:
    """How many rows many writers put in: on the newest version, in a thorough run, as many as are
    promised."""
    newest = major == max(installations(), key=int)
    return examples(200_000, share=20) if newest else examples(50_000, share=10)


@pytest.fixture
def own_postgres(major: str) -> Iterator[PostgresServer]:
    """A server for one test alone, which may crash it. It syncs to disk as in production."""
    with PostgresServer(installations()[major], durable=True, max_connections="40") as server:
        yield server


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database of the test's own, on which the gateway has been started before."""
    async with postgres.database(SCHEMA) as url:
        yield url


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    async with postgres.database() as url:
        yield url


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database, to look behind the store's back."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "audit_gateway"})
    try:
        yield connection
    finally:
        connection.terminate()
