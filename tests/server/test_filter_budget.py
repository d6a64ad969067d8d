"""A key with a costly filter: its pages end early, it is refused, and others go on."""

from __future__ import annotations

from gateway_client import event
from gateways import Start

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
    assert "audit_gateway_filter_refused_total 1\n" in said
    exceeded = int(said.split("\naudit_gateway_filter_exceeded_total ")[1].split("\n")[0])
    assert exceeded == page["notice"]["events"]
