"""Import of files: read, map, send in batches, keep refused records."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from gateway.errors import InvalidRequest
from gateway.ingest.decode import Refused
from gateway.ingest.reading import Record, Unreadable, read_records
from gateway.ingest.sink import Sink
from gateway.ingest.sources.lines import EventLines, one_line
from gateway.ingest.sources.native import Unmappable

STDIN = "-"
MAX_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Count:
    """Numbers of records by result."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    truncated: int = 0

    def __str__(self) -> str:
        cut = f" ({self.truncated:,} too deep or large: truncated)" if self.truncated else ""
        return (
            f"{self.read:,} records read: {self.accepted:,} accepted, "
            f"{self.duplicates:,} duplicates, {self.refused:,} refused{cut}"
        )


class RefusedFiles:
    """Files of refused records with place and reason; each is created with its first record.

    Lines are `{"file", "line", "item"?, "path", "reason", "record"}`; `record` is a string if it is
    not JSON. All go to `single`, or those of each input to `<input>.refused.ndjson`.
    """

    def __init__(self, single: Path | None) -> None:
        self._single = single
        self._open: dict[Path, io.BufferedWriter] = {}

    @property
    def paths(self) -> list[Path]:
        """Files that were written."""
        return list(self._open)

    def write(self, file: str, place: Record | Unreadable, path: str, reason: str) -> None:
        """Add one record. Raises `InvalidRequest` if the file cannot be written."""
        line: dict[str, object] = {"file": file, "line": place.line}
        if place.item is not None:
            line["item"] = place.item
        line |= {"path": path, "reason": reason}
        if isinstance(place, Record):
            line["record"] = msgspec.Raw(one_line(place.raw))
        else:
            line["record"] = place.raw.decode(errors="replace")
        target = self._single or refused_path(file)
        try:
            if target not in self._open:
                self._open[target] = self._begin(target)
            self._open[target].write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise InvalidRequest(
                f"refused records cannot be written to {target}: {error.strerror}; "
                "name another file with --refused FILE"
            ) from None

    def _begin(self, target: Path) -> io.BufferedWriter:
        """Create a file private to its user, since it holds audit records. Never follows a link,
        which others may have placed in a shared folder."""
        follow = 0 if self._single is not None else os.O_NOFOLLOW
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | follow, 0o600)
        file = os.fdopen(descriptor, "wb")
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
        return file

    def __enter__(self) -> RefusedFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._open.values():
            writer.close()


def refused_path(file: str) -> Path:
    """Default file for the refused records of an input."""
    return Path(("stdin" if file == STDIN else file) + ".refused.ndjson")


def _read(file: str, stream: io.BufferedIOBase) -> Iterator[Record | Unreadable]:
    try:
        yield from read_records(stream)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None


class Importer:
    """Sends the records of files, one file after another.

    `progress` is called after each batch with the file and the bytes read of it.
    """

    def __init__(
        self,
        lines: EventLines,
        sink: Sink,
        refused: RefusedFiles,
        *,
        batch: int,
        progress: Callable[[str, int], None] = lambda file, position: None,
    ) -> None:
        self.count = Count()
        self._lines = lines
        self._sink = sink
        self._refused = refused
        self._batch = batch
        self._progress = progress
        self._waiting: list[tuple[bytes, Record]] = []
        self._waiting_bytes = 0

    def run(self, file: str, stream: io.BufferedIOBase) -> None:
        """Import one file; no record of it is pending on return."""
        for found in _read(file, stream):
            self.count.read += 1
            if isinstance(found, Unreadable):
                self._refuse(file, found, "", found.reason)
                continue
            try:
                line = self._lines.line(found.members, found.raw)
            except Unmappable as error:
                self._refuse(file, found, error.path, error.reason)
                continue
            except Refused as error:
                self._refuse(file, found, error.path, error.reason)
                continue
            self.count.truncated = self._lines.truncated
            if self._waiting_bytes + len(line) > MAX_BATCH_BYTES:
                self._flush(file, stream)
            self._waiting.append((line, found))
            self._waiting_bytes += len(line)
            if len(self._waiting) >= self._batch:
                self._flush(file, stream)
        self._flush(file, stream)

    def _flush(self, file: str, stream: io.BufferedIOBase) -> None:
        if self._waiting:
            result = self._sink.send([line for line, _ in self._waiting])
            self.count.accepted += result.accepted
            self.count.duplicates += result.duplicates
            for refusal in sorted(result.refused, key=lambda refusal: refusal.index):
                record = self._waiting[refusal.index][1]
                self._refuse(file, record, refusal.path, refusal.reason)
            self._waiting.clear()
            self._waiting_bytes = 0
        self._progress(file, stream.tell() if stream.seekable() else 0)

    def _refuse(self, file: str, place: Record | Unreadable, path: str, reason: str) -> None:
        self._refused.write(file, place, path, reason)
        self.count.refused += 1
