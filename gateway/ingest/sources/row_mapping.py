"""Mapping of the rows of a followed table to events.

Optional values that are too long are cut, since `data` holds the whole row. A
row that still makes no event becomes a marked event that says why: no row is
lost in silence, and none blocks the rows after it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import InvalidSetting
from gateway.event import DEFAULT_TENANT, MAX_EVENT_BYTES, OUTCOMES, Draft
from gateway.filters.alphabet import can_be
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.content import record_digest
from gateway.ingest.decode import Refused, decode_event
from gateway.ingest.marked import fitting, members_of, rejected_event
from gateway.ingest.sources.native import LONG, SHORT, Unmappable, action, category, text
from gateway.ingest.sources.timestamps import utc_time

_GROUPS = {
    "actor": ("type", "id", "name", "key_id"),
    "source": ("service", "ip", "port", "user_agent"),
    "target": ("urn", "type", "id", "name"),
    "request": ("id", "trace_id"),
}
_PLAIN = (
    "id", "time", "tenant", "category", "action", "outcome", "severity", "reason", "data",
    "targets",
)  # fmt: skip
MEMBERS = (*_PLAIN, *(f"{group}.{name}" for group, names in _GROUPS.items() for name in names))
_REQUIRED = ("category", "action")
_LIMITS = {"user_agent": LONG, "urn": LONG}
_ID = re.compile(r"[ -~]{1,128}")
# A row larger than this makes no event, whatever its columns hold.
LARGEST_ROW = 4 * MAX_EVENT_BYTES
_SHOWN = 8192
_TENANT = re.compile(r"[a-z0-9._-]{1,64}")
_CONSTANT = "="
_RECORD = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_NO_IDS: Iterator[str] = iter(())


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

    @property
    def prefix(self) -> str:
        """Prefix of the ids that are made of a row's key."""
        return f"{self._table}:"

    @property
    def paths(self) -> Mapping[str, Sequence[str]]:
        """Path of each member: the column, which must exist, and the members inside it."""
        return self._paths

    def draft(self, key: str, row: str | None) -> Draft:
        """Event of a row, which is JSON text, or None if it is too large to be read.

        The event's content is the row, so that a changed mapping makes no new event; of a large
        row it is the key and the beginning.
        """
        record = row or ""
        if row is None or len(row) > MAX_EVENT_BYTES:
            record = f"{self.row_id(key)}\n{record[:_SHOWN]}"
        return msgspec.structs.replace(
            self._event_of(key, row), content=record_digest(record.encode())
        )

    def _event_of(self, key: str, row: str | None) -> Draft:
        if row is None:
            return self._rejected(key, None, "the row is too large", None)
        tenant: str | None = None
        try:
            values = self._values(row)
            tenant = text(_plain_value(values.get("tenant"))) or DEFAULT_TENANT
            event = self._event(key, values)
            data = values["data"] if "data" in values else msgspec.Raw(row.encode())
            item, is_cut = fitting(_item(event, data))
            draft = decode_event(item, _NO_IDS)
        except (ValueError, TypeError, RecursionError, Refused) as error:
            return self._rejected(key, tenant, str(error), row)
        self.marked += is_cut
        return draft

    def _values(self, row: str) -> dict[str, Any]:
        try:
            record = _RECORD.decode(row)
        except RecursionError:
            whole = row.encode()
            record = {name: msgspec.Raw(value) for name, value, _ in members_of(whole)}
        found = {member: _inner(record, path) for member, path in self._paths.items()}
        return {**self._constants, **found}

    def _event(self, key: str, values: dict[str, Any]) -> dict[str, Any]:
        """All members of the event but `data`. Raises `ValueError` for a row that makes none."""
        plain = {member: _plain_value(raw) for member, raw in values.items() if member != "data"}
        event: dict[str, Any] = {
            "id": self._id(key, plain.get("id")),
            "time": utc_time(plain, "time"),
            "tenant": text(plain.get("tenant")),
            "category": category(text(plain["category"]) or ""),
            "action": action(text(plain["action"]) or ""),
            "outcome": _outcome(plain.get("outcome")),
            "severity": _severity(plain.get("severity")),
            "reason": text(plain.get("reason"), LONG),
            "targets": plain.get("targets"),
        }
        for member in _REQUIRED:
            if not event[member]:
                raise Unmappable(member, "the row has none")
        for group, names in _GROUPS.items():
            members = {name: _short(name, plain.get(f"{group}.{name}")) for name in names}
            found = {name: value for name, value in members.items() if value is not None}
            if found and group == "target":
                event["targets"] = [found]
            elif found:
                event[group] = found
        return {member: value for member, value in event.items() if value is not None}

    def _id(self, key: str, own: Any) -> str:
        """Id of a row's event: the row's `own` id if it fits, else `row_id`."""
        candidate = text(own, 129)
        return candidate if candidate and _ID.fullmatch(candidate) else self.row_id(key)

    def row_id(self, key: str) -> str:
        """Id made of the table and the row's key; no other row of the table has it."""
        name = self.prefix + key
        if _ID.fullmatch(name):
            return name
        return "sha256-" + hashlib.sha256(name.encode()).hexdigest()

    def _rejected(self, key: str, tenant: str | None, reason: str, row: str | None) -> Draft:
        """Marked event of a row that makes no event."""
        self.marked += 1
        good = tenant is not None and _TENANT.fullmatch(tenant) and tenant != RESERVED
        return rejected_event(
            b"" if row is None else row.encode(),
            reason,
            id=self.row_id(key),
            tenant=tenant if good else None,
            origin={"table": self._table, "key": key[:SHORT]},
        )


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
        "severity": _whole(constant) is None,
        "time": member == "time" and not _is_time(constant),
    }
    return f"no event has this {member}" if wrong.get(member) else ""


def _is_time(constant: str) -> bool:
    try:
        return utc_time({"time": constant}, "time") is not None
    except ValueError:
        return False


def _item(event: dict[str, Any], data: Any) -> bytes:
    """JSON of an event. `data` is JSON that stays as it is, digit for digit, or a constant;
    a value that is not an object becomes the one member of an object."""
    if data is None:
        return _ENCODER.encode(event)
    whole = isinstance(data, msgspec.Raw) and bytes(data)[:1] == b"{"
    return _ENCODER.encode({**event, "data": data if whole else {"value": data}})


def _plain_value(raw: Any) -> Any:
    return raw if raw is None or isinstance(raw, str) else _ANY.decode(raw)


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


def _short(name: str, value: Any) -> Any:
    if name == "port":
        number = _whole(value)
        return number if number is not None and 0 <= number <= 65535 else None
    return text(value, _LIMITS.get(name, SHORT))


def _outcome(value: Any) -> str:
    name = value.lower() if isinstance(value, str) else value
    return name if name in OUTCOMES else "unknown"


def _severity(value: Any) -> int | None:
    number = _whole(value)
    return None if number is None else min(max(number, 1), 6)


def _whole(value: Any) -> int | None:
    """Whole number, also in text, since constants are text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
