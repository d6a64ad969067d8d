"""The page on sources is true: its table, and its source of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli.importing.sources import sources
from gateway.errors import InvalidRequest
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


def test_a_check_without_a_source_finds_the_one_that_takes_the_records(tmp_path: Path) -> None:
    okta = {"uuid": "1", "eventType": "user.session.start", "published": "2026-01-01T00:00:00Z"}
    around = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": okta}
    native = {"tenant": "acme", "category": "auth", "action": "login"}
    written = tmp_path / "records.ndjson"

    def checked(*records: Any) -> Any:
        written.write_text("".join(json.dumps(record) + "\n" for record in records))
        return CliRunner().invoke(sources, ["check", "--json", str(written)])

    for records, name in (
        ((okta, okta, native), "okta"),
        ((around,), "okta"),
        ((around | {"data": {"a": 1}},), "cloudevents"),
        ((native, {"Records": [native]}), "native"),
    ):
        assert json.loads(checked(*records).output)["source"] == name
    done = checked({"a": 1})
    assert isinstance(done.exception, InvalidRequest)
    assert "no source makes events" in str(done.exception)


# A page of Cloudflare's audit log, as its documentation has it.
CLOUDFLARE = {
    "errors": [], "messages": [], "success": True,
    "result": [
        {
            "id": "d5b0f326-1232-4452-8858-1089bd7168ef", "when": "2017-04-26T17:31:07Z",
            "action": {"info": "key digest: c6b5", "result": True, "type": "change_setting"},
            "actor": {"id": "f6b5de03", "email": "michelle@example.com", "ip": "198.51.100.7",
                      "type": "user"},
            "interface": "API", "newValue": "low", "oldValue": "high",
            "metadata": {"name": "security_level", "type": "firewall", "value": "high"},
            "owner": {"id": "023e105f"}, "resource": {"id": "023e105f", "type": "account"},
        }
    ],
}  # fmt: skip
OWN = """
name = "cloudflare"
title = "Cloudflare audit logs"
when = "action.type && actor && when"
ENVELOPES
[event]
id = "id"
time = "when"
category = "cloudflare.{resource.type}"
action = "{resource.type}.{action.type}"
outcome = OUTCOME
actor = { type = "actor.type", id = "actor.id", name = "actor.email" }
source = { ip = "actor.ip" }
targets = [{ urn = "cloudflare:{owner.id}/{resource.type}/{resource.id}", type = "resource.type" }]
"""


def test_a_newcomer_is_told_each_step_to_a_source_of_another_vendor(tmp_path: Path) -> None:
    definition, records = tmp_path / "cloudflare.toml", tmp_path / "audit.json"
    records.write_text(json.dumps(CLOUDFLARE))

    def checked(envelopes: str, outcome: str) -> str:
        definition.write_text(OWN.replace("ENVELOPES", envelopes).replace("OUTCOME", outcome))
        files = [str(definition), str(records)]
        return CliRunner().invoke(sources, ["check", "--source", *files]).output

    line = 'envelopes = ["result[]"]'
    assert line in checked("", '"action.result"')
    said = checked(line, '"action.result"')
    assert "values of outcome that no table knows:\n         1  true" in said
    table = next(one for one in re.findall(r"`outcome = (\{.*?\})`", PAGE) if "true" in one)
    said = checked(line, table.replace("result", "action.result", 1))
    assert "outcomes:\n         1  success" in said
    [event] = re.findall(r"^event +(.*)$", said, re.MULTILINE)
    found = json.loads(event)
    assert found["id"] == "d5b0f326-1232-4452-8858-1089bd7168ef"
    assert (found["action"], found["outcome"]) == ("account.change_setting", "success")
    assert found["targets"][0]["urn"] == "cloudflare:023e105f/account/023e105f"
