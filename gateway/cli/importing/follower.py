"""Import of files that grow, without an end: each line at least once, the positions kept."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.importing.growing_file import MOST_LINE_BYTES, FilePosition, GrowingFile, Piece
from gateway.cli.importing.importer import Importer, RefusedFile
from gateway.errors import InvalidRequest, Unavailable
from gateway.ingest.reading import GoesOn, Record, Unreadable, read_lines
from gateway.ingest.sink import SendResult, Sink

POLL_SECONDS = 0.25
_AWAY_SECONDS = 5.0

_T = TypeVar("_T")
# Waits so many seconds, or until the following is to end; says whether it is.
Wait = Callable[[float], bool]


class Ended(Exception):
    """The following is to end while something is waited for."""


def pausing(wait: Wait) -> Callable[[float], None]:
    """A pause of so many seconds that raises `Ended`."""

    def pause(seconds: float) -> None:
        if wait(seconds):
            raise Ended

    return pause


class PatientSink:
    """Sink that waits for a gateway that is away or busy. Raises `Ended`."""

    def __init__(self, sink: Sink, wait: Wait, notice: Callable[[str], None]) -> None:
        self._sink = sink
        self._wait = wait
        self._notice = notice

    def send(self, lines: list[bytes]) -> SendResult:
        while True:
            try:
                return self._sink.send(lines)
            except Unavailable as error:
                self._notice(f"waiting: {error.detail}")
                if self._wait(_AWAY_SECONDS):
                    raise Ended from None

    def close(self) -> None:
        self._sink.close()


class FileFollower:
    """Imports what files get. The position in each is kept when the records before it are stored,
    and the refused ones written: after a crash records are sent again, as duplicates."""

    def __init__(
        self,
        files: list[tuple[GrowingFile, CursorFile]],
        importer: Importer,
        refused: RefusedFile,
        goes_on: GoesOn | None = None,
    ) -> None:
        self._files = files
        self._importer = importer
        self._refused = refused
        self._goes_on = goes_on
        self._kept: dict[Path, FilePosition] = {}

    def run(self, wait: Wait, monotonic: Callable[[], float]) -> None:
        """Follow until `wait` says that it is to end."""
        try:
            for file, kept in self._files:
                # Before the first line: a rotation must not hide which file it was.
                if self._guarded(file, file.begin):
                    self._keep(file.position, kept)
            while not wait(0):
                # Each in turn, so that none waits for the end of another one.
                found = [self._step(file, kept, monotonic()) for file, kept in self._files]
                if not any(found) and wait(POLL_SECONDS):
                    return
        except Ended:
            return

    def _step(self, file: GrowingFile, kept: CursorFile, now: float) -> bool:
        """Import a piece of what there is; False if there was nothing."""
        piece = self._guarded(file, lambda: file.read(now))
        if piece is not None:
            self._importer.take(str(file.path), self._records(piece))
        self._keep(file.position, kept)
        return piece is not None

    def _guarded(self, file: GrowingFile, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except OSError as error:
            name = error.filename or file.path
            raise InvalidRequest(f"{name} cannot be read: {error.strerror}") from None

    def _keep(self, position: FilePosition, kept: CursorFile) -> None:
        if self._kept.get(kept.path) == position:
            return
        try:
            self._refused.sync()
            kept.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.write(position.text())
        except OSError as error:
            raise InvalidRequest(
                f"the position cannot be kept in {kept.path}: {error.strerror}"
            ) from None
        self._kept[kept.path] = position

    def _records(self, piece: Piece) -> Iterator[Record | Unreadable]:
        if piece.is_cut:
            reason = f"longer than {MOST_LINE_BYTES} bytes"
            yield Unreadable(piece.line, None, piece.text, reason)
        else:
            yield from read_lines(piece.text, piece.line, self._goes_on)


@contextmanager
def until_signalled() -> Iterator[Wait]:
    """A `Wait` that ends at SIGTERM and SIGINT."""
    noticed, signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def end(number: int, frame: Any) -> None:
        try:
            os.write(signalled, b".")
        except BlockingIOError:
            pass

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield lambda seconds: bool(select.select([noticed], [], [], seconds)[0])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        os.close(noticed)
        os.close(signalled)
