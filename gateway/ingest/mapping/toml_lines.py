"""Lines of keys in TOML, which its parser does not tell. Pure."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """Number of the line where `keys` stand, or what holds them; 1 if nothing does."""
    best, line = 0, 1
    header: tuple[str, ...] = ()
    for number, content in enumerate(text.splitlines(), 1):
        place: tuple[str, ...]
        if found := _HEADER.fullmatch(content):
            place = header = _parts(found[1])
        elif found := _KEY.match(content):
            place = (*header, *_parts(found[1]))
        else:
            continue
        if len(place) > best and keys[: len(place)] == place:
            best, line = len(place), number
    return line


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(text))
