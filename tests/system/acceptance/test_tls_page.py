"""deploy/tls.md: its commands, run as printed but for the port and the key."""

from __future__ import annotations

import re
from pathlib import Path

import test_readme
from test_readme import ROOT, commands, refused, session

from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "tls.md").read_text()


def test_the_commands_of_the_page_work_as_printed(clean_copy: Path) -> None:
    page = PAGE.replace("8443", str(free_port()))
    [settings] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (clean_copy / "tls.toml").write_text(settings)
    said: dict[str, str] = {}
    key = ""
    with session(clean_copy) as user:
        for command in commands(page):
            told = user.run(command.replace("alpk_...", key))
            said[command] = told
            assert not refused(told), f"{command}\n{told}"
            key = next(iter(re.findall(r"shown this once: (\S+)", told)), key)
        [listening] = user.listening
    assert listening.startswith("https://")
    readiness = [told for command, told in said.items() if "/readyz" in command]
    assert set(readiness) == {"ready\n"}
    [tailed] = [told for command, told in said.items() if "audit-gateway tail" in command]
    assert re.search(r"user\.\w+", tailed)
