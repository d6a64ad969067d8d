"""Segments of events: one file grows until it is closed, compressed and listed in the manifest.

Durability: what `append` has taken is on the disk when it returns, whole and once. After a crash at
any point `recover` cuts a torn line off, finishes a segment that was being closed, and knows the
last event that is there; the order in which things are made durable is that of `_finish`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.delivery.files.folder import OpenFolder

_STAMP = "%Y%m%dT%H%M%SZ"
# More than the longest line.
_CHUNK = 2 << 20
# The same, and enough of the manifest to know whether the last segment is in it.
_TAIL = 4 << 20
_GZIP = zlib.MAX_WBITS | 16
_PACKED, _UNFINISHED = ".gz", ".tmp"


class Stopping(Exception):
    """Closing a segment was broken off; `recover` finishes it."""


class ManifestEntry(msgspec.Struct, frozen=True):
    """Line of the manifest: a closed segment. `sha256` is of the file as it lies there,
    `content_sha256` of what it unpacks to."""

    file: str
    sha256: str
    content_sha256: str
    bytes: int
    events: int
    first: str
    last: str


class _Cursors(msgspec.Struct):
    """Where the formats that a segment may have keep the cursor of an event."""

    cursor: str = ""
    labels: dict[str, object] | None = None
    unmapped: dict[str, object] | None = None


class Rotation(NamedTuple):
    """When a segment is closed."""

    size: int
    seconds: float


_decode_cursors = msgspec.json.Decoder(_Cursors).decode
_decode_entry = msgspec.json.Decoder(ManifestEntry).decode
_encode = msgspec.json.Encoder().encode


def cursor_of(line: bytes) -> str:
    """Cursor of an event in a segment, "" if there is none."""
    try:
        found = _decode_cursors(line)
    except msgspec.DecodeError:
        return ""
    for place in (found.labels, found.unmapped):
        if not found.cursor and place is not None and isinstance(place.get("cursor"), str):
            return str(place["cursor"])
    return found.cursor


class Segments:
    """Segments of one destination in a folder. Calls block, and raise `OSError`."""

    def __init__(self, root: Path, path: str, name: str, rotation: Rotation) -> None:
        self._root, self._path, self._name, self._rotation = root, path, name, rotation
        self._pattern = re.compile(rf"{re.escape(name)}-(\d{{8}}T\d{{6}}Z)-([a-z0-9-]+)\.ndjson")
        self._manifest = f"{name}.manifest.ndjson"
        self._folder: OpenFolder | None = None
        self._lock = self._fd = -1
        # The segment that grows, and one that is full and not closed yet.
        self._current = self._full = ""
        self._started = 0.0
        self._size = 0
        # Set to break off what takes long; it is not set back.
        self.stopping = False

    def recover(self) -> str:
        """Open the folder and finish what was interrupted; return the cursor of the last event that
        is there, "" if none is known."""
        self.close()
        folder = self._folder = OpenFolder(self._root, self._path)
        self._lock = folder.open(f".{self._name}.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        names = folder.names()
        for name in names:
            if name.endswith(_UNFINISHED) and self._pattern.match(name):
                folder.remove(name)
        cursor = self._recovered_manifest()
        segments = sorted(filter(self._pattern.fullmatch, names), key=self._order)
        for name in segments:
            last = self._cut(name)
            if last is None:
                folder.remove(name)
                continue
            cursor = last or cursor
            if name == segments[-1] and name + _PACKED not in names and last:
                self._continue(name)
            else:
                self._finish(name)
        folder.sync()
        return cursor

    def append(self, lines: Sequence[bytes], first: str, now: float) -> None:
        """Append lines, all or none, durably. `first` is the cursor of the first of them."""
        data = b"\n".join([*lines, b""])
        full = self._size + len(data) > self._rotation.size
        if self._size and (full or now - self._started >= self._rotation.seconds):
            self._full, self._current = self._current, ""
            self._release()
        if self._full:
            self._finish(self._full)
            self._full = ""
        if not self._current:
            self._begin(first, now)
        size = self._size
        try:
            _write(self._fd, data)
            os.fsync(self._fd)
        except OSError:
            # Nothing of it may stay, as all of it comes again.
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
            raise
        self._size += len(data)

    def probe(self, data: bytes) -> None:
        """Write a file and remove it, also while another process writes events."""
        folder = OpenFolder(self._root, self._path)
        name = f".{self._name}.test"
        try:
            fd = folder.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                _write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        finally:
            folder.remove(name)
            folder.close()

    def close(self) -> None:
        self._release()
        self._current = self._full = ""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _opened(self) -> OpenFolder:
        assert self._folder is not None, "recover comes first"
        return self._folder

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._size = 0

    def _order(self, name: str) -> tuple[str, ...]:
        found = self._pattern.fullmatch(name)
        assert found is not None
        return found.groups()

    def _begin(self, first: str, now: float) -> None:
        stamp = datetime.fromtimestamp(int(now), UTC).strftime(_STAMP)
        name = f"{self._name}-{stamp}-{first}.ndjson"
        self._continue(name, os.O_CREAT)
        self._opened().sync()

    def _continue(self, name: str, flags: int = 0) -> None:
        self._fd = self._opened().open(name, os.O_WRONLY | os.O_APPEND | flags)
        self._size = os.fstat(self._fd).st_size
        self._current = name
        stamp = self._order(name)[0]
        self._started = datetime.strptime(f"{stamp}+0000", f"{_STAMP}%z").timestamp()

    def _cut(self, name: str) -> str | None:
        """Cut a torn line off a file; the cursor of its last line, None if it has no lines."""
        fd = self._opened().open(name, os.O_RDWR)
        try:
            lines = _cut_tail(fd)
        finally:
            os.close(fd)
        return cursor_of(lines[:-1].rpartition(b"\n")[2]) if lines else None

    # Closing

    def _finish(self, name: str) -> None:
        """Compress a segment, list it, and only then remove it."""
        folder = self._opened()
        packed = name + _PACKED
        entry = self._pack(name, packed + _UNFINISHED, packed)
        folder.rename(packed + _UNFINISHED, packed)
        folder.sync()
        self._list(entry)
        folder.remove(name)
        folder.sync()

    def _pack(self, name: str, temporary: str, packed: str) -> ManifestEntry:
        folder = self._opened()
        source = folder.open(name, os.O_RDONLY)
        target = folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            content, file = hashlib.sha256(), hashlib.sha256()
            packing = zlib.compressobj(1, wbits=_GZIP)
            size = events = 0
            first = before = last = b""
            while chunk := os.read(source, _CHUNK):
                if self.stopping:
                    raise Stopping
                first, before, last = first or chunk, last, chunk
                content.update(chunk)
                events += chunk.count(b"\n")
                size += len(chunk)
                _write_hashed(target, packing.compress(chunk), file)
            _write_hashed(target, packing.flush(), file)
            os.fsync(target)
        finally:
            os.close(source)
            os.close(target)
        return ManifestEntry(
            packed, file.hexdigest(), content.hexdigest(), size, events,
            cursor_of(first.partition(b"\n")[0]),
            cursor_of((before + last)[:-1].rpartition(b"\n")[2]),
        )  # fmt: skip

    def _list(self, entry: ManifestEntry) -> None:
        """Append an entry to the manifest, unless it is there."""
        fd = self._opened().open(self._manifest, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            line = _encode(entry) + b"\n"
            if line not in _tail(fd)[0]:
                _write(fd, line)
                os.fsync(fd)
        finally:
            os.close(fd)

    def _recovered_manifest(self) -> str:
        """Cut a torn line off the manifest; the last cursor of the last segment in it."""
        try:
            fd = self._opened().open(self._manifest, os.O_RDWR)
        except FileNotFoundError:
            return ""
        try:
            lines = _cut_tail(fd).splitlines()
        finally:
            os.close(fd)
        try:
            return _decode_entry(lines[-1]).last if lines else ""
        except msgspec.DecodeError:
            return ""


def _tail(fd: int) -> tuple[bytes, int]:
    """Last part of a file, and how much stands before it."""
    size = os.fstat(fd).st_size
    skipped = max(0, size - _TAIL)
    return os.pread(fd, size - skipped, skipped), skipped


def _cut_tail(fd: int) -> bytes:
    """Cut what stands behind the last whole line off a file; the last part of what is left."""
    tail, skipped = _tail(fd)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(fd, skipped + whole)
        os.fsync(fd)
    return tail[:whole]


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_hashed(fd: int, data: bytes, digest: hashlib._Hash) -> None:
    digest.update(data)
    _write(fd, data)
