"""The Lua files of the Redis adapter say what they are given, and each is used."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.adapters.redis import scripts
from tests.support.cases import every

FILES = sorted((Path(scripts.__file__).parent / "lua").glob("*.lua"))
PARTS = {"now", "stored", "level"}


def header(file: Path) -> str:
    """The comment that a file begins with, as one line."""
    found = re.match(r"(?:--.*\n)+", file.read_text(encoding="utf-8"))
    assert found, "a file begins with what it is for"
    return " ".join(line.removeprefix("--").strip() for line in found[0].splitlines())


@every(file for file in FILES if file.stem not in PARTS)
def test_a_script_states_its_keys_arguments_answer_and_atomicity(file: Path) -> None:
    assert re.search(
        r"\w.* KEYS(?:\[1\])?: \w.* ARGV: \w.* Answer: \w.* Atomicity: \w", header(file)
    )


@every(file for file in FILES if file.stem in PARTS)
def test_a_part_says_what_it_defines(file: Path) -> None:
    assert re.match(r"Part of scripts.*: \w", header(file))


@every(FILES)
def test_each_lua_file_is_in_a_script(file: Path) -> None:
    texts = [one.text for one in vars(scripts).values() if isinstance(one, scripts.Script)]
    assert any(file.read_text(encoding="utf-8") in text for text in texts)
