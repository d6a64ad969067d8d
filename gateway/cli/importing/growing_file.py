"""A log file that grows and is rotated, read line by line from a position that is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.cli.importing.rotated_files import (
    NOTHING,
    FoundFile,
    RotatedFile,
    inode_of,
    later_files,
    rotated_files,
)
from gateway.errors import InvalidRequest
from gateway.ingest.compressed import is_compressed, what_is_not_read
from gateway.ingest.reading import GoesOn, closed_length, is_json

# How long a rotated file must not grow before the next one is read: its writer may not yet know.
QUIET_SECONDS = 5.0
MOST_LINE_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_HEAD_BYTES = 4096
_SHOWN_BYTES = 1024


class FilePosition(msgspec.Struct, frozen=True):
    """Place behind lines that were taken. `mark` is made of what stands before it, by which a
    file is known wherever it was moved or copied to; `line` is the number of the next line."""

    path: str
    inode: int
    offset: int
    line: int
    mark: str

    def text(self) -> str:
        """The position in ASCII, on one line."""
        return json.dumps(msgspec.to_builtins(self))


def parse_position(text: str, path: Path, where: Path) -> FilePosition:
    """The position that was kept for `path` in the file `where`. Raises `InvalidRequest`."""
    try:
        # Names of files may be no UTF-8.
        found = msgspec.convert(json.loads(text), FilePosition)
    except (ValueError, RecursionError):
        raise InvalidRequest(
            f"{where} holds no position of a followed file; name another one with --cursor-file, "
            "or remove it to begin anew"
        ) from None
    if found.path != str(path):
        raise InvalidRequest(
            f"{where} holds the position in {found.path}; name another file with --cursor-file"
        )
    return found


class Piece(NamedTuple):
    """Whole lines, the number of the first, and whether it is the beginning of one that is too
    long."""

    text: bytes
    line: int
    is_cut: bool = False


class GrowingFile:
    """File of a name, and those that it was rotated to by renaming, or by copying and truncating.

    Each is read to its end before the next. `notice` is told of what may be missing. Methods raise
    `OSError`, and `InvalidRequest` where a file has no lines of text.
    """

    def __init__(
        self,
        path: Path,
        position: FilePosition | None,
        *,
        goes_on: GoesOn | None = None,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path = path
        self._goes_on = goes_on
        self._notice = notice
        self._file: FoundFile | None = None
        self._inode = self._offset = 0
        self._line = 1
        self._mark = NOTHING
        # Size and time of change when nothing was found, and since when it is so.
        self._seen: tuple[int, int] | None = None
        self._quiet_since: float | None = None
        # Of a record that is too long to be held: up to where it was seen, and what goes on there.
        self._long: tuple[int, bool] | None = None
        # Whether the file was there, and text.
        self._is_known = position is not None
        if position is not None:
            self._inode, self._offset = position.inode, position.offset
            self._line, self._mark = position.line, position.mark
            self._find()

    @property
    def position(self) -> FilePosition:
        """Behind what `read` gave last."""
        return FilePosition(str(self.path), self._inode, self._offset, self._line, self._mark)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(self) -> bool:
        """Open the file, so that the position says which one it is; False if it is not there."""
        return self._file is not None or self._open(self.path)

    def read(self, now: float) -> Piece | None:
        """The next lines; None if there are none yet. `now` in seconds, monotonic."""
        if not self.begin():
            return None
        assert self._file is not None
        state = self._file.state()
        seen = (state.st_size, state.st_mtime_ns)
        if seen != self._seen:
            if self._file.mark(self._offset) != self._mark:
                self._find()
                return self.read(now) if self._file is not None else None
            if (piece := self._next(is_last=False)) is not None:
                self._seen = None
                return piece
            self._seen, self._quiet_since = seen, now
        if self._is_written_to(now):
            return None
        return self._next(is_last=True) or (self.read(now) if self._go_on() else None)

    def _is_written_to(self, now: float) -> bool:
        """Whether the file may still get more."""
        assert self._file is not None
        named = inode_of(self.path)
        if named is None or (named == self._inode and not self._file.is_packed):
            self._quiet_since = None
            return True
        if self._file.is_packed:
            return False
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since < QUIET_SECONDS

    def _next(self, *, is_last: bool) -> Piece | None:
        """Lines from the position on; of a file that `is_last` written to also one without end."""
        size = _PIECE_BYTES
        while self._long is None:
            text = self._pread(size, self._offset)
            if text[:1] == b"\0":
                self._pass_hole(text)
                continue
            end = len(text) if is_last and len(text) < size else closed_length(text, self._goes_on)
            if end:
                return self._take(text[:end], end, text.count(b"\n", 0, end))
            if len(text) < size:
                return None
            if size >= MOST_LINE_BYTES:
                break
            size = min(4 * size, MOST_LINE_BYTES)
        return self._take_long(is_last)

    def _pass_hole(self, text: bytes) -> None:
        """Pass over what a program leaves that writes on where it was in a truncated file."""
        self._offset += len(text) - len(text.lstrip(b"\0"))
        assert self._file is not None
        self._mark = self._file.mark(self._offset)

    def _pread(self, size: int, at: int) -> bytes:
        assert self._file is not None
        return self._file.read(size, at)

    def _take(self, text: bytes, length: int, lines: int, *, is_cut: bool = False) -> Piece:
        assert self._file is not None
        piece = Piece(text, self._line, is_cut)
        self._offset += length
        self._line += lines
        self._mark = self._file.mark(self._offset)
        self._long = None
        return piece

    def _take_long(self, is_last: bool) -> Piece | None:
        """The beginning of a record that is too long, if its end is there."""
        at, is_open = self._long or (self._offset, False)
        is_text = self._goes_on is not None and not is_json(self._pread(_HEAD_BYTES, self._offset))
        while text := self._pread(_PIECE_BYTES, at):
            for line in io.BytesIO(text):
                if is_text and self._goes_on is not None:
                    # Also of a part of a line.
                    is_open = self._goes_on(line, is_open)
                at += len(line)
                if line.endswith(b"\n") and not is_open:
                    return self._take_cut(at)
        self._long = at, is_open
        return self._take_cut(at) if is_last else None

    def _take_cut(self, end: int) -> Piece:
        begin = self._pread(_SHOWN_BYTES, self._offset)
        return self._take(begin, end - self._offset, self._lines_to(end), is_cut=True)

    def _lines_to(self, end: int) -> int:
        at, lines = self._offset, 0
        while at < end:
            text = self._pread(min(_PIECE_BYTES, end - at), at)
            at += len(text)
            lines += text.count(b"\n")
        return lines

    def _find(self) -> None:
        """Find the file of the position by its content, wherever it is now; where it is gone,
        begin with the one that has the name."""
        self.close()
        if self._find_copy(rotated_files(self.path)):
            return
        if self._offset:
            self._notice(
                f"what was in {self.path} at its last position is gone, and what was written "
                "behind it may be missing: import the rotated files once (what is in counts as "
                "duplicates)"
            )
        self._open(self.path)

    def _find_copy(self, files: list[RotatedFile]) -> bool:
        """Go on in the file that has the content before the position, if there is one."""
        # The same file first, then the youngest copy, those last that are compressed.
        files.sort(key=lambda one: (one.inode == self._inode, not one.is_packed, one.age))
        return any(
            (self._offset or named.inode == self._inode) and self._is_of_position(named)
            for named in reversed(files)
        )

    def _is_of_position(self, named: RotatedFile) -> bool:
        """Whether a file has the content before the position; it is gone on with then."""
        file = FoundFile.open(named.path, self._offset, self._mark, packed=named.is_packed)
        if file is None:
            return False
        self._go_on_with(file)
        return True

    def _go_on_with(self, file: FoundFile) -> None:
        self.close()
        self._file, self._inode = file, file.inode
        self._seen = self._quiet_since = self._long = None

    def _go_on(self) -> bool:
        """Go on with the file that was made after this one, if there is one."""
        files = rotated_files(self.path)
        if files != rotated_files(self.path):
            # They are being renamed.
            return False
        if all(named.inode != self._inode for named in files) and self._find_copy(files):
            # It was compressed meanwhile: its name tells which are later.
            return True
        for named in later_files(files, self._inode, self._file):
            if self._offset and self._is_of_position(named):
                return True
            if self._open(named.path, named):
                return True
            if not named.is_packed or inode_of(named.path) != named.inode:
                return False
            self._notice(f"{named.path} cannot be unpacked, and is passed over")
        return self._open(self.path)

    def _open(self, path: Path, rotated: RotatedFile | None = None) -> bool:
        """Go on at the beginning of a file; False if it is not, or no longer, there."""
        packed = rotated is not None and rotated.is_packed
        file = FoundFile.open(path, 0, NOTHING, packed=packed)
        if file is None:
            return False
        if rotated is not None and file.inode != rotated.inode:
            file.close()
            return False
        if not self._is_known:
            self._check(file)
        self._go_on_with(file)
        self._is_known = True
        self._offset, self._line, self._mark = 0, 1, NOTHING
        return True

    def _check(self, file: FoundFile) -> None:
        """Refuse what was never a file of text; later a strange record must not stop the rest."""
        head = file.read(_HEAD_BYTES, 0)
        reason = what_is_not_read(head, takes_csv=self._goes_on is not None)
        if is_compressed(head):
            reason = "the file is compressed; import it without --follow"
        if reason is not None:
            file.close()
            raise InvalidRequest(f"{self.path} cannot be followed: {reason}")
