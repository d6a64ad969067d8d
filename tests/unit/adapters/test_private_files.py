"""Databases are their user's alone, whatever folder they lie in."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from gateway.adapters.files.folder import DataFolder
from gateway.adapters.sqlite.database import open_writer


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


def test_secrets_that_others_could_read_are_private_from_now_on_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = ["pepper", "log-secret", "first-admin-key"]
    for name in secrets:
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        DataFolder(tmp_path).warn_if_open()
    assert modes(tmp_path) == dict.fromkeys(secrets, 0o600)
    assert [caplog.text.count(f"{name} could be read by others") for name in secrets] == [1, 1, 1]
    caplog.clear()
    DataFolder(tmp_path).warn_if_open()
    assert "could be read by others" not in caplog.text


def test_a_secret_whose_mode_cannot_be_changed_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    (tmp_path / "pepper").write_bytes(b"x")
    (tmp_path / "pepper").chmod(0o444)
    monkeypatch.setattr(Path, "chmod", read_only)
    with caplog.at_level(logging.WARNING):
        DataFolder(tmp_path).warn_if_open()
    assert "pepper can be read by others, and stays so (Read-only file system)" in caplog.text


def test_the_first_key_does_not_go_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "first-admin-key").symlink_to(tmp_path / "elsewhere")
    path = DataFolder(tmp_path / "data").keep_first_key("alpk_x")
    assert path == tmp_path / "data" / "first-admin-key"
    assert (path.read_text(), path.is_symlink()) == ("alpk_x\n", False)
    assert not (tmp_path / "elsewhere").exists()
