"""deploy/postgresql.md: its commands, run as they are printed, against a server of their own."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_readme
from test_readme import ROOT, commands, refused, session

from gateway.ingest.sources.row_mapping import MEMBERS
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow
clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "postgresql.md").read_text()


@pytest.fixture(params=installations())
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with PostgresServer(installations()[request.param]) as server:
        yield server


def test_the_commands_of_the_page_work_as_printed(
    clean_copy: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [programs] = [path for path in installations().values() if path == server.programs]
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    [settings] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (clean_copy / "config.toml").write_text(f"{settings}\n[server]\nport = {port}\n")
    page = PAGE.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    page = page.replace("postgres@127.0.0.1:5432", f"gateway@127.0.0.1:{server.port}")
    page = page.replace("127.0.0.1:5432", f"127.0.0.1:{server.port}")
    said: dict[str, str] = {}
    with session(clean_copy) as user:
        for command in commands(page):
            said[command] = user.run(command)
            assert not refused(said[command]), f"{command}\n{said[command]}"

    def said_by(*words: str) -> str:
        [found] = [text for command, text in said.items() if all(one in command for one in words)]
        return found

    assert "from version 0 to" in said_by("audit-gateway migrate")
    assert "it is prepared" in said_by("store check")
    streamed = said_by("curl -N")
    assert '"action":"order.cancelled"' in streamed
    assert '"actor":{"id":"u-2"}' in streamed
    assert '"targets":[{"id":"o-17"}]' in streamed


def test_the_page_names_every_member_that_a_column_can_make() -> None:
    named = set(re.findall(r"`(\.?[a-z_.]+)`", PAGE))
    missing = [
        member
        for member in MEMBERS
        if member not in named and f".{member.rpartition('.')[2]}" not in named
    ]
    assert missing == []
