"""Values of a source as the members of events take them. Pure.

OptionalPart values that are too long are cut: `data` holds the whole original record.
A required value that is missing makes the record unmappable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.event import OUTCOMES, Target
from gateway.ingest.mapping.timestamps import rfc3339
from gateway.ingest.strict_json import Refused

SHORT = 256
LONG = 1024
MAX_TARGETS = 32
LONGEST_ID = 128
MAX_CATEGORY = 64
MAX_ACTION = 128

# For sources without a severity: an action that did not succeed deserves a second look.
SEVERITY_OF_OUTCOME = {"success": 1, "unknown": 1, "failure": 2, "denied": 3}

# Making one takes longer than encoding a value.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
LONGEST_IP = 64
_TENANT = re.compile(r"[^a-z0-9._-]")
_ID = re.compile(r"[ -~]{1,128}")
_DOTTED = re.compile(r"[/\\:.]+")
_NOT_IN_CATEGORY = re.compile(r"[^a-z0-9_-]")
_WHOLE = re.compile(r"[0-9]{1,9}")
_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")
_NOT_IN_ACTION = re.compile(r"[^A-Za-z0-9_:/-]")
_ESCAPED_IN_URN = re.compile(r"[/%\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED_BUT_SLASH = re.compile(r"[%\x00-\x1f\x7f]")


def text(value: Any, limit: int = SHORT) -> str | None:
    """A string or an integer as at most `limit` characters; None for all else and for ""."""
    if type(value) is str:
        return value[:limit] or None
    if value is None or type(value) is not int:
        return None
    return str(value)


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
    # Longer ones, which are none, would be remembered.
    return _address_of(value) if isinstance(value, str) and len(value) <= LONGEST_IP else None


@lru_cache(maxsize=4096)
def _address_of(value: str) -> str | None:
    try:
        return str(ip_address(value))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def category(*names: str) -> str:
    """Category of the names: dotted, in lower case, as many whole segments as fit 64 characters."""
    segments = ".".join(names).lower().split(".")
    return _dotted(segments, _NOT_IN_CATEGORY, MAX_CATEGORY)


@lru_cache(maxsize=4096)
def action(*names: str) -> str:
    """Action of the names: dotted, as many whole segments as fit 128 characters."""
    return _dotted(".".join(names).split("."), _NOT_IN_ACTION, MAX_ACTION)


@lru_cache(maxsize=4096)
def tenant(name: str) -> str:
    """Tenant of a name: in lower case, other characters as `_`, at most 64."""
    return _TENANT.sub("_", name.strip().lower())[:64]


def urn(scheme: str, *names: Any) -> str:
    """A resource path: `urn("k8s", "prod", "ns", "pay")` is `k8s:prod/ns/pay`.

    A slash inside a segment is escaped, so that no name can pretend to be in
    another branch. A path that is too long names its nearest ancestor.
    """
    return cut_urn(f"{scheme}:{'/'.join([segment(str(name)) for name in names])}")


def cut_urn(path: str) -> str:
    """A resource path of at most 1,024 characters: its nearest ancestor that fits."""
    if len(path) <= LONG:
        return path
    return path[: LONG + 1].rpartition("/")[0] or path[:LONG]


def _dotted(segments: list[str], forbidden: re.Pattern[str], limit: int) -> str:
    dotted = ".".join(forbidden.sub("_", segment) for segment in segments if segment)
    while len(dotted) > limit and "." in dotted:
        dotted = dotted.rpartition(".")[0]
    return dotted[:limit]


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


# Members as the compiled mapping fills them


def short(value: Any) -> str | UnsetType:
    """Member of at most 256 characters."""
    if type(value) is str and 0 < len(value) <= SHORT:
        return value
    return text(value) or UNSET


def long(value: Any) -> str | UnsetType:
    """Member of at most 1,024 characters."""
    return text(value, LONG) or UNSET


def id_member(value: Any) -> str | None:
    """An id that fits, None otherwise."""
    name = text(value, 129)
    return name if name is not None and _ID.fullmatch(name) else None


@lru_cache(maxsize=4096)
def stripped_address(value: str) -> str | UnsetType:
    """An IP address in a text that is not long."""
    return address(value.strip()) or UNSET


def ip_member(value: Any) -> str | UnsetType:
    """An IP address."""
    return address(value.strip()) or UNSET if type(value) is str else UNSET


def port_member(value: Any) -> int | UnsetType:
    """A port, also in text."""
    number = whole(value)
    return number if number is not None and 0 <= number <= 65535 else UNSET


def urn_member(value: Any) -> str | UnsetType:
    """A resource path as the record has it; control characters are escaped."""
    path = text(value, 4096)
    return UNSET if path is None else cut_urn(_CONTROL.sub(_percent, path))


def outcome_member(value: Any) -> str:
    """An outcome by its name, in any case."""
    if type(value) is str and value in OUTCOMES:
        return value
    name = value.lower() if isinstance(value, str) else ""
    return name if name in OUTCOMES else "unknown"


def severity_member(value: Any, outcome: str) -> int:
    """A severity; without one, that of the outcome."""
    if type(value) is int and 1 <= value <= 6:
        return value
    number = whole(value)
    return SEVERITY_OF_OUTCOME[outcome] if number is None else min(max(number, 1), 6)


def time_member(name: str, value: Any) -> str:
    """Time of the member `name` of a record.

    Raises `Refused` if it is no time: a record with a broken time must not pass as one that
    happened when it was received.
    """
    try:
        return rfc3339(value)
    except (ValueError, OverflowError):
        raise Refused(name, f"not a time: {str(value)[:64]!r}") from None


def target_members(value: Any) -> list[Target]:
    """Targets in the native form. Raises `Refused`."""
    if value is None:
        return []
    try:
        return msgspec.convert(value, list[Target])
    except msgspec.ValidationError as error:
        raise Refused("targets", str(error)) from None


def whole(value: Any) -> int | None:
    """Whole number, also in text; None for anything else."""
    if type(value) is int:
        return value
    if type(value) is str and _WHOLE.fullmatch(value):
        return int(value)
    return None


def plain_text(value: Any) -> str | None:
    """Text of any single value: numbers as JSON writes them, `true` and `false`."""
    if type(value) is int:
        return str(value)
    if value is None or isinstance(value, str):
        return value
    return json_text(value) if isinstance(value, bool | float) else None


def json_text(value: Any) -> str | None:
    """JSON of a value; text stays as it is."""
    if value is None or isinstance(value, str):
        return value
    return _JSON.encode(value)


def segment(value: str) -> str:
    """A name as one segment of a resource path: a slash inside is escaped, so that no name can
    pretend to be in another branch."""
    if value.isprintable() and "/" not in value and "%" not in value:
        return value
    return _ESCAPED_IN_URN.sub(_percent, value)


def segments(value: str) -> str:
    """A part of a resource path whose slashes are those of the path."""
    if value.isprintable() and "%" not in value:
        return value
    return _ESCAPED_BUT_SLASH.sub(_percent, value)


def _dotted_text(value: Any) -> str | None:
    name = text(value, LONG)
    return None if name is None else _DOTTED.sub(".", name).strip(".")


def _parent(value: Any) -> str | None:
    """All of a dotted name but its last part."""
    name = text(value, LONG)
    return None if name is None else name.rpartition(".")[0]


def _lower(value: Any) -> str | None:
    name = text(value, LONG)
    return None if name is None else name.lower()


def _slug(value: Any) -> str | None:
    name = text(value, LONG)
    return None if name is None else _NOT_IN_SLUG.sub("-", name.lower()).strip("-")


def _time_text(value: Any) -> str | None:
    try:
        return rfc3339(value)
    except (ValueError, OverflowError):
        return None


# Conversions by their name in definitions (`as`). Each takes decoded JSON, also None.
CONVERSIONS: dict[str, Callable[[Any], str | None]] = {
    "lower": _lower,
    "slug": _slug,
    "dotted": _dotted_text,
    "parent": _parent,
    "text": plain_text,
    "json": json_text,
    "time": _time_text,
    "ip": address,
}
