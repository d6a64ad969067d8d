"""The log of a running gateway, as machines read it."""

from __future__ import annotations

import json
from pathlib import Path

from gateways import StartProgram

from gateway.clock import parse_rfc3339


async def test_every_line_of_a_gateway_with_workers_is_an_object_with_its_worker(
    start_program: StartProgram, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    program = await start_program(
        log__format="json", log__level="debug", server__workers="2", server__host="0.0.0.0"
    )
    assert (await program.get("/v1/nothing")).status == 404
    code, errors = await program.stop()
    assert code == 0, errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert all(parse_rfc3339(line["time"]) and line["level"] and line["message"] for line in lines)
    assert {line["worker"] for line in lines} == {0, 1, None}
    assert any(line["logger"] == "asyncio" for line in lines)
