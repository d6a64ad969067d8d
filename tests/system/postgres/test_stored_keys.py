"""Looking at stored keys before an upgrade: they are read, and nothing is migrated."""

from __future__ import annotations

import asyncpg
import pytest

from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.stored_grant import decode_key, decode_role, read_grant
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.errors import GatewayError
from gateway.runtime.stored_keys import read_postgres
from tests.support.services.postgres import PostgresServer

EMPTY = read_grant(b'{"actions":["stream"],"categories":["auth"],"tenants":[]}')


async def test_documents_of_keys_and_roles_are_read_as_they_stand(postgres: PostgresServer) -> None:
    async with postgres.database() as url:
        store = await PostgresKeys.open(url)
        made = Key(id="a", digest=b"d", name="n", purpose="p", grants=(EMPTY,), created_at=0.0,
                   expires_at=1.0)  # fmt: skip
        await store.create(made)
        await store.put_role(Role(name="r", grants=(EMPTY,)))
        await store.put_role(Role(name="gone"))
        await store.delete_role("gone")
        await store.close()
        keys, roles = await read_postgres(url)
        assert decode_key(keys["a"], b"d", 0).grants == (EMPTY,)
        assert {name: decode_role(one).grants for name, one in roles.items()} == {"r": (EMPTY,)}


async def test_a_database_without_keys_stays_as_it_is(postgres: PostgresServer) -> None:
    async with postgres.database() as url:
        connection = await asyncpg.connect(url)
        schemas = "SELECT count(*) FROM pg_namespace"
        before = await connection.fetchval(schemas)
        with pytest.raises(GatewayError):
            await read_postgres(url)
        assert await connection.fetchval(schemas) == before
        await connection.close()
