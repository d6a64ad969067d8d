"""`serve --workers`: several processes on one port keep the promises of one, also as they die."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from worker_streams import LOST, Producer, Subscriber, bearer

from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import Stopwatch, patience

pytestmark = pytest.mark.slow
_WORKERS = 3
_READ = {"actions": ["stream", "pull"], "categories": ["**"]}
_WRITE = {"actions": ["ingest"], "categories": ["**"]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request has a connection of its own, so that they spread over the workers."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session


@contextmanager
def several(data: Path, *options: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(data, "--workers", str(_WORKERS), *options) as gateway:
        yield gateway


def worker_pids(gateway: GatewayProcess) -> dict[int, int]:
    """The newest process of each worker."""
    said = re.findall(r"worker (\d+) is process (\d+)", gateway.errors)
    return {int(number): int(pid) for number, pid in said}


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)


async def kill(gateway: GatewayProcess, number: int) -> None:
    """SIGKILL a worker; returns when the next process has taken its place."""
    pid = worker_pids(gateway)[number]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: worker_pids(gateway)[number] != pid, f"another worker {number}")


async def figures(gateway: GatewayProcess, session: aiohttp.ClientSession) -> dict[str, int]:
    async with session.get(f"{gateway.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    rows = dict(line.removeprefix("audit_gateway_").split(" ") for line in lines if line[0] != "#")
    # Of histograms a sum is no whole number.
    return {name: int(float(value)) for name, value in rows.items()}


async def streams_by_worker(
    gateway: GatewayProcess, session: aiohttp.ClientSession, total: int
) -> list[int]:
    """How many streams each worker has, once they say that there are so many."""
    deadline = time.monotonic() + patience(10)
    while True:
        known = await figures(gateway, session)
        by_transport = [known[name] for name in known if name.startswith("open_streams{transport=")]
        if known["streams"] == sum(by_transport) == total:
            return [known[f'worker_streams{{worker="{number}"}}'] for number in range(_WORKERS)]
        assert time.monotonic() < deadline, known
        await asyncio.sleep(0.05)


async def to_close(websocket: aiohttp.ClientWebSocketResponse) -> tuple[int, int | None]:
    """How many messages came, and the close code."""
    messages = [message async for message in websocket]
    return len(messages), websocket.close_code


def never(subscriber: Subscriber) -> bool:
    return False


def has_the_last(subscriber: Subscriber) -> bool:
    return bool(subscriber.got) and subscriber.got[-1][1].startswith("last-")


async def test_nothing_is_lost_or_repeated_while_workers_are_killed(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data") as gateway:
        writing, reading = gateway.make_key(_WRITE), gateway.make_key(_READ)
        stop = asyncio.Event()
        producers = [
            Producer(gateway.url, writing, f"p{number}", session, stop) for number in range(8)
        ]
        subscribers = [Subscriber(gateway.url, reading, session) for _ in range(60)]
        reads = [asyncio.create_task(one.run(has_the_last)) for one in subscribers]
        spread = await streams_by_worker(gateway, session, 60)
        assert min(spread) >= 5, spread
        writes = [asyncio.create_task(one.run()) for one in producers]
        # Worker 0 writes the log.
        for number in random.sample([0, 0, 0, 0, 1, 1, 2, 2], 8):
            await asyncio.sleep(random.uniform(0.1, 0.5))
            await kill(gateway, number)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*writes), patience(20))
        producers.append(Producer(gateway.url, writing, "last", session, stop))
        await asyncio.wait_for(producers[-1].run(), patience(20))
        await asyncio.wait_for(asyncio.gather(*reads), patience(20))

    # Between the events of the test there are those of the gateway itself.
    got = subscribers[0].got
    assert [offset for offset, _ in got] == sorted({offset for offset, _ in got})
    log = dict(got)
    sent = {one for producer in producers for one in producer.sent}
    assert set(log.values()) == sent
    assert len(log) == len(sent) > 100
    for producer in producers:
        assert producer.acknowledged.items() <= log.items()
        assert producer.refusals <= {"writer_away", "outcome_unknown", "stopping"}
    assert all(subscriber.got == got for subscriber in subscribers)
    assert sum(subscriber.connections for subscriber in subscribers) > 60 + 8


async def test_a_revoked_key_loses_its_streams_on_every_worker_within_a_second(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data") as gateway:
        doomed, spared = gateway.make_key(_READ), gateway.make_key(_READ)
        streams = [Subscriber(gateway.url, doomed, session) for _ in range(30)]
        others = [Subscriber(gateway.url, spared, session) for _ in range(5)]
        reads = [asyncio.create_task(one.run(never)) for one in streams]
        remaining = [asyncio.create_task(one.run(never)) for one in others]
        assert min(await streams_by_worker(gateway, session, 35)) > 0
        watch = Stopwatch()
        status, _ = await asyncio.to_thread(
            gateway.ask, "POST", f"/v1/keys/{doomed[5:17]}/revoke", gateway.first_key
        )
        assert status == 200
        await asyncio.wait_for(asyncio.gather(*reads), patience(5))
        took = watch.seconds
        assert {(one.end or {})["code"] for one in streams} == {4501}
        assert all(one.open for one in others)
        assert took < 1.0
        for task in remaining:
            task.cancel()


async def test_sigterm_ends_the_streams_of_all_workers_with_their_cursors(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data") as gateway:
        key = gateway.make_key(_READ)
        gateway.post([{"category": "test", "action": "test"}] * 3, gateway.first_key)
        sse = [Subscriber(gateway.url, key, session) for _ in range(20)]
        reads = [asyncio.create_task(one.run(lambda it: it.end is not None)) for one in sse]
        sockets = [
            await session.ws_connect(f"{gateway.url}/v1/stream?from=start", headers=bearer(key))
            for _ in range(10)
        ]
        assert min(await streams_by_worker(gateway, session, 30)) > 0
        await until(lambda: all(len(one.got) == 3 for one in sse), "three events each")
        pids = worker_pids(gateway).values()
        ends = [asyncio.create_task(to_close(one)) for one in sockets]
        watch = Stopwatch()
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await asyncio.wait_for(asyncio.gather(*reads), patience(10))
        for one in sse:
            assert one.end is not None
            assert (one.end["code"], one.end["reconnect"]) == (1012, True)
            assert one.end["cursor"] == one.cursor
        assert await asyncio.wait_for(asyncio.gather(*ends), patience(10)) == [(3, 1012)] * 10
        await stopping
        assert watch.seconds < 5
        assert not any(map(is_alive, pids))
        assert not (tmp_path / "data" / "writer.sock").exists()


async def test_without_the_writer_streams_stay_and_ingest_is_refused(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data") as gateway:
        key = gateway.make_key(_READ, _WRITE)
        # A connection to each follower, kept, as the dead writer's share of new ones has to wait.
        keeping = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=keeping) as kept:
            stream = Subscriber(gateway.url, key, kept)
            reading = asyncio.create_task(stream.run(never))
            events = f"{gateway.url}/v1/events"
            event = {"category": "test", "action": "test"}

            async def post(number: int) -> tuple[int, dict[str, str]]:
                body = {**event, "id": str(number)}
                async with kept.post(events, json=body, headers=bearer(key)) as answer:
                    return answer.status, await answer.json(content_type=None)

            first = await asyncio.gather(*map(post, range(12)))
            assert {status for status, _ in first} == {201}
            await until(lambda: len(stream.got) == 12, "all events")

            os.kill(gateway.pid, signal.SIGSTOP)
            try:
                os.kill(worker_pids(gateway)[0], signal.SIGKILL)
                codes = set()
                for number in range(12):
                    try:
                        async with asyncio.timeout(patience(2)):
                            status, said = await post(100 + number)
                    except LOST:
                        # It was connected to the writer, or would be.
                        continue
                    codes.add((status, said["code"]))
                # The first one may be on its way when the writer ends.
                assert codes - {(503, "outcome_unknown")} == {(503, "writer_away")}
                async with kept.get(events, headers=bearer(key)) as answer:
                    assert len((await answer.json())["events"]) == 12
            finally:
                os.kill(gateway.pid, signal.SIGCONT)
            status = 503
            while status == 503:
                status, _ = await post(200)
            assert status == 201
            await until(lambda: len(stream.got) == 13, "the event after it")
            reading.cancel()


async def test_workers_whose_supervisor_is_killed_drain_and_free_the_folder(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    with several(data) as gateway:
        key = gateway.make_key(_READ)
        stream = Subscriber(gateway.url, key, session)
        reading = asyncio.create_task(stream.run(lambda it: it.end is not None))
        await until(lambda: stream.open, "the stream")
        pids = worker_pids(gateway).values()
        gateway.kill()
        await asyncio.wait_for(reading, patience(10))
        assert stream.end is not None
        assert stream.end["code"] == 1012
        await until(lambda: not any(map(is_alive, pids)), "the end of all workers")
    with several(data) as again:
        again.post([{"category": "test", "action": "test"}], gateway.first_key)


async def test_counters_outlive_the_workers_that_counted(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data") as gateway:
        stop = asyncio.Event()
        stream = Subscriber(gateway.url, gateway.make_key(_READ), session)
        reading = asyncio.create_task(stream.run(lambda it: stop.is_set()))
        for number in range(_WORKERS):
            await streams_by_worker(gateway, session, 1)
            await kill(gateway, number)
        await streams_by_worker(gateway, session, 1)
        known = await figures(gateway, session)
        assert known["streams_opened_total"] == stream.connections > 1
        reading.cancel()


async def test_a_listener_for_metrics_answers_for_all_workers_and_outlives_the_one_that_has_it(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    host = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.8"
    at = {"AUDIT_GATEWAY_METRICS__HOST": host, "AUDIT_GATEWAY_METRICS__PORT": "9464"}
    with GatewayProcess(tmp_path / "data", "--workers", "2", settings=at) as gateway:

        async def shown() -> str:
            try:
                async with session.get(f"http://{host}:9464/metrics") as answer:
                    return await answer.text()
            except aiohttp.ClientConnectionError:
                return ""

        assert '_worker_streams{worker="1"}' in await shown()
        pid = worker_pids(gateway)[0]
        # The supervisor does not start it again yet.
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not is_alive(pid), "the end of worker 0")
            # Another program that takes the port now would keep worker 0 away.
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind((host, 9464))
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        await until(lambda: worker_pids(gateway)[0] != pid, "another worker 0")
        deadline = time.monotonic() + patience(10)
        # One worker counts the keys for all.
        while '_keys{state="active"} 1.0\n' not in (text := await shown()):
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.01)
        assert '_worker_streams{worker="1"}' in text
        gateway.post([{"category": "test", "action": "test"}], gateway.first_key)


def test_a_worker_that_dies_again_and_again_is_started_after_growing_pauses(
    tmp_path: Path,
) -> None:
    with several(tmp_path / "data") as gateway:
        for _ in range(4):
            asyncio.run(kill(gateway, 1))
        gateway.post([{"category": "test", "action": "test"}], gateway.first_key)
        pauses = re.findall(r"worker 1 .* starting it again in ([0-9.]+) s", gateway.errors)
        assert pauses == ["0.0", "0.1", "0.2", "0.4"]


def test_a_worker_that_is_asked_to_end_is_replaced(tmp_path: Path) -> None:
    with several(tmp_path / "data") as gateway:
        pid = worker_pids(gateway)[0]
        os.kill(pid, signal.SIGTERM)
        asyncio.run(until(lambda: worker_pids(gateway)[0] != pid, "another writer"))
        event = {"category": "test", "action": "test"}
        codes = set()
        while True:
            status, said = gateway.ask("POST", "/v1/events", gateway.first_key, event)
            if status == 201:
                break
            codes.add((status, said["code"]))
        assert codes <= {(503, "writer_away"), (503, "outcome_unknown")}


def test_the_folder_of_several_workers_is_refused_to_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with several(data) as gateway:
        for options in ((), ("--workers", "2")):
            done = run_program("serve", "--data", str(data), "--port", "0", *options)
            assert done.returncode == 5
            [line] = done.stderr.splitlines()
            # The process to stop: a single worker would only be replaced.
            assert str(gateway.pid) in line


def test_the_port_of_several_workers_is_refused_to_others(tmp_path: Path) -> None:
    with several(tmp_path / "data") as gateway:
        for options in ((), ("--workers", "2")):
            other = ["--data", str(tmp_path / "other"), "--port", str(gateway.port)]
            done = run_program("serve", *other, *options)
            assert done.returncode == 5
            [line] = done.stderr.splitlines()
            assert f":{gateway.port}" in line
            assert "--port" in line


def test_the_port_for_metrics_of_several_workers_is_neither_shared_nor_taken_from_others(
    tmp_path: Path,
) -> None:
    host = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.9"
    at = {"AUDIT_GATEWAY_METRICS__HOST": host, "AUDIT_GATEWAY_METRICS__PORT": "9464"}
    serve = ["serve", "--data", str(tmp_path / "data"), "--workers", "2", "--host", host, "--port"]
    same = run_program(*serve, "9464", settings=at)
    with socket.create_server((host, 9464)):
        taken = run_program(*serve, "0", settings=at)
    for done, chosen_by in ((same, "--port"), (taken, "metrics.port")):
        assert done.returncode == 5
        [line] = done.stderr.splitlines()
        assert f"{host}:9464" in line
        assert chosen_by in line


def test_workers_that_cannot_start_end_with_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "pepper").write_bytes(b"short")
    (data / "pepper").chmod(0o600)
    done = run_program("serve", "--data", str(data), "--port", "0", "--workers", "2")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert line.startswith("error: ")
    assert "pepper" in line


async def test_a_demo_goes_on_after_the_writer_died_and_greets_once(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(tmp_path / "data", "--demo") as gateway:
        await kill(gateway, 0)
        before = (await figures(gateway, session))["log_head_offset"]
        # It begins with ten events at once.
        deadline = time.monotonic() + patience(10)
        while (await figures(gateway, session))["log_head_offset"] < before + 10:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        said = "\n".join(gateway.said) + gateway.stop()
    assert said.count("is listening on") == 1
    assert said.count("first admin key") == 1
    assert said.count("curl ") == 1
