"""A key with a costly filter: its pages end early, it is refused, and others go on."""

from __future__ import annotations

import pytest
from gateway_client import event
from gateways import Start
from open_streams import Refused, open_stream
from test_tickets import cookie_of, opened, ticket

ITEMS = list(range(60))
COSTLY = "data.l.exists(a, data.l.exists(b, data.l.exists(c, data.l.exists(d, a == -1))))"
READ = {"actions": ["stream", "pull"], "categories": ["**"]}


async def test_a_costly_filter_is_told_then_refused_and_others_are_not(start: Start) -> None:
    gateway = await start(limits={"filter_percent": 1})
    await gateway.send(*[event(id=f"e{n}", data={"l": ITEMS}) for n in range(60)])
    greedy, modest = await gateway.mint(READ), await gateway.mint(READ)
    first = await gateway.get("/v1/events", key=greedy, params={"filter": COSTLY})
    page = first.json()
    assert (first.status, page["events"], page["has_more"]) == (200, [], True)
    assert page["notice"]["code"] == "filter_cost_exceeded"
    assert 1 <= page["notice"]["events"] < 60
    refused = await gateway.get("/v1/events", key=greedy, params={"filter": COSTLY})
    problem = refused.problem(429, "filter_share_used_up")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "selectors" in problem["detail"]
    # What costs nothing extra is not refused, and neither are others.
    cheap = {"filter": 'outcome == "success" || severity >= 1', "limit": "1000"}
    for key in (greedy, modest):
        assert (await gateway.get("/v1/events", key=key, params=cheap)).status == 200
    loop = {"filter": "data.l.exists(x, x == 1)", "limit": "1000"}
    answer = await gateway.get("/v1/events", key=modest, params=loop)
    assert len(answer.json()["events"]) >= 60
    said = (await gateway.get("/metrics")).body.decode()
    assert "audit_gateway_filter_refused_total 1.0\n" in said
    exceeded = float(said.split("\naudit_gateway_filter_exceeded_total ")[1].split("\n")[0])
    assert exceeded == page["notice"]["events"]


async def test_counting_what_a_browser_has_had_takes_no_more_than_the_share_of_its_key(
    start: Start,
) -> None:
    gateway = await start(limits={"filter_percent": 1})
    key = await gateway.mint(READ)
    cheap = {"filter": "data.l.exists(x, x == 1)", "limit": 50, "from": "start"}
    costly = {"filter": COSTLY, "limit": 50}
    texts = [await ticket(gateway, key, **asked) for asked in (cheap, costly)]
    streams = [await opened(gateway, text) for text in texts]
    cookies = [cookie_of(stream) for stream in streams]
    streams[1].close()
    await gateway.send(*[event(id=f"e{n}", data={"l": ITEMS}) for n in range(60)])
    at = (await streams[0].take(40))[39]["cursor"]
    head = (await gateway.get("/v1/events", params={"from": "now"})).json()["cursor"]
    again = await open_stream(
        gateway, "sse", None, ticket=texts[0], headers={"Cookie": cookies[0], "Last-Event-ID": at}
    )
    assert (await again.to_end())["reason"] == "complete"
    assert len(again.events) == 10
    sent = {"Cookie": cookies[1], "Last-Event-ID": head}
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "sse", None, ticket=texts[1], headers=sent)
    refusal.value.answer.problem(503, "filter_share_used_up")
