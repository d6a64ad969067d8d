"""How a row of somebody else's table becomes an event.

Values are put into the members and limits of an event with some leniency: what
is optional and too long is cut, since the row stands whole under `data`. A row
that still makes no event becomes one that says so: nothing is passed over in
silence, and nothing stands in the way of what comes behind it.
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
from gateway.ingest.sources.moments import utc_time
from gateway.ingest.sources.native import LONG, SHORT, Unmappable, action, category, text

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
    """Which column, JSON path in a column, or constant makes each member.

    `columns` is `{"action": "verb", "actor.id": "payload.user.id", "category": "=billing"}`:
    a column, a column and a path of members inside it, or `=` and a constant.
    Without `data` the whole row is kept there. `table` names the source in ids.
    Raises `InvalidSetting` for members that are unknown or missing.
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
        # Rows that made no event but one that says so.
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
        """What ids begin with that are made of a row's key."""
        return f"{self._table}:"

    @property
    def paths(self) -> Mapping[str, Sequence[str]]:
        """By member: the column that must be there, and the members inside it."""
        return self._paths

    def draft(self, key: str, row: str | None) -> Draft:
        """The event of a row, as JSON text; None if the row is too large to be looked at.

        Its content is the row, whatever becomes of the mapping; of a large one its key and its
        beginning tell it well enough.
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
        """All members but `data`. Raises `ValueError` for a row that makes no event."""
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
        """The row's own id if it fits, else one made of the table and its key: always the same."""
        candidate = text(own, 129)
        return candidate if candidate and _ID.fullmatch(candidate) else self.row_id(key)

    def row_id(self, key: str) -> str:
        """The id that no other row of the table has, whatever its columns hold."""
        name = self.prefix + key
        if _ID.fullmatch(name):
            return name
        return "sha256-" + hashlib.sha256(name.encode()).hexdigest()

    def _rejected(self, key: str, tenant: str | None, reason: str, row: str | None) -> Draft:
        """The event that stands for a row that makes none."""
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
    """Why no row, or only a wrong one, can come of what stands for a member; "" if one can."""
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
    """The JSON of an event. `data` is JSON that stays as it is, digit for digit, or a constant;
    what is no object gets a name."""
    if data is None:
        return _ENCODER.encode(event)
    whole = isinstance(data, msgspec.Raw) and bytes(data)[:1] == b"{"
    return _ENCODER.encode({**event, "data": data if whole else {"value": data}})


def _plain_value(raw: Any) -> Any:
    return raw if raw is None or isinstance(raw, str) else _ANY.decode(raw)


def _inner(record: Any, path: list[str]) -> msgspec.Raw | None:
    """The value at the end of a path; JSON in a column of text is looked into as well."""
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
    """A whole number, also in text: a constant is always text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
