"""What the commands print, where somebody has written what a terminal would obey."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.base.terminal import fitted, say_table, width
from gateway.cli.main import cli

# Clears the screen, a title, a row of its own, C1's CSI, an overwritten line, a turned direction.
HOSTILE = "a\x1b[2Jb\x1b]0;t\x07c\nd\x9b31me\rf\u202eg\u2028h"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
GRANT = '{"actions":["stream"],"categories":["auth.*"]}'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    return tmp_path / "data"


def run(data: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--data", str(data)], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.stdout


def written_by_others(data: Path) -> str:
    """A key and a role with such texts, as an earlier version may have let them in; the kid."""
    made = json.loads(
        run(data, "keys", "create", "--name", "TEXT", "--purpose", "TEXT", "--owner", "TEXT",
            "--grant", GRANT, "--json")
    )  # fmt: skip
    run(data, "roles", "put", "readers", "--description", "TEXT", "--grant", GRANT)
    run(data, "keys", "suspend", made["id"], "--reason", "TEXT")
    with closing(sqlite3.connect(data / "keys.db")) as database, database:
        escaped = json.dumps(HOSTILE)[1:-1]
        for table in ("key", "role"):
            database.execute(
                f"UPDATE {table} SET document = CAST(replace(CAST(document AS TEXT), 'TEXT', ?) "
                "AS BLOB)",
                (escaped,),
            )
    return str(made["id"])


def test_nothing_that_a_terminal_would_obey_is_printed(data: Path) -> None:
    name = written_by_others(data)
    commands = [
        ("keys", "list"), ("keys", "show", name), ("keys", "document", name), ("roles", "list"),
        ("roles", "show", "readers"), ("keys", "explain", name, "--action", "stream",
                                       "--category", "auth.login"), ("keys", "revoke", name),
    ]  # fmt: skip
    for command in commands:
        printed = run(data, *command)
        assert not OBEYED.search(printed), (command, printed)
        assert printed.strip()
    assert len(run(data, "keys", "list").splitlines()) == 1, "a name adds no row"


def test_json_keeps_what_was_written(data: Path) -> None:
    written_by_others(data)
    printed = run(data, "keys", "list", "--json")
    assert not OBEYED.search(printed)
    assert json.loads(printed)["keys"][0]["name"] == HOSTILE


def test_text_is_cut_to_the_columns_that_it_takes() -> None:
    assert fitted("abc", 3) == "abc"
    assert fitted("abcd", 3) == "ab\u2026"
    # Two columns each; a combining mark takes none.
    assert fitted("\u6f22\u5b57", 3) == "\u6f22\u2026"
    assert fitted("e\u0301a", 2) == "e\u0301a"


def test_a_table_has_no_control_characters_and_lines_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_table(("NAME", "N"), [("a\x1b[2J\n", 1), ("\u6f22", 22)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a\\u001b[2J\\u000a  1"
    assert {width(line[: line.rindex("  ") + 2]) for line in lines} == {width(lines[1]) - 1}
