"""One-line text of an event.

Events hold text from strangers. It is escaped: control characters would move the cursor or rewrite
lines, and bidirectional characters would fake text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_SEVERITIES = {1: "info", 2: "low", 3: "medium", 4: "high", 5: "critical", 6: "fatal"}
_SEVERITY_STYLES = {
    3: "yellow",
    4: "red",
    5: "bold red",
    6: "bold white on red",
}
_OUTCOME_STYLES = {"success": "green", "failure": "yellow", "denied": "bold red"}
# Unsafe characters that JSON leaves unescaped.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text with everything but visible characters and spaces as `\\uXXXX`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if _is_unsafe(character) else character for character in text
    )


def printable_json(line: str) -> str:
    """JSON on one line, escaped so that it is safe to print."""
    return _UNSAFE_IN_JSON.sub(lambda match: _escaped(match[0]), line)


def event_parts(event: dict[str, Any]) -> list[tuple[str, str]]:
    """Parts of an event's line as `(text, style)`; styles are those of rich."""
    severity, outcome = event.get("severity"), str(event.get("outcome", "unknown"))
    number = severity if isinstance(severity, int) else 0
    parts = [
        (_time(event), "dim"),
        (f"{_SEVERITIES.get(number, '?'):<8}", _SEVERITY_STYLES.get(number, "")),
        (f"{printable(outcome):<7}", _OUTCOME_STYLES.get(outcome, "dim")),
        (printable(str(event.get("tenant", ""))), "cyan"),
        (printable(str(event.get("category", ""))), "dim"),
        (printable(str(event.get("action", ""))), "bold"),
    ]
    if actor := _who(event):
        parts.append((printable(actor), "magenta"))
    if address := _inner(event, "source", "ip"):
        parts.append((f"from {printable(address)}", "dim"))
    if target := _target(event.get("targets")):
        parts.append((f"on {printable(target)}", ""))
    if reason := event.get("reason"):
        parts.append((f"({printable(str(reason))})", "italic"))
    return parts


def _is_unsafe(character: str) -> bool:
    # C: control, format, surrogate, private, unassigned; Zl, Zp: line and paragraph separators.
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _time(event: dict[str, Any]) -> str:
    """`2026-01-31 12:00:00.123Z` of the event's time in UTC with microseconds."""
    time = printable(str(event.get("time", "")))
    return f"{time[:10]} {time[11:23]}Z" if len(time) == 27 else time


def _who(event: dict[str, Any]) -> str:
    return _inner(event, "actor", "name") or _inner(event, "actor", "id")


def _target(targets: Any) -> str:
    if not isinstance(targets, list) or not targets:
        return ""
    first = {"target": targets[0]}
    name = next(filter(None, (_inner(first, "target", part) for part in ("urn", "name", "id"))), "")
    return f"{name} and {len(targets) - 1} more" if len(targets) > 1 else name


def _inner(event: dict[str, Any], outer: str, inner: str) -> str:
    members = event.get(outer)
    value = members.get(inner) if isinstance(members, dict) else None
    return value if isinstance(value, str) else ""
