"""Import of files: read, map, send in batches, keep refused records."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from gateway.errors import InvalidRequest
from gateway.ingest.reading import GoesOn, Record, Unreadable, read_records
from gateway.ingest.sink import Sink
from gateway.ingest.sources.lines import Line, MakeLines, one_line
from gateway.ingest.sources.source import TIME_UNKNOWN, TRUNCATED, NotMapped
from gateway.ingest.split import is_whole

STDIN = "-"
MAX_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Count:
    """Numbers of records by result."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    skipped: int = 0
    truncated: int = 0
    time_unknown: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped:,} skipped by the rule of their source" if self.skipped else ""
        marked = [
            text
            for number, text in (
                (self.truncated, f"{self.truncated:,} too deep or large: truncated"),
                (self.time_unknown, f"{self.time_unknown:,} without a time: marked"),
            )
            if number
        ]
        return (
            f"{self.read:,} records read: {self.accepted:,} accepted, "
            f"{self.duplicates:,} duplicates, {self.refused:,} refused{skipped}"
            + (f" ({'; '.join(marked)})" if marked else "")
        )


class Place(NamedTuple):
    """Where a record stands: `line` counts from 1, `item` within it, None if it is alone there."""

    file: str
    line: int
    item: int | None


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

    def write(self, place: Place, raw: bytes, path: str, reason: str) -> None:
        """Add one record. Raises `InvalidRequest` if the file cannot be written."""
        line: dict[str, object] = {"file": place.file, "line": place.line}
        if place.item is not None:
            line["item"] = place.item
        line |= {"path": path, "reason": reason}
        if _is_json(raw):
            line["record"] = msgspec.Raw(one_line(raw))
        else:
            line["record"] = raw.decode(errors="replace")
        target = self._single or refused_path(place.file)
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


def _read(
    file: str, stream: io.BufferedIOBase, goes_on: GoesOn | None
) -> Iterator[Record | Unreadable]:
    try:
        yield from read_records(stream, goes_on)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    except RecursionError:
        return is_whole(raw)
    return True


class Importer:
    """Sends the records of files, one file after another.

    `progress` is called after each batch with the file and the bytes read of it. `goes_on` is that
    of the source.
    """

    def __init__(
        self,
        lines: MakeLines,
        sink: Sink,
        refused: RefusedFiles,
        *,
        batch: int,
        progress: Callable[[str, int], None] = lambda file, position: None,
        goes_on: GoesOn | None = None,
    ) -> None:
        self.count = Count()
        self._lines = lines
        self._sink = sink
        self._refused = refused
        self._batch = batch
        self._progress = progress
        self._goes_on = goes_on
        self._waiting: list[tuple[Line, Place]] = []
        self._waiting_bytes = 0

    def run(self, file: str, stream: io.BufferedIOBase) -> None:
        """Import one file; no record of it is pending on return."""
        for unit in _read(file, stream, self._goes_on):
            within = f"{file}/{unit.member}" if unit.member else file
            place = Place(within, unit.line, unit.item)
            if isinstance(unit, Unreadable):
                self.count.read += 1
                self._refuse(place, unit.raw, "", unit.reason)
                continue
            for number, found in enumerate(self._lines(unit.raw), 1):
                if number > 1 and unit.item is None:
                    place = place._replace(item=number)
                self._add(place, found, stream)
        self._flush(file, stream)

    def _add(self, place: Place, found: Line | NotMapped, stream: io.BufferedIOBase) -> None:
        self.count.read += 1
        if isinstance(found, NotMapped):
            if found.skipped:
                self.count.skipped += 1
            else:
                self._refuse(place, found.raw, found.path, found.reason)
            return
        self.count.truncated += TRUNCATED in found.marks
        self.count.time_unknown += TIME_UNKNOWN in found.marks
        if self._waiting_bytes + len(found.line) > MAX_BATCH_BYTES:
            self._flush(place.file, stream)
        self._waiting.append((found, place))
        self._waiting_bytes += len(found.line)
        if len(self._waiting) >= self._batch:
            self._flush(place.file, stream)

    def _flush(self, file: str, stream: io.BufferedIOBase) -> None:
        if self._waiting:
            result = self._sink.send([line.line for line, _ in self._waiting])
            self.count.accepted += result.accepted
            self.count.duplicates += result.duplicates
            for refusal in sorted(result.refused, key=lambda refusal: refusal.index):
                line, place = self._waiting[refusal.index]
                self._refuse(place, line.raw, refusal.path, refusal.reason)
            self._waiting.clear()
            self._waiting_bytes = 0
        self._progress(file, stream.tell() if stream.seekable() else 0)

    def _refuse(self, place: Place, raw: bytes, path: str, reason: str) -> None:
        self._refused.write(place, raw, path, reason)
        self.count.refused += 1
