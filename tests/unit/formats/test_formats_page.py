"""deploy/formats.md says what there is, and its examples are what comes."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.formats.format import FormatOptions
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from tests.support.cases import every
from tests.support.format_examples import EXAMPLES

PAGE = (Path(__file__).parents[3] / "deploy" / "formats.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"`(\w+)`(?: \(.*\))?:\n\n```\w+\n(.*)\n```", PAGE))


def test_the_table_has_every_format() -> None:
    head, *rows = re.findall(r"(?m)^\| `(\w+)` \|", PAGE.partition("## Where they stand")[0])
    assert head == "format"
    assert tuple(rows) == FORMAT_NAMES == tuple(SHOWN)


@every(FORMAT_NAMES)
def test_each_example_is_what_comes(name: str) -> None:
    native = EXAMPLES["failed login"]
    made = make_formats(FormatOptions(hostname="gw"))[name].encode(native).decode()
    assert SHOWN[name].replace("{..}", native.decode()) == made
