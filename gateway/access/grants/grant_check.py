"""Validation of grants in decoded JSON: every problem, with its path. Pure.

Authors of a grant are told of the first problem; of stored grants, written before something was
refused, all are reported (`gateway.access.keys.stored_grant`). Restrictions must not be empty: a
list that became empty by mistake would mean everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.access.grants.mask import check_paths, check_pseudonymized
from gateway.access.grants.zones import zone_of
from gateway.clock import parse_duration
from gateway.errors import InvalidRequest
from gateway.filters.alphabet import check_member_pattern
from gateway.filters.scope import MAX_PATTERNS
from gateway.network import parse_network

ACTIONS = (
    "stream", "pull", "ingest", "keys.admin", "keys.read", "usage.read", "ops.read", "ops.act",
    "destinations.admin", "pseudonyms.resolve",
)  # fmt: skip
# Planned actions, not grantable until the calls that need them exist.
NOT_YET = ("erase",)
MEMBERS = (
    "id", "effect", "actions", "tenants", "categories", "resources", "min_severity", "fields",
    "when",
)  # fmt: skip
# Lists of patterns, and the member of events that each is about.
PATTERNS = {"tenants": "tenant", "categories": "category", "resources": "resource"}
UNSUPPORTED = "unsupported_action"
MAX_NETWORKS = 64
_FIELDS = ("mask", "drop", "pseudonymize")
_WHEN = ("cidr", "hours", "tz", "max_lookback")
_HOURS = re.compile(r"([01]\d|2[0-3])-([01]\d|2[0-4])", re.ASCII)
_EMPTY = "restricts nothing, which is never what an empty list is meant to do; leave it out for all"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One problem of a grant. `path` is "" for the grant as a whole; `item` is an index into the
    list at `path`, -1 for the whole list."""

    path: str
    reason: str
    column: int | None = None
    code: str = "invalid_grant"
    item: int = -1

    @property
    def place(self) -> str:
        """The path, with the index in a list."""
        return self.path if self.item < 0 else f"{self.path}[{self.item}]"


def problems(raw: Any, *, zones: bool = True) -> Iterator[Problem]:
    """All problems of a grant, in the order of its members. `zones`: whether unknown time zones,
    which depend on the machine, are problems."""
    if not isinstance(raw, dict):
        yield Problem("", "a JSON object is needed")
        return
    for name in sorted(set(raw) - set(MEMBERS)):
        yield Problem(name, f"unknown member {name!r} in a grant; it may have {', '.join(MEMBERS)}")
    if not isinstance(raw.get("id", ""), str):
        yield Problem("id", "a string is needed")
    if raw.get("effect", "allow") not in ("allow", "deny"):
        yield Problem("effect", "allow or deny")
    yield from _actions(raw.get("actions", []))
    if raw.get("categories", []) in ([], ()):
        yield Problem(
            "categories", 'a grant needs at least one of `categories`, such as "auth.*" or "**"'
        )
    for name, member in PATTERNS.items():
        if name in raw and (name != "categories" or raw[name] not in ([], ())):
            yield from _patterns(raw[name], name, member)
    severity = raw.get("min_severity", 1)
    if isinstance(severity, bool) or not isinstance(severity, int) or not 1 <= severity <= 6:
        yield Problem("min_severity", "a number from 1 to 6")
    if "fields" in raw:
        yield from _fields(raw["fields"])
        if raw.get("effect") == "deny":
            yield Problem("fields", "a grant that denies hides whole events; leave out `fields`")
    if "when" in raw:
        yield from _when(raw["when"], zones)


def _actions(raw: Any) -> Iterator[Problem]:
    if raw in ([], ()):
        yield Problem("actions", "a grant needs at least one of `actions`")
        return
    if (wrong := _not_texts(raw, "actions")) is not None:
        yield wrong
        return
    for place, action in enumerate(raw):
        if action in NOT_YET:
            reason = f"the action {action!r} cannot be granted: this version has no call for it"
            yield Problem("actions", reason, code=UNSUPPORTED, item=place)
        elif action not in ACTIONS:
            reason = f"unknown action {action!r} in a grant; there are {', '.join(ACTIONS)}"
            yield Problem("actions", reason, item=place)


def _patterns(raw: Any, path: str, member: str) -> Iterator[Problem]:
    if (wrong := _not_texts(raw, path)) is not None:
        yield wrong
        return
    if len(raw) > MAX_PATTERNS:
        yield Problem(path, f"{len(raw)} values; at most {MAX_PATTERNS}")
        return
    for place, pattern in enumerate(raw):
        try:
            check_member_pattern(member, pattern)
        except InvalidRequest as error:
            yield Problem(path, error.detail, error.members.get("column"), item=place)


def _fields(raw: Any) -> Iterator[Problem]:
    yield from _part(raw, "fields", _FIELDS)
    if not isinstance(raw, dict):
        return
    paths: dict[str, tuple[str, ...]] = {}
    for name in _FIELDS:
        if name not in raw:
            continue
        if (wrong := _not_texts(raw[name], f"fields.{name}")) is not None:
            yield wrong
        else:
            paths[name] = tuple(raw[name])
    try:
        check_paths(tuple(path for several in paths.values() for path in several))
        check_pseudonymized(paths.get("pseudonymize", ()))
    except InvalidRequest as error:
        yield Problem("fields", error.detail)


def _when(raw: Any, zones: bool) -> Iterator[Problem]:
    yield from _part(raw, "when", _WHEN)
    if not isinstance(raw, dict):
        return
    if "cidr" in raw:
        yield from _networks(raw["cidr"])
    texts = {name: raw[name] for name in _WHEN[1:] if name in raw}
    for name, text in texts.items():
        if not isinstance(text, str):
            yield Problem(f"when.{name}", "a string is needed; leave it out for no restriction")
    hours = texts.get("hours")
    if isinstance(hours, str):
        if not _HOURS.fullmatch(hours):
            yield Problem("when.hours", f"{hours!r}; write it like 06-20")
        elif len(set(hours.split("-"))) == 1:
            yield Problem("when.hours", f"{hours!r} is no time at all; leave it out for all")
    zone = texts.get("tz")
    if zones and isinstance(zone, str) and zone_of(zone) is None:
        yield Problem("when.tz", f"there is no time zone {zone!r}; write it like Europe/Paris")
    lookback = texts.get("max_lookback")
    if isinstance(lookback, str):
        try:
            parse_duration(lookback)
        except InvalidRequest as error:
            yield Problem("when.max_lookback", error.detail)


def _networks(raw: Any) -> Iterator[Problem]:
    if (wrong := _not_texts(raw, "when.cidr")) is not None:
        yield wrong
        return
    if len(raw) > MAX_NETWORKS:
        yield Problem("when.cidr", f"at most {MAX_NETWORKS} networks")
        return
    for place, text in enumerate(raw):
        try:
            parse_network(text)
        except ValueError as error:
            yield Problem("when.cidr", str(error), item=place)


def _part(raw: Any, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
    """Problems of an object of restrictions."""
    if not isinstance(raw, dict):
        yield Problem(path, f"an object with {' or '.join(members)} is needed; or leave it out")
        return
    for name in sorted(set(raw) - set(members)):
        yield Problem(f"{path}.{name}", f"unknown field `{name}`; there are {', '.join(members)}")
    if not raw:
        yield Problem(path, f"an empty object restricts nothing; give {' or '.join(members)}, "
                      "or leave it out")  # fmt: skip


def _not_texts(raw: Any, path: str) -> Problem | None:
    if not isinstance(raw, list | tuple) or not all(isinstance(item, str) for item in raw):
        return Problem(path, "a list of strings is needed; leave it out for no restriction")
    if not raw:
        return Problem(path, f"an empty list {_EMPTY}")
    return None
