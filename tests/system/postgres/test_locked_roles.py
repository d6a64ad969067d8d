"""Another session locks the table of roles: what needs no roles goes on as before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from gateway.runtime.compose import running
from gateway.settings.declarations import Settings, StoreSettings
from gateway.settings.oversight import AccessLogSettings
from gateway.settings.server import ServerSettings
from tests.support.machine_time import Stopwatch, patience

EVERYTHING = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}


async def test_a_lock_on_the_roles_holds_up_no_revocation_and_no_stream_without_roles(
    tmp_path: Path, database: str
) -> None:
    settings = Settings(
        data=tmp_path,
        server=ServerSettings(port=0),
        store=StoreSettings(url=database),
        record=AccessLogSettings(delay=3600),
    )
    async with running(settings) as gateway, aiohttp.ClientSession() as session:
        admin = {"Authorization": f"Bearer {gateway.first_key}"}
        url = gateway.url

        async def ask(method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {key}"} if key else admin
            async with session.request(method, url + path, json=body, headers=headers) as answer:
                return answer.status, json.loads(await answer.text() or "null")

        async def key_with(**members: Any) -> str:
            body = {"name": "n", "purpose": "p", "owner": "o", **members}
            status, made = await ask("POST", "/v1/keys", body)
            assert status == 201, made
            key: str = made["key"]
            return key

        async def post(event_id: str, key: str) -> int:
            event = {"id": event_id, "category": "auth", "action": "login"}
            return (await ask("POST", "/v1/events", event, key))[0]

        await ask("PUT", "/v1/roles/team", {"grants": [EVERYTHING]})
        with_role = await key_with(roles=["team"])
        revoked, plain = [await key_with(grants=[EVERYTHING]) for _ in range(2)]
        streams = [
            await session.ws_connect(f"{url}/v1/stream", headers={"Authorization": f"Bearer {key}"})
            for key in (with_role, revoked, plain)
        ]
        other = await asyncpg.connect(database)
        locking = other.transaction()
        await locking.start()
        await other.execute("LOCK TABLE audit_gateway.role, audit_gateway.role_version")
        # Until what was known of the roles is too old.
        async with asyncio.timeout(patience(10)):
            while (await ask("GET", "/v1/events", key=with_role))[0] != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        watch = Stopwatch()
        path = f"/v1/keys/{revoked[5:17]}/revoke"
        assert (await ask("POST", path, {"reason": "r"}))[0] == 200
        async with asyncio.timeout(patience(5)):
            async for _ in streams[1]:
                pass
        assert streams[1].close_code == 4501
        assert watch.seconds < 1.0
        assert await post("meanwhile", plain) == 201
        async with asyncio.timeout(patience(5)):
            assert json.loads((await streams[2].receive()).data)["id"] == "meanwhile"
        waiting = asyncio.create_task(streams[0].receive())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done, "it cannot be known what this stream may see"
        await locking.rollback()
        await other.close()
        async with asyncio.timeout(patience(10)):
            assert json.loads((await waiting).data)["id"] == "meanwhile"
