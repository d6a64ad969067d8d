"""The program's own log, on standard error: lines for people or JSON for machines.

Every line has the time (RFC 3339), the level, the worker and the logger; the code of the error that
is being handled, and the id of the request that is being answered, where there is one. A line that
comes again within a minute is counted, not written; the count follows.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any

import orjson

from gateway.clock import format_rfc3339
from gateway.errors import GatewayError
from gateway.logging_context import REQUEST

WINDOW_SECONDS = 60.0
_MOST_COUNTED = 256
# Line ends of any kind, and what steers terminals: a message must not pass for several lines.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_worker: int | None = 0
_LOGGER = logging.getLogger(__name__)


def name_worker(number: int | None) -> None:
    """Number of this process among the workers, for its lines; None for the supervisor."""
    global _worker
    _worker = number


def configure_logs(level: str, form: str) -> None:
    """Log to standard error, from `level` on, in the given form."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if form == "json":
        # Otherwise Python writes these tracebacks itself, in many lines.
        sys.excepthook = _log_failure
        threading.excepthook = lambda args: _log_failure(
            args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
        )


def _log_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _LOGGER.critical("the program has failed", exc_info=(kind, error, trace))


class _Formatter(logging.Formatter):
    """Base of both forms."""

    def members(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line says beside time, level, logger and message."""
        found: dict[str, Any] = {"worker": _worker}
        handled = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        code = getattr(record, "code", "") or (
            handled.code if isinstance(handled, GatewayError) else ""
        )
        if code:
            found["code"] = code
        if request_id := getattr(record, "request_id", "") or REQUEST.get():
            found["request_id"] = request_id
        if repeated := getattr(record, "repeated", 0):
            found["repeated"] = repeated
        return found

    def time(self, record: logging.LogRecord) -> str:
        return format_rfc3339(int(record.created * 1_000_000))

    def message(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(_escaped, record.getMessage())


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self.members(record),
            "message": self.message(record),
        }
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line["exception"] = trace.encode("utf-8", "backslashreplace").decode()
        return orjson.dumps(line).decode()


class _Text(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        members = " ".join(
            f"{name}={'-' if value is None else value}"
            for name, value in self.members(record).items()
        )
        line = f"{self.time(record)} {record.levelname} {record.name}: {self.message(record)}"
        lines = [f"{line} [{members}]"]
        if record.exc_info:
            # Indented, so that none of them passes for a line of the log.
            for part in self.formatException(record.exc_info).split("\n"):
                lines.append("  " + _CONTROL.sub(_escaped, part))
        return "\n".join(lines)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class _Handler(logging.StreamHandler[Any]):
    """Writes lines, and counts those that come again. CRITICAL ones are always written."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        # By what makes them equal, the oldest first: the first of them, and how many came since.
        self._seen: dict[tuple[object, ...], tuple[logging.LogRecord, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self._write_counts(record.created - WINDOW_SECONDS)
        if record.levelno >= logging.CRITICAL:
            super().emit(record)
            return
        kind = record.exc_info[0] if record.exc_info else None
        what = (record.name, record.levelno, record.getMessage(), kind)
        first, count = self._seen.get(what, (record, -1))
        self._seen[what] = first, count + 1
        if count < 0:
            if len(self._seen) > _MOST_COUNTED:
                self._write_count(next(iter(self._seen)))
            super().emit(record)

    def close(self) -> None:
        """Write what has been counted, at the end of the process."""
        self._write_counts(float("inf"))
        super().close()

    def _write_counts(self, until: float) -> None:
        """Write the counts of lines that were first written before a time."""
        while self._seen:
            what = next(iter(self._seen))
            if self._seen[what][0].created > until:
                break
            self._write_count(what)

    def _write_count(self, what: tuple[object, ...]) -> None:
        first, count = self._seen.pop(what)
        if count:
            told = logging.makeLogRecord(
                {**first.__dict__, "exc_info": None, "exc_text": None, "repeated": count}
            )
            super().emit(told)
