"""deploy/access-review.md: its commands, run as printed, and its table of controls."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import sys
from pathlib import Path

from gateway_client import key_id
from gateways import Gateway
from use_record import told

from gateway.oversight.report.controls import CONTROLS
from tests.support.machine_time import patience

PAGE = (Path(__file__).parents[3] / "deploy" / "access-review.md").read_text()
PULLS = {"actions": ["pull"], "categories": ["auth.**"]}


async def test_the_commands_of_the_page_work_as_printed(recording: Gateway, tmp_path: Path) -> None:
    gateway = recording
    kept = await gateway.mint(PULLS, owner="soc", name="siem")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {
        **os.environ, "URL": gateway.url, "KEY": gateway.admin, "KID": key_id(kept),
        "DATA": str(gateway.context.settings.data), "PATH": programs,
    }  # fmt: skip

    async def run(command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", command, cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(patience()):
            out, _ = await process.communicate()
        assert process.returncode == 0, command
        return out.decode()

    make, find, mark, save, trace = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    await run(make)
    await gateway.context.enforcement.poll_keys()
    variables["KEY"] = (tmp_path / "auditor.key").read_text().strip()
    found = json.loads(await run(find))
    assert (found["keys"], found["summary"]["marks"]["unused"]) == ([], 0)
    assert json.loads(await run(mark))["reviewed_by"] == key_id(variables["KEY"])
    await run(save)
    assert "siem" in (tmp_path / "access-review.html").read_text()
    table = (tmp_path / "access-review.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [one["name"] for one in rows if one["section"] == "keys"] == ["siem"]
    await told(gateway, actions=["access.reviewed"], action="access.reviewed")
    digest, records = (await run(trace)).split("\n", 1)
    recorded = [one["data"]["sha256"] for one in json.loads(records)["events"]]
    assert digest.split()[0] in recorded


def test_the_controls_of_the_page_are_those_of_the_report() -> None:
    for one in CONTROLS:
        cells = (one.control, one.soc2, one.iso27001, one.nist80053, one.supports)
        line = " | ".join(cells).replace("supports: ", "")
        assert f"| {line} |" in PAGE
    assert "complies" not in PAGE
