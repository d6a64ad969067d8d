"""pgAudit: what stands in the messages of PostgreSQL's log.

Source: pgAudit documentation, "Format"; PostgreSQL documentation, "Error Reporting and Logging".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.ingest.mapping.values import text, urn
from gateway.ingest.sources.readers.postgres_csv import csv_values

_PREFIX = "AUDIT: "
_MOST_VALUES = 16
# The abbreviations of `log_timezone` that PostgreSQL knows for one zone.
_HOURS = {
    "CET": 1, "CEST": 2, "BST": 1, "WET": 0, "WEST": 1, "EET": 2, "EEST": 3, "MSK": 3, "EST": -5,
    "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9,
    "AEST": 10, "AEDT": 11,
}  # fmt: skip


class _Statement(NamedTuple):
    group: str
    command: str
    kind: str
    name: str


def moment(record: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Time of the record, with the offset of its zone."""
    found = record.get("timestamp")
    if not isinstance(found, str):
        return found
    time, _, zone = found.rpartition(" ")
    if zone not in _HOURS:
        return found
    minutes = timedelta(hours=_HOURS[zone]) // timedelta(minutes=1)
    sign = "-" if minutes < 0 else "+"
    return f"{time}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def category(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """Class of the statement; `connection` and `error` are what else is taken."""
    statement = _statement_of(record)
    if statement is not None:
        return f"pgaudit.{statement.group or 'audit'}"
    return "pgaudit.connection" if _words(record) else "pgaudit.error"


def action(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """Command of the statement, such as `create_table`."""
    statement = _statement_of(record)
    if statement is not None:
        return _slug(statement.command) or "statement"
    if words := _words(record):
        return words
    return _slug(text(record.get("ps")) or "") or "error"


def statement_class(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Class of the statement, in capital letters."""
    statement = _statement_of(record)
    return statement.group or None if statement is not None else None


def reason(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Message of what is no statement."""
    return None if _statement_of(record) is not None else text(record.get("message"), 1024)


def targets(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The object of the statement, else the database."""
    database = text(record.get("dbname"))
    statement = _statement_of(record)
    if statement is not None and statement.name:
        kind = _slug(statement.kind) or "object"
        path = urn("postgres", database or "-", kind, statement.name)
        yield {"urn": path, "type": kind, "id": statement.name, "name": statement.name}
    elif database is not None:
        yield {"urn": urn("postgres", database), "type": "database", "name": database}


def _statement_of(record: dict[str, Any]) -> _Statement | None:
    message = record.get("message")
    if not isinstance(message, str) or not message.startswith(_PREFIX):
        return None
    return _statement(message)


@lru_cache(maxsize=16)
def _statement(message: str) -> _Statement:
    """What a message names: type, ids, class, command, object type, object, statement, .."""
    values = csv_values(message.removeprefix(_PREFIX), _MOST_VALUES) or []
    return _Statement(*(*values[3:7], "", "", "", "")[:4])


def _words(record: dict[str, Any]) -> str | None:
    message = text(record.get("message")) or ""
    if message.startswith("connection authorized: "):
        return "connection.authorized"
    return "connection.closed" if message.startswith("disconnection: ") else None


def _slug(name: str) -> str:
    return "_".join(name.lower().split())
