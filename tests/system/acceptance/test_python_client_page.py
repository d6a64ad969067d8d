"""deploy/python-client.md: its examples, run as they are printed, against a gateway."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from tests.support.gateway_process import ROOT, GatewayProcess

PAGE = (ROOT / "deploy" / "python-client.md").read_text()
EVERYTHING = {"actions": ["ingest", "pull", "stream"], "categories": ["auth", "auth.**"]}


def test_the_examples_of_the_page_work_as_printed(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 7
    said = StringIO()
    with GatewayProcess(tmp_path / "data") as gateway:
        names: dict[str, Any] = {"URL": gateway.url, "KEY": gateway.make_key(EVERYTHING)}
        with redirect_stdout(said):
            for example in examples:
                exec(example, names)
        names["client"].close()
    lines = said.getvalue().splitlines()
    assert lines[0] == "2500 0 []"
    assert len([line for line in lines if "user.login" in line]) == 3
    assert lines[4].startswith("go on after ")
    assert "events up to" in lines[5]
    lines = [line for line in lines[5:] if "events up to" not in line]
    assert [line.split()[0] for line in lines[:3]] == ["1000", "1000", "500"]
    assert lines[3].startswith("2500 [{'value': 'auth'")
    assert lines[4:] == ["user.logout", "1"]
