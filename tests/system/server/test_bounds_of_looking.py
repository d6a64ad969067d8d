"""Each bound of looking ends a page with a cursor that goes on, and is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway, Start, StoppedClock
from open_streams import open_stream

from gateway.looking.looks import FREE_OFFSETS
from tests.support.loop_stops import longest_stop
from tests.support.machine_time import eventually, patience, slowness

EVENTS = 300
NOTHING = {"tenant": "nobody"}


async def all_of(gateway: Gateway, key: str, **params: str) -> tuple[list[str], int]:
    """Ids of the events of all pages, and how many pages they took."""
    on = "before" if params.get("order") == "desc" else "after"
    found: list[str] = []
    for pages in range(1, 1000):
        page = await gateway.pull(key, **params)
        found += [one["id"] for one in page["events"]]
        if not page["has_more"]:
            return found, pages
        params[on] = page["cursor"]
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("bound", "grant", "params", "kind"),
    [
        ({"offsets": 100}, {}, {"tenant": "rare"}, "page"),
        ({"viewed_events": 50}, {"tenants": ["*.x.**", "rare", "default"]}, {"actor": "u"}, "page"),
        ({"rendered_events": 50}, {}, {"filter": 'tenant == "rare"'}, "page"),
        ({"rendered_events": 50}, {"fields": {"mask": ["reason"]}}, {"actor": "u"}, "page"),
        ({"rendered_events": 50}, {"fields": {"mask": ["reason"]}}, {"text": "needle"}, "text"),
        ({"offsets": 100}, {}, {"text": "needle"}, "text"),
    ],
)
async def test_a_bound_cuts_a_page_and_its_cursor_gives_the_rest(
    start: Start, order: str, bound: dict[str, int], grant: dict[str, Any],
    params: dict[str, str], kind: str,
) -> None:  # fmt: skip
    gateway = await start(look=bound)
    await gateway.append(*(
        event(id=str(n), tenant="rare" if n % 100 == 7 else "default", actor={"id": "u"},
              reason="x", data={"x": "needle" if n % 100 == 7 else "hay"})
        for n in range(EVENTS)
    ))  # fmt: skip
    key = await gateway.mint({"actions": ["pull"], "categories": ["auth"], **grant})
    if "viewed_events" in bound:
        key = await gateway.mint(
            {"actions": ["pull"], "categories": ["auth"]},
            {"actions": ["pull"], "categories": ["auth"], "tenants": ["rare"], "effect": "deny",
             "min_severity": 6},
        )  # fmt: skip
    wanted = [str(n) for n in range(EVENTS) if "actor" in params or n % 100 == 7]
    found, pages = await all_of(gateway, key, order=order, limit="10000", **params)
    assert found == (wanted if order == "asc" else wanted[::-1])
    assert 3 <= pages <= EVENTS // min(bound.values()) + 2
    metrics = await gateway.metrics()
    assert metrics[f'look_cut_total{{kind="{kind}"}}'] == pages - 1
    assert metrics[f'looks_total{{kind="{kind}"}}'] >= pages
    assert metrics[f'look_offsets_sum{{kind="{kind}"}}'] >= EVENTS


async def test_time_cuts_a_page(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StoppedClock()
    gateway = await start(clock=clock, look={"seconds": 2})
    await gateway.append(*(event(id=str(n)) for n in range(EVENTS)))
    log: Any = gateway.context.log
    read = log.read_back

    async def slow(*range_: int, **how: Any) -> Any:
        clock.passed += 1.0
        return await read(*range_, **how)

    monkeypatch.setattr(log, "read_back", slow)
    page = await gateway.pull(order="desc", filter="severity > 5", limit="10")
    assert (page["events"], page["has_more"]) == ([], True)
    assert (await gateway.metrics())['look_cut_total{kind="page"}'] == 1


async def test_a_page_of_more_bytes_than_an_answer_may_have_ends(start: Start) -> None:
    gateway = await start(look={"answer_bytes": 256 * 1024})
    await gateway.append(*(event(id=str(n), data={"x": "y" * 20_000}) for n in range(60)))
    for order in ("asc", "desc"):
        found, pages = await all_of(gateway, "", order=order, category="auth", limit="1000")
        assert len(found) == 60
        assert pages >= 2


# Looks at once


class Held:
    """A gateway whose log gives nothing backwards until it is released."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = asyncio.Event()
        self.waiting = 0
        log: Any = gateway.context.log
        self._read = log.read_back
        monkeypatch.setattr(log, "read_back", self._held)

    async def _held(self, *range_: int, **how: Any) -> Any:
        page = await self._read(*range_, **how)
        self.waiting += 1
        await self.released.wait()
        self.waiting -= 1
        return page


async def long_log(start: Start, **look: int) -> Gateway:
    gateway = await start(look=look, limits={"filter_percent": 0})
    many = [event() for _ in range(1000)]
    for _ in range(FREE_OFFSETS // 1000 + 2):
        await gateway.append(*many)
    return gateway


async def test_more_looks_than_may_be_at_once_wait_and_are_refused_as_busy(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await long_log(start, key_at_once=1, at_once=2, wait=0)
    looks = gateway.context.looks
    keys = [await gateway.reader_key() for _ in range(3)]
    for key in keys[:2]:
        await looks.take(key.split("_")[1])
    long = {"order": "desc", "limit": "1000", **NOTHING}
    for key in keys:
        answer = await gateway.get("/v1/events", key=key, params=long)
        document = answer.problem(429, "busy")
        assert "narrow" in document["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        # Short ones need no place.
        assert (await gateway.pull(key, order="desc", limit="10"))["events"]
    assert await gateway.metric("looks_refused_total") == 3
    for key in keys[:2]:
        looks.give_back(key.split("_")[1])
    for key in keys:
        page = await gateway.pull(key, **long)
        assert (page["events"], page["has_more"]) == ([], False)


async def test_a_revoked_key_ends_its_long_look(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StoppedClock()
    gateway = await start(clock=clock)
    await gateway.append(*(event() for _ in range(3_000)))
    key = await gateway.reader_key()
    held = Held(gateway, monkeypatch)
    params = {"order": "desc", "filter": "severity > 5"}
    look = asyncio.create_task(gateway.get("/v1/events", key=key, params=params))
    await eventually(lambda: held.waiting == 1, "the look is under way")
    await gateway.revoke(key)
    clock.passed += 0.5
    held.released.set()
    async with asyncio.timeout(patience()):
        (await look).problem(401, "key_revoked")
    looks = gateway.context.looks
    assert looks.offsets["page"].cells[-1] < 3_000, "it did not look at the rest"


async def test_a_page_that_waits_for_events_holds_no_place(start: Start) -> None:
    gateway = await long_log(start, key_at_once=1, at_once=1, wait=0)
    key = await gateway.reader_key()
    params = {"wait": "30", **NOTHING}
    waiting = asyncio.create_task(gateway.pull(key, **params))
    await eventually(lambda: bool(gateway.context.appends._waiting), "the page waits")
    assert not gateway.context.looks._taken
    await gateway.send(event(id="it", tenant="nobody"))
    assert [one["id"] for one in (await waiting)["events"]] == ["it"]


async def test_four_looks_hold_the_loop_for_moments_only_and_live_streams_go_on(
    start: Start,
) -> None:
    gateway = await long_log(start)
    keys = [await gateway.reader_key(fields={"mask": ["actor.name"]}) for _ in range(4)]
    stream = await open_stream(gateway, "ndjson", category="live")
    params = {"text": "nowhere", "order": "desc"}
    looks = asyncio.gather(*(gateway.pull(key, **params) for key in keys))

    async def beside() -> None:
        for number in range(10):
            await gateway.send(event(id=f"live{number}", category="live"))
            assert (await stream.event())["id"] == f"live{number}"
        pages = await looks
        assert all(page["events"] == [] for page in pages)

    _, milliseconds = await longest_stop(beside())
    # Of the processor. One slice takes 2 ms; the test itself works in the same loop.
    assert milliseconds < 50 * slowness()
