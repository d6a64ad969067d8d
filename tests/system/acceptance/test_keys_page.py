"""deploy/keys.md: its commands, run as printed but for the port; the interface is told whole."""

from __future__ import annotations

from pathlib import Path

import click
import test_readme
from test_readme import commands, refused, session

from gateway.access.grants.role import BUILTIN
from gateway.cli.main import cli
from gateway.http.app import DOCUMENT
from tests.support.gateway_process import ROOT
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "keys.md").read_text()
INTERFACE = (ROOT / "deploy" / "interface.md").read_text()
# Groups whose commands are all told there; of the others the name is enough.
TOLD_WHOLE = ("keys", "roles", "pepper")


def test_the_commands_of_the_page_work_as_printed(clean_copy: Path) -> None:
    said: dict[str, str] = {}
    assert "--port 8089" in PAGE
    page = PAGE.replace("8089", str(free_port()))
    with session(clean_copy) as user:
        for command in commands(page):
            said[command] = user.run(command)
            assert not refused(said[command]), f"{command}\n{said[command]}"

    def said_by(*words: str) -> str:
        [found] = [text for command, text in said.items() if all(one in command for one in words)]
        return found

    assert '"masked":["actor.name"]' in said_by("curl", "siem.header")
    assert '"data":' not in said_by("curl", "siem.header")
    assert "denied: event_not_granted" in said_by("keys explain")
    assert '"reason_code":"event_not_granted"' in said_by("authz/explain")
    assert "events were looked at" in said_by("keys simulate")
    assert "is revoked" in said_by("keys revoke", "contract ended")
    assert "is revoked" in said_by("keys revoke", "--with-descendants")
    assert '"reviewed_by":' in said_by("curl", "/reviewed")
    assert "etag:" in said_by("tee siem.txt").lower()
    assert '"owner":"detection team"' in said_by("PATCH")
    assert "is not due" in said_by("keys rotate", "--due")
    assert "is in its place" in said_by("keys rotate", "--secret-mode")
    assert "data: {" in said_by("ticket=")
    assert "previous" in said_by("pepper status")


def test_the_page_names_every_predefined_role() -> None:
    assert [name for name in BUILTIN if f"| `{name}` |" not in PAGE] == []


def test_every_call_around_keys_is_in_the_interface_page() -> None:
    calls = [
        f"`{method.upper()} {path}`"
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if path.startswith(("/v1/keys", "/v1/roles", "/v1/authz", "/v1/findings", "/v1/tickets"))
    ]
    assert len(calls) > 15
    assert [call for call in calls if call not in INTERFACE] == []


def test_every_command_is_in_the_interface_page() -> None:
    names = cli.list_commands(click.Context(cli))
    assert [name for name in names if f"`{name}" not in INTERFACE] == []
    for group in TOLD_WHOLE:
        command = cli.get_command(click.Context(cli), group)
        assert isinstance(command, click.Group)
        assert [name for name in command.commands if f"`{group} {name}" not in INTERFACE] == []
