"""`/v1/me`: what whoever asks is, and may do."""

from __future__ import annotations

from typing import Any

from browser_sessions import sign_in
from gateway_client import GatewayClient, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import open_stream

GRANT = {
    "actions": ["pull", "stream"], "categories": ["auth.*"], "tenants": ["acme"],
    "fields": {"mask": ["actor.name"], "drop": ["data"]},
}  # fmt: skip
UNKNOWN = {"actions": ["ops.read"], "categories": ["**"], "when": {"cidr": ["192.0.2.0/24"]}}


async def me(gateway: GatewayClient, key: str | None, **headers: str) -> dict[str, Any]:
    answer = await gateway.get("/v1/me", key=key, headers=headers)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json()
    return told


async def test_a_key_is_told_what_it_may_do_and_no_more_than_its_document(
    gateway: Gateway,
) -> None:
    key = await gateway.mint(GRANT, UNKNOWN, name="siem", purpose="alerts", owner="soc")
    told = await me(gateway, key)
    assert (told["kind"], told["id"], told["state"]) == ("key", key_id(key), "active")
    assert (told["name"], told["purpose"], told["owner"]) == ("siem", "alerts", "soc")
    # Not from this address, whatever the second grant says.
    assert told["actions"] == ["stream", "pull"]
    assert told["masks"] == ["actor.name", "data"]
    assert "csrf" not in told
    document = await gateway.get(
        f"/v1/keys/{key_id(key)}/document", key=gateway.admin,
        headers={"Accept": "application/json"},
    )  # fmt: skip
    for member in ("can", "cannot", "grants"):
        assert told[member] == document.json()[member]


async def test_a_key_that_may_nothing_is_told_so(gateway: Gateway) -> None:
    told = await me(gateway, await gateway.mint())
    assert (told["actions"], told["can"], told["grants"]) == ([], [], [])


async def test_what_is_left_of_limits_is_told_and_asking_takes_one_request(
    start: Start,
) -> None:
    gateway = await start(clock=ShiftedClock())
    limits = {"requests_per_second": 1, "requests_burst": 50, "events_per_day": 10}
    await gateway.send(*({"category": "auth.x", "action": "a", "tenant": "acme"} for _ in "123"))
    key = await gateway.mint(GRANT, limits=limits)
    first = await me(gateway, key)
    assert await gateway.pull(key, category="auth.x")
    second = (await me(gateway, key))["limits"]
    assert first["limits"]["events-day"]["left"] == 10
    assert second["events-day"] == {**first["limits"]["events-day"], "left": 7}
    assert second["requests"]["limit"] == 50
    assert second["requests"]["left"] < first["limits"]["requests"]["left"]


async def test_a_session_is_told_what_its_page_sends_with_changes(gateway: Gateway) -> None:
    browser = await sign_in(gateway, gateway.user)
    told = (await browser.get("/v1/me")).json()
    assert (told["kind"], told["csrf"]) == ("key", browser.csrf)


async def test_a_ticket_is_told_of_its_stream_and_stays_to_be_used(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/tickets", json={"category": "auth.x"})
    ticket = answer.json()["ticket"]
    for _ in "12":
        told = await me(gateway, None, Authorization=f"Bearer {ticket}")
        assert (told["kind"], told["actions"]) == ("ticket", ["stream"])
        assert told["parameters"] == [{"name": "category", "value": "auth.x"}]
    stream = await open_stream(gateway, "ndjson", None, ticket=ticket)
    stream.close()
    bearer = {"Authorization": f"Bearer {ticket}"}
    answer = await gateway.get("/v1/me", key=None, headers=bearer)
    answer.problem(401, "invalid_ticket")


async def test_a_ticket_is_told_nothing_of_its_key_but_what_its_stream_reaches(
    gateway: Gateway,
) -> None:
    key = await gateway.mint(
        {"actions": ["stream", "pull"], "categories": ["**"], "tenants": ["acme", "globex"],
         "fields": {"mask": ["actor.name"]}},
        {"actions": ["stream"], "categories": ["billing"], "tenants": ["globex"],
         "fields": {"mask": ["reason"]}},
        {"actions": ["keys.admin"], "categories": ["**"]},
        name="secret name", purpose="secret purpose", owner="secret owner",
        limits={"requests_per_second": 1000},
    )  # fmt: skip
    body = {"tenant": "acme", "category": "auth.*", "min_severity": 3}
    ticket = (await gateway.post("/v1/tickets", json=body, key=key)).json()["ticket"]
    told = await me(gateway, None, Authorization=f"Bearer {ticket}")
    [grant] = told["grants"]
    assert grant["grant"]["actions"] == ["stream"]
    assert grant["grant"]["tenants"] == ["acme"]
    assert grant["grant"]["categories"] == ["auth.*"]
    assert grant["grant"]["min_severity"] == 3
    assert told["masks"] == ["actor.name"]
    assert (told["limits"], told["streams"]) == ({}, 0)
    assert not {"globex", "secret", "billing"} & {*str(told).replace("'", " ").split()}
    reserved = (await gateway.post("/v1/tickets", json={"category": "gateway.**"}, key=key)).json()
    told = await me(gateway, None, Authorization=f"Bearer {reserved['ticket']}")
    assert told["grants"] == []


async def test_tickets_that_are_over_and_keys_that_have_ended_are_told_nothing(
    start: Start,
) -> None:
    clock = ShiftedClock()
    gateway = await start(clock=clock)
    ticket = (await gateway.post("/v1/tickets", json={})).json()["ticket"]
    key = await gateway.mint(GRANT)
    await gateway.revoke(key)
    (await gateway.get("/v1/me", key=key)).problem(401, "key_revoked")
    (await gateway.get("/v1/me", key=None)).problem(401, "missing_key")
    clock.shift += 31
    bearer = {"Authorization": f"Bearer {ticket}"}
    answer = await gateway.get("/v1/me", key=None, headers=bearer)
    answer.problem(401, "invalid_ticket")
    answer = await gateway.get("/v1/me", key=None, headers={"Authorization": "Bearer alpt_x.y"})
    answer.problem(401, "invalid_ticket")


async def test_wrong_tickets_count_for_their_address(start: Start) -> None:
    gateway = await start(limits={"address_failures_per_minute": 2})
    answer = await gateway.post("/v1/tickets", json={"category": "auth.x"})
    wrong = {"Authorization": f"Bearer {answer.json()['ticket'][:-4]}AAAA"}
    for _ in "12":
        refused = await gateway.get("/v1/me", key=None, headers=wrong)
        refused.problem(401, "invalid_ticket")
    assert (await gateway.get("/v1/me", key=None, headers=wrong)).status == 429


async def test_a_ticket_beside_a_session_is_refused(gateway: Gateway) -> None:
    browser = await sign_in(gateway, gateway.user)
    ticket = (await gateway.post("/v1/tickets", json={})).json()["ticket"]
    sent = {**browser.headers, "Authorization": f"Bearer {ticket}"}
    answer = await gateway.get("/v1/me", key=None, headers=sent)
    answer.problem(400, "ambiguous_key")
