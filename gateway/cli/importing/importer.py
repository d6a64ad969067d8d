"""Import of files: read, map, send in batches, keep refused records."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from gateway.errors import InvalidRequest
from gateway.ingest.reading import GoesOn, Record, Unreadable, read_records
from gateway.ingest.sink import Sink
from gateway.ingest.sources.lines import Line, MakeLines
from gateway.ingest.sources.source import TIME_UNKNOWN, TRUNCATED, NotMapped
from gateway.ingest.split import is_whole, one_line

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


class RefusedFile:
    """File that refused records are appended to, with place and reason; it is made for the first.

    Lines are `{"file", "line", "item"?, "path", "reason", "record"}`; `record` is a string if it is
    not JSON. `first` says which was written first by this, and why. `follow_links`: whether the
    user chose the path.
    """

    def __init__(self, path: Path, *, follow_links: bool) -> None:
        self.path = path
        self.first: str | None = None
        self._follow_links = follow_links
        self._file: io.FileIO | None = None

    def write(self, place: Place, raw: bytes, path: str, reason: str) -> None:
        """Add one record, which survives the end of the process. Raises `InvalidRequest` if the
        file cannot be written."""
        line: dict[str, object] = {"file": place.file, "line": place.line}
        if place.item is not None:
            line["item"] = place.item
        line |= {"path": path, "reason": reason}
        if _is_json(raw):
            line["record"] = msgspec.Raw(one_line(raw))
        else:
            line["record"] = raw.decode(errors="replace")
        try:
            if self._file is None:
                self._file = self._open()
            rest = memoryview(msgspec.json.encode(line) + b"\n")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise InvalidRequest(
                f"refused records cannot be written to {self.path}: {error.strerror}; "
                "name another file with --refused FILE"
            ) from None
        if self.first is None:
            member = f"{path}: " if path else ""
            self.first = f"{place.file}, line {place.line}: {member}{reason}"

    def sync(self) -> None:
        """Make what was written durable, if it is in a file. Raises `OSError`."""
        if self._file is not None and _is_regular(self._file):
            os.fsync(self._file.fileno())

    def _open(self) -> io.FileIO:
        """Private to its user, since it holds audit records. Follows no link that others may have
        placed in a shared folder."""
        if not self._follow_links:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        follow = 0 if self._follow_links else os.O_NOFOLLOW
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | follow
        file = io.FileIO(os.open(self.path, flags, 0o600), "ab")
        if _is_regular(file):
            os.fchmod(file.fileno(), 0o600)
        return file

    def __enter__(self) -> RefusedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def _is_regular(file: io.FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


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
        refused: RefusedFile,
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
        records = _read(file, stream, self._goes_on)
        self.take(file, records, lambda: stream.tell() if stream.seekable() else 0)

    def take(
        self,
        file: str,
        records: Iterable[Record | Unreadable],
        position: Callable[[], int] = lambda: 0,
    ) -> None:
        """Import records of a file, which is read up to a `position`; none is pending on return."""
        for unit in records:
            within = f"{file}/{unit.member}" if unit.member else file
            place = Place(within, unit.line, unit.item)
            if isinstance(unit, Unreadable):
                self.count.read += 1
                self._refuse(place, unit.raw, "", unit.reason)
                continue
            for number, found in enumerate(self._lines(unit.raw), 1):
                if number > 1 and unit.item is None:
                    place = place._replace(item=number)
                if self._add(place, found):
                    self._progress(file, position())
        self._flush()
        self._progress(file, position())

    def _add(self, place: Place, found: Line | NotMapped) -> bool:
        """Take one; says whether records were sent."""
        self.count.read += 1
        if isinstance(found, NotMapped):
            if found.skipped:
                self.count.skipped += 1
            else:
                self._refuse(place, found.raw, found.path, found.reason)
            return False
        self.count.truncated += TRUNCATED in found.marks
        self.count.time_unknown += TIME_UNKNOWN in found.marks
        is_large = self._waiting_bytes + len(found.line) > MAX_BATCH_BYTES
        if is_large:
            self._flush()
        self._waiting.append((found, place))
        self._waiting_bytes += len(found.line)
        if is_full := len(self._waiting) >= self._batch:
            self._flush()
        return is_large or is_full

    def _flush(self) -> None:
        if not self._waiting:
            return
        result = self._sink.send([line.line for line, _ in self._waiting])
        self.count.accepted += result.accepted
        self.count.duplicates += result.duplicates
        for refusal in sorted(result.refused, key=lambda refusal: refusal.index):
            line, place = self._waiting[refusal.index]
            self._refuse(place, line.raw, refusal.path, refusal.reason)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _refuse(self, place: Place, raw: bytes, path: str, reason: str) -> None:
        self._refused.write(place, raw, path, reason)
        self.count.refused += 1
