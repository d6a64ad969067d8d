"""How systems of this kind have failed their users, and that this one does not: what no other
test holds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from gateway_client import event, offset_of
from gateways import Gateway, Start
from open_streams import TRANSPORTS, open_stream

from tests.support.machine_time import Stopwatch, patience


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_resuming_near_the_head_reads_nothing_before_its_cursor(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A replay that begins at the oldest event grows with the log, and ends at a cap."""
    await gateway.send_many(4000)
    # Records of the gateway's own may stand between them.
    [before, *_] = (await gateway.pull(from_="start", limit="10000"))["events"][-6:]
    cursor = before["cursor"]
    log, reads = gateway.context.log, []

    def noted(name: str) -> None:
        whole = getattr(log, name)

        async def read(after: int, *arguments: Any, **options: Any) -> Any:
            reads.append(after)
            return await whole(after, *arguments, **options)

        monkeypatch.setattr(log, name, read)

    for name in ("read", "read_raw"):
        noted(name)
    stream = await open_stream(gateway, transport, after=cursor)
    assert [one["data"]["n"] for one in await stream.take(5)] == list(range(3995, 4000))
    assert min(reads) >= offset_of(cursor)
    assert 1 <= len(reads) <= 4


async def test_subscribers_that_take_nothing_never_hold_up_ingest(gateway: Gateway) -> None:
    for name in TRANSPORTS * 6:
        await open_stream(gateway, name, receive_buffer=4096)
    filler = "x" * 8000
    slowest = 0.0
    for n in range(40):
        watch = Stopwatch()
        await gateway.send(*(event(data={"n": n, "x": filler}) for _ in range(50)))
        slowest = max(slowest, watch.seconds)
    assert slowest < 2
    assert await gateway.streams() == 6 * len(TRANSPORTS), "and nobody is cut for it"


async def test_streams_opened_together_are_not_old_together(start: Start) -> None:
    gateway = await start(stream={"max_age": 1000})
    for _ in range(60):
        await open_stream(gateway, "ndjson")
    now = gateway.context.clock.monotonic()
    ends = sorted(ends - now for ends, _, _ in gateway.context.hub._lifetimes._ends)
    assert 780 < ends[0] < 850
    assert 950 < ends[-1] <= 1000
    assert len({round(one) for one in ends}) > 30


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_that_is_old_ends_with_a_cursor_that_goes_on(
    start: Start, transport: str
) -> None:
    gateway = await start(stream={"max_age": 1})
    ids: list[str] = []
    cursor = None
    sending = asyncio.create_task(sent_slowly(gateway, 30))
    deadline = time.monotonic() + patience(20)
    while len(ids) < 30:
        assert time.monotonic() < deadline
        position: dict[str, Any] = {"after": cursor} if cursor else {"from_": "start"}
        stream = await open_stream(gateway, transport, **position)
        end = await stream.to_end()
        assert (end["code"], end["reason"]) == (4002, "lifetime_reached")
        ids += [one["id"] for one in stream.events]
        cursor = end["cursor"]
    await sending
    assert ids == [str(n) for n in range(30)]


async def sent_slowly(gateway: Gateway, count: int) -> None:
    for n in range(count):
        await gateway.send(event(id=str(n)))
        await asyncio.sleep(0.1)
