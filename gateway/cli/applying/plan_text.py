"""Plans as lines of text. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

Members = dict[str, Any]
_WORDS = {
    "+": "to be made", "~": "to be changed", "-": "to be ended", "=": "as declared",
    "↻": "to be made anew", "!": "not declared any more",
}  # fmt: skip
_MOST_STREAMS = 20


class PlanLine(NamedTuple):
    """A line, and whether it stands out."""

    text: str
    strong: bool = False


def plan_lines(plan: Members) -> Iterator[PlanLine]:
    """Lines of a plan: what widens first, what is as declared in numbers alone."""
    for change in plan["changes"]:
        if change["mark"] != "=":
            yield from _change_lines(change)
    streams = plan.get("streams", [])
    for stream in streams[:_MOST_STREAMS]:
        yield PlanLine(f"  stream {stream['id']} of {stream.get('name', '')} {stream['effect']}")
    if len(streams) > _MOST_STREAMS:
        yield PlanLine(f"  and {len(streams) - _MOST_STREAMS} more live streams")
    counts = plan["counts"]
    words = [f"{counts[mark]} {word}" for mark, word in _WORDS.items() if mark in counts]
    yield PlanLine(f"{plan['set']}: {', '.join(words) or 'nothing is declared'}")


def _change_lines(change: Members) -> Iterator[PlanLine]:
    widens = bool(change.get("widens"))
    line = f"{change['mark']} {change['kind']} {change['name']}"
    if change.get("id"):
        line += f" ({change['id']})"
    if widens:
        line += ", widens"
    if reason := change.get("reason"):
        line += f": {reason}"
    yield PlanLine(line, widens)
    if drift := change.get("drift"):
        when = f" at {drift['at']}" if drift.get("at") else ""
        yield PlanLine(f"    changed by {drift['by']}{when}, and not by a declaration")
    for sentence in change.get("newly", []):
        yield PlanLine(f"    newly: {sentence}", widens)
    for sentence in change.get("no_more", []):
        yield PlanLine(f"    not any more: {sentence}")
    for name, values in change.get("members", {}).items():
        yield PlanLine(f"    {name}: {_short(values['old'])} -> {_short(values['new'])}")
    if count := change.get("holders_count"):
        ids = ", ".join(change.get("holders", []))
        yield PlanLine(f"    keys with it: {count} ({ids}{', ..' if count > 20 else ''})")


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
