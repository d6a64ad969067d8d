"""`/v1/sessions`: who is signed in, and the end of a session by its key or an administrator."""

from __future__ import annotations

from typing import Any

from browser_sessions import sign_in
from gateway_client import key_id
from gateways import Gateway, Start
from open_streams import open_stream
from use_record import about, told

from tests.support.machine_time import becomes

READS = {"actions": ["pull", "stream"], "categories": ["auth"]}
LOOKS = {"actions": ["keys.read"], "categories": ["**"]}
ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}


async def sessions(gateway: Gateway, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.get("/v1/sessions", key=key)).json()["sessions"]
    return found


async def test_a_key_lists_its_own_sessions_and_no_secret(gateway: Gateway) -> None:
    key, other = await gateway.mint(READS), await gateway.mint(READS)
    browser = await sign_in(gateway, key)
    await sign_in(gateway, other)
    answer = await browser.get("/v1/sessions")
    [one] = answer.json()["sessions"]
    assert (one["key"], one["current"], one["address"]) == (key_id(key), True, "127.0.0.1")
    assert browser.cookie.partition("=")[2] not in answer.body.decode()
    [own] = await sessions(gateway, key)
    assert (own["id"], own["current"]) == (one["id"], False)


async def test_those_of_all_keys_are_for_keys_that_may_read_keys(gateway: Gateway) -> None:
    keys = [await gateway.mint(READS) for _ in range(2)]
    for key in keys:
        await sign_in(gateway, key)
    shown = await sessions(gateway, await gateway.mint(LOOKS))
    assert {one["key"] for one in shown} == set(map(key_id, keys))
    assert [one["used_at"] for one in shown] == sorted(
        [one["used_at"] for one in shown], reverse=True
    )


async def test_what_grants_hide_of_the_record_of_uses_is_hidden_of_sessions(
    gateway: Gateway,
) -> None:
    hides = {
        "actions": ["pull"], "categories": ["gateway.access"],
        "fields": {"mask": ["source.ip", "source.user_agent"]},
    }  # fmt: skip
    await sign_in(gateway, gateway.user)
    [one] = await sessions(gateway, await gateway.mint(LOOKS, hides))
    assert (one["address"], one["client"]) == ("***", "***")


async def test_ending_a_session_ends_its_streams_and_is_recorded(recording: Gateway) -> None:
    gateway = recording
    key = await gateway.mint(READS)
    browser = await sign_in(gateway, key)
    stream = await open_stream(gateway, "ndjson", None, headers=browser.headers)
    [one] = await sessions(gateway, key)
    administrator = await gateway.mint(ADMIN)
    answer = await gateway.request("DELETE", f"/v1/sessions/{one['id']}", key=administrator)
    assert answer.status == 204
    assert (await stream.to_end())["code"] == 4506
    (await browser.get("/v1/events")).problem(401, "session_ended")
    [record] = await told(gateway, action="session.closed", actor=key_id(administrator))
    assert about(key) in {target["urn"] for target in record["targets"]}


async def test_a_key_ends_its_own_session_from_elsewhere(gateway: Gateway) -> None:
    key = await gateway.mint(READS)
    browser = await sign_in(gateway, key)
    [one] = await sessions(gateway, key)
    assert (await gateway.request("DELETE", f"/v1/sessions/{one['id']}", key=key)).status == 204
    (await browser.get("/v1/events")).problem(401, "session_ended")
    gone = await gateway.request("DELETE", f"/v1/sessions/{one['id']}", key=key)
    gone.problem(404, "unknown_session")


async def test_nobody_else_ends_a_session_or_learns_that_it_exists(gateway: Gateway) -> None:
    browser = await sign_in(gateway, gateway.user)
    [one] = await sessions(gateway, gateway.user)
    path = f"/v1/sessions/{one['id']}"
    stranger = await gateway.mint(READS)
    (await gateway.request("DELETE", path, key=stranger)).problem(404, "unknown_session")
    reader = await gateway.mint(LOOKS)
    (await gateway.request("DELETE", path, key=reader)).problem(403, "action_not_granted")
    secret = browser.cookie.partition("=")[2]
    for wrong in (secret, "%00", "x" * 32):
        answer = await gateway.request("DELETE", f"/v1/sessions/{wrong}", key=gateway.admin)
        answer.problem(404, "unknown_session")
    assert (await browser.get("/v1/events")).status == 200


async def test_a_session_may_not_be_ended_by_a_page_of_others(gateway: Gateway) -> None:
    browser = await sign_in(gateway, gateway.user)
    [one] = await sessions(gateway, gateway.user)
    answer = await browser.request(
        "DELETE", f"/v1/sessions/{one['id']}", headers={"X-Audit-CSRF": "0" * 64}
    )
    answer.problem(403, "csrf_refused")


async def test_a_session_that_another_replica_ends_is_over_within_a_second(start: Start) -> None:
    gateway = await start()
    browser = await sign_in(gateway, gateway.user)
    stream = await open_stream(gateway, "ndjson", None, headers=browser.headers)
    [one] = await sessions(gateway, gateway.user)
    # What another process does, of which this one is not told.
    await gateway.context.key_store.update_notes("session", {one["id"]: lambda _: None})
    assert (await stream.to_end())["code"] == 4506
    refused = await becomes(lambda: browser.get("/v1/events"), lambda one: one.status != 200)
    refused.problem(401, "session_ended")
