"""deploy/declarations.md: its commands, run as printed but for the port, and its example."""

from __future__ import annotations

from pathlib import Path

import test_readme
from test_readme import commands, refused, session

from gateway.declarations.reading import read_set
from gateway.declarations.wanted import structure
from tests.support.gateway_process import ROOT
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "declarations.md").read_text()


def test_the_commands_of_the_page_work_as_printed(clean_copy: Path) -> None:
    said: list[tuple[str, str]] = []
    assert "--port 8089" in PAGE
    with session(clean_copy) as user:
        for command in commands(PAGE.replace("8089", str(free_port()))):
            said.append((command, user.run(command)))
            assert not refused(said[-1][1]), said[-1]
    plans = [text for command, text in said if command.endswith(("--plan", "$? = 6"))]
    first, again = plans
    assert "+ key siem-acme, widens" in first
    assert "prod: 3 as declared" in again
    shown = "".join(text for _, text in said[2:])
    for place in ("siem-acme.key", "shop.key"):
        secret = (clean_copy / place).read_text().strip()
        assert secret.startswith("alpk_")
        assert secret not in shown
        assert (clean_copy / place).stat().st_mode & 0o077 == 0


def test_what_the_page_declares_is_read() -> None:
    declared = PAGE.partition("```toml\n")[2].partition("```")[0]
    example = (ROOT / "deploy" / "declarations.toml").read_bytes()
    found = read_set([("declarations.toml", example), ("page.toml", declared.encode())])
    assert set(structure(found.members).destinations) == {"splunk"}
