"""Syslog: times without a year, and who did what by JSON, CEF, structured data or usual words.

Source: RFC 3164, section 4.1.2; ArcSight CEF Implementation Standard, "Extension Dictionary"; the
messages of OpenSSH, sudo and Linux-PAM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway.ingest.mapping.values import inner, text, urn
from gateway.ingest.sources.readers.record_reader import RECEIVED_AT

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_BSD = re.compile(
    r"([A-Z][a-z][a-z]) +(\d{1,2})(?: (\d{4}))? (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    r"(?: (?:UTC|GMT))?",
    re.ASCII,
)
_MOST_AHEAD = timedelta(days=1)
# Every eighth year may be none with a 29th of February.
_MOST_YEARS = 9
_MOST_SEARCHED = 1024
_SAID = tuple(
    (action, re.compile(pattern))
    for action, pattern in (
        ("login", r"(?:Accepted|Failed) \S+ for (?:invalid user )?(?P<user>\S+) from (?P<ip>\S+)"
                  r" port (?P<port>\d+)"),
        ("login", r"Invalid user (?P<user>\S+) from (?P<ip>\S+)(?: port (?P<port>\d+))?"),
        ("session.opened", r"session opened for user (?P<user>[^\s(]+)"),
        ("session.closed", r"session closed for user (?P<user>[^\s(]+)"),
        ("authentication", r"authentication failure;.*? rhost=(?P<ip>\S*)"
                           r"(?: +user=(?P<user>\S+))?"),
        ("command", r"\A\s*(?P<user>\S{1,64}) : (?:[^=]*; )?TTY="),
    )
)  # fmt: skip


def moment(record: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Time of the event: of CEF its own, else that of the header."""
    extension = inner(record, "cef", "extension")
    for name in ("start", "rt", "end"):
        if found := inner(extension, name):
            return _with_year(found, record)
    return _with_year(record.get("timestamp"), record)


def _with_year(found: Any, record: dict[str, Any]) -> Any:
    """A time with a year: the latest that is not more than a day ahead of when it is read."""
    match = _BSD.fullmatch(found) if isinstance(found, str) else None
    if match is None or match[1] not in _MONTHS:
        return found
    month, day = _MONTHS.index(match[1]) + 1, int(match[2])
    rest = f"{month:02}-{day:02}T{match[4]}:{match[5]}:{match[6]}"
    fraction = f".{match[7]}" if match[7] else ""
    if match[3]:
        return f"{match[3]}-{rest}{fraction}Z"
    now = record.get(RECEIVED_AT)
    if not isinstance(now, int | float):
        return None
    latest = datetime.fromtimestamp(now, UTC) + _MOST_AHEAD
    for year in range(latest.year, latest.year - _MOST_YEARS, -1):
        try:
            time = datetime.fromisoformat(f"{year}-{rest}+00:00")
        except ValueError:
            continue
        if time <= latest:
            return f"{year}-{rest}{fraction}Z"
    return found


def action(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """What was done."""
    return (
        _first(record, ("cef", "name"), ("json", "action"), ("json", "event", "action"),
               ("json", "event_type"), ("json", "eventType"), ("json", "event"))
        or _parameter(record, "action", "event")
        or text(record.get("msg_id"))
        or _said(record)[0]
        or "message"
    )  # fmt: skip


def outcome(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Word for how it went."""
    found = _first(
        record, ("cef", "extension", "outcome"), ("json", "outcome"), ("json", "event", "outcome"),
        ("json", "result"), ("json", "status"),
    ) or _parameter(record, "outcome", "result")  # fmt: skip
    return None if found is None else found.lower()


def own_severity(record: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Severity of an event of a gateway."""
    event = record.get("json")
    return inner(event, "severity") if inner(event, "category") and inner(event, "action") else None


def actor_id(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Id of who did it, else the name."""
    found = _first(record, ("cef", "extension", "suid"), ("json", "actor", "id"))
    if found is not None or inner(record, "cef", "vendor") == "audit-gateway":
        return found
    if isinstance(inner(record, "json", "actor"), dict):
        return None
    return (
        _first(record, ("json", "user", "id"), ("json", "user_id"))
        or _parameter(record, "user", "actor")
        or actor_name(record, options)
    )


def actor_name(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Name of who did it."""
    return (
        _first(record, ("cef", "extension", "suser"), ("json", "actor", "name"),
               ("json", "user", "name"), ("json", "user"), ("json", "username"), ("json", "actor"))
        or _said(record)[1].get("user")
    )  # fmt: skip


def address(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Address that it was done from."""
    return (
        _first(record, ("cef", "extension", "src"), ("cef", "labels", "Source IPv6 Address"),
               ("json", "source", "ip"), ("json", "client_ip"), ("json", "remote_addr"),
               ("json", "ip"))
        or _parameter(record, "ip", "src")
        or _said(record)[1].get("ip")
    )  # fmt: skip


def port(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Port of the same."""
    found = _first(record, ("cef", "extension", "spt"), ("json", "source", "port"))
    return found or _said(record)[1].get("port")


def reason(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Reason, else the words of the message."""
    for path in (("cef", "extension", "reason"), ("cef", "extension", "msg"), ("json", "reason"),
                 ("json", "message"), ("json", "msg"), ("message",)):  # fmt: skip
        if found := text(inner(record, *path), 1024):
            return found
    return None


def targets(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What it was done to: targets of a gateway's event, else what CEF or structured data name,
    else the host."""
    named = False
    listed = inner(record, "json", "targets")
    for target in listed if isinstance(listed, list) else []:
        if isinstance(target, dict) and (path := text(target.get("urn"), 1024)):
            named = True
            yield {"urn": path} | {name: target.get(name) for name in ("type", "id", "name")}
    extension = inner(record, "cef", "extension")
    path = text(inner(record, "cef", "labels", "target"), 1024) or _parameter(record, "target")
    ids = {"id": inner(extension, "duid"), "name": inner(extension, "duser")}
    if path and not named:
        named = True
        yield {"urn": path} | ids
    host = text(inner(extension, "dhost")) or text(record.get("hostname"))
    if host and not named:
        yield {"urn": urn("host", host), "type": "host", "name": host}


def _first(record: dict[str, Any], *paths: tuple[str, ...]) -> str | None:
    for path in paths:
        # A line has one of the forms, so that most paths lead nowhere.
        if path[0] in record and (value := text(inner(record, *path))) is not None:
            return value
    return None


def _parameter(record: dict[str, Any], *names: str) -> str | None:
    """A parameter of structured data by its first name that is there."""
    data = record.get("structured_data")
    if not data or not isinstance(data, dict):
        return None
    elements = list(data.values())
    found = (text(inner(element, name)) for name in names for element in elements)
    return next((value for value in found if value is not None), None)


def _said(record: dict[str, Any]) -> tuple[str | None, dict[str, str | None]]:
    """What usual messages of programs say: the action, and `user`, `ip`, `port`."""
    message = record.get("message")
    return _said_in(message[:_MOST_SEARCHED]) if isinstance(message, str) else (None, {})


@lru_cache(maxsize=16)
def _said_in(message: str) -> tuple[str | None, dict[str, str | None]]:
    for name, pattern in _SAID:
        if (match := pattern.search(message)) is not None:
            return name, match.groupdict()
    return None, {}
