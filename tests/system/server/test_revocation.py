"""A key that changes reaches its live streams within a second, on every transport."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from gateway_client import GatewayClient, event, key_id
from gateways import Gateway, ShiftedClock, Start, finish_program
from open_streams import TRANSPORTS, Refused, Stream, open_stream

from tests.support.machine_time import Stopwatch

WITHIN = 1.0
Change = Callable[[Gateway, str], Awaitable[None]]


async def by_http(gateway: Gateway, key: str) -> None:
    await gateway.revoke(key)


async def by_command(gateway: Gateway, key: str) -> None:
    folder = str(gateway.context.settings.data)
    code, _, errors = await finish_program("keys", "revoke", key_id(key), "--data", folder)
    assert code == 0, errors


async def suspend(gateway: Gateway, key: str) -> None:
    answer = await gateway.post(f"/v1/keys/{key_id(key)}/suspend", key=gateway.admin)
    assert answer.status == 200, answer.body


@asynccontextmanager
async def numbered(gateway: GatewayClient) -> AsyncIterator[None]:
    """Append an event after the other, `data.n` counting."""

    async def produce() -> None:
        for n in count():
            await gateway.send(event(data={"n": n}))

    task = asyncio.create_task(produce())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def open_everywhere(gateway: GatewayClient, key: str) -> list[Stream]:
    return [await open_stream(gateway, transport, key) for transport in TRANSPORTS]


async def ends_of(streams: list[Stream]) -> list[dict[str, Any]]:
    ends = await asyncio.gather(*(stream.to_end() for stream in streams))
    for stream, end in zip(streams, ends, strict=True):
        # What came before the end is whole, and the end names where it stopped.
        numbers = [one["data"]["n"] for one in stream.events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert end["cursor"] >= stream.events[-1]["cursor"]
    return ends


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (by_http, 4501, "key_revoked"),
        (by_command, 4501, "key_revoked"),
        (suspend, 4504, "key_suspended"),
    ],
    ids=["revoked-by-http", "revoked-by-command", "suspended"],
)
async def test_streams_end_within_a_second_and_those_of_other_keys_miss_nothing(
    gateway: Gateway, change: Change, code: int, reason: str
) -> None:
    key, other = await gateway.reader_key(), await gateway.reader_key()
    async with numbered(gateway):
        streams = await open_everywhere(gateway, key)
        others = await open_everywhere(gateway, other)
        ending = asyncio.create_task(ends_of(streams))
        for stream in others:
            await stream.take(5)
        await change(gateway, key)
        watch = Stopwatch()
        ends = await ending
        took = watch.seconds
        assert took < WITHIN
        for stream in others:
            await stream.take(200)
    for end in ends:
        assert (end["code"], end["reason"]) == (code, reason)
        assert end.get("reconnect", False) is False
    for stream in others:
        numbers = [one["data"]["n"] for one in stream.events]
        assert numbers == list(range(numbers[0], numbers[0] + 205))
    await gateway.streams_become(len(TRANSPORTS))


async def test_the_cursor_of_the_end_goes_on_with_another_key_without_loss(
    gateway: Gateway,
) -> None:
    for transport in TRANSPORTS:
        key, successor = await gateway.reader_key(), await gateway.reader_key()
        async with numbered(gateway):
            stream = await open_stream(gateway, transport, key)
            await stream.take(3)
            await gateway.revoke(key)
            end = await stream.to_end()
            again = await open_stream(gateway, transport, successor, after=end["cursor"])
            await again.take(3)
        events = stream.events + again.events
        begin = stream.answer.headers["audit-cursor"]
        assert events == (await gateway.pull(after=begin, limit=str(len(events))))["events"]


async def test_streams_of_an_expired_key_end_with_4502(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(clock=shifted)
    grant = {"actions": ["stream"], "categories": ["**"]}
    key = await gateway.mint(grant, expires_in="1h")
    longer = await gateway.mint(grant, expires_in="2h")
    streams = await open_everywhere(gateway, key)
    others = await open_everywhere(gateway, longer)
    shifted.shift = 3599.0
    await gateway.send(event(data={"n": 0}))
    for stream in [*streams, *others]:
        await stream.event()
    watch = Stopwatch()
    shifted.shift = 3601.0
    for end in await ends_of(streams):
        assert (end["code"], end["reason"]) == (4502, "key_expired")
        assert end.get("reconnect", False) is False
    assert watch.seconds < WITHIN
    await gateway.send(event(data={"n": 1}))
    for stream in others:
        assert (await stream.event())["data"]["n"] == 1


async def test_a_role_that_is_narrowed_narrows_or_ends_live_streams(gateway: Gateway) -> None:
    async def allow(*categories: str, actions: tuple[str, ...] = ("stream",)) -> None:
        grants = [{"actions": actions, "categories": categories}]
        answer = await gateway.request(
            "PUT", "/v1/roles/watcher", json={"grants": grants}, key=gateway.admin
        )
        assert answer.status in (200, 201), answer.body

    await allow("auth", "billing")
    key = await gateway.mint(roles=["watcher"])
    streams = await open_everywhere(gateway, key)
    await gateway.send(event(id="1", category="billing"), event(id="2"))
    for stream in streams:
        assert [one["id"] for one in await stream.take(2)] == ["1", "2"]
    await allow("auth")
    await gateway.send(event(id="3", category="billing"), event(id="4"))
    for stream in streams:
        assert (await stream.event())["id"] == "4"
    await allow("auth", actions=("pull",))
    for stream in streams:
        end = await stream.to_end(WITHIN)
        assert (end["code"], end["reason"]) == (4503, "grants_changed")


@pytest.mark.parametrize("change", ["revoke", "narrow"])
async def test_a_key_that_changes_while_its_stream_is_being_opened_is_caught(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Between the decision and the opening the stream is in nobody's list."""

    async def allow(*categories: str) -> None:
        grants = [{"actions": ["stream"], "categories": categories}]
        path = "/v1/roles/watcher"
        answer = await gateway.request("PUT", path, json={"grants": grants}, key=gateway.admin)
        assert answer.status in (200, 201), answer.body

    await allow("auth", "billing")
    key = await gateway.mint(roles=["watcher"])
    log, reached, gate = gateway.context.log, asyncio.Event(), asyncio.Event()
    last_before = log.last_before

    async def slow_last_before(micros: int) -> int:
        reached.set()
        await gate.wait()
        return await last_before(micros)

    monkeypatch.setattr(log, "last_before", slow_last_before)
    opening = asyncio.create_task(open_stream(gateway, "sse", key, since="1h"))
    await reached.wait()
    if change == "revoke":
        await gateway.revoke(key)
    else:
        await allow("auth")
    gate.set()
    with pytest.raises(Refused) as refused:
        await opening
    if change == "revoke":
        refused.value.answer.problem(401, "key_revoked")
        return
    refused.value.answer.problem(503, "grants_changed")
    assert int(refused.value.answer.headers["Retry-After"]) > 0
    stream = await open_stream(gateway, "sse", key)
    await gateway.send(event(id="hidden", category="billing"), event(id="shown"))
    assert (await stream.event())["id"] == "shown"


async def test_many_streams_of_one_key_all_end_and_nobody_waits(gateway: Gateway) -> None:
    key, other = await gateway.reader_key(), await gateway.reader_key()
    streams: list[Stream] = []
    for _ in range(60):
        # A few at a time: nobody gets in where keys could not be looked at for a second.
        opening = [open_stream(gateway, name, key) for name in TRANSPORTS]
        streams += await asyncio.gather(*opening)
    witness = await open_stream(gateway, "sse", other)
    watch = Stopwatch()
    await gateway.revoke(key)
    ends = await asyncio.gather(*(stream.to_end() for stream in streams))
    assert watch.seconds < 3
    assert {end["code"] for end in ends} == {4501}
    await gateway.send(event(id="after"))
    assert (await witness.event())["id"] == "after"
    await gateway.streams_become(1)


async def test_a_key_revoked_between_two_requests_of_a_connection_is_refused(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key()
    await gateway.pull(key)
    await gateway.revoke(key)
    (await gateway.get("/v1/events", key=key)).problem(401, "key_revoked")


async def test_a_key_revoked_by_command_is_refused_within_a_second(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await gateway.pull(key)
    await by_command(gateway, key)
    watch = Stopwatch()
    while (answer := await gateway.get("/v1/events", key=key)).status == 200:
        assert watch.seconds < WITHIN
    answer.problem(401, "key_revoked")
