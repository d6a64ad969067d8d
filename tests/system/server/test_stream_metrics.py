"""Metrics of streams: who is connected, what goes out and how late, how streams end, who stalls."""

from __future__ import annotations

import asyncio

from gateway_client import GatewayClient, event
from gateways import Gateway, Start
from open_streams import TEXT, TRANSPORTS, open_stream

from gateway.clock import SystemClock
from tests.support.machine_time import patience

SIZE = 10 << 10


class LaterClock(SystemClock):
    """The machine's clock, as if so many seconds more had passed."""

    later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later


async def by_label(gateway: GatewayClient, name: str) -> dict[str, float]:
    """The values of a metric with one label, by that, without those that are 0."""
    metrics = await gateway.metrics()
    found = {one.split('"')[1]: metrics[one] for one in metrics if one.startswith(name + "{")}
    return {label: value for label, value in found.items() if value}


async def of_streams(gateway: GatewayClient, name: str) -> dict[str, float]:
    """As `by_label`, without the gateway's own subscriber."""
    found = await by_label(gateway, name)
    assert found.pop("canary", 0) >= 0
    return found


async def test_streams_events_bytes_and_delays_are_shown_by_transport(gateway: Gateway) -> None:
    streams = [await open_stream(gateway, transport) for transport in (*TRANSPORTS, "sse")]
    old = await open_stream(gateway, "sse", version="1.0")
    # Two dialects are one transport.
    each = {name: 1 for name in TRANSPORTS if name != "audit.v1.lines"} | {"sse": 3, "audit.v1": 2}
    assert await by_label(gateway, "open_streams") == each
    sent = [event(data={"n": n}) for n in range(3)]
    for one in sent:
        await gateway.send(one)
    for stream in (*streams, old):
        await stream.take(len(sent))
    each = {name: len(sent) * count for name, count in each.items()}
    assert await by_label(gateway, "stream_events_total") == each
    assert await of_streams(gateway, "delivery_seconds_count") == each
    assert (await of_streams(gateway, "delivery_seconds_sum")).keys() == each.keys()
    sizes = await by_label(gateway, "stream_bytes_total")
    assert sum(sizes.values()) == await gateway.metric("delivered_bytes_total")
    assert sizes["sse"] > 2 * sizes["audit.v1.batch"] > 2 * sizes["websocket"] > 0
    # What catches up was not promised within any time, and counts as delivered all the same.
    late = await open_stream(gateway, "ndjson", from_="start", follow="false")
    await late.to_end()
    assert await of_streams(gateway, "delivery_seconds_count") == each
    assert (await by_label(gateway, "stream_events_total"))["ndjson"] == 6
    assert (await by_label(gateway, "stream_bytes_total"))["ndjson"] > 1.9 * sizes["ndjson"]


async def test_ends_are_counted_by_their_codes_and_add_up(gateway: Gateway) -> None:
    await gateway.send(event())
    await (await open_stream(gateway, "sse", from_="start", limit="1")).to_end()
    key = await gateway.reader_key()
    revoked = [await open_stream(gateway, transport, key) for transport in TRANSPORTS]
    await gateway.revoke(key)
    for stream in revoked:
        await stream.to_end()
    rude = await open_stream(gateway, "audit.v1")
    rude.write(bytes((0x80 | TEXT, 5)) + b"hello")
    await rude.next("end")
    for transport in ("ndjson", "websocket"):
        (await open_stream(gateway, transport)).reset()
    await gateway.streams_become(0)
    ends = {"1000": 1, "1002": 1, "4501": len(TRANSPORTS), "client_gone": 2}
    assert await by_label(gateway, "stream_ends_total") == ends
    assert sum(ends.values()) == await gateway.metric("streams_ended_total")
    assert await by_label(gateway, "open_streams") == {}


async def test_a_reader_that_takes_nothing_stalls_and_lags_until_it_reads_on(start: Start) -> None:
    clock = LaterClock()
    gateway = await start(clock)
    hub = gateway.context.hub
    slow = await open_stream(gateway, "ndjson", receive_buffer=4096)
    fast = await open_stream(gateway, "websocket")
    count = 600
    items = [event(data={"n": n, "x": "y" * SIZE}) for n in range(count)]
    reading = asyncio.create_task(fast.take(count, 60))
    for first in range(0, count, 100):
        await gateway.send(*items[first : first + 100])
    await reading
    async with asyncio.timeout(patience(30)):
        while not await gateway.metric("stalled_streams"):
            clock.later += 6
            await hub.measure_lags()
    metrics = await gateway.metrics()
    assert metrics["stalled_streams"] == 1, "who reads does not stall"
    late = metrics["stream_lag_seconds_count"] - metrics['stream_lag_seconds_bucket{le="5.0"}']
    assert late >= 1
    assert metrics['stream_lag_seconds_bucket{le="0.001"}'] >= 1
    await slow.take(count, 60)
    await hub.measure_lags()
    assert await gateway.metric("stalled_streams") == 0
    await gateway.send(event())
    await slow.event()
