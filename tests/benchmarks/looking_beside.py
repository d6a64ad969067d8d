"""How late the event loop is while some look at everything and others have live streams.

    python -m tests.benchmarks.looking_beside [EVENTS SECONDS] [--postgres]

A gateway of its own has EVENTS in its log and is given 100 more a second. Four looks run at a time:
counts with facets, a search, a page of the newest that a rare condition meets, and counts with a
filter, each again and again; 100 streams are live. The gateway's own histogram of the delay of its
loop says what is printed, without and with the looks, in turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks import payload
from tests.benchmarks.postgres import running_database
from tests.support.gateway_process import GatewayProcess

STREAMS = 100
TURNS = 2
_RATE = 100
_PART = 5_000
_NEVER = aiohttp.ClientTimeout(total=None, sock_read=None)
_GRANT = {"actions": ["stream", "pull"], "categories": ["**"]}
# Each stays within the bounds of one look, and is cut where it reaches one.
LOOKS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/v1/counts", {"since": "5h", "by": "category,action,actor", "tenant": "common"}),
    ("/v1/events", {"text": "nowhere-at-all", "order": "desc"}),
    ("/v1/events", {"order": "desc", "action": "bench.never"}),
    ("/v1/counts", {"since": "5h", "filter": "data.n == 7"}),
)


async def measured(gateway: GatewayProcess, events: int, seconds: float) -> dict[str, Any]:
    """Delays of the loop without and with looks, in milliseconds, and how many looks there were."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(gateway.url, connector=connector) as session:
        await _fill(session, gateway.first_key, events)
        readers = [gateway.make_key(_GRANT) for _ in range(2)]
        async with _live(session, gateway.make_key(_GRANT), gateway.first_key):
            delays: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
            looks = 0
            for _ in range(TURNS):
                for name, found in delays.items():
                    before = await _delays(session)
                    done = 0
                    if name == "with":
                        done = sum(
                            await asyncio.gather(
                                *(
                                    _look(session, readers[place % 2], look, seconds)
                                    for place, look in enumerate(LOOKS)
                                )
                            )
                        )
                    else:
                        await asyncio.sleep(seconds)
                    looks += done
                    found.append(_quantiles(before, await _delays(session)))
    return {"events": events, "streams": STREAMS, "looks": looks, **delays}


async def _fill(session: aiohttp.ClientSession, key: str, events: int) -> None:
    for begin in range(0, events, _PART):
        numbers = range(begin, min(begin + _PART, events))
        await _post(session, key, [{"n": number} for number in numbers])


async def _post(session: aiohttp.ClientSession, key: str, datas: list[dict[str, int]]) -> None:
    items = [payload.posted(data=data, tenant="common") for data in datas]
    async with session.post(
        "/v1/events",
        data="\n".join(items),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"},
    ) as answer:
        assert answer.status in (200, 201), await answer.text()


@asynccontextmanager
async def _live(session: aiohttp.ClientSession, key: str, writer: str) -> AsyncIterator[None]:
    """Streams that are read, and events for them."""

    async def read() -> None:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
        async with session.get("/v1/stream", headers=headers, timeout=_NEVER) as answer:
            assert answer.status == 200, await answer.text()
            async for _ in answer.content.iter_any():
                pass

    async def post() -> None:
        while True:
            await _post(session, writer, [{"n": 0}] * (_RATE // 10))
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(read()) for _ in range(STREAMS)]
    tasks.append(asyncio.create_task(post()))
    await asyncio.sleep(2)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(
    session: aiohttp.ClientSession, key: str, look: tuple[str, Mapping[str, str]], seconds: float
) -> int:
    """Look until the seconds are over; return how often."""
    path, parameters = look
    headers = {"Authorization": f"Bearer {key}"}
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        async with session.get(path, params=dict(parameters), headers=headers) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        done += 1
    return done


async def _delays(session: aiohttp.ClientSession) -> dict[float, float]:
    """Numbers of delays up to each bound, in seconds."""
    async with session.get("/metrics") as answer:
        text = await answer.text()
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "audit_gateway_loop_delay_seconds_bucket"
    }


def _quantiles(before: dict[float, float], after: dict[float, float]) -> dict[str, float]:
    counted = {bound: after[bound] - before[bound] for bound in sorted(after)}
    whole = max(counted.values())
    return {
        f"p{100 * share:g}_below_ms": next(
            1e3 * bound for bound, number in counted.items() if number >= share * whole
        )
        for share in (0.5, 0.99, 1.0)
    } | {"measured": whole}


def main() -> None:
    numbers = [int(one) for one in sys.argv[1:] if one.isdigit()]
    events, seconds = numbers or (200_000, 20)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        settings = {}
        if "--postgres" in sys.argv:
            settings["AUDIT_GATEWAY_STORE__URL"] = stack.enter_context(running_database())[1]
        gateway = stack.enter_context(GatewayProcess(Path(folder) / "data", settings=settings))
        print(json.dumps(asyncio.run(measured(gateway, events, seconds)), indent=2))


if __name__ == "__main__":
    main()
