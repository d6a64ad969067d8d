"""The plain files within a file: compressed ones, archives, and what is no text, by content.

Everything is unpacked while it is read, so that memory is bounded, however large it becomes.
"""

from __future__ import annotations

import bz2
import csv
import importlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

# gzip in gzip, or in an archive.
MOST_LAYERS = 3
_HEAD_BYTES = 4096
# What decides, and what the shortest records have.
_LEAST_HEAD_BYTES = 8
_PIECE_BYTES = 64 * 1024
# The largest window of `xz -9` is 64 MiB, and of `zstd --ultra` 128 MiB.
_MOST_WINDOW_BYTES = 160 * 1024 * 1024
_MOST_WINDOW_LOG = 27
_ZIP, _ZSTD = b"PK\x03\x04", b"\x28\xb5\x2f\xfd"
_UNPACK = "unpack it first"
_CONVERT = "convert it to JSON, one record a line"
_NOT_READ = (
    (b"PAR1", "Apache Parquet", _CONVERT),
    (b"ORC", "Apache ORC", _CONVERT),
    (b"Obj\x01", "Apache Avro", _CONVERT),
    (b"ARROW1", "Apache Arrow", _CONVERT),
    (b"SQLite format 3\0", "an SQLite database", _CONVERT),
    (b"ElfFile\0", "a Windows event log (EVTX)", _CONVERT),
    (b"LPKSHHRH", "a file of the systemd journal", "export it with `journalctl -o json`"),
    (b"%PDF-", "PDF", "export JSON instead"),
    (b"PK\x05\x06", "an empty zip archive", "there is nothing to import"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy", _UNPACK),
    (b"LZIP", "compressed with lzip", _UNPACK),
    (b"\x1f\x9d", "compressed with compress", _UNPACK),
    (b"\xff\xfe\0\0", "UTF-32", "convert it to UTF-8 first"),
    (b"\0\0\xfe\xff", "UTF-32", "convert it to UTF-8 first"),
    (b"\xff\xfe", "UTF-16", "convert it to UTF-8 first"),
    (b"\xfe\xff", "UTF-16", "convert it to UTF-8 first"),
)
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError)
_UTF_16_WITHOUT_MARK = re.compile(rb"(?:[\t-~]\0){4}|(?:\0[\t-~]){4}")
_COLUMN = re.compile(r"[A-Za-z_][\w .:/()-]{0,63}")


class Plain(NamedTuple):
    """Text within a file. `member` is its name within an archive, else ""."""

    member: str
    stream: io.BufferedIOBase


class NotPlain(NamedTuple):
    """Part of a file that cannot be read, and why."""

    member: str
    reason: str


class Damaged(Exception):
    """Compressed data that cannot be unpacked further."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def plain_files(
    stream: io.BufferedIOBase, *, takes_csv: bool = False
) -> Iterator[Plain | NotPlain]:
    """The plain files in `stream`, one after another: each is to be read before the next.

    Their reads raise `Damaged`. `takes_csv`: what looks like CSV is not refused.
    """
    # Where it is no pipe, archives are read at their place.
    begin = stream.tell() if stream.seekable() else None
    head = _head_of(stream)
    if head[:4] == _ZIP and begin is not None:
        stream.seek(begin)
        yield from _members(stream, takes_csv)
    else:
        yield _plain("", head, stream, MOST_LAYERS, takes_csv)


def what_is_not_read(head: bytes, *, takes_csv: bool = False) -> str | None:
    """What a file is that begins so, and what to do with it; None if it may have records."""
    for begin, what, advice in _NOT_READ:
        if head.startswith(begin):
            return f"the file is {what}; {advice}"
    if head[257:262] == b"ustar":
        return f"the file is a tar archive; {_UNPACK}"
    if _UTF_16_WITHOUT_MARK.match(head):
        return "the file is UTF-16; convert it to UTF-8 first"
    if b"\0" in head[:512]:
        return f"the file is binary, of a kind that is not known; {_CONVERT}"
    if head.lstrip()[:5] in (b"<?xml", b"<Even"):
        return f"the file is XML; {_CONVERT}"
    if not takes_csv and _is_csv(head):
        return f"the file is CSV; {_CONVERT}, each an object with the names of the columns"
    return None


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins so is unpacked before its records are read."""
    return head[:4] == _ZIP or _decoder_of(head) is not None


def _members(archive: io.BufferedIOBase, takes_csv: bool) -> Iterator[Plain | NotPlain]:
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    yield from _member(opened, info, takes_csv)
    except (*_DAMAGE, NotImplementedError) as error:
        yield NotPlain("", f"the zip archive is damaged: {error}")


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, takes_csv: bool
) -> Iterator[Plain | NotPlain]:
    if info.flag_bits & 1:
        yield NotPlain(info.filename, f"the member is encrypted; {_UNPACK}")
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # `zipfile` unpacks these without a bound on what it holds.
        yield NotPlain(info.filename, f"the member is compressed in a rare way; {_UNPACK}")
        return
    try:
        with archive.open(info) as member:
            stream = _buffered(_Guarded(member))
            yield _plain(info.filename, _head_of(stream), stream, MOST_LAYERS - 1, takes_csv)
    except (*_DAMAGE, Damaged, RuntimeError) as error:
        yield NotPlain(info.filename, f"the member is damaged: {error}")


def _plain(
    member: str, head: bytes, stream: io.BufferedIOBase, layers: int, takes_csv: bool
) -> Plain | NotPlain:
    """What remains when `layers` of compression at most are taken off."""
    while (found := _decoder_of(head)) is not None:
        if layers == 0:
            return NotPlain(member, f"compressed more than {MOST_LAYERS} times; {_UNPACK}")
        layers -= 1
        name, make = found
        if make is None:
            return NotPlain(
                member,
                "the file is compressed with zstd, for which a package is missing: install "
                "audit-gateway[zstd], or unpack it first with `zstd -d`",
            )
        stream = _buffered(_Unpacked(name, _buffered(_Joined(head, stream)), make))
        try:
            head = _head_of(stream)
        except Damaged as error:
            return NotPlain(member, str(error))
    if head[:4] == _ZIP:
        where = "in an archive or compressed file, or from a pipe"
        return NotPlain(member, f"a zip archive {where}; {_UNPACK}, and name its file")
    if (reason := what_is_not_read(head, takes_csv=takes_csv)) is not None:
        return NotPlain(member, reason)
    return Plain(member, _buffered(_Joined(head, stream)))


def _decoder_of(head: bytes) -> tuple[str, Callable[[], _Decoder] | None] | None:
    """Name of a compression, and what makes its decoders: None where a package is missing."""
    if head[:2] == b"\x1f\x8b":
        return "gzip", _GzipDecoder
    if re.match(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", head):
        return "bz2", bz2.BZ2Decompressor
    if head[:6] == b"\xfd7zXZ\0":
        return "xz", lambda: lzma.LZMADecompressor(memlimit=_MOST_WINDOW_BYTES)
    if head[:4] == _ZSTD:
        return "zstd", _zstd_decoder()
    return None


def _zstd_decoder() -> Callable[[], _Decoder] | None:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            zstd: Any = importlib.import_module(name)
        except ImportError:
            continue
        options = {zstd.DecompressionParameter.window_log_max: _MOST_WINDOW_LOG}
        return lambda: zstd.ZstdDecompressor(options=options)
    return None


def _is_csv(head: bytes) -> bool:
    """Whether it begins with names of columns, and a row with as many values."""
    lines = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").splitlines()[:2]
    if len(lines) < 2 or any(line.lstrip()[:1] in ("{", "[") for line in lines):
        return False
    for separator in ",;\t":
        try:
            names, row = csv.reader(lines, delimiter=separator, strict=False)
        except (csv.Error, ValueError):
            continue
        if len(names) > 1 and all(_COLUMN.fullmatch(name.strip()) for name in names):
            # The head may end within the row, and a value may have line breaks.
            return len(row) > 1
    return False


def _head_of(stream: io.BufferedIOBase) -> bytes:
    """Beginning of a stream: what there is of it, of a pipe that still grows little."""
    head = bytearray()
    while len(head) < _LEAST_HEAD_BYTES and (piece := stream.read1(_HEAD_BYTES)):
        head.extend(piece)
    return bytes(head)


def _buffered(raw: io.RawIOBase) -> io.BufferedIOBase:
    return io.BufferedReader(raw, _PIECE_BYTES)


class _Raw(io.RawIOBase):
    """Raw stream of pieces. A read does not wait until a buffer is full: what a pipe has passes
    on."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._piece(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _piece(self, size: int) -> bytes:
        raise NotImplementedError


class _Joined(_Raw):
    """Bytes that were read already, followed by the rest of their stream."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase) -> None:
        self._head = head
        self._rest = rest

    def _piece(self, size: int) -> bytes:
        if not self._head:
            return self._rest.read1(size)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


def joined(head: bytes, rest: io.BufferedIOBase) -> io.BufferedIOBase:
    """The bytes `head`, followed by what `rest` still has."""
    return _buffered(_Joined(head, rest))


class _Guarded(_Raw):
    """Member of an archive."""

    def __init__(self, member: Any) -> None:
        self._member = member

    def _piece(self, size: int) -> bytes:
        try:
            piece: bytes = self._member.read1(size)
        except _DAMAGE as error:
            raise Damaged(f"{error}" or "it ends too early") from None
        return piece


class _Unpacked(_Raw):
    """Compressed streams behind each other as one, also where zeros follow them."""

    def __init__(self, name: str, packed: io.BufferedIOBase, make: Callable[[], _Decoder]) -> None:
        self._name = name
        self._packed = packed
        self._make = make
        self._decoder = make()

    def _piece(self, size: int) -> bytes:
        try:
            return self._decoded(size)
        except (OSError, ValueError, zlib.error, lzma.LZMAError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._damage(error) from None
        except Exception as error:
            # The package for zstd has an error of its own.
            if type(error).__name__ != "ZstdError":
                raise
            raise self._damage(error) from None

    def _damage(self, error: Exception) -> Damaged:
        what = f"the {self._name} data is damaged or ends too early"
        return Damaged(f"{what} behind this line: {error}")

    def _decoded(self, size: int) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data.lstrip(b"\0")
                while not data and (more := self._packed.read1(_PIECE_BYTES)):
                    data = more.lstrip(b"\0")
                if not data:
                    return b""
                self._decoder = self._make()
            elif self._decoder.needs_input and not (data := self._packed.read1(_PIECE_BYTES)):
                raise EOFError("the end is missing")
            if piece := self._decoder.decompress(data, size):
                return piece


class _GzipDecoder:
    """Decoder of gzip with the interface of those of bz2 and xz."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(data or self._decoder.unconsumed_tail, max_length)
