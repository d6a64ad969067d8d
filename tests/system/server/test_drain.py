"""Stopping the program: streams end with their cursors, in bounded time; and what stops a start."""

from __future__ import annotations

import asyncio
import signal

import aiohttp
import pytest
from gateway_client import event, offset_of
from gateways import Program, StartProgram, finish_program
from open_streams import TRANSPORTS, Stream, open_stream

from tests.support.machine_time import Stopwatch, eventually

# Two for the drain, one for everything around it on a loaded machine.
STOPPED_WITHIN = 3.0
EVENT = {"x": "y" * 50_000}


async def fill(gateway: Program, count: int) -> list[str]:
    ids = [f"large-{n}" for n in range(count)]
    for start in range(0, count, 100):
        await gateway.send(*(event(id=name, data=EVENT) for name in ids[start : start + 100]))
    return ids


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_ends_every_stream_with_1012_and_its_cursor(
    start_program: StartProgram, number: signal.Signals, workers: str
) -> None:
    gateway = await start_program(server__workers=workers)
    await gateway.send_many(5)
    streams = [await open_stream(gateway, name, from_="start") for name in TRANSPORTS * 2]
    for stream in streams:
        await stream.take(5)
    watch = Stopwatch()
    stopping = asyncio.create_task(gateway.stop(number))
    for stream in streams:
        end = await stream.to_end()
        assert (end["code"], end["reason"]) == (1012, "restart")
        assert end["cursor"] >= stream.events[-1]["cursor"]
        assert end.get("reconnect", True) is True
        assert getattr(stream, "ended_properly", True)
    code, errors = await stopping
    assert watch.seconds < STOPPED_WITHIN
    assert code == 0
    assert "Traceback" not in errors


async def test_the_cursor_of_a_drained_stream_resumes_after_the_restart(
    start_program: StartProgram,
) -> None:
    first = await start_program()
    sent = await first.send_many(10)
    streams = {name: await open_stream(first, name, from_="start") for name in TRANSPORTS}
    for stream in streams.values():
        await stream.take(10)
    stopping = asyncio.create_task(first.stop())
    cursors = {name: (await stream.to_end())["cursor"] for name, stream in streams.items()}
    assert (await stopping)[0] == 0
    second = await start_program(key=first.admin)
    await second.send(event(id="after"))
    for name, cursor in cursors.items():
        again = await open_stream(second, name, after=cursor)
        assert (await again.event())["id"] == "after"
    again = await open_stream(second, "sse", from_="start", follow="false")
    await again.to_end()
    assert [one["id"] for one in again.events] == [*sent, "after"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_slow_reader_gets_its_end_and_has_missed_nothing_up_to_its_cursor(
    start_program: StartProgram, transport: str
) -> None:
    """The last page is still on its way to a peer that takes a breath when the signal comes."""
    gateway = await start_program()
    sent = await fill(gateway, 200)
    stream = await open_stream(gateway, transport, from_="start", receive_buffer=4096)
    await stream.take(3)
    stopping = asyncio.create_task(gateway.stop())
    await asyncio.wait([stopping], timeout=0.2)
    end = await stream.to_end()
    assert (await stopping)[0] == 0
    assert (end["code"], end["cursor"]) == (1012, stream.events[-1]["cursor"])
    assert [one["id"] for one in stream.events] == sent[: len(stream.events)]


async def test_a_peer_that_does_not_read_holds_nothing_up(start_program: StartProgram) -> None:
    gateway = await start_program()
    await fill(gateway, 200)
    for name in TRANSPORTS:
        stalled = await open_stream(gateway, name, from_="start", receive_buffer=4096)
        await stalled.event()
    witness = await open_stream(gateway, "sse")
    watch = Stopwatch()
    stopping = asyncio.create_task(gateway.stop())
    assert (await witness.to_end())["code"] == 1012
    code, _ = await stopping
    assert code == 0
    assert watch.seconds < STOPPED_WITHIN


async def test_requests_under_way_do_not_hold_the_stop_up(start_program: StartProgram) -> None:
    gateway = await start_program()
    polling = asyncio.create_task(gateway.get("/v1/events", params={"wait": "60"}))
    reader, writer = await gateway.connect()
    writer.write(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {gateway.user}\r\nContent-Length: 100\r\n\r\n{{".encode()
    )
    _, idle = await gateway.connect()
    idle.write(b"GET /v1")
    # Answered one after the other, so the requests before are under way.
    assert (await gateway.get("/v1/events")).status == 200
    watch = Stopwatch()
    code, errors = await gateway.stop()
    assert watch.seconds < STOPPED_WITHIN
    assert (code, "Traceback" in errors) == (0, False)
    assert (await polling).json()["events"] == []
    await reader.read()


async def test_what_was_acknowledged_before_the_stop_is_there_after_it(
    start_program: StartProgram,
) -> None:
    first = await start_program()
    acknowledged: list[str] = []

    async def produce(number: int) -> None:
        try:
            for n in range(10_000):
                name = f"{number}-{n}"
                answer = await first.post("/v1/events", json=event(id=name))
                if answer.status != 201:
                    return
                acknowledged.append(name)
        except aiohttp.ClientError:
            pass

    producers = [asyncio.create_task(produce(number)) for number in range(8)]
    await eventually(lambda: len(acknowledged) >= 100, "a hundred are acknowledged")
    assert (await first.stop())[0] == 0
    await asyncio.gather(*producers)
    second = await start_program(key=first.admin)
    stream: Stream = await open_stream(second, "ndjson", from_="start", follow="false")
    await stream.to_end()
    stored = [one["id"] for one in stream.events]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)


async def test_a_stop_within_moments_of_the_start_is_clean(start_program: StartProgram) -> None:
    gateway = await start_program(executed=True)
    assert await gateway.stop() == (0, "")


# What stops a start


async def test_a_second_gateway_on_the_same_folder_is_refused_in_one_line(
    start_program: StartProgram,
) -> None:
    gateway = await start_program()
    folder = str(gateway.data)
    code, out, errors = await finish_program("serve", "--data", folder, "--port", "0")
    assert (code, out) == (5, "")
    assert errors.count("\n") == 1
    assert str(gateway.process.pid) in errors
    assert "--data" in errors
    sent = await gateway.send(event())
    assert offset_of(sent["last_cursor"]) > 0


async def test_a_port_in_use_is_named_in_one_line(
    start_program: StartProgram, tmp_path: object
) -> None:
    gateway = await start_program()
    elsewhere = f"{tmp_path}/other"
    code, out, errors = await finish_program(
        "serve", "--data", elsewhere, "--port", str(gateway.port)
    )
    assert (code, out) == (5, "")
    assert errors.count("\n") == 1
    assert f"127.0.0.1:{gateway.port}" in errors
    assert "--port" in errors


async def test_a_start_that_failed_leaves_no_key_behind(
    start_program: StartProgram, tmp_path: object
) -> None:
    gateway = await start_program()
    elsewhere = f"{tmp_path}/other"
    await finish_program("serve", "--data", elsewhere, "--port", str(gateway.port))
    code, out, _ = await finish_program("keys", "list", "--data", elsewhere, "--json")
    assert (code, out) == (0, '{"keys": []}\n')
