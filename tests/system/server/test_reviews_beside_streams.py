"""Large policies are reviewed, compared and explained while live streams and revocations go on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway_client import Answer, event, key_id
from gateways import Gateway
from open_streams import open_stream

from tests.support.machine_time import patience, slowness

WITHIN = 1.0
# Less than what used to be one stretch of such a review (1 to 4 s), and more than what this test
# does itself in the same loop; in seconds of the processor.
MOST_HELD = 0.1
COSTLY = "data.l.exists(a, data.l.exists(b, data.l.exists(c, data.l.exists(d, a == -1))))"


def large_policy(**members: Any) -> list[dict[str, Any]]:
    """20 grants with 3,600 patterns, just about what a body can hold."""
    return [
        {
            "actions": ["stream", "pull"],
            "tenants": [f"t{grant}{n}.*" for n in range(60)],
            "categories": [f"c{grant}{n}.*" for n in range(60)],
            "resources": [f"r{grant}{n}/*" for n in range(60)],
            **members,
        }
        for grant in range(20)
    ]


@asynccontextmanager
async def turns() -> AsyncIterator[list[float]]:
    """How long the thread of the loop computed between two of many short sleeps, in seconds: what
    others do on this machine does not count, nor does the collector, which has all that earlier
    tests have left to look through and is limited in the program."""
    found: list[float] = []
    collecting = [0.0]

    def collector(phase: str, _: Mapping[str, Any]) -> None:
        if threading.get_ident() == here:
            collecting[0] += time.thread_time() * (-1 if phase == "start" else 1)

    async def look() -> None:
        while True:
            before = time.thread_time() - collecting[0]
            await asyncio.sleep(0.005)
            found.append(time.thread_time() - collecting[0] - before)

    here = threading.get_ident()
    gc.callbacks.append(collector)
    task = asyncio.create_task(look())
    try:
        yield found
    finally:
        gc.callbacks.remove(collector)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def undisturbed(
    gateway: Gateway, attack: Callable[[], Coroutine[Any, Any, list[Answer]]]
) -> list[Answer]:
    """While the work goes on, events are delivered, and a revocation ends its stream in time."""
    reader, victim = await gateway.reader_key(), await gateway.reader_key()
    stream = await open_stream(gateway, "ndjson", reader)
    ending = await open_stream(gateway, "ndjson", victim)
    async with turns() as held:
        work = asyncio.create_task(attack())
        for number in range(10):
            await gateway.send(event(id=f"live{number}"))
            assert (await stream.event())["id"] == f"live{number}"
        began = time.thread_time()
        await gateway.revoke(victim)
        assert (await ending.to_end())["code"] == 4501
        assert time.thread_time() - began < WITHIN * slowness(), "it waited for reviews"
        answers = await asyncio.wait_for(work, patience(60))
    assert max(held) < MOST_HELD * slowness(), sorted(held)[-5:]
    return answers


async def test_reviews_of_large_policies_hold_up_nobody(gateway: Gateway) -> None:
    await gateway.send_many(500, tenant="t00.a", category="c00.a")
    admin = {"id": "admin", "actions": ["keys.admin", "usage.read"], "categories": ["**"]}
    policy = large_policy()
    narrow = await gateway.mint(admin, *policy)
    about = key_id(narrow)
    made = {"name": "x", "purpose": "x", "owner": "x", "grants": policy, "expires_in": "1h"}
    proposed = {
        "key": about,
        "grants": [{**grant, "fields": {"mask": ["data"]}} for grant in policy],
    }
    asked = {"key": about, "action": "pull", "tenant": "z", "category": "z"}

    async def attack() -> list[Answer]:
        return await asyncio.gather(
            *(gateway.get(f"/v1/keys/{about}/document", key=narrow) for _ in range(3)),
            *(gateway.post("/v1/authz/simulate", key=narrow, json=proposed) for _ in range(3)),
            *(gateway.post("/v1/authz/explain", key=narrow, json=asked) for _ in range(3)),
            *(gateway.post("/v1/keys", key=narrow, json=made) for _ in range(3)),
            *(gateway.get(f"/v1/keys/{about}/history", key=narrow) for _ in range(3)),
            *(gateway.get("/v1/keys", key=narrow) for _ in range(3)),
        )

    answers = await undisturbed(gateway, attack)
    assert [one.status for one in answers] == [200] * 9 + [201] * 3 + [200] * 6


async def test_a_nested_filter_over_hundreds_of_events_holds_up_nobody(gateway: Gateway) -> None:
    await gateway.send(*[event(id=f"e{n}", data={"l": list(range(60))}) for n in range(300)])
    greedy = await gateway.mint({"actions": ["pull"], "categories": ["**"]})

    async def attack() -> list[Answer]:
        return [
            await gateway.get("/v1/events", key=greedy, params={"filter": COSTLY}) for _ in range(3)
        ]

    answers = await undisturbed(gateway, attack)
    assert {one.status for one in answers} <= {200, 429}
    assert answers[0].json()["notice"]["code"] == "filter_cost_exceeded"


async def test_a_role_and_a_key_together_have_so_many_patterns_at_most(gateway: Gateway) -> None:
    for name in ("one", "two"):
        body = {"grants": large_policy()}
        answer = await gateway.request("PUT", f"/v1/roles/{name}", key=gateway.admin, json=body)
        assert answer.status == 201, answer.body
    made = {"name": "x", "purpose": "x", "owner": "x", "roles": ["one", "two"]}
    answer = await gateway.post("/v1/keys", key=gateway.admin, json=made)
    assert "4096" in answer.problem(400, "policy_too_large")["detail"]
