"""deploy/exports.md: its commands, run as printed."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
from pathlib import Path

from gateway_client import key_id
from gateways import Gateway
from use_record import told

from tests.support.machine_time import patience

PAGE = (Path(__file__).parents[3] / "deploy" / "exports.md").read_text()


async def test_the_commands_of_the_page_work_as_printed(recording: Gateway, tmp_path: Path) -> None:
    gateway = recording
    await gateway.send_many(3, actor={"id": "ann"})
    variables = {**os.environ, "URL": gateway.url, "KEY": gateway.user, "SHA256": ""}
    variables["ADMIN_KEY"] = gateway.admin

    async def run(command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", command, cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(patience()):
            out, _ = await process.communicate()
        assert process.returncode == 0, command
        return out.decode()

    page, export, digest, trace = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    names, *rows = csv.reader((await run(page)).splitlines())
    assert names == ["time", "actor.id", "data.n"]
    assert [row[1:] for row in rows] == [["ann", "0"], ["ann", "1"], ["ann", "2"]]
    await run(export)
    [file] = tmp_path.glob(f"events_*_{key_id(gateway.user)}.csv")
    assert len(file.read_text().splitlines()) == 4
    variables["SHA256"], _ = (await run(digest)).split()
    await told(gateway, actions=["events.exported"], action="events.exported")
    [record] = json.loads(await run(trace))["events"]
    assert record["actor"]["id"] == key_id(gateway.user)
