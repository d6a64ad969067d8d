"""Linux audit events as laurel writes them: one object for an event, its records by their type.

Source: laurel, "Audit log structure"; audit(8), the fields `res`, `success`, `auid`, `acct`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.ingest.mapping.values import text

_RESULTS = {"success": "success", "yes": "success", "1": "success"}
_RESULTS |= {"failed": "failure", "no": "failure", "0": "failure", "denied": "denied"}
# Neither types of records nor what says what was done.
_NOT_ACTIONS = (
    "ID",
    "NODE",
    "PROCTITLE",
    "CWD",
    "PATH",
    "EXECVE",
    "SOCKADDR",
    "EOE",
    "PARENT_INFO",
)


def moment(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Time in the id, such as `1615114232.375:15558`."""
    name = text(record.get("ID"))
    return None if name is None else name.partition(":")[0]


def action(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """The call with its key or name, else the type of the first record."""
    call = record.get("SYSCALL")
    if isinstance(call, dict):
        name = text(call.get("SYSCALL")) or text(call.get("syscall"))
        return f"syscall.{name}" if name else "syscall"
    kinds = (name for name in record if name not in _NOT_ACTIONS)
    return next(kinds, "audit").lower()


def result(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Outcome: a call that was not permitted was denied."""
    for part in _parts(record):
        if text(part.get("denied")) or "denied" in part:
            return "denied"
        found = text(part.get("res")) or text(part.get("success")) or text(part.get("result"))
        if found is not None and found.lower() in _RESULTS:
            exit_code = text(part.get("exit")) or ""
            if exit_code in ("-1", "-13", "EPERM", "EACCES"):
                return "denied"
            return _RESULTS[found.lower()]
    return None


def user_id(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Id of whoever logged in, else of the process."""
    return _first(record, "auid", "uid")


def user_name(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Name of the same, where it was looked up."""
    return _first(record, "AUID", "acct", "UID")


def address(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Address that a session came from."""
    return _first(record, "addr")


def _first(record: dict[str, Any], *members: str) -> str | None:
    for member in members:
        for part in _parts(record):
            found = text(part.get(member))
            if found is not None and found not in ("unset", "4294967295", "?"):
                return found
    return None


def _parts(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, part in record.items():
        if name in ("PROCTITLE", "CWD", "PATH", "EXECVE"):
            continue
        for one in part if isinstance(part, list) else [part]:
            if isinstance(one, dict):
                yield one
