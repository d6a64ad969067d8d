"""The file of `tail --output`, and that of its cursor: nothing torn, nothing twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.event_file import EventFile
from gateway.cli.tail import begin_of
from gateway.errors import InvalidRequest, Unavailable
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from tests.support.format_examples import EXAMPLES
from tests.support.stream_server import cursor, event


def lines(*offsets: int) -> list[bytes]:
    """Events without their line ends."""
    return [event(offset)[:-1] for offset in offsets]


@contextmanager
def opened(path: Path, size: int = 0, keep: int = 1) -> Iterator[EventFile]:
    file = EventFile(path, size, keep)
    try:
        yield file
    finally:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


def test_events_are_appended_one_per_line(path: Path) -> None:
    for offsets in ((1, 2), (3,)):
        with opened(path) as file:
            file.write(lines(*offsets))
            file.sync()
    assert path.read_bytes() == event(1) + event(2) + event(3)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_without_events_has_no_cursor(path: Path) -> None:
    with opened(path) as file:
        assert file.cursor is None


@pytest.mark.parametrize("before", [0, 1, 20_000])
def test_whatever_a_last_line_was_torn_to_is_cut_off(path: Path, before: int) -> None:
    whole = b"".join(event(offset) for offset in range(before))
    for kept in (*range(1, 30), len(event(7)) - 1):
        path.write_bytes(whole + event(7)[:kept])
        with opened(path) as file:
            assert file.cursor == (cursor(before - 1) if before else None)
            file.write(lines(8))
        assert path.stat().st_size == len(whole) + len(event(8))
    assert path.read_bytes() == whole + event(8)


def test_the_last_whole_line_says_where_to_go_on(path: Path) -> None:
    kept = CursorFile(path.with_name("position"))
    kept.write(cursor(2))
    path.write_bytes(event(1) + event(2) + event(3))
    with opened(path) as file:
        assert begin_of(kept, file) == cursor(3)


def test_the_kept_cursor_says_where_to_go_on_where_the_file_is_empty(path: Path) -> None:
    kept = CursorFile(path.with_name("position"))
    with opened(path) as file:
        assert begin_of(kept, file) is None
        kept.write(cursor(9))
        assert begin_of(kept, file) == cursor(9)
    assert begin_of(kept, None) == cursor(9)


@pytest.mark.parametrize(("newer", "expected"), [(True, 5), (False, 4)])
def test_a_file_that_was_rotated_just_now_says_where_to_go_on(
    path: Path, newer: bool, expected: int
) -> None:
    """As when the process was killed between the rotation and the next event."""
    kept = CursorFile(path.with_name("position"))
    kept.write(cursor(4))
    rotated = path.with_name("events.ndjson.1")
    rotated.write_bytes(event(4) + event(5) + event(6)[:20])
    at = kept.path.stat().st_mtime_ns + (1 if newer else -1)
    os.utime(rotated, ns=(at, at))
    with opened(path) as file:
        assert begin_of(kept, file) == cursor(expected)
        kept.path.unlink()
        assert begin_of(kept, file) == cursor(5)


@pytest.mark.parametrize(
    "content",
    [b"notes\n", b"some text", b"{}\n", b'{"cursor":7}\n', b'"cursor"\n', b"[]\n", b"\n", b"\xff\n",
     b'{"a":1}'],
)  # fmt: skip
def test_a_file_of_something_else_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="does not end with an event"):
        EventFile(path)
    assert path.read_bytes() == content


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest, match="is no file"):
        EventFile(tmp_path / "pipe")


def test_two_writers_of_one_file_are_refused(path: Path) -> None:
    with opened(path), pytest.raises(Unavailable, match="another process writes to"):
        EventFile(path)
    with opened(path):
        pass


def test_a_file_is_rotated_before_it_is_larger_than_its_size(path: Path) -> None:
    size = len(event(10)) * 3
    with opened(path, size, keep=2) as file:
        file.write(lines(*range(10, 15)))
        file.write(lines(*range(15, 20)))
    contents = [path, path.with_name("events.ndjson.1"), path.with_name("events.ndjson.2")]
    assert [one.read_bytes() for one in contents] == [
        event(19),
        event(16) + event(17) + event(18),
        event(13) + event(14) + event(15),
    ]
    assert not path.with_name("events.ndjson.3").exists()


def test_an_event_larger_than_the_size_has_a_file_of_its_own(path: Path) -> None:
    with opened(path, 10, keep=9) as file:
        file.write(lines(1, 2))
    assert path.with_name("events.ndjson.1").read_bytes() == event(1)
    assert path.read_bytes() == event(2)


def test_after_a_rotation_by_others_the_new_file_is_written(path: Path) -> None:
    moved = path.with_name("moved")
    with opened(path) as file:
        file.write(lines(1))
        path.rename(moved)
        file.write(lines(2))
        file.reopen()
        file.write(lines(3))
        with pytest.raises(Unavailable):
            EventFile(path)
    assert moved.read_bytes() == event(1) + event(2)
    assert path.read_bytes() == event(3)


def test_a_file_that_others_emptied_goes_on_at_its_begin(path: Path) -> None:
    with opened(path) as file:
        file.write(lines(1))
        os.truncate(path, 0)
        file.write(lines(2))
    assert path.read_bytes() == event(2)


def test_a_cursor_is_replaced_as_a_whole(tmp_path: Path) -> None:
    kept = CursorFile(tmp_path / "position")
    assert kept.read() is None
    for offset in (1, 2):
        kept.write(cursor(offset))
        assert kept.path.read_text() == f"{cursor(offset)}\n"
        assert CursorFile(kept.path).read() == cursor(offset)
    assert [file.name for file in tmp_path.iterdir()] == ["position"]


def test_a_file_that_is_empty_keeps_no_cursor_and_a_binary_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.touch()
    assert CursorFile(path).read() is None
    path.write_bytes(b"\xff\x00")
    with pytest.raises(InvalidRequest, match="holds no cursor"):
        CursorFile(path).read()


def test_a_rotation_that_was_broken_off_loses_nothing_at_the_next(path: Path) -> None:
    """It was killed when it had moved `.2` to `.3`, and not yet `.1` to `.2`."""
    path.with_name("events.ndjson.3").write_bytes(event(1))
    path.with_name("events.ndjson.1").write_bytes(event(2))
    path.write_bytes(event(3))
    with opened(path, 1, keep=9) as file:
        file.write(lines(4))
    names = ["events.ndjson.3", "events.ndjson.2", "events.ndjson.1", "events.ndjson"]
    assert [path.with_name(name).read_bytes() for name in names] == [*map(event, (1, 2, 3, 4))]


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_in_any_format_goes_on_behind_its_last_whole_line(path: Path, name: str) -> None:
    encode = make_formats()[name].encode
    made = [encode(native) for native in EXAMPLES.values()]
    for kept in (1, 5, 30, len(made[-1]) - 1):
        path.write_bytes(b"".join(line + b"\n" for line in made[:2]) + made[2][:kept])
        file = EventFile(path, format=name)
        try:
            assert file.cursor == "abc-00000000000000000001"
            file.write(made[2:])
        finally:
            file.close()
        assert path.read_bytes() == b"".join(line + b"\n" for line in made)
    path.write_bytes(made[0][:3])
    EventFile(path, format=name).close()
    assert path.read_bytes() == b""


def test_a_file_in_another_format_is_left_alone(path: Path) -> None:
    made = {name: one.encode(EXAMPLES["failed login"]) for name, one in make_formats().items()}
    for name, line in made.items():
        path.write_bytes(line + b"\n")
        for other in FORMAT_NAMES:
            if other != name:
                with pytest.raises(InvalidRequest, match=f"in the format {other}"):
                    EventFile(path, format=other)
        assert path.read_bytes() == line + b"\n"


def test_a_file_that_still_has_the_name_is_kept_open(path: Path) -> None:
    """As where logrotate copies and truncates, or sends its signal twice."""
    with opened(path) as file:
        file.write(lines(1))
        file.reopen()
        file.write(lines(2))
        with pytest.raises(Unavailable):
            EventFile(path)
    assert path.read_bytes() == event(1) + event(2)
