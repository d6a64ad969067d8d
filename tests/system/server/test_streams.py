"""What streams promise on every transport: the seam, gaps, and being freed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, cycle, islice
from typing import Any

import pytest
from gateway_client import Event, GatewayClient, cursor_at, event, offset_of
from gateways import Gateway, Start
from open_streams import ACCEPT, TRANSPORTS, Refused, Stream, open_stream

from tests.support.examples import examples
from tests.support.machine_time import Stopwatch

every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@asynccontextmanager
async def producing(gateway: GatewayClient) -> AsyncIterator[None]:
    """Append events without pause, a few at a time; `data.n` counts each category's."""

    async def produce() -> None:
        numbers = count()
        for size in cycle((1, 1, 5, 2)):
            for n in islice(numbers, size):
                pair = [event(category=name, data={"n": n}) for name in ("auth", "billing")]
                batch.extend(pair)
            await gateway.send(*batch)
            batch.clear()

    batch: list[Event] = []

    task = asyncio.create_task(produce())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# The seam of past and present


@every_transport
async def test_events_appended_while_connecting_are_neither_lost_nor_repeated(
    gateway: Gateway, transport: str
) -> None:
    async with producing(gateway):
        for _ in range(examples(40)):
            stream = await open_stream(gateway, transport)
            events = await stream.take(9)
            stream.close()
            begin = stream.answer.headers["audit-cursor"]
            assert events == (await gateway.pull(after=begin, limit="9"))["events"]


@every_transport
async def test_the_past_goes_over_into_the_present_without_gap_or_repetition(
    gateway: Gateway, transport: str
) -> None:
    async with producing(gateway):
        for attempt in range(examples(15, least=6)):
            where: dict[str, Any] = {"from_": "start"} if attempt % 3 else {"since": "1s"}
            stream = await open_stream(gateway, transport, category="billing", **where)
            await stream.take(30 * attempt + 30)
            numbers = [one["data"]["n"] for one in stream.events]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            stream.close()


@every_transport
async def test_reconnecting_at_any_moment_loses_and_repeats_nothing(
    gateway: Gateway, transport: str
) -> None:
    cursor = (await gateway.pull())["cursor"]
    found: list[int] = []
    async with producing(gateway):
        for attempt in range(examples(25)):
            stream = await open_stream(gateway, transport, category="auth", after=cursor)
            await stream.take(attempt % 7 + 1)
            (stream.close if attempt % 2 else stream.reset)()
            cursor = stream.cursor
            found += [one["data"]["n"] for one in stream.events]
    assert found == list(range(len(found)))


@every_transport
async def test_streams_of_one_group_all_get_everything(gateway: Gateway, transport: str) -> None:
    async with producing(gateway):
        streams = [await open_stream(gateway, transport, category="auth") for _ in range(10)]
        begins = [stream.answer.headers["audit-cursor"] for stream in streams]
        for stream in streams:
            await stream.take(100)
    everything = (await gateway.pull(limit="10000", category="auth"))["events"]
    for stream, begin in zip(streams, begins, strict=True):
        assert stream.events == [one for one in everything if one["cursor"] > begin][:100]


# Gaps


async def two_forgotten(gateway: Gateway) -> list[Event]:
    """Five events, of which retention has deleted the first two."""
    for name in "abcde":
        await gateway.send(event(id=name))
    events: list[Event] = (await gateway.pull())["events"]
    await gateway.forget_before(events[2])
    return events


@every_transport
async def test_a_cursor_that_is_gone_is_410_before_anything_is_streamed(
    gateway: Gateway, transport: str
) -> None:
    events = await two_forgotten(gateway)
    first, last = events[0]["cursor"], events[-1]["cursor"]
    for cursor, code in (
        (first, "cursor_expired"),
        (cursor_at(first, 10_000), "cursor_unknown"),
        ("other-" + "0" * 20, "cursor_unknown"),
    ):
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, transport, after=cursor)
        problem = refused.value.answer.problem(410, code)
        assert events[1]["cursor"] <= problem["earliest"] < events[2]["cursor"]
        assert problem["latest"] >= last
        stream = await open_stream(gateway, transport, after=problem["earliest"], follow="false")
        await stream.to_end()
        assert stream.events == events[2:]
        await open_stream(gateway, transport, after=problem["latest"])


@every_transport
@pytest.mark.parametrize("gone", ["expired", "ahead", "other"])
async def test_with_on_gap_skip_the_first_message_says_what_is_missing(
    gateway: Gateway, transport: str, gone: str
) -> None:
    events = await two_forgotten(gateway)
    first = events[0]["cursor"]
    cursor = {"expired": first, "ahead": cursor_at(first, 10_000), "other": "o-" + "0" * 20}[gone]
    stream = await open_stream(gateway, transport, after=cursor, on_gap="skip")
    gap = (await stream.next("gap")).content
    assert stream.events == []
    assert [said.kind for said in stream.others] in (["gap"], ["opening", "gap"])
    assert gap["reason"] == ("cursor_expired" if gone == "expired" else "cursor_unknown")
    assert (gap["after"], gap["cursor"]) == (cursor, stream.answer.headers["audit-cursor"])
    assert gap["earliest"] == cursor_at(first, offset_of(events[2]["cursor"]) - 1)
    assert gap["latest"] >= events[-1]["cursor"]
    if gone == "expired":
        assert gap["missing"] == offset_of(gap["cursor"]) - offset_of(first)
    else:
        assert "missing" not in gap
    await gateway.send(event(id="new"))
    expected = ["new"] if gone == "ahead" else ["c", "d", "e", "new"]
    assert [one["id"] for one in await stream.take(len(expected))] == expected


@every_transport
async def test_with_on_gap_skip_a_good_cursor_has_no_gap(gateway: Gateway, transport: str) -> None:
    await gateway.send_many(3)
    cursor = (await gateway.pull(limit="1"))["cursor"]
    stream = await open_stream(gateway, transport, after=cursor, on_gap="skip")
    await stream.take(2)
    assert "gap" not in {said.kind for said in stream.others}


# Being freed


@every_transport
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_quiet_stream_is_freed_as_soon_as_its_client_is_gone(
    start: Start, transport: str, how: str
) -> None:
    gateway = await start(stream={"heartbeat": 300, "ping": 300})
    kinds: list[dict[str, Any]] = [{}, {"from_": "start"}, {"limit": "5"}, {"category": "none"}]
    for params in kinds:
        stream = await open_stream(gateway, transport, **params)
        await gateway.streams_become(1)
        getattr(stream, how)()
        await gateway.streams_become(0, 1.0)


@every_transport
async def test_a_stream_is_freed_when_its_client_stops_reading_and_goes(
    gateway: Gateway, transport: str
) -> None:
    await gateway.send(*(event(data={"x": "y" * 100_000}) for _ in range(50)))
    for how in ("close", "reset", "close_half"):
        stream = await open_stream(gateway, transport, from_="start", receive_buffer=4096)
        await stream.event()
        getattr(stream, how)()
        await gateway.streams_become(0, 3.0)


@pytest.mark.parametrize("transport", ACCEPT)
async def test_a_body_behind_the_request_does_not_hide_that_a_client_is_gone(
    start: Start, transport: str
) -> None:
    gateway = await start(stream={"heartbeat": 300, "ping": 300})
    headers = {"Content-Length": "10000000"}
    stream = await open_stream(gateway, transport, headers=headers, behind=b"x" * 1_000_000)
    await gateway.streams_become(1)
    stream.reset()
    await gateway.streams_become(0, 2.0)


async def test_requests_pipelined_behind_a_stream_are_not_run_and_hide_no_disconnect(
    start: Start,
) -> None:
    gateway = await start(stream={"heartbeat": 300, "ping": 300})
    body = b'{"category":"a","action":"b"}'
    ingest = (
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.user}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    stream = await open_stream(gateway, "sse", behind=(ingest.encode() + body) * 50)
    await gateway.send(event(id="real"))
    assert (await stream.event())["id"] == "real"
    assert [one["id"] for one in (await gateway.pull())["events"]] == ["real"]
    stream.reset()
    await gateway.streams_become(0, 2.0)


async def test_a_stream_may_be_the_second_request_of_a_connection(gateway: Gateway) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {gateway.user}\r\n"
    reader, writer = await gateway.connect()
    writer.write(f"GET /v1/events HTTP/1.1\r\n{head}\r\n".encode())
    assert b'"has_more":false}' in await reader.readuntil(b"}")
    writer.write(f"GET /v1/stream HTTP/1.1\r\n{head}\r\n".encode())
    await reader.readuntil(b": stream open\n")
    assert await gateway.streams() == 1


@every_transport
async def test_too_many_streams_are_503_until_one_ends(start: Start, transport: str) -> None:
    gateway = await start(stream={"max_streams": 3})
    streams = [await open_stream(gateway, transport) for _ in range(3)]
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, transport)
    refused.value.answer.problem(503, "too_many_streams")
    assert int(refused.value.answer.headers["Retry-After"]) > 0
    streams[0].close()
    await gateway.streams_become(2)
    await open_stream(gateway, transport)


async def test_hundreds_of_streams_come_and_go_without_a_trace(gateway: Gateway) -> None:
    async with producing(gateway):
        rounds, each = examples(3, least=2), examples(20, least=12)
        for _ in range(rounds):
            streams: list[Stream] = []
            for _ in range(each // 4):
                # A few at a time: nobody gets in where keys could not be looked at for a second.
                opening = [open_stream(gateway, name, from_="start") for name in TRANSPORTS * 4]
                streams += await asyncio.gather(*opening)
            for stream in streams:
                await stream.event()
            for stream in streams:
                stream.reset()
            await gateway.streams_become(0)
    opened = await gateway.metric("streams_opened_total")
    assert opened == await gateway.metric("streams_ended_total") == rounds * each * len(TRANSPORTS)


async def test_a_websocket_is_freed_when_its_client_closes_and_stops_reading(
    gateway: Gateway,
) -> None:
    await gateway.send(*(event(data={"x": "y" * 100_000}) for _ in range(50)))
    stream = await open_stream(gateway, "websocket", from_="start", receive_buffer=4096)
    await stream.event()
    watch = Stopwatch()
    stream.write(b"\x88\x80" + b"mask")
    await gateway.streams_become(0, 3.0)
    assert watch.seconds < 3
