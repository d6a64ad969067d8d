"""Reading of a log that grows and is rotated: each line once, also over rotations and starts."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.importing import growing_file
from gateway.cli.importing.growing_file import (
    QUIET_SECONDS,
    FilePosition,
    GrowingFile,
    parse_position,
)
from gateway.errors import InvalidRequest
from gateway.ingest.sources.readers.postgres_csv import goes_on


class Reader:
    """A program that follows a file, and the clock that it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.lines: list[bytes] = []
        self.numbers: list[int] = []
        self.notices: list[str] = []
        self.kept: FilePosition | None = None
        self.file = GrowingFile(path, None, notice=self.notices.append)

    def read(self) -> list[bytes]:
        """The lines that are new, after rotated files had their time."""
        begin = len(self.lines)
        for _ in range(8):
            while (piece := self.file.read(self.now)) is not None:
                self.lines += piece.text.removesuffix(b"\n").split(b"\n")
                self.numbers.append(piece.line)
                self.kept = self.file.position
            self.now += QUIET_SECONDS
        return self.lines[begin:]

    def restart(self) -> None:
        """As after a kill: it knows what was kept."""
        self.file.close()
        kept = None if self.kept is None else parse_position(self.kept.text(), self.path, self.path)
        self.file = GrowingFile(self.path, kept, notice=self.notices.append)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def reader(log: Path) -> Iterator[Reader]:
    log.touch()
    reader = Reader(log)
    yield reader
    reader.file.close()


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def by_renaming(log: Path, keep: int = 9) -> None:
    for number in range(keep, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.rename(log.with_name(f"{log.name}.{number + 1}"))
    log.rename(log.with_name(f"{log.name}.1"))
    log.touch()


def by_copying(log: Path) -> None:
    for number in range(9, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.rename(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def with_the_time_in_front_of_the_suffix(log: Path) -> None:
    taken = len(list(log.parent.iterdir()))
    log.rename(log.with_name(f"audit-2026-11-30T17-00-00.{taken:03}.log"))
    log.touch()


def packed(path: Path) -> None:
    """Compress as programs do that do not keep the time of change."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def shift(log: Path) -> None:
    for number in range(99, 0, -1):
        for suffix in ("", ".gz"):
            older = log.with_name(f"{log.name}.{number}{suffix}")
            if older.exists():
                older.rename(log.with_name(f"{log.name}.{number + 1}{suffix}"))


def by_renaming_and_compressing(log: Path) -> None:
    shift(log)
    log.rename(log.with_name(f"{log.name}.1"))
    packed(log.with_name(f"{log.name}.1"))
    log.touch()


def by_copying_and_compressing(log: Path) -> None:
    shift(log)
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    packed(log.with_name(f"{log.name}.1"))


def compressing_the_one_before(log: Path) -> None:
    """As `delaycompress`."""
    shift(log)
    log.rename(log.with_name(f"{log.name}.1"))
    log.touch()
    if (older := log.with_name(f"{log.name}.2")).exists():
        packed(older)


def with_the_date_and_compressing_the_one_before(log: Path) -> None:
    """As programs that compress in the background, in any order."""
    older = [one for one in log.parent.iterdir() if one != log and one.suffix != ".gz"]
    taken = len(list(log.parent.iterdir()))
    log.rename(log.with_name(f"audit.log-20261130{taken:03}"))
    log.touch()
    for one in older:
        packed(one)


ROTATIONS = [
    by_renaming,
    by_copying,
    with_the_time_in_front_of_the_suffix,
    by_renaming_and_compressing,
    by_copying_and_compressing,
    compressing_the_one_before,
    with_the_date_and_compressing_the_one_before,
]


def test_lines_come_when_they_are_whole(reader: Reader, log: Path) -> None:
    append(log, b"a\nb")
    assert reader.read() == [b"a"]
    append(log, b"c\n\nd\n")
    assert reader.read() == [b"bc", b"", b"d"]
    assert reader.numbers == [1, 2]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("rotate", ROTATIONS)
def test_a_rotation_loses_and_repeats_nothing(
    reader: Reader, log: Path, rotate: Callable[[Path], None], is_restarted: bool
) -> None:
    append(log, b"a\nb\n")
    assert reader.read() == [b"a", b"b"]
    append(log, b"c\n")
    for letter in (b"d", b"e", b"f"):
        # Several, before any is noticed.
        rotate(log)
        append(log, letter + b"\n")
    if is_restarted:
        reader.restart()
    assert reader.read() == [b"c", b"d", b"e", b"f"]
    append(log, b"g\n")
    assert reader.read() == [b"g"]
    assert reader.notices == []


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_between_each_line_comes_once(
    reader: Reader, log: Path, seed: int
) -> None:
    chosen = random.Random(seed)
    append(log, b"first\n")
    written = reader.read()
    rotate = chosen.choice(ROTATIONS)
    for number in range(60):
        match chosen.randrange(4):
            case 0:
                if log.stat().st_size:
                    rotate(log)
            case 1:
                reader.read()
            case 2 if reader.kept is not None:
                reader.restart()
        lines = [b"%d-%d" % (number, at) for at in range(chosen.randrange(1, 4))]
        append(log, b"".join(line + b"\n" for line in lines))
        written += lines
    while reader.read():
        pass
    assert reader.lines == written
    assert reader.notices == []


def test_a_writer_that_does_not_know_of_the_rotation_yet_is_waited_for(
    reader: Reader, log: Path
) -> None:
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    with log.open("ab", buffering=0) as writer:
        by_renaming(log)
        append(log, b"new\n")
        now = reader.now
        assert reader.file.read(now) is None
        writer.write(b"late\n")
        found = reader.file.read(now + QUIET_SECONDS / 2)
        assert found is not None
        assert found.text == b"late\n"
        assert reader.file.read(now + QUIET_SECONDS) is None
        writer.write(b"torn")
    reader.now = now + QUIET_SECONDS
    assert reader.read() == [b"torn", b"new"], "a line without end is one when nobody writes"


def test_a_file_truncated_and_grown_beyond_the_position_is_read_from_its_beginning(
    reader: Reader, log: Path
) -> None:
    append(log, b"a\nb\n")
    assert reader.read() == [b"a", b"b"]
    log.write_bytes(b"other\nlines\n")
    assert reader.read() == [b"other", b"lines"]
    assert "may be missing" in reader.notices[0]


def test_a_compressed_file_that_is_damaged_is_passed_over_and_named(
    reader: Reader, log: Path
) -> None:
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    by_renaming(log)
    append(log, b"b\n")
    by_renaming(log)
    first = log.with_name("audit.log.1")
    first.with_name("audit.log.1.gz").write_bytes(gzip.compress(first.read_bytes())[:-9])
    first.unlink()
    append(log, b"c\n")
    assert reader.read() == [b"c"]
    assert reader.notices == [f"{first}.gz cannot be unpacked, and is passed over"]


def test_a_file_that_is_being_compressed_is_read_once(reader: Reader, log: Path) -> None:
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    append(log, b"b\n")
    by_renaming(log)
    append(log, b"c\n")
    whole = gzip.compress(b"a\nb\n")
    log.with_name("audit.log.1.gz").write_bytes(whole[:9])
    assert reader.read() == [b"b", b"c"]
    log.with_name("audit.log.1.gz").write_bytes(whole)
    log.with_name("audit.log.1").unlink()
    append(log, b"d\n")
    assert reader.read() == [b"d"]
    assert reader.notices == []


def test_it_begins_at_the_beginning_and_after_a_restart_where_it_was(log: Path) -> None:
    append(log, b"a\nb\n\nc\n")
    reader = Reader(log)
    assert reader.read() == [b"a", b"b", b"", b"c"]
    kept = reader.kept
    assert kept is not None
    assert (kept.path, kept.offset, kept.line) == (str(log), 7, 5)
    assert kept.inode == log.stat().st_ino
    append(log, b"d\n")
    reader.restart()
    assert reader.read() == [b"d"]
    assert reader.numbers == [1, 5]
    reader.kept = None
    reader.restart()
    assert reader.read() == [b"a", b"b", b"", b"c", b"d"]
    reader.file.close()


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "later" / "audit.log"
    reader = Reader(log)
    assert reader.read() == []
    assert reader.file.position.offset == 0
    log.parent.mkdir()
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    log.unlink()
    assert reader.read() == []
    append(log, b"b\n")
    assert reader.read() == [b"b"]
    reader.file.close()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_another_file_with_the_same_inode_is_read_from_its_beginning(
    reader: Reader, log: Path, is_restarted: bool
) -> None:
    append(log, b"a\nb\n")
    assert reader.read() == [b"a", b"b"]
    log.write_bytes(b"x\n")
    if is_restarted:
        reader.restart()
    assert reader.read() == [b"x"], "shorter"
    log.write_bytes(b"another one\n")
    if is_restarted:
        reader.restart()
    assert reader.read() == [b"another one"], "longer"


def test_the_hole_that_truncating_leaves_before_a_program_is_passed_over(
    reader: Reader, log: Path
) -> None:
    with log.open("wb", buffering=0) as writer:
        writer.write(b"a\nb\n")
        assert reader.read() == [b"a", b"b"]
        by_copying(log)
        writer.write(b"c\n")
        assert log.read_bytes() == b"\0\0\0\0c\n"
        assert reader.read() == [b"c"]
        writer.write(b"d\n")
        assert reader.read() == [b"d"]
    assert reader.notices == []


def test_a_link_is_followed_to_what_its_target_was_rotated_to(tmp_path: Path) -> None:
    target = tmp_path / "pods" / "0.log"
    target.parent.mkdir()
    append(target, b"a\n")
    link = tmp_path / "container.log"
    link.symlink_to(target)
    reader = Reader(link)
    assert reader.read() == [b"a"]
    append(target, b"b\n")
    target.rename(target.with_name("0.log.20261130-170000"))
    append(target, b"c\n")
    reader.restart()
    assert reader.read() == [b"b", b"c"]
    assert reader.notices == []
    reader.file.close()


def test_what_is_in_a_line_later_on_ends_nothing(reader: Reader, log: Path) -> None:
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    for line in (b"PAR1", b"x\0y", b"<?xml", b"a,b\n1,2", gzip.compress(b"x", mtime=0)):
        by_renaming(log)
        append(log, line + b"\n")
        assert b"\n".join(reader.read()) == line


def test_files_of_other_names_are_left_alone(reader: Reader, log: Path) -> None:
    append(log, b"a\n")
    assert reader.read() == [b"a"]
    by_renaming(log)
    for name in ("audit.log.bak", "audit-errors.log", "audit.log.1.tmp", "other.log.1"):
        log.with_name(name).write_bytes(b"wrong\n")
    append(log, b"b\n")
    assert reader.read() == [b"b"]


def test_a_line_that_is_too_long_is_passed_over_and_counted_as_one(
    reader: Reader, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "_PIECE_BYTES", 64)
    monkeypatch.setattr(growing_file, "MOST_LINE_BYTES", 256)
    append(log, b"a\n" + b"x" * 1000)
    assert reader.read() == [b"a"]
    append(log, b"x" * 50 + b"\n" + b"y" * 200 + b"\nb\n")
    cut, following = reader.file.read(reader.now), reader.file.read(reader.now)
    assert reader.file.read(reader.now) is None
    assert cut is not None
    assert following is not None
    assert (cut.line, cut.is_cut, set(cut.text)) == (2, True, set(b"x"))
    assert (following.line, following.text) == (3, b"y" * 200 + b"\nb\n")


def test_a_record_over_several_lines_comes_whole(log: Path) -> None:
    log.write_bytes(b'a "\nb\n')
    file = GrowingFile(log, None, goes_on=goes_on)
    try:
        assert file.read(0) is None
        append(log, b'" c\nd\ne "\n')
        found = file.read(0)
        assert found is not None
        assert found.text == b'a "\nb\n" c\nd\n'
    finally:
        file.close()


def test_a_record_of_lines_that_is_too_long_ends_where_its_quote_does(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "_PIECE_BYTES", 64)
    monkeypatch.setattr(growing_file, "MOST_LINE_BYTES", 256)
    log.write_bytes(b'a\n"' + b"forged\n" * 100)
    file = GrowingFile(log, None, goes_on=goes_on)
    try:
        found = file.read(0)
        assert found is not None
        assert found.text == b"a\n"
        for _ in range(3):
            assert file.read(0) is None
            append(log, b"forged\n" * 20)
        append(log, b'"\nb\n')
        cut, following = file.read(0), file.read(0)
        assert cut is not None
        assert following is not None
        assert (cut.line, cut.is_cut, cut.text[:7]) == (2, True, b'"forged')
        assert (following.line, following.text) == (163, b"b\n")
    finally:
        file.close()


def test_what_has_no_lines_of_text_and_foreign_positions_are_refused(log: Path) -> None:
    for content, what in ((gzip.compress(b"a\n"), "without --follow"), (b"PAR1....", "Parquet")):
        log.write_bytes(content)
        with pytest.raises(InvalidRequest, match=what):
            GrowingFile(log, None).read(0)
    with pytest.raises(InvalidRequest, match="holds no position"):
        parse_position("8kq2m9x4ty-1", log, log)
    with pytest.raises(InvalidRequest, match="holds the position in /other"):
        parse_position(FilePosition("/other", 1, 1, 1, "").text(), log, log)
