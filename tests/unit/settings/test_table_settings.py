"""The settings of a table that is followed: their sources, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.main import cli
from gateway.errors import InvalidSetting
from gateway.settings.declarations import Settings
from gateway.settings.load import load

URL = '[store]\nurl = "postgresql://localhost/shop"\n'
TABLE = URL + 'table = "audit"\n'


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    file = folder / "config.toml"
    file.write_text(text)
    return load(file, environ or {}, {})


@pytest.mark.parametrize(
    "columns",
    [
        '[store.columns]\naction = "verb"\nactor.id = "who.id"\n',
        '[store.columns]\naction = "verb"\n"actor.id" = "who.id"\n',
        '[store.columns]\naction = "verb"\n[store.columns.actor]\nid = "who.id"\n',
        'columns = { action = "verb", "actor.id" = "who.id" }\n',
    ],
    ids=["dotted", "quoted", "section", "inline"],
)
def test_columns_may_be_written_in_every_way_that_toml_has(tmp_path: Path, columns: str) -> None:
    settings = read(tmp_path, TABLE + columns)
    assert settings.store.columns == {"action": "verb", "actor.id": "who.id"}
    shown = settings.given["store.columns"].shown
    assert "verb" in shown
    again = read(tmp_path, f"{TABLE}columns = {shown}\n")
    assert again.store == settings.store, "what is shown can be written into a file"


def test_columns_come_from_the_environment_as_json(tmp_path: Path) -> None:
    environ = {
        "AUDIT_GATEWAY_STORE__TABLE": 'audit."Trail"',
        "AUDIT_GATEWAY_STORE__COLUMNS": '{"action": "verb", "category": "=app"}',
        "AUDIT_GATEWAY_STORE__TABLE_MODE": "read-only",
    }
    store = read(tmp_path, URL, environ).store
    assert (store.table, store.table_mode) == ('audit."Trail"', "read-only")
    assert store.columns == {"action": "verb", "category": "=app"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[store]\ntable = "audit"\n', "store.table: is in PostgreSQL: set store.url"),
        (TABLE, r"store.table: needs \[store.columns\]"),
        (URL + '[store.columns]\naction = "a"\n', "store.columns: says what the columns of store"),
        (URL + 'table_mode = "read-only"\n', "store.table_mode: is for store.table"),
        (TABLE + 'table_mode = "readonly"\n', "is not one of prepared, read-only"),
        (URL + 'table = "a b"\n', "store.table: 'a b' is no name of a table"),
        (URL + 'table = "a; drop table b"\n', "is no name of a table"),
        (TABLE + "[store.columns]\naction = 5\n", "store.columns: action must be text in quotes"),
        (TABLE + 'columns = "verb"\n', "store.columns: must be a table such as"),
        (TABLE + '[store.columnz]\naction = "a"\n', "store.columnz: .* did you mean store.columns"),
    ],
)
def test_what_cannot_work_is_refused_with_the_place_where_it_stands(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        read(tmp_path, text)
    assert "config.toml" in caught.value.detail


def test_columns_that_are_no_json_in_the_environment_are_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"must be JSON .* AUDIT_GATEWAY_STORE__COLUMNS"):
        load(None, {"AUDIT_GATEWAY_STORE__COLUMNS": "action=verb"}, {})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ('action = "a"\ncategory = "c"\nactor.mail = "m"', "an event has no member 'actor.mail'"),
        ('action = "a"', "store.columns: category is needed"),
    ],
)
def test_config_check_knows_the_members_of_events(tmp_path: Path, columns: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"{TABLE}[store.columns]\n{columns}\n")
    done = CliRunner().invoke(cli, ["config", "check", "--config", str(file)])
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_commands_of_a_table_ask_for_one() -> None:
    for command in ("prepare", "check"):
        done = CliRunner().invoke(cli, ["store", command], standalone_mode=False)
        assert "no table is named" in str(done.exception)
