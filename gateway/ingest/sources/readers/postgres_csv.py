"""Records of PostgreSQL's CSV log, with the names that its JSON log has.

Source: PostgreSQL documentation, "Using CSV-Format Log Output" and "Using JSON-Format Log Output",
13 to 17: 13 added `backend_type`, 14 `leader_pid` and `query_id`.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.ingest.sources.readers.record_reader import LINE

_COLUMNS = (
    "timestamp", "user", "dbname", "pid", "connection_from", "session_id", "line_num", "ps",
    "session_start", "vxid", "txid", "error_severity", "state_code", "message", "detail", "hint",
    "internal_query", "internal_position", "context", "statement", "cursor_position", "location",
    "application_name", "backend_type", "leader_pid", "query_id",
)  # fmt: skip
# Columns before PostgreSQL 13.
_LEAST = _COLUMNS.index("backend_type")
_VALUE = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",\r\n]*+))(,|\Z)')
_BEGIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Za-z+-]", re.ASCII)
_PEER = re.compile(r"(.*):(\d{1,5})", re.DOTALL | re.ASCII)


def record(text: str) -> dict[str, Any] | None:
    """The columns that have a value, and the text under `line`."""
    if not _BEGIN.match(text):
        return None
    values = csv_values(text, len(_COLUMNS))
    if values is None or len(values) < _LEAST:
        return None
    found: dict[str, Any] = {LINE: text}
    for name, value in zip(_COLUMNS, values, strict=False):
        if not value:
            continue
        if name != "connection_from":
            found[name] = value
        elif peer := _PEER.fullmatch(value):
            found["remote_host"], found["remote_port"] = peer[1], peer[2]
        else:
            found["remote_host"] = value
    return found


def goes_on(line: bytes, is_open: bool) -> bool:
    """Whether a quote is open behind a line: statements have line breaks."""
    return is_open ^ (line.count(b'"') % 2 == 1)


def csv_values(text: str, most: int) -> list[str] | None:
    """The values of one record of CSV, of any length; None if it is none, or has more than `most`.

    The parser of the standard library bounds values by a setting of the whole process.
    """
    values: list[str] = []
    at = 0
    while len(values) < most:
        match = _VALUE.match(text, at)
        if match is None:
            return None
        quoted = match[1]
        values.append(match[2] if quoted is None else quoted.replace('""', '"'))
        if not match[3]:
            return values
        at = match.end()
    return None
