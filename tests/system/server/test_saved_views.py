"""Saved views: queries that their owner opens again, and nobody else sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_client import Answer, event
from gateways import Gateway

from gateway.http.console.saved_views import KIND, MOST_VIEWS

READS = {"actions": ["pull"], "categories": ["auth.**"], "tenants": ["acme"]}
VIEW = {"query": {"category": ["auth.session", "auth.token"], "text": "ann"}, "since": "24h"}


@pytest.fixture
async def key(gateway: Gateway) -> str:
    return await gateway.mint(READS)


async def save(gateway: Gateway, key: str, name: str, view: dict[str, Any]) -> Answer:
    return await gateway.request("PUT", f"/v1/views/{name}", key=key, json=view)


async def test_a_view_is_saved_listed_opened_and_deleted(gateway: Gateway, key: str) -> None:
    assert (await save(gateway, key, "sign-ins%20of%20ann", VIEW)).status == 201
    assert (await save(gateway, key, "denied", {"query": {"outcome": "denied"}})).status == 201
    listed = (await gateway.get("/v1/views", key=key)).json()["views"]
    assert [one["name"] for one in listed] == ["denied", "sign-ins of ann"]
    shown = (await gateway.get("/v1/views/sign-ins%20of%20ann", key=key)).json()
    assert {name: shown[name] for name in VIEW} == VIEW
    changed = {"query": {}, "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    assert (await save(gateway, key, "denied", changed)).status == 200
    again = (await gateway.get("/v1/views/denied", key=key)).json()
    assert (again["since"], again["until"]) == (changed["since"], changed["until"])
    assert (await gateway.request("DELETE", "/v1/views/denied", key=key)).status == 204
    (await gateway.get("/v1/views/denied", key=key)).problem(404, "unknown_view")


async def test_views_are_for_their_owner_alone(gateway: Gateway, key: str) -> None:
    await save(gateway, key, "mine", VIEW)
    for other in (gateway.admin, await gateway.mint(READS)):
        assert (await gateway.get("/v1/views", key=other)).json() == {"views": []}
        (await gateway.get("/v1/views/mine", key=other)).problem(404, "unknown_view")
        answer = await gateway.request("DELETE", "/v1/views/mine", key=other)
        answer.problem(404, "unknown_view")
    assert (await gateway.get("/v1/views/mine", key=key)).status == 200


async def test_views_survive_the_rotation_of_their_key(gateway: Gateway, key: str) -> None:
    await save(gateway, key, "mine", VIEW)
    rotated = await gateway.post(f"/v1/keys/{key[5:17]}/rotate", key=gateway.admin)
    successor = rotated.json()["key"]
    assert (await gateway.get("/v1/views/mine", key=successor)).json()["query"] == VIEW["query"]
    await save(gateway, successor, "later", VIEW)
    assert (await gateway.get("/v1/views/later", key=key)).status == 200


async def test_a_view_opened_by_a_key_that_sees_less_shows_less(gateway: Gateway, key: str) -> None:
    await save(gateway, key, "all", {"query": {"category": "**"}})
    await gateway.send(
        event(id="a", tenant="acme", category="auth.session"), event(id="b", tenant="globex")
    )
    query = (await gateway.get("/v1/views/all", key=key)).json()["query"]
    page = await gateway.pull(key, **query)
    assert [one["id"] for one in page["events"]] == ["a"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "filter that does not compile": ({"query": {"filter": "actor.id =="}}, "invalid_filter"),
    "unknown selector": ({"query": {"tenants": "acme"}}, "unknown_parameter"),
    "position": ({"query": {"after": "x-00000000000000000001"}}, "unknown_parameter"),
    "data": ({"query": {}, "events": []}, "invalid_request"),
    "selector of nothing": ({"query": {"tenant": []}}, "invalid_request"),
    "range that is none": ({"query": {}, "since": "1h", "until": "2h"}, "invalid_request"),
    "time that is none": ({"query": {}, "since": "yesterday"}, "invalid_request"),
    "without a query": ({"since": "1h"}, "invalid_request"),
    "too long": ({"query": {"tenant": ["t" * 60 + str(one) for one in range(80)]}},
                 "invalid_request"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
async def test_what_no_page_would_take_is_not_saved(gateway: Gateway, key: str, wrong: str) -> None:
    view, code = REFUSED[wrong]
    (await save(gateway, key, "v", view)).problem(400, code)
    assert (await gateway.get("/v1/views", key=key)).json() == {"views": []}


@pytest.mark.parametrize("name", ["%20", "a%0A", "<b>", "x" * 65, "-x", "a%00", "x%20"])
async def test_names_that_could_be_mistaken_are_refused(
    gateway: Gateway, key: str, name: str
) -> None:
    (await save(gateway, key, name, VIEW)).problem(400, "invalid_name")


async def test_an_owner_has_so_many_views_however_many_are_saved_at_once(
    gateway: Gateway, key: str
) -> None:
    saved = await asyncio.gather(
        *(save(gateway, key, f"v{one}", {"query": {}}) for one in range(MOST_VIEWS + 5))
    )
    assert sorted(one.status for one in saved) == [201] * MOST_VIEWS + [409] * 5
    assert (await save(gateway, key, "v0", VIEW)).status in (200, 409)
    (await save(gateway, key, "another", VIEW)).problem(409, "too_many_views")


async def test_nothing_is_left_of_an_owner_without_views(gateway: Gateway, key: str) -> None:
    await save(gateway, key, "v", VIEW)
    await gateway.request("DELETE", "/v1/views/v", key=key)
    assert await gateway.context.key_store.notes(KIND) == {}


async def test_a_key_that_may_not_look_has_no_views(gateway: Gateway) -> None:
    powerless = await gateway.mint({"actions": ["ingest"], "categories": ["auth"]})
    (await save(gateway, powerless, "v", VIEW)).problem(403, "action_not_granted")
