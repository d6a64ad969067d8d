"""The page on sources is true: its table, and its source of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner

from gateway.cli.importing.sources import sources
from gateway.ingest.sources.catalog import shipped_names
from gateway.ingest.sources.envelopes import SHARED
from tests.support.exports import ROOT

PAGE = (ROOT / "deploy" / "sources.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return "\n".join(line.removeprefix("   ") for line in found[1].splitlines()) + "\n"


def test_the_page_names_each_source_that_is_shipped() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE.split("## Envelopes")[0], re.MULTILINE)
    assert tuple(rows) == shipped_names()


def test_the_page_names_each_envelope() -> None:
    part = PAGE.split("## Envelopes")[1].split("## ")[0]
    for envelope in SHARED:
        assert f"`{envelope.path}`" in part


def test_a_source_of_ones_own_is_made_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "gitlab.toml").write_text(block("toml"))
    (tmp_path / "audit_json.log").write_text(block("json"))
    files = [str(tmp_path / "gitlab.toml"), str(tmp_path / "audit_json.log")]
    done = CliRunner().invoke(sources, ["check", "--json", "--source", *files])
    assert done.exit_code == 0, done.output
    [[_, event]] = json.loads(done.output)["examples"]
    assert event["category"] == "gitlab.project"
    assert event["action"] == "project.visibility"
    assert event["time"] == "2018-10-17T17:38:22.523000Z"
    assert event["actor"] == {"type": "user", "id": "3", "name": "John Doe4"}
    assert event["targets"][0]["urn"] == "gitlab:namespace2/project2"
