"""CSV as an HTTP response body, of streams that end at the head of the log.

It has no place for anything but its rows: a reader knows that it is whole by the end of the body
alone, and no chunk framing is made here, as the body may be compressed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.formats.csv import CSV_TYPE, CsvOptions, csv_head
from gateway.formats.format import Format
from gateway.wire.formatted import Formatted
from gateway.wire.framing import End


class CsvBody(Formatted):
    """A line of names, and a row per event. Equal options make equal wires, within one view."""

    content_type = f"{CSV_TYPE}; charset=utf-8"
    name = transport = "csv"
    # The same columns hold something else, or may not be asked for, under another view.
    fixed_view = True

    def __init__(self, options: CsvOptions, format: Format) -> None:
        self.options = options
        self.format = format

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CsvBody) and other.options == self.options

    def __hash__(self) -> int:
        return hash(self.options)

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        return csv_head(self.options)

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        return b"".join(encoded)

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        return b""

    def heartbeat(self, cursor: str) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def end(self, end: End, cursor: str) -> bytes:
        return b""
