"""Building blocks of native events: a source's values within the limits of each member.

Optional values that are too long are cut: `data` holds the whole original record.
A required value that is missing makes the record unmappable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

SHORT = 256
LONG = 1024
MAX_TARGETS = 32
MAX_CATEGORY = 64
MAX_ACTION = 128

# For sources without a severity: an action that did not succeed deserves a second look.
SEVERITY_OF_OUTCOME = {"success": 1, "unknown": 1, "failure": 2, "denied": 3}

_NOT_IN_CATEGORY = re.compile(r"[^a-z0-9_-]")
_NOT_IN_ACTION = re.compile(r"[^A-Za-z0-9_:/-]")
_ESCAPED_IN_URN = re.compile(r"[/%\x00-\x1f\x7f]")


class Unmappable(ValueError):
    """The record is not one of this source. `path` names the record's member ("": the whole)."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def native_event(
    record: dict[str, Any],
    *,
    id: str,
    time: str | None,
    category: str,
    action: str,
    outcome: str,
    severity: int | None = None,
    actor: dict[str, Any],
    source: dict[str, Any],
    targets: Iterable[dict[str, Any]],
    request: dict[str, Any],
    reason: Any = None,
) -> dict[str, Any]:
    """Native event of a record: without empty members, with the record itself under `data`."""
    distinct: list[dict[str, Any]] = []
    for target in map(_shortened, targets):
        if target and target not in distinct:
            distinct.append(target)
    members = {
        "id": id,
        "time": time,
        "category": category,
        "action": action,
        "outcome": outcome,
        "severity": severity or SEVERITY_OF_OUTCOME[outcome],
        "actor": _shortened(actor),
        "source": _shortened(source),
        "targets": distinct[:MAX_TARGETS],
        "request": _shortened(request),
        "reason": text(reason, LONG),
        "data": record,
    }
    return {name: value for name, value in members.items() if value or name == "data"}


def text(value: Any, limit: int = SHORT) -> str | None:
    """A string or an integer as at most `limit` characters; None for all else and for ""."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value[:limit] if isinstance(value, str) and value else None


def inner(record: Any, *path: str) -> Any:
    """Member of the record at `path`; None where a part of the path is missing."""
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def first(values: Any) -> Any:
    """The first item of a list, None of anything else."""
    return values[0] if isinstance(values, list) and values else None


def address(value: Any) -> str | None:
    """An IP address, else None: sources also write names, which do not compare as addresses."""
    try:
        return str(ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def category(*names: str) -> str:
    """Category of the names: dotted, in lower case, as many whole segments as fit 64 characters."""
    segments = ".".join(names).lower().split(".")
    return _dotted(segments, _NOT_IN_CATEGORY, MAX_CATEGORY)


def action(*names: str) -> str:
    """Action of the names: dotted, as many whole segments as fit 128 characters."""
    return _dotted(".".join(names).split("."), _NOT_IN_ACTION, MAX_ACTION)


def urn(scheme: str, *segments: Any) -> str:
    """A resource path: `urn("k8s", "prod", "ns", "pay")` is `k8s:prod/ns/pay`.

    A slash inside a segment is escaped, so that no name can pretend to be in
    another branch. A path that is too long names its nearest ancestor.
    """
    escaped = (_ESCAPED_IN_URN.sub(_percent, str(segment)) for segment in segments)
    path = f"{scheme}:{'/'.join(escaped)}"
    if len(path) <= LONG:
        return path
    return path[: LONG + 1].rpartition("/")[0] or path[:LONG]


def _shortened(members: dict[str, Any]) -> dict[str, Any]:
    limits = {"urn": LONG, "user_agent": LONG}
    short = {name: text(value, limits.get(name, SHORT)) for name, value in members.items()}
    return {name: value for name, value in short.items() if value}


def _dotted(segments: list[str], forbidden: re.Pattern[str], limit: int) -> str:
    dotted = ".".join(forbidden.sub("_", segment) for segment in segments if segment)
    while len(dotted) > limit and "." in dotted:
        dotted = dotted.rpartition(".")[0]
    return dotted[:limit]


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"
