"""deploy/sign-in.md: its settings are taken, and its commands run as printed but for the key."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from gateway.settings.load import load
from tests.support.gateway_process import ROOT, run_program

PAGE = (ROOT / "deploy" / "sign-in.md").read_text()


def test_the_settings_of_the_page_are_taken(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "config.toml").write_text(text)
    oidc = load(tmp_path / "config.toml", {}, {}).console.oidc
    assert oidc.roles == {"audit-admins": "key-admin, on-call", "auditors": "auditor"}


def test_the_commands_of_the_page_work_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 3
    first = ("keys", "create", "--name", "n", "--purpose", "p", "--data", "audit-data")
    assert run_program(*first, cwd=tmp_path).returncode == 0
    key_id = ""
    for command in commands:
        program, *arguments = shlex.split(command.replace("KID", key_id))
        assert program == "audit-gateway"
        done = run_program(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = re.search(r"id (\w{12})", done.stdout)
        key_id = found[1] if found is not None else key_id
    assert "revoked" in done.stdout
