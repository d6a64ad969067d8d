"""`audit-gateway status`, `doctor` and `findings` on a log in PostgreSQL, without a gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import cli


async def test_health_is_read_from_the_database(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_STORE__URL", database)

    async def shown(*command: str) -> tuple[int, Any]:
        arguments = [*command, "--json", "--data", str(tmp_path / "data")]
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, standalone_mode=False)
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.exit_code, json.loads(done.stdout)

    await shown("keys", "create", "--name", "n", "--purpose", "p", "--owner", "o")
    code, status = await shown("status")
    assert (code, status["delivery"], status["log"]["store"]) == (0, None, "postgresql")
    code, found = await shown("doctor")
    checks = {one["code"]: one["result"] for one in found["checks"]}
    assert (code, checks["store_away"], checks["pepper_missing"]) == (0, "ok", "ok")
    assert "backup_old" not in checks
    assert await shown("findings", "list") == (0, {"findings": []})
