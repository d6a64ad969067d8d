"""Backups, and restored logs: deploy/backup.md, done."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.errors import FolderLocked, NotFound
from tests.support.gateway_process import GatewayProcess, environment, run_program
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations
from tests.system.deploy.proxies import DEPLOY


def event(number: int) -> dict[str, Any]:
    return {"id": f"e-{number}", "category": "test", "action": "test.sent", "data": {"n": number}}


def page(gateway: GatewayProcess, key: str, **parameters: str) -> tuple[int, Any]:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return gateway.ask("GET", f"/v1/events?category=test&limit=10000&{query}", key)


def epoch_of(folder: Path) -> str:
    connection = apsw.Connection(str(folder / "log.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        [(epoch,)] = connection.execute("SELECT epoch FROM log")
        return str(epoch)
    finally:
        connection.close()


def is_whole(database: Path) -> bool:
    connection = apsw.Connection(str(database))
    try:
        return connection.pragma("integrity_check") == "ok"
    finally:
        connection.close()


class Stopped(NamedTuple):
    """A data folder that no gateway runs on; it holds two events, `cursor` is the first's."""

    data: Path
    key: str
    cursor: str


@pytest.fixture
def stopped(tmp_path: Path) -> Stopped:
    with GatewayProcess(tmp_path / "data") as gateway:
        gateway.post([event(1), event(2)], gateway.first_key)
        _, answer = page(gateway, gateway.first_key)
        return Stopped(gateway.data, gateway.first_key, answer["events"][0]["cursor"])


def test_a_backup_of_a_busy_gateway_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    copy = tmp_path / "backup" / "monday"
    with GatewayProcess(tmp_path / "data") as gateway:
        sent = 0
        enough, done = threading.Event(), threading.Event()

        def produce() -> None:
            nonlocal sent
            while not done.is_set():
                gateway.post([event(sent + n) for n in range(20)], gateway.first_key)
                sent += 20
                if sent >= 1000:
                    enough.set()

        producing = threading.Thread(target=produce)
        producing.start()
        try:
            assert enough.wait(30)
            before = sent
            made = run_program("log", "backup", str(copy), "--data", str(gateway.data))
            after = sent
        finally:
            done.set()
            producing.join()
        assert made.returncode == 0, made.stderr
        key = gateway.first_key
    assert {file.name for file in copy.iterdir()} >= {"log.db", "keys.db", "pepper"}
    assert all(is_whole(file) for file in copy.glob("*.db"))
    for file in (copy, *copy.iterdir()):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file
    with GatewayProcess(copy, shows_key=False) as restored:
        status, answer = page(restored, key)
        assert status == 200
        numbers = [one["data"]["n"] for one in answer["events"]]
        assert numbers == list(range(len(numbers)))
        assert before <= len(numbers) < after + 40


def test_after_a_new_epoch_every_old_cursor_is_answered_with_410(stopped: Stopped) -> None:
    made = run_program("log", "new-epoch", "--data", str(stopped.data))
    assert (made.returncode, made.stderr) == (0, "")
    assert epoch_of(stopped.data) in made.stdout
    with GatewayProcess(stopped.data) as gateway:
        # The place is there, and so it was in the other life.
        status, problem = page(gateway, stopped.key, after=stopped.cursor)
        assert (status, problem["code"]) == (410, "cursor_unknown")
        status, _ = gateway.ask("GET", f"/v1/stream?after={stopped.cursor}", stopped.key)
        assert status == 410
        status, answer = page(gateway, stopped.key, after=problem["earliest"])
        assert status == 200
        assert [one["data"]["n"] for one in answer["events"]] == [1, 2]
        assert problem["latest"] != stopped.cursor
        newest = answer["events"][-1]["cursor"]
    with GatewayProcess(stopped.data) as again:
        assert page(again, stopped.key, after=newest)[0] == 200


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_log_in_use_keeps_its_epoch(tmp_path: Path, options: tuple[str, ...]) -> None:
    with GatewayProcess(tmp_path / "data", *options) as gateway:
        before = epoch_of(gateway.data)
        refused = run_program("log", "new-epoch", "--data", str(gateway.data))
        assert (refused.returncode, refused.stdout) == (FolderLocked.exit_code, "")
        assert "is being written by another process" in refused.stderr
        assert epoch_of(gateway.data) == before
        gateway.post([event(1)], gateway.first_key)


@pytest.mark.parametrize("command", [("new-epoch",), ("backup", "copy")])
def test_a_folder_without_a_log_is_named_and_stays_as_it_was(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "data").mkdir()
    refused = run_program("log", *command, "--data", "data", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (NotFound.exit_code, "")
    assert refused.stderr == "error: there is no log data/log.db\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_a_log_elsewhere_is_found_by_the_settings(tmp_path: Path, stopped: Stopped) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (stopped.data / "log.db").rename(elsewhere / "audit.db")
    (tmp_path / "config.toml").write_text(f'[store]\nurl = "sqlite:///{elsewhere}/audit.db"\n')
    options = ("--config", "config.toml", "--data", str(stopped.data))
    made = run_program("log", "backup", "copy", *options, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"audit.db", "keys.db", "pepper"} <= names
    assert "log.db" not in names
    assert run_program("log", "new-epoch", *options, cwd=tmp_path).returncode == 0


def test_a_backup_goes_into_a_new_folder_only(tmp_path: Path, stopped: Stopped) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    refused = run_program("log", "backup", "copy", "--data", str(stopped.data), cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == "error: copy is not empty; name a new folder\n"
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["mine"]


def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path, stopped: Stopped) -> None:
    (stopped.data / "keys.db").write_bytes(b"not a database" * 1000)
    refused = run_program("log", "backup", "copy", "--data", str(stopped.data), cwd=tmp_path)
    assert refused.returncode != 0
    [line] = refused.stderr.splitlines()
    assert "keys.db cannot be opened: file is not a database" in line
    assert not list(tmp_path.glob("copy*"))


def test_the_commands_of_the_page_restore_a_log(tmp_path: Path) -> None:
    """Those for the embedded log, in their order, on folders of this test."""
    text = (DEPLOY / "backup.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## The embedded log$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    data = tmp_path / "data"
    gateway = GatewayProcess(data)
    key = gateway.first_key
    gateway.post([event(1)], key)
    for command in commands:
        if command == "systemctl stop audit-gateway":
            # What comes after the backup is lost with the disk.
            gateway.post([event(2)], key)
            lost = page(gateway, key)[1]["cursor"]
            gateway.stop()
        elif command == "systemctl start audit-gateway":
            gateway = GatewayProcess(data, shows_key=False)
        else:
            line = command.replace("/var/lib/audit-gateway", str(data))
            line = line.replace("/mnt/backup", str(tmp_path / "backup"))
            line = line.replace("audit-gateway log", f"{sys.executable} -m gateway log")
            subprocess.run(line, shell=True, env=environment(), check=True, timeout=patience(60))
    with gateway:
        # Another event takes the place of the one that was lost: nobody may miss it.
        gateway.post([event(3)], key)
        assert page(gateway, key, after=lost)[0] == 410
        assert [one["data"]["n"] for one in page(gateway, key)[1]["events"]] == [1, 3]


async def test_a_log_in_postgresql_gets_a_new_epoch(tmp_path: Path) -> None:
    settings = {"AUDIT_GATEWAY_STORE__URL": "", "AUDIT_GATEWAY_DATA": str(tmp_path / "data")}
    with PostgresServer(next(iter(installations().values()))) as server:
        settings["AUDIT_GATEWAY_STORE__URL"] = server.url()
        before = await epoch_in(server.url())
        made = run_program("log", "new-epoch", settings=settings)
        assert made.returncode == 0, made.stderr
        after = await epoch_in(server.url())
        assert after != before
        assert after in made.stdout
        refused = run_program("log", "backup", str(tmp_path / "copy"), settings=settings)
        assert refused.returncode == 2
        assert "this log is in PostgreSQL" in refused.stderr


async def epoch_in(url: str) -> str:
    log = await PostgresLog.open(url, SystemClock())
    await log.close()
    return log.epoch


def test_a_restored_backup_answers_cursors_from_before_with_410_by_itself(
    tmp_path: Path, stopped: Stopped
) -> None:
    made = run_program("log", "backup", str(tmp_path / "backup"), "--data", str(stopped.data))
    assert made.returncode == 0, made.stderr
    assert "log-secret" in made.stdout
    with GatewayProcess(tmp_path / "backup", shows_key=False) as restored:
        status, problem = page(restored, stopped.key, after=stopped.cursor)
        assert (status, problem["code"]) == (410, "cursor_unknown")
    with GatewayProcess(stopped.data, shows_key=False) as original:
        assert page(original, stopped.key, after=stopped.cursor)[0] == 200
