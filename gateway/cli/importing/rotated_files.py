"""A log file and those that it was rotated to: which there are, in which order, and their bytes."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, Self

from gateway.errors import InvalidRequest
from gateway.ingest.compressed import Damaged, Plain, is_compressed, plain_files

_HEAD_BYTES = 4096
_MARKED_BYTES = 1024
_PIECE_BYTES = 1024 * 1024
# `name.log.1`, `name.log-20261130`, `name.log.2026-11-30`, `name-2026-11-30T17-00-00.000.log`
_ROTATED = r"[.-]\d[\dTZ:_.-]*?"
_PACKED = r"(\.(?:gz|bz2|xz|zst))?"
_NUMBER = re.compile(r"\d{1,4}")


class RotatedFile(NamedTuple):
    """A file by its name. Younger ones have a greater `age`; that of the followed name itself is
    the greatest."""

    path: Path
    inode: int
    is_packed: bool
    age: tuple[int, int, str]
    changed_ns: int


class FoundFile:
    """The text of an open file; of a compressed one it is unpacked into a file without a name."""

    def __init__(self, file: BinaryIO, unpacked: BinaryIO | None) -> None:
        self._file = file
        self._text = unpacked or file
        self.is_packed = unpacked is not None
        # Held open: as long as it is, no other file gets this number.
        self.inode = os.fstat(file.fileno()).st_ino

    @classmethod
    def open(cls, path: Path, at: int, mark: str, *, packed: bool = False) -> Self | None:
        """The file, if it is there and has the `mark` before the byte `at`. `packed`: its name says
        that it is compressed; a line of a log may begin as such files do. Raises `OSError`."""
        descriptor = _opened(path)
        if descriptor is None:
            return None
        file = os.fdopen(descriptor, "rb", buffering=0)
        text = None
        try:
            if packed and is_compressed(os.pread(descriptor, _HEAD_BYTES, 0)):
                text = _unpacked(file, at, mark)
                if text is None:
                    file.close()
                    return None
            found = cls(file, text)
            if found.state().st_size < at or found.mark(at) != mark:
                found.close()
                return None
        except BaseException:
            file.close()
            raise
        return found

    def close(self) -> None:
        self._text.close()
        self._file.close()

    def read(self, size: int, at: int) -> bytes:
        return os.pread(self._text.fileno(), size, at)

    def state(self) -> os.stat_result:
        return os.fstat(self._text.fileno())

    def mark(self, at: int) -> str:
        """Digests of the beginning of the text and of what stands before the byte `at`."""
        size = min(_MARKED_BYTES, at)
        return f"{_digest(self.read(size, 0))}{_digest(self.read(size, at - size))}"


def _opened(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise InvalidRequest(f"{path} is no file; --follow takes one that grows")


def _unpacked(file: BinaryIO, at: int, mark: str) -> BinaryIO | None:
    """The text of a compressed file; None if it begins otherwise than the mark says, or cannot be
    unpacked."""
    with ExitStack() as stack:
        packed = stack.enter_context(os.fdopen(os.dup(file.fileno()), "rb"))
        kept = ExitStack()
        stack.push(kept.__exit__)
        text = kept.enter_context(TemporaryFile())
        try:
            for found in plain_files(packed, takes_csv=True):
                if not isinstance(found, Plain):
                    return None
                head = found.stream.read(min(_MARKED_BYTES, at))
                if not mark.startswith(_digest(head)):
                    return None
                text.write(head)
                while piece := found.stream.read(_PIECE_BYTES):
                    text.write(piece)
        except Damaged:
            return None
        text.flush()
        kept.pop_all()
        return text


def rotated_files(path: Path) -> list[RotatedFile]:
    """The file of the name, and those that it was rotated to. Raises `OSError`."""
    # The name may be a link to the file, beside which it is rotated then.
    path = Path(os.path.realpath(path))
    name, stem, suffix = (re.escape(part) for part in (path.name, path.stem, path.suffix))
    names = re.compile(f"(?:{name}({_ROTATED})|{stem}({_ROTATED}){suffix}){_PACKED}", re.DOTALL)
    found: dict[str, tuple[os.stat_result, str | None, bool]] = {}
    for entry in _entries(path.parent):
        rotated = names.fullmatch(entry.name)
        if entry.name != path.name and rotated is None:
            continue
        try:
            state = entry.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(state.st_mode):
            continue
        if rotated is None or entry.name == path.name:
            found[entry.name] = state, None, False
        else:
            found[entry.name] = state, (rotated[1] or rotated[2])[1:], rotated[3] is not None
    # What is being compressed is there twice.
    for twice in [name for name, (_, _, packed) in found.items() if packed]:
        if twice.rpartition(".")[0] in found:
            del found[twice]
    marks = {mark for _, mark, _ in found.values() if mark is not None}
    numbered = [_NUMBER.fullmatch(mark) is not None for mark in marks]
    return sorted(
        RotatedFile(
            path.parent / name,
            state.st_ino,
            packed,
            _age(mark, state.st_mtime_ns, all(numbered), any(numbered)),
            state.st_mtime_ns,
        )
        for name, (state, mark, packed) in found.items()
    )


def _age(
    mark: str | None, changed_ns: int, all_numbers: bool, any_numbers: bool
) -> tuple[int, int, str]:
    """What files are ordered by. Names count before times, as compressing may change these."""
    if mark is None:
        return 1, 0, ""
    if all_numbers:
        return 0, -int(mark), ""
    return 0, changed_ns if any_numbers else 0, mark


def later_files(
    files: list[RotatedFile], inode: int, file: FoundFile | None
) -> Iterator[RotatedFile]:
    """Rotated files that are younger than the one of this inode, which is open, the oldest first;
    where it has no name any more, those that changed since."""
    ages = [one.age for one in files if one.inode == inode]
    rotated = sorted((one for one in files if not one.age[0]), key=lambda one: one.age)
    for one in rotated:
        if ages:
            is_later = one.age > ages[0] and one.inode != inode
        else:
            is_later = file is not None and one.changed_ns >= file.state().st_mtime_ns
        if is_later:
            yield one


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _digest(part: bytes) -> str:
    return hashlib.sha256(part).hexdigest()[:24]


NOTHING = 2 * _digest(b"")
