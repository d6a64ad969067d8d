"""Segments of the type `file`: each event once, through crashes at any point."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.delivery.files.folder import OpenFolder, is_inside
from gateway.delivery.files.segments import Rotation, Segments, Stopping, cursor_of
from tests.support.cases import every
from tests.support.outbound_events import outbound_event

HOUR = 3600.0
START = 1_795_946_400.0
EVENTS = [outbound_event(number, data={"text": "x" * 40}) for number in range(1, 13)]
LINES = [event.json for event in EVENTS]


def segments(folder: Path, size: int = 1 << 20, seconds: float = HOUR) -> Segments:
    return Segments(folder, "", "siem", Rotation(size, seconds))


@contextmanager
def opened(folder: Path, *rotation: Any) -> Iterator[Segments]:
    made = segments(folder, *rotation)
    made.recover()
    try:
        yield made
    finally:
        made.close()


def append(made: Segments, first: int, last: int, now: float = START) -> None:
    """Append events by number."""
    made.append(LINES[first - 1 : last], EVENTS[first - 1].cursor, now)


def manifest(folder: Path) -> list[dict[str, Any]]:
    path = folder / "siem.manifest.ndjson"
    return list(map(orjson.loads, path.read_bytes().splitlines())) if path.exists() else []


def content(folder: Path) -> list[bytes]:
    """All lines, of closed segments by the manifest and of the one that grows; checks them."""
    lines: list[bytes] = []
    for entry in manifest(folder):
        packed = (folder / entry["file"]).read_bytes()
        plain = gzip.decompress(packed)
        assert hashlib.sha256(packed).hexdigest() == entry["sha256"]
        assert hashlib.sha256(plain).hexdigest() == entry["content_sha256"]
        assert len(plain) == entry["bytes"]
        inside = plain.splitlines()
        assert entry["events"] == len(inside)
        assert (entry["first"], entry["last"]) == (cursor_of(inside[0]), cursor_of(inside[-1]))
        lines += inside
    growing = sorted(folder.glob("siem-*.ndjson"))
    for path in growing:
        lines += path.read_bytes().splitlines()
    assert len(growing) <= 1
    return lines


def test_events_are_appended_to_one_file_that_only_the_gateway_reads(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        append(made, 1, 2)
        append(made, 3, 3)
    [path] = tmp_path.glob("siem-*.ndjson")
    assert path.name == f"siem-20261129T100000Z-{EVENTS[0].cursor}.ndjson"
    assert path.read_bytes() == b"".join(line + b"\n" for line in LINES[:3])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_last_event_is_known_from_the_file_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        assert made.recover() == ""
        append(made, 1, 4)
    with opened(tmp_path) as made:
        assert made.recover() == EVENTS[3].cursor
        append(made, 5, 5)
    assert content(tmp_path) == LINES[:5]


@every([b"", b"{", LINES[4][:-1], LINES[4], bytes(4096)])
def test_a_torn_line_is_cut_off(torn: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder) as made:
            append(made, 1, 4)
        [path] = folder.glob("siem-*.ndjson")
        path.write_bytes(path.read_bytes() + torn)
        with opened(folder) as made:
            assert made.recover() == EVENTS[3].cursor
            append(made, 5, 6)
        assert content(folder) == LINES[:6]


def test_a_file_with_nothing_but_a_torn_line_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        append(made, 1, 1)
    [path] = tmp_path.glob("siem-*.ndjson")
    path.write_bytes(LINES[0][:20])
    with opened(tmp_path) as made:
        assert made.recover() == ""
    assert not list(tmp_path.glob("siem-*.ndjson"))


def test_segments_are_closed_by_size_and_by_age_and_listed(tmp_path: Path) -> None:
    size = 2 * len(LINES[0]) + 2
    with opened(tmp_path, size) as made:
        for number in range(1, 6):
            append(made, number, number, START)
    assert [entry["events"] for entry in manifest(tmp_path)] == [2, 2]
    with opened(tmp_path) as made:
        append(made, 6, 6, START + HOUR - 1)
        append(made, 7, 7, START + HOUR)
    assert [entry["events"] for entry in manifest(tmp_path)] == [2, 2, 2]
    assert content(tmp_path) == LINES[:7]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_batch_is_never_divided_over_two_files(tmp_path: Path) -> None:
    with opened(tmp_path, len(LINES[0])) as made:
        append(made, 1, 3)
        append(made, 4, 6)
    assert [entry["events"] for entry in manifest(tmp_path)] == [3]


def test_closed_files_may_be_taken_away(tmp_path: Path) -> None:
    with opened(tmp_path, 1) as made:
        append(made, 1, 2)
        append(made, 3, 4)
    for path in tmp_path.glob("siem-*"):
        path.unlink()
    with opened(tmp_path) as made:
        assert made.recover() == EVENTS[1].cursor


def test_a_file_that_somebody_has_written_to_is_kept_and_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        append(made, 1, 2)
    [path] = tmp_path.glob("siem-*.ndjson")
    path.write_bytes(path.read_bytes() + b"# note\n")
    with opened(tmp_path) as made:
        assert made.recover() == ""
    assert [entry["events"] for entry in manifest(tmp_path)] == [3]


class Crash(BaseException):
    """The process dies here."""


CALLS = ("write", "fsync", "rename", "unlink", "ftruncate", "open", "close")


@contextmanager
def failing(at: int, error: BaseException, *calls: str) -> Iterator[list[int]]:
    """Have the call of the operating system with that number fail instead of being made; half of
    what it would have written is there."""
    count = [0]
    kept: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in calls}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            count[0] += 1
            if count[0] == at:
                if name == "write":
                    kept["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                raise error
            return kept[name](*args, **named)

        return call

    for name in calls:
        setattr(os, name, wrapped(name))
    try:
        yield count
    finally:
        for name, call in kept.items():
            setattr(os, name, call)


def carry_on(folder: Path, size: int, steps: list[int]) -> None:
    """Deliver what is not there yet, from the cursor that the files say."""
    made = segments(folder, size)
    try:
        cursor = made.recover()
        at = next((n for n, one in enumerate(EVENTS, 1) if one.cursor == cursor), 0)
        for last in steps:
            if last > at:
                append(made, at + 1, last, START + last)
                at = last
    finally:
        for fd in (made._fd, made._lock):
            if fd >= 0:
                os.close(fd)
        if made._folder is not None:
            made._folder.close()


def test_each_event_is_there_once_wherever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that dies loses nothing that it has written; the disk would only take its time.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    size, steps = 3 * len(LINES[0]), [2, 4, 6, 8, 9, 12]
    expected = LINES[:12]
    points = 0
    for point in range(1, 400):
        folder = tmp_path / str(point)
        folder.mkdir()
        done = False
        with failing(point, Crash(), *(name for name in CALLS if name != "close")) as count:
            try:
                carry_on(folder, size, steps)
                done = count[0] < point
            except Crash:
                points += 1
        # It dies once more, while it mends what the first death has left.
        with failing(1 + point % 7, Crash(), "fsync", "rename", "unlink"):
            try:
                carry_on(folder, size, [])
            except Crash:
                pass
        carry_on(folder, size, steps)
        assert content(folder) == expected, point
        assert len(manifest(folder)) >= 2
        if done:
            break
    assert done
    assert points > 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_append_that_fails_leaves_nothing(tmp_path: Path, number: int) -> None:
    for at in (1, 2):
        folder = tmp_path / str(at)
        folder.mkdir()
        with opened(folder) as made:
            append(made, 1, 2)
            with (
                failing(at, OSError(number, "no"), "write", "fsync"),
                pytest.raises(OSError, match="no"),
            ):
                append(made, 3, 4)
            assert content(folder) == LINES[:2]
            append(made, 3, 5)
        assert content(folder) == LINES[:5]


def test_a_segment_that_cannot_be_closed_is_closed_later(tmp_path: Path) -> None:
    with opened(tmp_path, 1) as made:
        append(made, 1, 2)
        for _ in range(3):
            with (
                failing(1, OSError(errno.ENOSPC, "full"), "write"),
                pytest.raises(OSError, match="full"),
            ):
                append(made, 3, 4)
        append(made, 3, 4)
    assert content(tmp_path) == LINES[:4]
    assert not list(tmp_path.glob("*.tmp"))


def test_closing_can_be_broken_off_and_is_finished_at_the_next_start(tmp_path: Path) -> None:
    with opened(tmp_path, 1) as made:
        append(made, 1, 2)
        made.stopping = True
        with pytest.raises(Stopping):
            append(made, 3, 4)
    with opened(tmp_path, 1) as made:
        assert made.recover() == EVENTS[1].cursor
        append(made, 3, 4)
    assert content(tmp_path) == LINES[:4]


def test_two_processes_do_not_write_the_same_files(tmp_path: Path) -> None:
    other = segments(tmp_path)
    with opened(tmp_path), pytest.raises(BlockingIOError):
        other.recover()
    assert other.recover() == ""
    other.close()


def test_destinations_whose_names_begin_alike_share_a_folder(tmp_path: Path) -> None:
    other = Segments(tmp_path, "", "siem-20261129t100000z", Rotation(1, HOUR))
    assert other.recover() == ""
    other.append([LINES[0]], EVENTS[0].cursor, START)
    other.close()
    with opened(tmp_path) as made:
        assert made.recover() == ""


@every(["", "audit", "audit/siem", "a.b/c-d", "_x"])
def test_paths_below_the_folder_are_taken(path: str) -> None:
    assert is_inside(path)


@every(["/etc", "..", "a/../b", "./a", "a/", "a//b", ".hidden", "a\x00b", "~root", "a b", "../a"])
def test_paths_out_of_the_folder_are_refused(path: str) -> None:
    assert not is_inside(path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(OSError, match=r"link|directory"):
        OpenFolder(root, "link")
    OpenFolder(root, "own/deep").close()
    assert (root / "own" / "deep").is_dir()
    victim = outside / "victim"
    victim.write_bytes(b"")
    (root / ".siem.lock").symlink_to(victim)
    made = segments(root)
    with pytest.raises(OSError, match="symbolic links"):
        made.recover()
    made.close()


def test_cursors_are_found_where_formats_keep_them() -> None:
    for line in (
        b'{"cursor":"a-1"}', b'{"labels":{"cursor":"a-1","x":1}}', b'{"unmapped":{"cursor":"a-1"}}'
    ):  # fmt: skip
        assert cursor_of(line) == "a-1"
    for line in (b"", b"{", b"[]", b"{}", b'{"cursor":7}', b'{"labels":{"cursor":7}}', b"# note"):
        assert cursor_of(line) == ""
