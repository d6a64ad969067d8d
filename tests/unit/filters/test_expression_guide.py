"""The user guide `deploy/filters.md`: its examples compile, its mistakes are refused as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.errors import InvalidFilter
from gateway.filters.expression import compile_filter

_GUIDE = (Path(__file__).parents[3] / "deploy" / "filters.md").read_text("utf-8")
_BLOCKS = re.findall(r"^```cel\n(.*?)^```$", _GUIDE, re.MULTILINE | re.DOTALL)
_EXAMPLES = [line for block in _BLOCKS for line in block.splitlines() if line]
_COMMANDS = re.findall(r"filter[= ]'?(?:filter=)?(.*?)'", _GUIDE)
_MISTAKES = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", _GUIDE, re.MULTILINE)
_INLINE = [
    "data.bytes > 1000000 || severity >= 5",
    '!(data.user == "root")',
    'data.user != "root"',
    "has(data.http) && has(data.http.status)",
    "severity >= 2.5",
]


def test_the_guide_has_examples_of_every_kind() -> None:
    assert len(_EXAMPLES) >= 15
    assert len(_COMMANDS) == 2
    assert len(_MISTAKES) == 8
    assert all(f"`{source}`" in _GUIDE for source in _INLINE)


@pytest.mark.parametrize("source", [*_EXAMPLES, *_COMMANDS, *_INLINE])
def test_an_example_of_the_guide_compiles(source: str) -> None:
    compile_filter(source)


@pytest.mark.parametrize(("source", "said"), _MISTAKES)
def test_a_mistake_of_the_guide_is_refused_as_it_says(source: str, said: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        compile_filter(source)
    assert said in caught.value.detail


def test_a_filter_of_the_guide_that_asks_for_absence_matches_it() -> None:
    (source,) = (line for line in _EXAMPLES if line.startswith("!has(data.user)"))
    assert compile_filter(source).matches({})
    assert not compile_filter('data.user != "root"').matches({})
