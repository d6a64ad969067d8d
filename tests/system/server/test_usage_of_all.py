"""`GET /v1/usage`: usage over all keys, by key and by owner, beside the week before."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start

PULLS = {"actions": ["pull"], "categories": ["auth.**"]}
USAGE = {"actions": ["usage.read"], "categories": ["**"]}
WEEK = 7 * 86400


@pytest.fixture
async def used(start: Start, shifted: ShiftedClock) -> tuple[Gateway, dict[str, str]]:
    """A gateway, and ids of keys by name: `busy` was used last week and now, `idle` never."""
    gateway = await start(shifted)
    keys = {
        "busy": await gateway.mint(PULLS, owner="soc", name="busy"),
        "other": await gateway.mint(PULLS, owner="soc", name="other"),
        "apps": await gateway.mint(PULLS, owner="apps", name="apps"),
        "idle": await gateway.mint(PULLS, owner="apps", name="idle"),
    }
    await gateway.send(event(id="a"), event(id="b"))
    await gateway.pull(keys["busy"])
    await gateway.context.usage.flush()
    shifted.shift += WEEK
    await gateway.context.enforcement.poll()
    for _ in range(2):
        await gateway.pull(keys["busy"])
    await gateway.pull(keys["other"])
    await gateway.pull(keys["apps"], limit="1")
    return gateway, {name: key_id(key) for name, key in keys.items()}


async def usage(gateway: Gateway, query: str = "") -> Any:
    answer = await gateway.get(f"/v1/usage{query}", key=await gateway.mint(USAGE))
    assert answer.status == 200, answer.body
    return answer.json()


async def test_each_key_with_any_use_has_a_row_most_first(
    used: tuple[Gateway, dict[str, str]],
) -> None:
    gateway, ids = used
    found = await usage(gateway)
    rows = {one["key"]: one for one in found["rows"] if one["key"] in ids.values()}
    assert list(rows) == [ids["busy"], ids["other"], ids["apps"]]
    busy = rows[ids["busy"]]
    assert (busy["name"], busy["owner"]) == ("busy", "soc")
    assert (busy["now"]["requests"], busy["now"]["events"]) == (2, 4)
    assert (busy["week_before"]["requests"], busy["week_before"]["events"]) == (1, 2)
    assert rows[ids["other"]]["week_before"]["events"] == 0
    assert found["total"]["events"] == sum(one["now"]["events"] for one in found["rows"])
    assert found["total_week_before"]["events"] == 2
    one = await gateway.get(f"/v1/keys/{ids['busy']}/usage?window=24h&step=1h", key=gateway.admin)
    assert sum(row["events"] for row in one.json()["rows"]) == busy["now"]["events"]
    first = await usage(gateway, "?limit=1")
    assert ([row["key"] for row in first["rows"]], first["total"]["events"]) == ([ids["busy"]], 7)
    assert first["others"] >= 2


async def test_keys_of_one_owner_are_one_row(used: tuple[Gateway, dict[str, str]]) -> None:
    gateway, _ = used
    rows = {one["owner"]: one for one in (await usage(gateway, "?by=owner"))["rows"]}
    assert (rows["soc"]["keys"], rows["soc"]["now"]["events"]) == (2, 6)
    assert (rows["apps"]["keys"], rows["apps"]["now"]["events"]) == (1, 1)
    assert "key" not in rows["soc"]


async def test_the_week_before_is_none_where_it_is_not_kept(
    used: tuple[Gateway, dict[str, str]],
) -> None:
    gateway, ids = used
    found = await usage(gateway, "?window=399d&order=requests")
    assert found["total_week_before"] is None
    assert {one["week_before"] for one in found["rows"]} == {None}
    assert next(one["now"] for one in found["rows"] if one["key"] == ids["busy"])["events"] == 6
    short = await usage(gateway, "?window=90m")
    assert short["total_week_before"] is None


async def test_what_is_asked_wrongly_is_refused(used: tuple[Gateway, dict[str, str]]) -> None:
    gateway, _ = used
    for query in ("by=tenant", "order=size", "limit=0", "window=10s", "window=500d", "step=1h"):
        assert (await gateway.get(f"/v1/usage?{query}", key=gateway.admin)).status == 400, query
    (await gateway.get("/v1/usage", key=gateway.user)).problem(403, "action_not_granted")
