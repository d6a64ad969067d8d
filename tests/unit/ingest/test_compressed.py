"""What is read of files that are compressed, archives, or no text at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial

import pytest

from gateway.ingest.reading import Record, Unreadable, read_records

LINES = b'{"n":1}\n{"n":2}\n'


def read(content: bytes) -> list[Record | Unreadable]:
    return list(read_records(io.BytesIO(content)))


def numbers(content: bytes) -> list[int]:
    found = read(content)
    assert all(isinstance(one, Record) for one in found), found
    return [json.loads(one.raw)["n"] for one in found]


def archive(method: int = zipfile.ZIP_DEFLATED, /, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    try:
        from compression.zstd import compress  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        compress = pytest.importorskip("backports.zstd").compress
    return bytes(compress(content))


PACKERS = [gzip.compress, bz2.compress, partial(lzma.compress, preset=0), zstd]


@pytest.mark.parametrize("pack", PACKERS)
def test_a_compressed_file_gives_the_records_of_the_plain_one(
    pack: Callable[[bytes], bytes],
) -> None:
    assert numbers(pack(LINES)) == [1, 2]
    assert numbers(pack(LINES) + pack(b'{"n":3}\n')) == [1, 2, 3], "streams behind each other"
    assert numbers(pack(LINES) + bytes(8)) == [1, 2], "padding"
    assert numbers(gzip.compress(pack(LINES))) == [1, 2], "within gzip"


@pytest.mark.parametrize("pack", PACKERS)
def test_compressed_data_cut_short_gives_what_came_before_and_says_so(
    pack: Callable[[bytes], bytes],
) -> None:
    chosen = random.Random(1)
    lines = b"".join(b'{"n":%d}\n' % chosen.getrandbits(64) for _ in range(60_000))
    *records, last = read(pack(lines)[:-2000])
    assert len(records) > 1_000
    assert all(isinstance(one, Record) for one in records)
    assert isinstance(last, Unreadable)
    assert "damaged or ends too early" in last.reason


def test_layers_of_compression_have_an_end() -> None:
    content = LINES
    for _ in range(3):
        content = gzip.compress(content)
    assert numbers(content) == [1, 2]
    [refused] = read(gzip.compress(content))
    assert isinstance(refused, Unreadable)
    assert refused.reason == "compressed more than 3 times; unpack it first"


def test_the_members_of_an_archive_are_read_one_after_another_and_named() -> None:
    inner = {"a.json": LINES, "folder/": b"", "b.gz": gzip.compress(b"\n" + LINES)}
    found = read(archive(**inner))
    assert [(one.member, one.line) for one in found] == [
        ("a.json", 1), ("a.json", 2), ("b.gz", 2), ("b.gz", 3),
    ]  # fmt: skip


def test_a_member_that_cannot_be_read_costs_only_itself() -> None:
    packed = bytearray(
        archive(zipfile.ZIP_STORED, a=LINES, b=b'{"n":3}\n', c=b"PAR1....", d=archive(x=LINES))
    )
    packed[packed.index(b'{"n":3}') + 5] ^= 1
    found = read(bytes(packed))
    assert [one.member for one in found if isinstance(one, Record)][:2] == ["a", "a"]
    reasons = {one.member: one.reason for one in found if isinstance(one, Unreadable)}
    assert "CRC" in reasons["b"]
    assert "Parquet" in reasons["c"]
    assert "zip archive in an archive" in reasons["d"]


def test_members_that_only_open_with_a_password_or_unbounded_memory_are_named() -> None:
    packed = bytearray(archive(a=LINES))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + flags] |= 1
    [refused] = read(bytes(packed))
    assert isinstance(refused, Unreadable)
    assert (refused.member, refused.reason) == ("a", "the member is encrypted; unpack it first")
    [refused] = read(archive(zipfile.ZIP_LZMA, a=LINES))
    assert isinstance(refused, Unreadable)
    assert "rare way" in refused.reason


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_archive_is_records_and_refusals_whatever_is_damaged(seed: int) -> None:
    chosen = random.Random(seed)
    whole = archive(a=LINES * 20, b=gzip.compress(LINES), c=bz2.compress(LINES))
    for _ in range(300):
        packed = bytearray(whole[: chosen.randrange(4, len(whole) + 1)])
        for _ in range(chosen.randrange(1, 4)):
            packed[chosen.randrange(4, len(packed)) if len(packed) > 4 else 3] = chosen.randrange(
                256
            )
        assert all(isinstance(one, Record | Unreadable) for one in read(bytes(packed)))


@pytest.mark.parametrize("pack", [*PACKERS, lambda content: archive(a=content)])
def test_what_becomes_huge_is_never_held_whole(pack: Callable[[bytes], bytes]) -> None:
    packed = pack((b'{"n":1,"text":"' + b"x" * 10_000 + b'"}\n') * 2_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_records(io.BytesIO(packed))) == 2_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_xz_that_asks_for_more_memory_than_any_preset_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 * 1024 * 1024}]
    [refused] = read(lzma.compress(LINES, filters=filters))
    assert isinstance(refused, Unreadable)
    assert "Memory usage limit" in refused.reason


def test_zstd_without_its_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    [refused] = read(b"\x28\xb5\x2f\xfd" + bytes(20))
    assert isinstance(refused, Unreadable)
    assert "compressed with zstd" in refused.reason
    assert "install audit-gateway[zstd]" in refused.reason


def test_an_archive_from_a_pipe_is_named() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    [refused] = read_records(Pipe(archive(a=LINES)))
    assert isinstance(refused, Unreadable)
    assert "from a pipe; unpack it first, and name its file" in refused.reason


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1\x15\x04\x15\x10", "Apache Parquet"),
        (b"Obj\x01\x04\x14avro.codec", "Apache Avro"),
        (b"SQLite format 3\0" + bytes(100), "an SQLite database"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"\x04\x22\x4d\x18" + bytes(20), "lz4"),
        (b"a.json".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        ('{"n":1}\n'.encode("utf-16"), "UTF-16"),
        ('{"n":1}\n'.encode("utf-16-le"), "UTF-16"),
        ('{"n":1}\n'.encode("utf-16-be"), "UTF-16"),
        ('{"n":1}\n'.encode("utf-32"), "UTF-32"),
        (b'<?xml version="1.0"?><Events/>', "XML"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "binary"),
        (b"time,user,action\n2026-01-01,bob,login\n", "CSV"),
        (b'\xef\xbb\xbf"time";"user name"\r\n"2026-01-01";"bob"\r\n', "CSV"),
        (b'id\trecord\n1\t{"n":1}\n', "CSV"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_cannot_be_read_is_named_once(
    content: bytes, what: str, pack: Callable[[bytes], bytes]
) -> None:
    [refused] = read(pack(content))
    assert isinstance(refused, Unreadable)
    assert what in refused.reason
    assert ";" in refused.reason, "and what to do"


@pytest.mark.parametrize(
    "content",
    [
        b'oops, broken\n{"n":1}\n{"n":2}\n',
        b'Jan 1 host app: {"n":1}\nJan 1 host app: {"n":2}\n',
        b'a, b\n\n{"n":1}\n{"n":2}\n',
    ],
)
def test_lines_of_text_around_records_are_no_csv(content: bytes) -> None:
    found = [json.loads(one.raw)["n"] for one in read(content) if isinstance(one, Record)]
    assert found == [1, 2]


def test_a_source_that_reads_lines_of_text_gets_them_though_they_look_like_csv() -> None:
    content = b"time,user\n2026,bob\n"
    found = list(read_records(io.BytesIO(archive(a=content)), lambda line, is_open: False))
    assert [one.raw for one in found] == [b"time,user", b"2026,bob"]
