"""The reference of sources: made of the definitions, whole for each, and shown by the command."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
from click.testing import CliRunner

from gateway.cli.importing.sources import sources
from gateway.ingest.mapping.parsing import parse_definition
from gateway.ingest.sources.catalog import (
    FUNCTIONS,
    definition_in_settings,
    shipped,
    shipped_names,
    shipped_text,
)
from gateway.ingest.sources.envelopes import parse_envelope
from gateway.ingest.sources.reference import section
from tests.support.exports import ROOT

PAGE = ROOT / "deploy" / "sources-reference.md"
SOURCES = [name for name in shipped_names() if name != "native"]


def said(*arguments: str) -> str:
    done = CliRunner().invoke(sources, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_page_is_what_the_definitions_say() -> None:
    assert PAGE.read_text() == said("reference"), (
        "write it anew: .venv/bin/audit-gateway sources reference > deploy/sources-reference.md"
    )


def test_the_page_has_a_section_for_each_source() -> None:
    assert tuple(re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)) == shipped_names()
    for page in ("deploy/sources.md", "README.md"):
        assert "sources-reference.md" in (ROOT / page).read_text()


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_says_what_is_mapped_what_is_lost_and_how_to_get_it(name: str) -> None:
    told = section(shipped_text(name), FUNCTIONS)
    for member in ("time", "category", "action", "actor.id", "targets"):
        assert f"| `{member}` | " in told
    assert "| outcome from | value | outcome |\n| --- |" in told
    for title in ("Outcome", "Severity", "Lost", "How to get it here"):
        assert re.search(rf"^\*\*{title}\.\*\* \w|^\*\*{title}\.\*\* `", told, re.MULTILINE), title
    recipe = tomllib.loads(shipped_text(name))["notes"]["recipe"]
    ways = (
        f"--source {name} ",
        f"/v1/ingest/{name}",
        "/v1/events",
        "/v1/logs",
        "/_bulk",
        "/services/",
    )
    assert any(way in recipe for way in ways)


@pytest.mark.parametrize("name", SOURCES)
def test_the_tables_have_every_value_that_the_definition_knows(name: str) -> None:
    told = section(shipped_text(name), FUNCTIONS)
    definition = shipped(name)
    for member in ("outcome", "severity"):
        value = definition.members.get(member)
        tables = [value, *value.origins] if value is not None else []
        for key in (key for one in tables for key in getattr(one, "table", None) or ()):
            assert f"`{key}`" in told, key


@pytest.mark.parametrize("name", SOURCES)
def test_commands_of_recipes_are_commands(name: str) -> None:
    recipe = tomllib.loads(shipped_text(name))["notes"]["recipe"]
    for script in re.findall(r"```sh\n(.*?)```", recipe, re.DOTALL):
        checked = subprocess.run(
            ["sh", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_show_prints_the_section_and_a_definition_to_begin_with() -> None:
    shown = said("show", "okta")
    told = "".join(line.removeprefix("#").removeprefix(" ") for line in shown.splitlines(True))
    assert told.startswith(section(shipped_text("okta"), FUNCTIONS))
    assert parse_definition(shown, "mine.toml", FUNCTIONS, parse_envelope) == shipped("okta")


def test_a_source_of_ones_own_is_told_as_well() -> None:
    text = """
name = "own"
[event]
category = "kind"
action = { path = ["verb", "what"], as = "lower" }
outcome = { path = "result", table = { ok = "success", "no*" = "denied" }, present = "failure" }
actor = { id = { join = ["first", "last"] }, type = { const = "user" } }
targets = [{ each = "items[]", urn = "x:{@.a|@.b}" }]
"""
    definition_in_settings("own", tomllib.loads(text))
    told = section(text, FUNCTIONS)
    assert "| `action` | `verb`, else `what` (in lower case) |" in told
    assert "| `actor.type` | always `user` |\n| `actor.id` | `first`, `last` together |" in told
    assert (
        "| `result` | `ok` | success |\n|  | `no*` | denied |\n|  | any other | failure |" in told
    )
    assert "for each of `items[]`: urn `x:{@.a\\|@.b}`" in told
