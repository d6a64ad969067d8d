"""The benchmark's own tools: what they count, and how they search and judge."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import fanout, machine, payload, plan, report, session, targets
from tests.benchmarks.programs import BenchmarkError, compile_program

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
WS_HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
FIRST = 1000


def marked(seq: int, size: int = 600) -> bytes:
    return payload.event(size).replace(payload.MARK, f"{seq:010d}:{1:019d}").encode()


def sse_in_small_chunks(events: list[bytes], size: int) -> bytes:
    """A stream whose chunks end anywhere, with a comment, ids and an event of another kind."""
    text = b": hello\nretry: 2000\n\nevent: caught-up\ndata: {}\n\n"
    text += b"".join(b"id: e-%d\ndata: %s\n\n" % (i, event) for i, event in enumerate(events))
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def ws_frames(events: list[bytes]) -> bytes:
    """Text frames of all three length forms, a ping among them, and a close."""
    out = [b"\x89\x03abc"]
    for event in events:
        size = len(event)
        wide = size > 65535
        head = (
            b"\x81\x7f" + size.to_bytes(8, "big") if wide else b"\x81\x7e" + size.to_bytes(2, "big")
        )
        out.append(head + event)
    return b"".join(out) + b"\x88\x02\x03\xe9"


@contextmanager
def serving(answer: bytes) -> Iterator[int]:
    """A port where every connection gets `answer` and is closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:

        def answer_all() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    asked = b""
                    while b"\r\n\r\n" not in asked:
                        asked += link.recv(4096)
                    link.sendall(answer)
                    link.shutdown(socket.SHUT_WR)
                    while link.recv(4096):
                        pass

        thread = threading.Thread(target=answer_all)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def counted(folder: Path, answer: bytes, mode: str, count: int) -> dict[str, Any]:
    with serving(answer) as port:
        client = session.subscribers(folder, port, [payload.subscription(mode, "/")], 2)
        with closing(client):
            client.ask(f"count {FIRST} {count} {count * 2} 10", 5)
            client.ask("open", 10)
            return client.answer(15)


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("sse", lambda events: SSE_HEAD + sse_in_small_chunks(events, 7)),
        ("sse", lambda events: SSE_HEAD + sse_in_small_chunks(events, 1000)),
        ("ws", lambda events: WS_HEAD + ws_frames(events)),
    ],
)
def test_load_client_counts_what_arrived_however_it_was_cut(
    tmp_path: Path, mode: str, answer: Callable[[list[bytes]], bytes]
) -> None:
    if not shutil.which("cc"):  # then all that can be tested is what the suite says
        with pytest.raises(BenchmarkError, match="install"):
            compile_program("load_client", tmp_path)
        return
    wanted = [0, 1, 3, 2, 2, 6, *range(7, 1000)]  # 2 late and twice; 4 and 5 never
    events = [marked(FIRST + seq) for seq in wanted]
    events[5] = marked(FIRST + 6, size=70_000)
    got = counted(tmp_path, answer([marked(1), *events]), mode, count=1000)
    found = {name: got[name] for name in ("delivered", "duplicates", "reordered", "stray")}
    assert found == {"delivered": 2 * 998, "duplicates": 2, "reordered": 2, "stray": 2}
    assert (got["fewest"], got["most"], got["closed"]) == (998, 998, 2)


@contextmanager
def answering(together: int) -> Iterator[int]:
    """A port where requests are answered when so many of them wait on each connection."""
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}" * together
    threads: list[threading.Thread] = []

    def serve(link: socket.socket) -> None:
        with link:
            received, answered = b"", 0
            while got := link.recv(65536):
                received += got
                if received.count(b"POST ") == answered + together:
                    answered += together
                    link.sendall(answer)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=serve, args=[listener.accept()[0]]))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept, args=[listener]))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("rate", [0, 1_000_000])
@pytest.mark.parametrize(("producers", "in_flight"), [(1, 16), (3, 1)])
def test_producer_has_as_many_requests_in_flight_as_it_may_on_each_connection(
    tmp_path: Path, rate: int, producers: int, in_flight: int
) -> None:
    if not shutil.which("cc"):
        return
    way = targets.Way("test", "", producers=producers, in_flight=in_flight)
    count = producers * in_flight * 10
    head = payload.post_head("/", "application/json")
    with (
        answering(in_flight) as port,
        closing(targets.producer(tmp_path, port, head, [payload.event()], way)) as producer,
    ):
        posted = producer.ask(f"run 1 {count} {rate} 1 60", 90)
    assert (posted["accepted"], posted["requests"], posted["refused"]) == (count, count, 0)


def test_what_fails_is_told_and_the_other_measurements_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, Any]:
        raise ValueError("a column is missing")

    measurements = [("first", broken), ("second", lambda: {"came_in": "well"})]
    monkeypatch.setitem(plan.SCENARIOS, "broken", lambda _: measurements)
    said: list[str] = []
    run = plan.Run(plan.MINIATURE, tmp_path, [], 0, said.append)
    run.scenario("broken")
    failed, measured = run.results["broken"]
    assert (failed["failed"], measured) == ("first", {"came_in": "well"})
    assert "a column is missing" in failed["error"]
    assert "Traceback" in "\n".join(said)


def test_event_has_the_size_that_was_asked_for_and_a_mark_of_fixed_width() -> None:
    text = payload.event(600, data={"n": 7}, tenant="other")
    assert len(text) == 600
    assert json.loads(text)["tenant"] == "other"
    assert f'"bench":"{payload.MARK}"' in text
    with pytest.raises(ValueError, match="more than 100"):
        payload.event(100)


def step(rate: float, *, p99_ms: float = 10, late: bool = False) -> session.Step:
    members: dict[str, Any] = dict.fromkeys(session.Step.__dataclass_fields__, 0)
    members.update(rate_asked=rate, p99_ms=p99_ms, producer_late=late)
    return session.Step(**members)


def search(serve: Callable[[float], session.Step], start: float) -> float:
    steps = [serve(start)]
    while (rate := fanout._next_rate(steps, 1.05)) is not None:
        steps.append(serve(rate))
    assert len(steps) < fanout.MOST_STEPS
    return max(one.rate_asked for one in steps if one.sustained)


@pytest.mark.parametrize("start", [40.0, 900.0, 40_000.0])
def test_search_ends_just_below_the_limit_wherever_it_begins(start: float) -> None:
    found = search(lambda rate: step(rate, late=rate > 777), start)
    assert 777 / 1.05 <= found <= 777


def test_search_goes_on_past_a_rate_that_is_only_late() -> None:
    def joins_under_load(rate: float) -> session.Step:
        return step(rate, p99_ms=140 if 100 < rate < 300 else 60, late=rate > 2000)

    assert search(joins_under_load, 40) > 1900


def test_table_says_which_goals_are_missed_and_which_runs_are_doubtful() -> None:
    def best(rate: float, **marks: Any) -> dict[str, Any]:
        usual = {"p99_ms": 9.0, "bytes_per_delivery": 604.0, "client_cpu_share": 0.5}
        return {"deliveries_per_second": rate, **usual, **marks}

    measured: list[tuple[str, targets.Way, dict[str, Any]]] = [
        ("gateway", targets.JOINED, best(1_300_000, client_saturated=True)),
        ("nchan", targets.PIPELINED, best(100_000, disturbed="steal 9%")),
        ("c-joined", targets.OWN, best(3_000_000)),
    ]
    found = [
        {"target": name, "mode": "ws", "subscribers": 1000, "way": way.name, "came_in": way.text,
         "best": step}
        for name, way, step in measured
    ]  # fmt: skip
    lines = {line.what: line for line in report.rows({"fanout": found})}
    assert lines["fan-out ws 1000 nchan"].came_in == targets.PIPELINED.text
    compared = lines["fan-out ws 1000 gateway/nchan's best"]
    assert compared.came_in == f"{targets.JOINED.text} / {targets.PIPELINED.text}"
    assert lines["fan-out ws 1000 gateway/nchan's best"].verdict == "met"
    assert lines["fan-out ws 1000 gateway/c-joined"].verdict == "MISSED"
    assert "CLIENT SATURATED" in lines["fan-out ws 1000 gateway"].remark
    assert "DISTURBED: steal 9%" in lines["fan-out ws 1000 gateway/nchan's best"].remark
    assert "DISTURBED" not in lines["fan-out ws 1000 gateway/c-joined"].remark
    assert "steal 9%" in report.table(lines.values())


def test_a_program_goes_as_all_others_where_going_first_would_starve_the_disk() -> None:
    def policy_of_a_program() -> int:
        stat = subprocess.check_output(["cat", "/proc/self/stat"], text=True)
        return int(stat.rpartition(")")[2].split()[38])

    def policies() -> list[int]:
        try:
            machine.go_first()
        except PermissionError:
            pytest.skip("a real-time policy takes root")
        found = [policy_of_a_program()]
        with machine.go_as_others():
            found.append(policy_of_a_program())
        return [*found, policy_of_a_program()]

    # The policy is that of a thread.
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(policies).result()
    assert found == [os.SCHED_RR, os.SCHED_OTHER, os.SCHED_RR]
