"""deploy/looking.md: its commands, run as printed but for the port, and its bounds."""

from __future__ import annotations

import json
from pathlib import Path

import test_readme
from test_readme import commands, refused, session

from gateway.looking.text import MOST_CHARACTERS, MOST_WORDS
from gateway.settings.declarations import DECLARED
from tests.support.gateway_process import ROOT
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "looking.md").read_text()


def test_the_commands_of_the_page_work_as_printed(clean_copy: Path) -> None:
    assert "--port 8087" in PAGE
    page = PAGE.replace("8087", str(free_port()))
    said: dict[str, str] = {}
    with session(clean_copy) as user:
        for command in commands(page):
            # Progress of curl stands in front of what it got.
            said[command] = user.run(command.replace("curl --", "curl --silent --"))
            assert not refused(said[command]), f"{command}\n{said[command]}"
    pages = [json.loads(text) for text in said.values() if text.startswith('{"events"')]
    assert len(pages) == 5
    newest, older = pages[1], pages[2]
    assert newest["has_more"]
    assert older["events"][0]["cursor"] < newest["events"][-1]["cursor"]
    [around] = [json.loads(text) for text in said.values() if text.startswith('{"event":')]
    assert around["before"]


def test_the_page_tells_each_setting_and_limit() -> None:
    names = [name for name in DECLARED if name.startswith("look.")]
    assert len(names) == 8
    assert [name for name in names if f"`{name}`" not in PAGE] == []
    assert f"at most {MOST_WORDS} and {MOST_CHARACTERS} characters" in PAGE
