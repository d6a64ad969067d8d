"""Connections to one and the same store, as each process of a gateway has its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

from gateway.adapters.postgres.database import SCHEMA
from tests.support.services.postgres import PostgresServer


class _Store(Protocol):
    async def close(self) -> None: ...


Store = TypeVar("Store", bound=_Store)


@asynccontextmanager
async def connections(
    kind: str,
    server_of: Callable[[str], PostgresServer],
    sqlite: Callable[[], Store],
    postgres: Callable[[str], Awaitable[Store]],
) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
    """Opens a connection to the store of a test at each call, and closes all at the end; `kind` is
    `sqlite`, or `postgres` with a version, which gets a database of its own."""
    made: list[Store] = []
    async with AsyncExitStack() as stack:
        url = ""
        if kind != "sqlite":
            server = server_of(kind.removeprefix("postgres"))
            url = await stack.enter_async_context(server.database(SCHEMA))

        async def connect() -> Store:
            made.append(await postgres(url) if url else sqlite())
            return made[-1]

        yield connect
        for store in made:
            await store.close()
