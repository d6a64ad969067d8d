"""Databases are their user's alone, whatever folder they lie in."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from gateway.store.sqlite import open_writer


def modes(folder: Path) -> dict[str, int]:
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}


def test_a_new_database_is_private_in_a_folder_that_others_can_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0o000)
    try:
        connection = open_writer(tmp_path / "keys.db", "sqlite_keys")
        connection.execute("INSERT INTO role VALUES ('x', x'', 1)")
        found = modes(tmp_path)
        connection.close()
    finally:
        os.umask(before)
    assert {"keys.db", "keys.db-wal", "keys.db-shm"} <= set(found)
    assert set(found.values()) == {0o600}


def test_a_database_that_others_could_read_is_private_from_now_on_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.db"
    open_writer(path, "sqlite_keys").close()
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        open_writer(path, "sqlite_keys").close()
    assert modes(tmp_path)["keys.db"] == 0o600
    assert "could be read by others" in caplog.text
    caplog.clear()
    open_writer(path, "sqlite_keys").close()
    assert not caplog.text
