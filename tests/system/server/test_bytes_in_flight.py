"""Bodies and pages that requests of one key, and of all, hold at once are bounded."""

from __future__ import annotations

import asyncio

import pytest
from gateway_client import event, eventually, key_id
from gateways import Gateway, Start

from gateway.errors import TooManyRequests, Unavailable
from gateway.http.request.in_flight import InFlight
from tests.support.machine_time import patience

MIB = 1 << 20


async def half_sent(gateway: Gateway, key: str, size: int) -> asyncio.StreamReader:
    reader, writer = await gateway.connect()
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (key.encode(), size + 10)
    )
    writer.write(b" " * size)
    return reader


async def test_half_sent_bodies_of_one_key_are_bounded_and_others_go_on(start: Start) -> None:
    gateway = await start(
        limits={"key_bytes_in_flight": 2 * MIB, "bytes_in_flight": 8 * MIB},
        ingest={"max_request_bytes": MIB},
        server={"body_timeout": 2},
    )
    producer = await gateway.mint({"actions": ["ingest"], "categories": ["**"]})
    readers = [await half_sent(gateway, producer, 900_000) for _ in range(6)]
    flight = gateway.context.in_flight
    await eventually(lambda: flight.refused >= 4, "the rest is refused")
    assert flight.held <= 2 * MIB
    await gateway.send(event())
    answers = [
        await asyncio.wait_for(reader.readuntil(b"\r\n"), patience(20)) for reader in readers
    ]
    assert sorted(int(answer.split()[1]) for answer in answers) == [408, 408, 429, 429, 429, 429]
    await eventually(lambda: flight.held == 0, "all is given back")
    assert await gateway.metric("bytes_in_flight_refused_total") == 4


async def test_slow_readers_of_pages_are_bounded(start: Start) -> None:
    gateway = await start(
        limits={"key_bytes_in_flight": 2 * MIB}, ingest={"max_request_bytes": MIB}
    )
    for _ in range(4):
        await gateway.send(*[event(data={"x": "y" * 20_000}) for _ in range(45)])
    request = (
        b"GET /v1/events?from=start&limit=10000 HTTP/1.1\r\nHost: a\r\n"
        b"Authorization: Bearer %b\r\n\r\n" % gateway.user.encode()
    )
    for _ in range(8):
        _, writer = await gateway.connect(receive_buffer=4096)
        writer.write(request)
    flight = gateway.context.in_flight
    await eventually(lambda: flight.held >= MIB, "pages wait for their readers")
    await asyncio.sleep(0.1)
    assert flight.held <= 2 * MIB
    gateway.disconnect()
    await eventually(lambda: flight.held == 0, "all is given back")
    assert len((await gateway.pull(from_="start", limit="200"))["events"]) > 50


@pytest.mark.parametrize("of", ["history", "document"])
async def test_histories_and_documents_are_held_like_pages(gateway: Gateway, of: str) -> None:
    grant = {"actions": ["pull", "usage.read"], "categories": ["**", "gateway.keys"]}
    key = await gateway.mint(grant)
    await gateway.send(event())
    flight, path = gateway.context.in_flight, f"/v1/keys/{key_id(key)}/{of}"
    most = gateway.context.settings.limits.key_bytes_in_flight
    flight.take(key_id(key), most)
    (await gateway.get(path, key=key)).problem(429, "too_many_bytes_in_flight")
    flight.give_back(key_id(key), most)
    assert (await gateway.get(path, key=key)).status == 200


async def test_a_page_ends_early_where_its_key_may_hold_no_more(start: Start) -> None:
    gateway = await start(
        limits={"key_bytes_in_flight": 2 * MIB}, ingest={"max_request_bytes": MIB}
    )
    for _ in range(4):
        await gateway.send(*[event(data={"x": "y" * 20_000}) for _ in range(45)])
    seen, after = 0, {"from_": "start"}
    while True:
        page = await gateway.pull(**after, limit="10000")
        seen += len(page["events"])
        after = {"after": page["cursor"]}
        if not page["has_more"]:
            break
    assert seen >= 180
    assert gateway.context.in_flight.held == 0


def test_a_key_and_all_together_are_refused_by_their_own_errors() -> None:
    flight = InFlight(100, 60)
    flight.take("a", 60)
    with pytest.raises(TooManyRequests) as of_key:
        flight.take("a", 1)
    with pytest.raises(Unavailable) as of_all:
        flight.take("b", 41)
    assert {of_key.value.code, of_all.value.code} == {"too_many_bytes_in_flight"}
    flight.give_back("a", 60)
    flight.take("b", 41)
    assert (flight.held, flight.refused) == (41, 2)
