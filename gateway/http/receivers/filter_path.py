"""The parameter `filter_path` of Elasticsearch: which members of an answer are wanted. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

# Longer ones are passed over: an answer with more in it is right, too.
_LONGEST = 512

_Paths = Sequence[Sequence[str]]


def filtered(answer: dict[str, Any], filter_path: str) -> dict[str, Any]:
    """The answer with the members that some path of a list leads to or through; all of it without
    paths, or with one that excludes members (`-took`)."""
    paths = [path.strip().split(".") for path in filter_path.split(",") if path.strip()]
    too_much = len(filter_path) > _LONGEST or any(path.count("**") > 1 for path in paths)
    if not paths or too_much or any(path[0].startswith("-") for path in paths):
        return answer
    kept = _kept(answer, paths)
    return kept if isinstance(kept, dict) else {}


def _kept(value: Any, paths: _Paths) -> Any:
    """What of a value is wanted; None if nothing is."""
    if any(not path for path in paths):
        return value
    if isinstance(value, list):
        return [kept for one in value if (kept := _kept(one, paths)) is not None] or None
    if not isinstance(value, dict):
        return value if any(path == ["**"] for path in paths) else None
    found = {
        name: kept
        for name, member in value.items()
        if (inner := [rest for path in paths for rest in _behind(path, name)])
        and (kept := _kept(member, inner)) is not None
    }
    return found or None


def _behind(path: Sequence[str], name: str) -> list[Sequence[str]]:
    """What remains of a path behind a member."""
    if path[0] == "**":
        # It stands for any number of members.
        return [path, *(_behind(path[1:], name) if len(path) > 1 else [path[1:]])]
    return [path[1:]] if fnmatch.fnmatchcase(name, path[0]) else []
