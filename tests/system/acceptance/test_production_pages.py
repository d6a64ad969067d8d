"""Commands of the pages for production, run as printed but for addresses and folders:
deploy/operating.md, deploy/metrics.md and deploy/upgrading.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest
import test_readme
from test_readme import ROOT, commands, refused, session

from tests.support.gateway_process import GatewayProcess, environment, run_program
from tests.support.machine_time import patience

clean_copy = test_readme.clean_copy


def text_of(page: str) -> str:
    return (ROOT / "deploy" / page).read_text()


def answer_of(told: dict[str, str], *words: str) -> Any:
    """The JSON that the last command with these words has printed."""
    found = [text for command, text in told.items() if all(word in command for word in words)]
    return json.loads(found[-1])


def test_the_commands_of_operating_look_at_the_gateway_and_end_a_stream(clean_copy: Path) -> None:
    told: dict[str, str] = {}
    with GatewayProcess(clean_copy / "audit-data") as gateway, session(clean_copy) as user:
        reader = subprocess.Popen(
            ["curl", "-sSN", "--header", f"Authorization: Bearer {gateway.first_key}",
             f"{gateway.url}/v1/stream"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert reader.stdout is not None
        watchdog = threading.Timer(patience(), reader.kill)
        watchdog.start()
        try:
            # It is open once it has said something.
            assert reader.stdout.readline()
            page = text_of("operating.md").replace("http://127.0.0.1:8080", gateway.url)
            for command in commands(page):
                told[command] = user.run(command)
                assert not refused(told[command]), f"{command}\n{told[command]}"
            assert "4005" in reader.stdout.read()
        finally:
            watchdog.cancel()
            reader.kill()
            reader.wait()
            reader.stdout.close()
    assert answer_of(told, "/v1/status")["delivery"] == "ok"
    assert answer_of(told, "/readyz")["ready"] is True
    assert answer_of(told, "/end")["transport"] == "sse"


def test_the_commands_of_metrics_scrape_a_listener_that_needs_a_key(clean_copy: Path) -> None:
    page = text_of("metrics.md")
    [settings] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    config = clean_copy / "metrics.toml"
    with GatewayProcess(clean_copy / "audit-data"):
        pass
    port = test_readme.free_port()
    assert '`require = "ops.read"`' in page
    settings = settings.replace("10.0.0.5", "127.0.0.1").replace("9464", str(port))
    config.write_text(f'{settings}require = "ops.read"\n')
    serving = GatewayProcess(clean_copy / "audit-data", "--config", str(config), shows_key=False)
    with serving, session(clean_copy) as user:
        page = page.replace("10.0.0.5:9464", f"127.0.0.1:{port}")
        told = [user.run(command) for command in commands(page)]
        assert "audit_gateway_build_info" in told[-1]
        refusal = user.run(f"curl -sS http://127.0.0.1:{port}/metrics")
        assert json.loads(refusal)["code"] == "missing_key"


class Upgraded:
    """Gateway on a machine with systemd, as the commands of the page see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "var"
        self.gateway = GatewayProcess(self.data)
        self.key = self.gateway.first_key
        self.config = folder / "config.toml"
        self.config.write_text('[server]\nhost = "127.0.0.1"\n')

    def run(self, command: str) -> str:
        if command == "systemctl stop audit-gateway":
            self.gateway.stop()
            return ""
        if command == "systemctl start audit-gateway":
            self.gateway = GatewayProcess(self.data, shows_key=False)
            return ""
        line = command.replace("/var/lib/audit-gateway", str(self.data))
        line = line.replace("/mnt/backup", str(self.folder / "backup"))
        line = line.replace("/etc/audit-gateway/config.toml", str(self.config))
        line = line.replace("http://127.0.0.1:8080", self.gateway.url)
        line = re.sub(r"^audit-gateway ", f"{sys.executable} -m gateway ", line)
        done = subprocess.run(
            line, shell=True, env=environment(), timeout=patience(60), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def send(self, event_id: str) -> None:
        event = {"id": event_id, "category": "test", "action": "test.sent"}
        self.gateway.post([event], self.key)

    def ids(self) -> list[str]:
        status, page = self.gateway.ask("GET", "/v1/events?category=test&limit=100", self.key)
        assert status == 200
        return [one["id"] for one in page["events"]]


def test_the_commands_of_upgrading_bring_a_store_forwards_and_back(tmp_path: Path) -> None:
    before, rest = text_of("upgrading.md").split("\n## Roll back\n")
    roll_back = rest.split("\n## ")[0]
    machine = Upgraded(tmp_path)
    try:
        machine.send("before")
        told = {command: machine.run(command) for command in commands(before)}
        [migrated] = [said for command, said in told.items() if "migrate" in command]
        assert "log.db: version" in migrated
        assert machine.ids() == ["before"]
        machine.send("after")
        steps = commands(roll_back)
        assert steps[0] == "systemctl stop audit-gateway"
        machine.run(steps[0])
        # As a version with one more migration has left it: the one from before refuses to run.
        with apsw.Connection(str(machine.data / "log.db")) as connection:
            connection.pragma("user_version", int(str(connection.pragma("user_version"))) + 1)
        connection.close()
        refusal = run_program("serve", "--data", str(machine.data), "--port", "0")
        assert refusal.returncode != 0
        assert "newer" in refusal.stderr
        for command in steps[1:]:
            machine.run(command)
        assert machine.ids() == ["before"]
        assert (tmp_path / "var.upgraded" / "log.db").exists()
    finally:
        machine.gateway.kill()
        shutil.rmtree(tmp_path / "backup", ignore_errors=True)


@pytest.mark.parametrize("page", ["operating.md", "metrics.md", "upgrading.md"])
def test_a_page_says_nothing_in_blocks_for_a_shell_that_no_test_runs(page: str) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    # But for a version that is not here any more.
    assert [block for block in blocks if "audit-gateway-before" not in block] == []
