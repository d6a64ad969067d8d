"""Mapping of the rows of a followed table to events.

OptionalPart values that are too long are cut, since `data` holds the whole row. A
row that still makes no event becomes a marked event that says why: no row is
lost in silence, and none blocks the rows after it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.errors import InvalidSetting
from gateway.event import DEFAULT_TENANT, MAX_EVENT_BYTES, Draft
from gateway.filters.alphabet import can_be
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.content import record_digest
from gateway.ingest.mapping.compiler import compile_fill
from gateway.ingest.mapping.definition import (
    GROUPS,
    SINGLE,
    TARGET,
    ConstantValue,
    SourceDefinition,
    TargetValue,
    Value,
)
from gateway.ingest.mapping.path import Member, Path, value_at
from gateway.ingest.mapping.timestamps import rfc3339
from gateway.ingest.mapping.values import LONGEST_ID, SHORT, action, category, tenant, text, whole
from gateway.ingest.marked import decoded_shallowly, members_of, rejected_event
from gateway.ingest.sources.source import draft_within_limits
from gateway.ingest.strict_json import Refused, TooMuch, decoded_strictly

_GROUPS = {**GROUPS, "target": TARGET}
_PLAIN = (*SINGLE, "data", "targets")
MEMBERS = (*_PLAIN, *(f"{group}.{name}" for group, names in _GROUPS.items() for name in names))
_REQUIRED = ("category", "action")
# A row larger than this makes no event, whatever its columns hold.
LARGEST_ROW = 4 * MAX_EVENT_BYTES
_SHOWN = 8192
_TENANT = re.compile(r"[a-z0-9._-]{1,64}")
_CONSTANT = "="
_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_ENCODE = msgspec.json.Encoder().encode


class RowMapping:
    """Mapping from columns, JSON paths in columns, and constants to members of events.

    `columns` is `{"action": "verb", "actor.id": "payload.user.id", "category": "=billing"}`:
    a column, a column and a path of members inside it, or `=` and a constant.
    Without a mapping for `data` it holds the whole row. `table` names the source in
    ids. Raises `InvalidSetting` for members that are unknown or missing.
    """

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        unknown = [member for member in columns if member not in MEMBERS]
        if unknown:
            raise InvalidSetting(
                f"store.columns: an event has no member {unknown[0]!r}; there are "
                + ", ".join(MEMBERS)
            )
        missing = [member for member in _REQUIRED if member not in columns]
        if missing:
            raise InvalidSetting(
                f"store.columns: {missing[0]} is needed; name a column, or a constant like "
                f'{missing[0]} = "=app"'
            )
        # Number of rows that became marked events.
        self.marked = 0
        self._table = table
        self._prefix = f"{table}:"
        self._constants = {
            member: value[1:] for member, value in columns.items() if value.startswith(_CONSTANT)
        }
        for member, value in columns.items():
            if reason := _why_not(member, value):
                raise InvalidSetting(f"store.columns: {member} = {value!r}: {reason}")
        self._paths = {
            member: value.split(".")
            for member, value in columns.items()
            if not value.startswith(_CONSTANT)
        }
        self._fill = compile_fill(self._definition(), {}, {})

    def _definition(self) -> SourceDefinition:
        values = {member: Value((_origin(path),)) for member, path in self._paths.items()}
        values |= {
            member: Value((ConstantValue(value),)) for member, value in self._constants.items()
        }
        targets = {name: values[f"target.{name}"] for name in TARGET if f"target.{name}" in values}
        return SourceDefinition(
            name="table",
            title=self._table,
            loose=True,
            members=values,
            targets=(TargetValue(targets),) if targets else (),
            native_targets=None if targets else values.get("targets"),
        )

    @property
    def prefix(self) -> str:
        """Prefix of the ids that are made of a row's key."""
        return self._prefix

    @property
    def paths(self) -> Mapping[str, Sequence[str]]:
        """Path of each member: the column, which must exist, and the members inside it."""
        return self._paths

    def draft(self, key: str, row: str | None) -> Draft:
        """Event of a row, which is JSON text, or None if it is too large to be read.

        The event's content is the row, so that a changed mapping makes no new event; of a large
        row it is the key and the beginning.
        """
        if row is None or len(row) > MAX_EVENT_BYTES:
            raw = None if row is None else row.encode()
            beginning = f"{self.row_id(key)}\n{(row or '')[:_SHOWN]}"
            return self._event_of(key, raw, record_digest(beginning.encode()))
        raw = row.encode()
        return self._event_of(key, raw, record_digest(raw))

    def _event_of(self, key: str, raw: bytes | None, content: bytes) -> Draft:
        if raw is None:
            return self._rejected(key, None, "the row is too large", b"", content)
        record: dict[str, Any] = {}
        try:
            record = _record_of(raw)
            members = self._fill(record, DEFAULT_TENANT)
            if members.id is UNSET:
                members.id = self.row_id(key)
            members.data = self._data(raw)
            draft, is_cut = draft_within_limits(members, content)
        except (ValueError, TypeError, RecursionError, Refused) as error:
            return self._rejected(key, self._tenant(record), str(error), raw, content)
        if is_cut:
            self.marked += 1
            return msgspec.structs.replace(draft, content=content)
        return draft

    def _tenant(self, record: dict[str, Any]) -> str | None:
        """Tenant that a row names, though it makes no event."""
        if "tenant" in self._constants:
            return self._constants["tenant"]
        path = self._paths.get("tenant")
        named = text(value_at(record, _origin(path).steps)) if path else DEFAULT_TENANT
        return named if named is None else tenant(named)

    def _data(self, raw: bytes) -> msgspec.Raw | UnsetType:
        """What stands under `data`: the row, or what its column holds, digit for digit. What is no
        object becomes the one member of an object."""
        if "data" in self._constants:
            return msgspec.Raw(_ENCODE({"value": self._constants["data"]}))
        path = self._paths.get("data")
        if path is None:
            return msgspec.Raw(raw)
        held = _inner({name: msgspec.Raw(value) for name, value, _ in members_of(raw)}, path)
        if held is None:
            return UNSET
        if bytes(held)[:1] == b"{":
            return held
        return msgspec.Raw(_ENCODE({"value": held}))

    def row_id(self, key: str) -> str:
        """Id made of the table and the row's key; no other row of the table has it."""
        name = self._prefix + key
        if name.isascii() and name.isprintable() and len(name) <= LONGEST_ID:
            return name
        return "sha256-" + hashlib.sha256(name.encode()).hexdigest()

    def _rejected(
        self, key: str, tenant: str | None, reason: str, raw: bytes, content: bytes
    ) -> Draft:
        """Marked event of a row that makes no event."""
        self.marked += 1
        good = tenant is not None and _TENANT.fullmatch(tenant) and tenant != RESERVED
        draft = rejected_event(
            raw,
            reason,
            id=self.row_id(key),
            tenant=tenant if good else None,
            origin={"table": self._table, "key": key[:SHORT]},
        )
        return msgspec.structs.replace(draft, content=content)


def _why_not(member: str, value: str) -> str:
    """Reason why the column, path or constant of a member can make no right event; "" if it can."""
    constant = value[1:] if value.startswith(_CONSTANT) else None
    if constant is None:
        return "" if all(value.split(".")) else "name a column, or a path in one"
    wrong = {
        "tenant": not can_be("tenant", constant) or constant == RESERVED,
        "outcome": not can_be("outcome", constant),
        "category": not category(constant) or is_reserved(category(constant) or ""),
        "action": not action(constant),
        "severity": whole(constant) is None,
        "time": not _is_time(constant),
    }
    return f"no event has this {member}" if wrong.get(member) else ""


def _is_time(constant: str) -> bool:
    try:
        return bool(rfc3339(constant))
    except ValueError:
        return False


def _origin(path: Sequence[str]) -> Path:
    return Path(tuple(map(Member, path)))


def _record_of(raw: bytes) -> dict[str, Any]:
    try:
        return decoded_strictly(raw)
    except (TooMuch, RecursionError):
        record = decoded_shallowly(raw)
        if type(record) is not dict:
            raise Refused("", "a row is a JSON object") from None
        return record


def _inner(record: Any, path: list[str]) -> msgspec.Raw | None:
    """Value at a path; JSON in a column of text is read as well."""
    value: msgspec.Raw | None = record.get(path[0])
    for name in path[1:]:
        if value is None:
            return None
        inside = _ANY.decode(value)
        try:
            value = _RECORD.decode(inside if isinstance(inside, str) else value).get(name)
        except msgspec.DecodeError:
            return None
    return None if value is None or bytes(value) == b"null" else value
