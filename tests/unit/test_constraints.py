"""What is installed is pinned, with hashes, and all of it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def names(requirements: list[str]) -> set[str]:
    found = [re.match(r"[A-Za-z0-9._-]+", one) for one in requirements]
    return {match[0].lower().replace("_", "-") for match in found if match}


def section(end: str) -> str:
    return TEXT.partition(f"#@ end of {end}\n")[0]


def test_every_line_is_a_version_with_its_hashes() -> None:
    block = r"[A-Za-z0-9]\S*==\S+.*\\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+|#.*\n"
    assert re.fullmatch(f"(?:{block})+", TEXT)


def test_each_section_holds_what_it_is_for() -> None:
    extras = PROJECT["optional-dependencies"]
    for end, wanted in (
        ("run", PROJECT["dependencies"]),
        ("image", extras["destinations"] + extras["oidc"] + extras["otlp"] + extras["zstd"]),
        ("dev", extras["dev"]),
        ("bench", extras["bench"]),
    ):
        assert names(wanted) <= names(re.findall(r"(?m)^\S+==", section(end)))
    assert "setuptools==" in section("run"), "the program is built without fetching anything else"


def test_whatever_installs_asks_for_the_hashes() -> None:
    for path in ("Makefile", "deploy/Dockerfile"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert "--require-hashes" in text
        assert "install -c" not in text
        assert not re.search(r"install (?:--no-cache-dir )?-c constraints", text)


def test_every_file_that_the_program_reads_is_part_of_the_wheel() -> None:
    package = ROOT / "gateway"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["gateway"]
    files = {path for path in package.rglob("*") if path.is_file()}
    read = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert {path.suffix for path in read} >= {".sql", ".lua", ".json"}
    assert read == {path for pattern in patterns for path in package.glob(pattern)}
