"""`audit-gateway tail` as a bridge: into a file, with a position that is kept."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.cli import following
from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.event_file import EventFile
from gateway.cli.main import main
from gateway.cli.tail import begin_of
from gateway.client import Batch, ReceivedEvent, aio
from gateway.client.protocol import reading
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from tests.support.format_examples import EXAMPLES
from tests.support.machine_time import patience
from tests.support.stream_server import (
    COMPLETE,
    Answer,
    StreamServer,
    control,
    cursor,
    end,
    event,
    problem,
    running,
    stream,
)

Run = Callable[..., tuple[int, str, str]]
GAP = control("gap", reason="cursor_expired", missing=7, cursor=cursor(3))
DONE = end(1000, "complete", reconnect=False, offset=2)
FINAL = stream(end(4501, "key_revoked", reconnect=False))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tail` against a server: `(exit code, standard output, standard error)`."""
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_sample")

    def run(server: StreamServer, *arguments: object) -> tuple[int, str, str]:
        with running(server) as url:
            program = ["audit-gateway", "tail", "--url", url, *map(str, arguments)]
            monkeypatch.setattr(sys, "argv", program)
            with pytest.raises(SystemExit) as ended:
                main()
        output, said = capsys.readouterr()
        return int(ended.value.code or 0), output, said

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


@pytest.fixture
def position(file: Path) -> Path:
    """Where the cursor is kept, if no other place is named."""
    return file.with_name("events.ndjson.cursor")


def slowly(*parts: bytes, until: Callable[[], bool] = lambda: False) -> Answer:
    """A stream that says these, and then nothing but bookmarks until something holds."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        async with asyncio.timeout(patience()):
            while not until():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await response.write(COMPLETE)
        return response

    return answer


def test_events_are_appended_byte_for_byte_and_nothing_else(run: Run, file: Path) -> None:
    odd = event(2, reason="\u00e4 \x9b31m\u202e", data={"n": 1.50})
    server = StreamServer(
        stream(event(1), control("bookmark", cursor=cursor(1)), odd, cut=True),
        stream(GAP, control("notice", code="x"), control("caught-up", cursor=cursor(3)), event(4)),
        stream(end(1012, "restart", reconnect=True, offset=4)),
        stream(event(5), COMPLETE),
    )
    code, output, said = run(server, "--output", file)
    assert (code, output) == (0, "")
    assert file.read_bytes() == event(1) + odd + event(4) + event(5)
    assert "gap: reason cursor_expired" in said


def test_it_goes_on_behind_the_last_line_of_the_file(run: Run, file: Path) -> None:
    run(StreamServer(stream(event(1), event(2), COMPLETE)), "--output", file, "--from", "start")
    with file.open("ab") as torn:
        torn.write(event(3)[:40])
    server = StreamServer(stream(event(3), COMPLETE))
    run(server, "--output", file, "--from", "start", "--category", "auth")
    assert server.requests == [{"after": [cursor(2)], "category": ["auth"]}]
    assert file.read_bytes() == event(1) + event(2) + event(3)


def test_where_to_begin_counts_for_the_first_start_alone(run: Run, position: Path) -> None:
    for first in (["--from", "start"], ["--since", "15m"], ["--after", cursor(1)]):
        position.unlink(missing_ok=True)
        server = StreamServer(stream(event(2), DONE), stream(DONE))
        for _ in range(2):
            run(server, "--json", "--cursor-file", position, *first)
        assert server.requests == [{first[0][2:]: [first[1]]}, {"after": [cursor(2)]}]


def test_bookmarks_move_the_kept_cursor_over_what_is_not_for_us(
    run: Run, file: Path, position: Path
) -> None:
    server = StreamServer(
        stream(
            control("bookmark", cursor=cursor(900)),
            end(1000, "complete", reconnect=False, offset=900),
        )
    )
    run(server, "--output", file)
    assert position.read_text() == f"{cursor(900)}\n"
    assert file.read_bytes() == b""
    server = StreamServer(stream(COMPLETE))
    run(server, "--output", file)
    assert server.requests == [{"after": [cursor(900)]}]


def test_the_cursor_is_kept_elsewhere_if_it_is_named(run: Run, file: Path, position: Path) -> None:
    other = file.with_name("position")
    run(StreamServer(stream(event(2), DONE)), "--output", file, "--cursor-file", other)
    assert other.read_text() == f"{cursor(2)}\n"
    assert not position.exists()


def test_within_a_second_and_only_after_its_data_the_cursor_is_kept(
    run: Run, file: Path, position: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SETTLE_SECONDS", 0.01)
    done: list[str] = []
    sync, write = EventFile.sync, CursorFile.write

    def synced(file: EventFile) -> None:
        sync(file)
        done.append(f"synced {file.path.read_bytes().count(b'e1') > 0}")

    def written(kept: CursorFile, place: str) -> None:
        write(kept, place)
        done.append(f"kept {place}")

    monkeypatch.setattr(EventFile, "sync", synced)
    monkeypatch.setattr(CursorFile, "write", written)
    server = StreamServer(slowly(event(1), until=position.exists))
    assert run(server, "--output", file)[0] == 0
    assert done[:2] == ["synced True", f"kept {cursor(1)}"]


def test_at_sighup_the_file_is_opened_anew(run: Run, file: Path) -> None:
    moved = file.with_name("moved")

    def has_moved() -> bool:
        if file.exists() and file.read_bytes() and not moved.exists():
            file.rename(moved)
            os.kill(os.getpid(), signal.SIGHUP)
        return moved.exists() and file.exists()

    server = StreamServer(slowly(event(1), until=has_moved), stream())
    assert run(server, "--output", file)[0] == 0
    assert moved.read_bytes() == event(1)
    assert file.read_bytes() == b""


def test_it_ends_well_at_sigterm_with_all_in_its_place(
    run: Run, file: Path, position: Path
) -> None:
    told: list[bool] = []

    def tell() -> bool:
        if file.read_bytes() and not told:
            told.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    code, output, _ = run(StreamServer(slowly(event(1), until=tell)), "--output", file)
    assert (code, output) == (0, "")
    assert file.read_bytes() == event(1)
    assert position.read_text() == f"{cursor(1)}\n"


def test_a_file_that_cannot_be_written_ends_it_with_the_reason(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SETTLE_SECONDS", 0.01)
    code, _, said = run(
        StreamServer(slowly(event(1))), "--output", file, "--cursor-file", "/proc/1/x"
    )
    assert code == 1
    assert said.startswith("error: /proc/1/x")
    assert file.read_bytes() == event(1)


def test_nothing_comes_twice_where_writing_fails_behind_a_rotation(
    file: Path, position: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk. What was rotated says more than the cursor that was kept before it."""
    written = [Batch([ReceivedEvent(event(offset)[:-1], cursor(offset)) for offset in batch],
                     cursor(batch[-1])) for batch in ([1], [2, 3])]  # fmt: skip
    append = EventFile._append

    def full(output: EventFile, events: list[bytes]) -> None:
        if events == [event(3)[:-1]]:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(output, events)

    class Batches:
        async def batches(self) -> AsyncIterator[Batch]:
            for batch in written:
                yield batch

        async def acknowledge(self, batch: Batch) -> None:
            """It is not of a consumer."""

    monkeypatch.setattr(EventFile, "_append", full)
    kept, size = CursorFile(position), len(event(1) + event(2))
    with closing(EventFile(file, size)) as output:
        follower = following.StreamFollower(cast(Any, Batches()), output, kept, ends_well=True)
        with pytest.raises(OSError, match="No space"):
            asyncio.run(follower.run())
    with closing(EventFile(file, size)) as output:
        assert begin_of(kept, output) == cursor(2)


def test_it_is_rotated_by_size(run: Run, file: Path) -> None:
    size = len(event(10)) * 2
    server = StreamServer(stream(*map(event, range(10, 17)), COMPLETE))
    run(server, "--output", file, "--rotate-size", size, "--rotate-keep", 2)
    assert file.read_bytes() == event(16)
    assert file.with_name("events.ndjson.1").read_bytes() == event(14) + event(15)
    assert file.with_name("events.ndjson.2").read_bytes() == event(12) + event(13)


def test_pauses_are_at_most_what_is_said_and_a_busy_gateway_is_never_given_up(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(aio, "SLEEP", wait)
    busy = [problem(503)] * (reading.MAX_FIRST_TRIES * 4)
    arguments = ("--output", file, "--max-backoff", "2s")
    assert run(StreamServer(*busy, stream(event(1), COMPLETE)), *arguments)[0] == 0
    assert len(waits) == len(busy)
    assert 1 < max(waits) <= 2


def test_a_gateway_that_is_not_there_yet_is_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_sample")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    server = StreamServer(stream(event(1), COMPLETE))

    async def start(seconds: float) -> None:
        stack.enter_context(running(server, port=port))
        monkeypatch.setattr(aio, "SLEEP", asyncio.sleep)

    monkeypatch.setattr(aio, "SLEEP", start)
    program = ["audit-gateway", "tail", "--url", f"http://127.0.0.1:{port}", "--output", str(file)]
    monkeypatch.setattr(sys, "argv", program)
    with ExitStack() as stack, pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert file.read_bytes() == event(1)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(FINAL, 3), (problem(401), 3), (problem(410), 1), (problem(400), 2)],
)
def test_a_terminal_end_ends_it(run: Run, file: Path, answer: Answer, code: int) -> None:
    assert run(StreamServer(stream(event(1)), answer), "--output", file)[0] == code
    assert file.read_bytes() == event(1)


def test_the_later_one_of_both_positions_counts(run: Run, file: Path, position: Path) -> None:
    """A rare selection, the last of which retention has deleted long ago."""
    file.write_bytes(event(1))
    for kept, expected in ((900, 900), (0, 1)):
        position.write_text(cursor(kept))
        server = StreamServer(stream(DONE))
        run(server, "--output", file)
        assert server.requests == [{"after": [cursor(expected)]}]
    # One of another log says nothing of this one.
    position.write_text(f"zzz-{900:020d}")
    server = StreamServer(stream(DONE))
    run(server, "--output", file)
    assert server.requests == [{"after": [cursor(1)]}]


def test_a_file_that_was_rotated_before_it_was_locked_is_opened_anew(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(event(1))
    rotated = file.with_name("events.ndjson.1")
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if not rotated.exists():
            file.rename(rotated)
            file.touch()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with closing(EventFile(file)) as output:
        output.write([event(2)[:-1]])
    assert (rotated.read_bytes(), file.read_bytes()) == (event(1), event(2))


def test_options_that_do_not_go_together_are_refused(run: Run, file: Path) -> None:
    for options, told in (
        (["--rotate-size", "1MiB"], "--output"),
        (["--rotate-keep", "2"], "--output"),
        (["--output", file, "--rotate-keep", "2"], "--rotate-size"),
        (["--output", file, "--rotate-size", "0"], "100MiB"),
        (["--output", file, "--cursor-file", file], "each its own"),
        (["--output", file, "--json", "--format", "cef"], "two formats"),
    ):
        code, _, said = run(StreamServer(), *options)
        assert (code, said.count("\n")) == (2, 1)
        assert told in said
        assert not file.exists()


@pytest.mark.parametrize("option", [["--rotate-size", "big"], ["--max-backoff", "often"]])
def test_odd_values_are_refused_before_anything_is_done(
    run: Run, file: Path, option: list[str]
) -> None:
    code, _, said = run(StreamServer(), "--output", file, *option)
    assert (code, said.count("\n")) == (2, 1)
    assert not file.exists()


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_format_is_asked_for_and_printed_and_written_as_it_comes(
    run: Run, file: Path, name: str
) -> None:
    encode = make_formats()[name].encode
    natives = [
        native.replace(b"000001", b"%06d" % offset, 1)
        for offset, native in enumerate(EXAMPLES.values(), 1)
    ]
    one, *rest = [encode(native) + b"\n" for native in natives]
    body = b"".join([one, *rest])
    server = StreamServer(stream(body, COMPLETE))
    code, output, _ = run(server, "--format", name, "--from", "start")
    assert (code, output) == (0, body.decode())
    assert server.requests == [{"format": [name], "from": ["start"]}]
    # Cut off in the middle of a line, and given again from there.
    server = StreamServer(
        stream(control("bookmark", cursor=cursor(0)), one, rest[0][:50], cut=True),
        stream(*rest, COMPLETE),
    )
    assert run(server, "--format", name, "--output", file, "--from", "start")[0] == 0
    assert file.read_bytes() == body
    assert server.requests[1] == {"format": [name], "after": ["abc-00000000000000000001"]}


def test_what_is_no_event_in_the_format_is_no_event(run: Run) -> None:
    code, _, said = run(StreamServer(stream(event(1))), "--format", "cef")
    assert code == 2
    assert "no event in the format cef" in said


def test_a_consumer_is_acknowledged_behind_what_is_in_the_file(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SETTLE_SECONDS", 0.01)
    done: list[str] = []
    sync = EventFile.sync

    def synced(file: EventFile) -> None:
        sync(file)
        done.append("synced")

    monkeypatch.setattr(EventFile, "sync", synced)
    server = StreamServer(
        slowly(event(1), until=lambda: bool(server.acknowledged)),
        acknowledges=[200] * 9,
    )
    acknowledge = server.acknowledge

    async def noted(request: web.Request) -> web.StreamResponse:
        done.append("acknowledged")
        return await acknowledge(request)

    monkeypatch.setattr(server, "acknowledge", noted)
    assert run(server, "--consumer", "siem", "--output", file, "--from", "start")[0] == 0
    assert server.requests == [{"consumer": ["siem"], "from": ["start"]}]
    assert server.acknowledged[0] == cursor(1)
    assert done[:2] == ["synced", "acknowledged"]


def test_a_consumer_goes_on_behind_the_last_line_of_the_file(run: Run, file: Path) -> None:
    file.write_bytes(event(1) + event(2))
    done = end(1000, "complete", reconnect=False, offset=3)
    server = StreamServer(
        stream(event(3), cut=True), stream(event(3), done), acknowledges=[200] * 9
    )
    run(server, "--consumer", "siem", "--output", file)
    # The first request acknowledges what is in the file; the second lets the gateway say where.
    assert server.requests == [{"consumer": ["siem"], "after": [cursor(2)]}, {"consumer": ["siem"]}]
    assert file.read_bytes() == event(1) + event(2) + event(3)
    assert server.acknowledged[-1] == cursor(3)


def test_another_selection_is_asked_for_once_and_not_when_a_connection_is_lost(
    run: Run, file: Path
) -> None:
    done = end(1000, "complete", reconnect=False, offset=1)
    server = StreamServer(stream(event(1), cut=True), stream(done), acknowledges=[200] * 9)
    chosen = ("--category", "auth", "--update-selection")
    assert run(server, "--consumer", "siem", "--output", file, *chosen)[0] == 0
    reads = {"consumer": ["siem"], "category": ["auth"]}
    # Of two copies with different ones, the other would lose it again.
    assert server.requests == [{**reads, "selection": ["update"]}, reads]


def test_another_selection_is_that_of_a_consumer(run: Run) -> None:
    code, _, said = run(StreamServer(), "--update-selection")
    assert code != 0
    assert "--consumer" in said


def test_acknowledgements_that_fail_do_not_end_it(run: Run, file: Path) -> None:
    server = StreamServer(stream(event(1), DONE), acknowledges=[503] * 9)
    code, _, said = run(server, "--consumer", "siem", "--output", file)
    assert code == 0
    assert "not acknowledged" in said
