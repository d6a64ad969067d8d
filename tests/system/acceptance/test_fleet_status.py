"""Health of several workers and replicas: told by any of them, and who is silent is named."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.postgres.database import SCHEMA
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import becomes
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow


async def status_of(gateway: GatewayProcess, key: str) -> dict[str, Any]:
    code, found = await asyncio.to_thread(gateway.ask, "GET", "/v1/status", key)
    assert code == 200, found
    return dict(found)


async def test_any_worker_tells_of_all_workers(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(GatewayProcess, tmp_path / "data", "--workers", "2")
    with gateway:
        found = await becomes(
            lambda: status_of(gateway, gateway.first_key),
            lambda one: [row["answers"] for row in one["gateways"]] == [True, True],
        )
        assert [row["worker"] for row in found["gateways"]] == [0, 1]
        assert (found["delivery"], found["reasons"]) == ("ok", [])
        assert found["since"] >= max(row["started_at"] for row in found["gateways"])


async def test_a_replica_that_stands_still_is_named_and_delivery_is_stalled_until_it_goes_on(
    tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> None:
    server = server_of(max(installations()))
    async with server.database(SCHEMA) as url:
        with ExitStack() as stack:
            settings = {"AUDIT_GATEWAY_STORE__URL": url}
            made = [
                await asyncio.to_thread(
                    GatewayProcess, tmp_path, settings=settings, shows_key=first
                )
                for first in (True, False)
            ]
            one, two = (stack.enter_context(gateway) for gateway in made)
            key = one.first_key

            async def seen() -> dict[str, Any]:
                return await status_of(one, key)

            def well(found: dict[str, Any]) -> bool:
                answers = [row["answers"] for row in found["gateways"]]
                return answers == [True, True] and found["delivery"] == "ok"

            found = await becomes(seen, well)
            assert found["log"]["store"] == "postgresql"
            os.kill(two.pid, signal.SIGSTOP)
            try:
                found = await becomes(seen, lambda found: found["delivery"] == "stalled")
            finally:
                os.kill(two.pid, signal.SIGCONT)
            [silent] = [row for row in found["gateways"] if not row["answers"]]
            assert silent["name"].endswith(f"-{two.pid}")
            assert silent["p99_seconds"] is None
            told = [one for one in found["reasons"] if one["code"] == "gateway_silent"]
            assert [one["detail"] for one in told] == [
                f"{silent['name']} did not answer within a second"
            ]
            await becomes(seen, well)
