"""Subscribers that read slowly or not at all: bounded memory, nothing lost, nobody else harmed."""

from __future__ import annotations

import asyncio

import pytest
from gateway_client import GatewayClient, event, offset_of
from gateways import Gateway, StartProgram
from open_streams import TRANSPORTS, Stream, open_stream

from tests.support.machine_time import Stopwatch

every_transport = pytest.mark.parametrize("transport", TRANSPORTS)
MIB = 1 << 20
SIZE = 10 << 10


async def append(gateway: GatewayClient, first: int, mebibytes: int) -> int:
    """Append that much, numbered from `first` on in `data.n`; returns the next number."""
    until = first + mebibytes * MIB // SIZE
    for start in range(first, until, 100):
        numbers = range(start, min(start + 100, until))
        await gateway.send(*(event(data={"n": n, "x": "y" * (SIZE - 300)}) for n in numbers))
    return until


async def in_order(stream: Stream, first: int, until: int) -> None:
    """Read the events from `first` to `until`, each once."""
    for n in range(first, until):
        assert (await stream.event())["data"]["n"] == n
        stream.events.clear()


@every_transport
async def test_a_subscriber_that_stalls_is_demoted_and_goes_on_without_gap_or_repetition(
    gateway: Gateway, transport: str
) -> None:
    slow = await open_stream(gateway, transport, receive_buffer=4096)
    fast = [await open_stream(gateway, name) for name in TRANSPORTS]
    reading = [asyncio.create_task(in_order(stream, 0, 800)) for stream in fast]
    until = await append(gateway, 0, 8)
    await asyncio.gather(*reading)
    assert await gateway.metric("demotions_total") >= 1
    await in_order(slow, 0, until)
    await gateway.send(event(data={"n": until}))
    await in_order(slow, until, until + 1)
    assert await gateway.streams() == 1 + len(TRANSPORTS)


@pytest.mark.slow
async def test_stalled_subscribers_cost_the_gateway_no_memory(start_program: StartProgram) -> None:
    gateway = await start_program()
    slow = [await open_stream(gateway, name, receive_buffer=4096) for name in TRANSPORTS * 2]
    # Until the caches of the store are full.
    filled = await append(gateway, 0, 80)
    before = gateway.rss
    await append(gateway, filled, 60)
    assert gateway.rss - before < 10 * MIB
    assert await gateway.streams() == 2 * len(TRANSPORTS)
    for stream in slow[: len(TRANSPORTS)]:
        await in_order(stream, 0, 1000)


async def test_a_subscriber_that_stalls_over_and_over_gets_everything(gateway: Gateway) -> None:
    slow = await open_stream(gateway, "sse", receive_buffer=4096)
    first = 0
    for _ in range(6):
        until = await append(gateway, first, 2)
        await in_order(slow, first, until)
        await gateway.send(event(data={"n": until}))
        await in_order(slow, until, until + 1)
        first = until + 1
    assert await gateway.metric("demotions_total") >= 3


async def test_catching_up_follows_the_peers_reading(gateway: Gateway) -> None:
    """A page at a time goes out, not the whole past."""
    await append(gateway, 0, 20)
    delivered = await gateway.metric("delivered_bytes_total")
    slow = await open_stream(gateway, "ndjson", from_="start", receive_buffer=4096)
    for _ in range(20):
        await slow.event()
    assert await gateway.metric("delivered_bytes_total") - delivered < 4 * MIB
    slow.events.clear()
    await in_order(slow, 20, 1020)


@every_transport
async def test_a_subscriber_that_never_reads_again_is_freed_when_its_key_is_revoked(
    gateway: Gateway, transport: str
) -> None:
    key = await gateway.reader_key()
    for _ in range(3):
        await open_stream(gateway, transport, key, receive_buffer=4096)
    other = await open_stream(gateway, transport)
    until = await append(gateway, 0, 4)
    assert await gateway.streams() == 4
    watch = Stopwatch()
    await gateway.revoke(key)
    await gateway.streams_become(1, 2.0)
    assert watch.seconds < 2
    await in_order(other, 0, until)


async def test_a_slow_subscriber_that_retention_overtakes_is_told_where_it_stood(
    gateway: Gateway,
) -> None:
    slow = await open_stream(gateway, "sse", receive_buffer=4096)
    skipping = await open_stream(gateway, "sse", receive_buffer=4096, on_gap="skip")
    await append(gateway, 0, 8)
    await gateway.send(event(data={"n": "kept"}))
    await gateway.forget_before((await gateway.pull(filter="data.n == 'kept'"))["events"][0])
    end = await slow.to_end()
    assert (end["code"], end["reconnect"]) == (4003, True)
    assert end["cursor"] == slow.events[-1]["cursor"]
    assert [one["data"]["n"] for one in slow.events] == list(range(len(slow.events)))
    gap = (await skipping.next("gap")).content
    assert gap["after"] == skipping.events[-1]["cursor"]
    assert gap["missing"] == offset_of(gap["cursor"]) - offset_of(gap["after"])
    before = len(skipping.events)
    assert [one["data"]["n"] for one in skipping.events] == list(range(before))
    assert (await skipping.event())["data"]["n"] == "kept"


async def test_streams_that_are_behind_make_no_live_event_wait_for_others(gateway: Gateway) -> None:
    """How long live events wait to be joined follows how long the event loop has worked."""
    reader = await open_stream(gateway, "ndjson", receive_buffer=4096)
    await append(gateway, 0, mebibytes=4)
    await in_order(reader, 0, 4 * MIB // SIZE)
    turns, worked = gateway.context.write_scheduler, gateway.context.hub._flusher._worked
    assert turns.seconds > 0.0
    before, turns.seconds = worked(), turns.seconds + 1000.0
    assert worked() == pytest.approx(before - 1000.0, abs=100.0)
