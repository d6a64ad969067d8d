"""Usage of gateways on one database, without a Redis: added up there, and read by all."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from gateway.runtime.compose import running
from gateway.settings.declarations import Settings, StoreSettings
from gateway.settings.oversight import AccessLogSettings
from gateway.settings.server import ServerSettings
from tests.support.gateway_process import run_program

READ = {"actions": ["pull"], "categories": ["**"]}


async def test_gateways_on_one_database_count_together_and_the_program_reads_it(
    tmp_path: Path, database: str
) -> None:
    settings = Settings(
        data=tmp_path,
        server=ServerSettings(port=0),
        store=StoreSettings(url=database),
        record=AccessLogSettings(delay=3600),
    )
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(running(settings)) for _ in range(2)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        admin = {"Authorization": f"Bearer {gateways[0].first_key}"}
        body = {"name": "n", "purpose": "p", "owner": "o", "grants": [READ]}
        async with session.post(f"{gateways[0].url}/v1/keys", json=body, headers=admin) as answer:
            made = await answer.json()
        reader = {"Authorization": f"Bearer {made['key']}"}
        for gateway in (gateways[0], gateways[1], gateways[1]):
            async with session.get(f"{gateway.url}/v1/events", headers=reader) as answer:
                assert answer.status == 200, await answer.text()
        assert await gateways[1].context.usage.flush()
        path = f"/v1/keys/{made['id']}/usage?window=1h&step=1m"
        async with session.get(gateways[0].url + path, headers=admin) as answer:
            rows = (await answer.json())["rows"]
        assert sum(row["requests"] for row in rows) == 3
        done = await asyncio.to_thread(
            run_program, "keys", "usage", made["id"], "--json", "--data", str(tmp_path),
            settings={"AUDIT_GATEWAY_STORE__URL": database},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert sum(row["requests"] for row in json.loads(done.stdout)["rows"]) == 3
    assert not (tmp_path / "usage.db").exists()
