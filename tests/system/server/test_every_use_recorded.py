"""Every route, however it ends, leaves a record: a table over what the document describes."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import Any

import orjson
import pytest
from browser_sessions import sign_in
from gateway_client import Event, event, key_id, with_checksum
from gateways import Gateway, Start, StartProgram
from open_streams import open_stream
from use_record import ACCESS, about, told

from gateway.errors import Unavailable
from gateway.http.app import DOCUMENT
from tests.support.machine_time import Stopwatch
from tests.support.scripted_outlet import Receiver

# Public routes, and those that sign browsers in and out: test_sessions.py has what these leave.
NOT_BY_KEY = ([], [{"session": []}])
# Any key that has not ended may ask.
FOR_ANYBODY = {
    ("GET", "/v1/me"), ("GET", "/v1/sessions"), ("DELETE", "/v1/sessions/{id}"),
}  # fmt: skip
METHODS = ("get", "put", "patch", "post", "delete")
ROUTES = sorted(
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in item and item[method].get("security") not in NOT_BY_KEY
)
GRANT = {"actions": ["pull"], "categories": ["auth"]}
NEW_KEY = {
    "name": "n", "purpose": "p", "owner": "o", "expires_in": "1d", "grants": [GRANT],
}  # fmt: skip
DESTINATION = {"type": "scripted", "key": "{kid}", "settings": {"url": "x"}}
QUESTION = {"key": "{kid}", "action": "pull", "category": "auth"}
Options = dict[str, Any]

HEC, BULK = "/services/collector", ("/_bulk", "/{index}/_bulk")
CHANNEL = "fe0ecfad-13d5-401b-847d-77833bd77131"

# What makes each route succeed, and what makes it fail for a key that may use it.
SUCCEEDS: dict[tuple[str, str], tuple[str, Options]] = {
    ("POST", "/v1/events"): ("/v1/events", {"json": event(id="new")}),
    ("GET", "/v1/events"): ("/v1/events?category=auth", {}),
    ("GET", "/v1/counts"): ("/v1/counts?category=auth", {}),
    ("GET", "/v1/events/{id}"): ("/v1/events/known", {}),
    ("GET", "/v1/stream"): ("/v1/stream?follow=false", {}),
    ("POST", "/v1/stream"): ("/v1/stream", {"json": {"follow": False}}),
    ("POST", "/v1/tickets"): ("/v1/tickets", {"json": {"category": "auth"}}),
    ("GET", "/v1/keys"): ("/v1/keys", {}),
    ("POST", "/v1/declarations/{set}"): ("/v1/declarations/prod", {"json": {"roles": {"r": {}}}}),
    ("GET", "/v1/review"): ("/v1/review", {}),
    ("GET", "/v1/usage"): ("/v1/usage", {}),
    ("POST", "/v1/keys"): ("/v1/keys", {"json": NEW_KEY}),
    ("GET", "/v1/keys/{id}"): ("/v1/keys/{kid}", {}),
    ("POST", "/v1/keys/{id}/confirm"): ("/v1/keys/{held}/confirm", {}),
    ("PATCH", "/v1/keys/{id}"): (
        "/v1/keys/{kid}", {"json": {"owner": "ops"}, "headers": {"If-Match": "*"}},
    ),
    ("GET", "/v1/keys/{id}/history"): ("/v1/keys/{kid}/history", {}),
    ("GET", "/v1/keys/{id}/usage"): ("/v1/keys/{kid}/usage", {}),
    ("GET", "/v1/keys/{id}/document"): ("/v1/keys/{kid}/document", {}),
    ("POST", "/v1/keys/{id}/rotate"): ("/v1/keys/{rotated}/rotate", {}),
    ("POST", "/v1/keys/{id}/suspend"): ("/v1/keys/{kid}/suspend", {}),
    ("POST", "/v1/keys/{id}/resume"): ("/v1/keys/{suspended}/resume", {}),
    ("POST", "/v1/keys/{id}/reviewed"): ("/v1/keys/{kid}/reviewed", {}),
    ("GET", "/v1/streams"): ("/v1/streams", {}),
    ("GET", "/v1/status"): ("/v1/status", {}),
    ("GET", "/v1/doctor"): ("/v1/doctor", {}),
    ("POST", "/v1/streams/{id}/end"): ("/v1/streams/{stream}/end", {}),
    ("POST", "/v1/keys/{id}/revoke"): ("/v1/keys/{revoked}/revoke", {}),
    ("GET", "/v1/findings"): ("/v1/findings", {}),
    ("POST", "/v1/findings/{id}/expected"): ("/v1/findings/{finding}/expected", {}),
    ("DELETE", "/v1/findings/{id}/expected"): ("/v1/findings/{finding}/expected", {}),
    ("POST", "/v1/authz/explain"): ("/v1/authz/explain", {"json": QUESTION}),
    ("POST", "/v1/authz/simulate"): (
        "/v1/authz/simulate", {"json": {"key": "{kid}", "grants": [GRANT]}},
    ),
    ("POST", "/v1/authz/preview"): ("/v1/authz/preview", {"json": {"grants": [GRANT]}}),
    ("POST", "/v1/pseudonyms/resolve"): (
        "/v1/pseudonyms/resolve",
        {"json": {"key": "{kid}", "pseudonym": f"ps1_{'a' * 26}", "reason": "r"}},
    ),
    ("GET", "/v1/me"): ("/v1/me", {}),
    ("GET", "/v1/sessions"): ("/v1/sessions", {}),
    ("DELETE", "/v1/sessions/{id}"): ("/v1/sessions/{session}", {}),
    ("GET", "/v1/views"): ("/v1/views", {}),
    ("GET", "/v1/views/{name}"): ("/v1/views/known", {}),
    ("PUT", "/v1/views/{name}"): ("/v1/views/made", {"json": {"query": {"category": "auth"}}}),
    ("DELETE", "/v1/views/{name}"): ("/v1/views/doomed", {}),
    ("GET", "/v1/roles"): ("/v1/roles", {}),
    ("GET", "/v1/roles/{name}"): ("/v1/roles/known", {}),
    ("PUT", "/v1/roles/{name}"): ("/v1/roles/made", {"json": {"grants": [GRANT]}}),
    ("DELETE", "/v1/roles/{name}"): ("/v1/roles/doomed", {}),
    ("GET", "/v1/consumers"): ("/v1/consumers", {}),
    ("GET", "/v1/consumers/{name}"): ("/v1/consumers/known?key={kid}", {}),
    ("PUT", "/v1/consumers/{name}"): ("/v1/consumers/made", {"json": {}}),
    ("POST", "/v1/consumers/{name}/ack"): (
        "/v1/consumers/known/ack?key={kid}", {"json": {"cursor": "{cursor}"}},
    ),
    ("POST", "/v1/consumers/{name}/rewind"): (
        "/v1/consumers/known/rewind?key={kid}", {"json": {"to": "latest"}},
    ),
    ("DELETE", "/v1/consumers/{name}"): ("/v1/consumers/doomed?key={kid}", {}),
    ("GET", "/v1/destinations"): ("/v1/destinations", {}),
    ("POST", "/v1/destinations"): ("/v1/destinations", {"json": {**DESTINATION, "name": "new"}}),
    ("GET", "/v1/destinations/{name}"): ("/v1/destinations/known", {}),
    ("PATCH", "/v1/destinations/{name}"): (
        "/v1/destinations/known", {"json": {"on_gap": "fail"}},
    ),
    ("DELETE", "/v1/destinations/{name}"): ("/v1/destinations/doomed", {}),
    ("POST", "/v1/destinations/{name}/pause"): ("/v1/destinations/active/pause", {}),
    ("POST", "/v1/destinations/{name}/resume"): ("/v1/destinations/halted/resume", {}),
    ("POST", "/v1/destinations/{name}/test"): ("/v1/destinations/known/test", {}),
    ("POST", "/v1/ingest/{source}"): (
        "/v1/ingest/okta", {"json": {"uuid": "1", "eventType": "user.session.start"}},
    ),
    ("POST", "/v1/ingest/{source}/{cluster}"): (
        "/v1/ingest/okta/prod", {"json": {"uuid": "2", "eventType": "user.session.start"}},
    ),
    ("POST", "/v1/logs"): (
        "/v1/logs", {"json": {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}},
    ),
    **{
        ("POST", f"{HEC}{path}"): (f"{HEC}{path}", {"data": b'{"event":"x"}'})
        for path in ("", "/1.0", "/event", "/event/1.0", "/raw", "/raw/1.0")
    },
    **{
        ("POST", HEC + path): (f"{HEC}{path}?channel={CHANNEL}", {"data": b'{"acks":[]}'})
        for path in ("/ack", "/ack/1.0")
    },
    **{
        (method, path): (path.replace("{index}", "x"), {"data": b'{"create":{}}\n{"a":1}\n'})
        for method in ("POST", "PUT")
        for path in BULK
    },
    ("POST", "/v1/destinations/{name}/replay"): (
        "/v1/destinations/known/replay", {"json": {"from": "start"}},
    ),
    ("DELETE", "/v1/destinations/{name}/replay"): ("/v1/destinations/active/replay", {}),
    ("PUT", "/v1/destinations/{name}/secrets/{secret}"): (
        "/v1/destinations/known/secrets/token", {"json": {"value": "v"}},
    ),
    ("GET", "/v1/destinations/{name}/dead-letters"): ("/v1/destinations/known/dead-letters", {}),
    ("DELETE", "/v1/destinations/{name}/dead-letters"): (
        "/v1/destinations/known/dead-letters", {},
    ),
    ("DELETE", "/v1/destinations/{name}/dead-letters/{id}"): (
        "/v1/destinations/known/dead-letters/x", {},
    ),
}  # fmt: skip
NOT_JSON: Options = {"data": b"{", "headers": {"Content-Type": "application/json"}}
FAILS: dict[tuple[str, str], tuple[str, Options]] = {
    **{
        (method, path): (path.replace("{index}", "x") + "?x=1", {"data": b"{}"})
        for method, path in ROUTES
        if path.startswith(HEC) or path in BULK
    },
    ("POST", "/v1/ingest/{source}"): ("/v1/ingest/unknown", {"data": b"{}"}),
    ("POST", "/v1/ingest/{source}/{cluster}"): ("/v1/ingest/unknown/prod", {"data": b"{}"}),
    ("GET", "/v1/events"): ("/v1/events?limit=0", {}),
    ("GET", "/v1/counts"): ("/v1/counts?step=2h", {}),
    ("GET", "/v1/events/{id}"): ("/v1/events/unknown", {}),
    ("GET", "/v1/stream"): ("/v1/stream?x=1", {}),
    ("GET", "/v1/me"): ("/v1/me?x=1", {}),
    ("GET", "/v1/keys"): ("/v1/keys?limit=0", {}),
    ("GET", "/v1/sessions"): ("/v1/sessions?x=1", {}),
    ("DELETE", "/v1/sessions/{id}"): ("/v1/sessions/unknown", {}),
    ("GET", "/v1/views"): ("/v1/views?x=1", {}),
    ("GET", "/v1/views/{name}"): ("/v1/views/unknown", {}),
    ("DELETE", "/v1/views/{name}"): ("/v1/views/unknown", {}),
    ("GET", "/v1/review"): ("/v1/review?since=soon", {}),
    ("GET", "/v1/usage"): ("/v1/usage?by=x", {}),
    ("GET", "/v1/roles"): ("", {}),
    ("GET", "/v1/findings"): ("/v1/findings?x=1", {}),
    ("GET", "/v1/streams"): ("/v1/streams?x=1", {}),
    ("GET", "/v1/status"): ("/v1/status?x=1", {}),
    ("GET", "/v1/doctor"): ("/v1/doctor?x=1", {}),
    ("GET", "/v1/destinations"): ("/v1/destinations?x=1", {}),
    ("GET", "/v1/consumers"): ("/v1/consumers?x=1", {}),
    ("GET", "/v1/consumers/{name}"): ("/v1/consumers/unknown", {}),
    ("DELETE", "/v1/consumers/{name}"): ("/v1/consumers/unknown", {}),
    ("POST", "/v1/keys/{id}/confirm"): ("/v1/keys/{kid}/confirm", {}),
    ("PATCH", "/v1/keys/{id}"): ("/v1/keys/{kid}", {"json": {"owner": "ops"}}),
    ("POST", "/v1/declarations/{set}"): ("/v1/declarations/prod?expect=1", {"json": {}}),
    ("GET", "/v1/keys/{id}/history"): ("/v1/keys/{kid}/history?x=1", {}),
    ("GET", "/v1/keys/{id}/usage"): ("/v1/keys/{kid}/usage?x=1", {}),
    ("GET", "/v1/keys/{id}"): ("/v1/keys/unknown", {}),
    ("GET", "/v1/keys/{id}/document"): ("/v1/keys/unknown/document", {}),
    ("GET", "/v1/roles/{name}"): ("/v1/roles/unknown", {}),
    ("DELETE", "/v1/roles/{name}"): ("/v1/roles/unknown", {}),
    ("DELETE", "/v1/findings/{id}/expected"): ("/v1/findings/unknown/expected", {}),
}


async def records(gateway: Gateway) -> list[Event]:
    """All records of uses, those that wait included."""
    await gateway.context.access_log.flush()
    page = await gateway.pull(gateway.admin, category=ACCESS, limit="10000")
    found: list[Event] = page["events"]
    return found


def of_route(found: list[Event], method: str, path: str) -> list[Event]:
    wanted = f"{method} {path}"
    return [
        one for one in found
        if re.sub(r"\{(\w+):[^}]+\}", r"{\1}", one["data"].get("route", "")) == wanted
    ]  # fmt: skip


def filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


async def there(gateway: Gateway) -> dict[str, str]:
    """Things that routes are about, by name."""
    names = {
        name: key_id(await gateway.mint(GRANT, owner=name))
        for name in ("kid", "rotated", "revoked")
    }
    await open_stream(gateway, "sse")
    shown = await gateway.get("/v1/streams", key=gateway.user)
    names["stream"] = shown.json()["streams"][0]["id"]
    await sign_in(gateway, gateway.user)
    signed_in = await gateway.get("/v1/sessions", key=gateway.user)
    names["session"] = signed_in.json()["sessions"][0]["id"]
    suspended = key_id(await gateway.mint(GRANT))
    await gateway.post(f"/v1/keys/{suspended}/suspend", key=gateway.admin)
    held = await gateway.post(
        f"/v1/keys/{key_id(await gateway.mint(GRANT))}/rotate", key=gateway.admin,
        json={"hold": True},
    )  # fmt: skip
    names["held"] = held.json()["id"]
    for role in ("known", "doomed"):
        body = {"grants": [GRANT]}
        await gateway.request("PUT", f"/v1/roles/{role}", key=gateway.admin, json=body)
    sent = await gateway.send(event(id="known"))
    for name in ("known", "doomed"):
        path = f"/v1/consumers/{name}?key={names['kid']}"
        made = await gateway.request("PUT", path, key=gateway.admin, json={"from": "now"})
        assert made.status == 201, made.body
    gateway.context.deliveries.parts.outlets.types = {"scripted": Receiver().outlet_type()}
    for name in ("known", "doomed", "active", "halted"):
        body = {**DESTINATION, "name": name, "key": names["kid"]}
        made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
        assert made.status == 201, made.body
    await gateway.post("/v1/destinations/halted/pause", key=gateway.admin)
    # It goes on until it is cancelled, as the key may not stream.
    begun = await gateway.post(
        "/v1/destinations/active/replay", key=gateway.admin, json={"from": "start"}
    )
    assert begun.status == 200, begun.body
    await gateway.mint({**GRANT, "fields": {"pseudonymize": ["actor.id"]}})
    for _ in range(5):
        await gateway.get("/v1/keys", key=gateway.user)
    await gateway.context.detector.poll()
    findings = (await gateway.get("/v1/findings", key=gateway.admin)).json()["findings"]
    found = {"suspended": suspended, "finding": findings[0]["id"], "cursor": sent["last_cursor"]}
    return {**names, **found}


async def everything(gateway: Gateway) -> str:
    actions = [
        "stream",
        "pull",
        "ingest",
        "keys.admin",
        "usage.read",
        "ops.read",
        "ops.act",
        "destinations.admin",
        "pseudonyms.resolve",
    ]
    return await gateway.mint({"actions": actions, "categories": ["**", "gateway.**"]})


async def call(
    gateway: Gateway, method: str, path: str, options: Options, names: dict[str, str], key: str
) -> int:
    given = {**options}
    if "json" in given:
        given["json"] = orjson.loads(filled(orjson.dumps(given["json"]).decode(), names))
    answer = await gateway.request(method, filled(path, names), key=key, **given)
    return answer.status


def test_the_table_has_every_route_of_the_document() -> None:
    assert set(SUCCEEDS) >= set(ROUTES), "say here how a new route succeeds"
    assert len(ROUTES) >= 25


async def save_views(gateway: Gateway, owner: str, *names: str) -> None:
    views = {name: {"name": name, "query": {}, "saved_at": ""} for name in names}
    notes = gateway.context.key_store
    await notes.update_notes("views", {owner: lambda _: orjson.dumps(views)})


async def test_every_success_leaves_a_record(gateway: Gateway) -> None:
    names = await there(gateway)
    key = await everything(gateway)
    await save_views(gateway, key_id(key), "known", "doomed")
    for method, path in ROUTES:
        target, options = SUCCEEDS[method, path]
        status = await call(gateway, method, target, options, names, key)
        assert 200 <= status < 300, (method, path, status)
    found = [one for one in await records(gateway) if one["actor"]["id"] == key_id(key)]
    for method, path in ROUTES:
        made = [one for one in of_route(found, method, path) if one["outcome"] == "success"]
        assert sum(one["data"]["count"] for one in made) == 1, (method, path)
        [record] = made
        assert (record["tenant"], record["source"]["ip"]) == ("gateway", "127.0.0.1")
        assert record["data"]["attempted"]
        named = re.findall(r"\{(kid|rotated|revoked|suspended)\}", SUCCEEDS[method, path][0])
        if named:
            urns = {target["urn"] for target in record["targets"]}
            assert f"key:{names[named[0]]}" in urns, (method, path)


async def test_every_denial_leaves_a_record(gateway: Gateway) -> None:
    powerless = await gateway.mint()
    revoked = await gateway.mint()
    await gateway.revoke(revoked)
    routes = [route for route in ROUTES if route not in FOR_ANYBODY]
    for method, path in routes:
        target = re.sub(r"\{\w+\}", "x" * 12, path)
        for key, status in ((powerless, 403), (revoked, 401)):
            # Splunk answers 401 only where there is no token.
            expected = 403 if path.startswith(HEC) else status
            answer = await gateway.request(method, target, key=key)
            assert answer.status == expected, (method, path)
    found = await records(gateway)
    for key in (powerless, revoked):
        of_key = [one for one in found if one.get("actor", {}).get("id") == key_id(key)]
        for method, path in routes:
            denied = [one for one in of_route(of_key, method, path) if one["outcome"] == "denied"]
            assert sum(one["data"]["count"] for one in denied) == 1, (method, path)
            assert denied[0]["reason"] in ("action_not_granted", "key_revoked")


async def test_every_refusal_of_an_unknown_key_leaves_a_record_of_its_address(
    gateway: Gateway,
) -> None:
    known = await gateway.mint()
    forged = with_checksum(f"alpk_{key_id(known)}_" + "0" * 43)
    for method, path in ROUTES:
        target = re.sub(r"\{\w+\}", "x" * 12, path)
        for key in (forged, None):
            expected = 403 if key and path.startswith(HEC) else 401
            answer = await gateway.request(method, target, key=key)
            assert answer.status == expected, (method, path)
    found = await records(gateway)
    for method, path in ROUTES:
        refused = of_route([one for one in found if "actor" not in one], method, path)
        assert {one["reason"] for one in refused} == {"invalid_key", "missing_key"}, (method, path)
        assert {one["source"]["ip"] for one in refused} == {"127.0.0.1"}
        claimed = [one for one in refused if one["reason"] == "invalid_key"]
        assert about(known) in {target["urn"] for target in claimed[0]["targets"]}


async def test_every_failure_leaves_a_record(gateway: Gateway) -> None:
    names = await there(gateway)
    key = await everything(gateway)
    failing = [
        (route, FAILS.get(route, (route[1].replace("{id}", names["kid"]), NOT_JSON)))
        for route in ROUTES
        if FAILS.get(route) != ("", {})
    ]
    assert len(failing) >= len(ROUTES) - 1, "a list of all roles cannot be asked for wrongly"
    for (method, path), (target, options) in failing:
        target = target.replace("{name}", "made").replace("{secret}", "token")
        status = await call(gateway, method, target, options, names, key)
        assert 400 <= status < 500, (method, path, status)
    found = [one for one in await records(gateway) if one["actor"]["id"] == key_id(key)]
    for (method, path), _ in failing:
        failed = [one for one in of_route(found, method, path) if one["outcome"] == "failure"]
        assert sum(one["data"]["count"] for one in failed) == 1, (method, path)
        assert (failed[0]["action"], bool(failed[0]["reason"])) == ("request.failed", True)


# Never dropped


@pytest.mark.parametrize("code", ["write_queue_full", "store_unavailable"])
async def test_uses_while_the_log_takes_nothing_are_recorded_when_it_is_back(
    recording: Gateway, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    key = await recording.reader_key()
    whole = recording.context.writer.append

    async def refused(*_: Any) -> Any:
        raise Unavailable("try again", code=code)

    monkeypatch.setattr(recording.context.writer, "append", refused)
    for _ in range(30):
        await recording.pull(key)
        await recording.get("/v1/keys", key=key)
        await asyncio.sleep(0.05)
    stream = await open_stream(recording, "sse", key)
    stream.close()
    await recording.streams_become(0)
    assert recording.context.access_log.waiting > 0
    monkeypatch.setattr(recording.context.writer, "append", whole)
    await recording.context.access_log.flush()
    found = await told(recording, resource=about(key), category=ACCESS)
    counts: dict[str, int] = {}
    for one in found:
        counts[one["action"]] = counts.get(one["action"], 0) + one["data"]["count"]
    assert counts == {
        "events.pulled": 30, "request.denied": 30, "stream.opened": 1, "stream.closed": 1,
    }  # fmt: skip


async def test_a_thousand_requests_at_once_are_few_records_with_all_of_them_counted(
    start: Start,
) -> None:
    gateway = await start(record={"delay": 0, "merge": 1})
    key = await gateway.reader_key()
    for _ in range(10):
        await asyncio.gather(*(gateway.get("/v1/keys", key=key) for _ in range(100)))
    await gateway.context.access_log.flush()
    found = await told(gateway, action="request.denied", resource=about(key))
    assert sum(one["data"]["count"] for one in found) == 1000
    assert len(found) <= 20


async def test_what_kill_9_takes_is_the_last_moments_and_repeats_of_a_minute(
    start_program: StartProgram,
) -> None:
    """With the default pace: a first use is written within about a second."""
    program = await start_program()
    key = await program.reader_key()
    await program.pull(key)
    await program.get("/v1/keys", key=key)
    stream = await open_stream(program, "sse", key)
    watch = Stopwatch()
    await told(program, 3, resource=about(key), category=ACCESS)
    assert watch.seconds < 3
    await stream.next("opening")
    await program.stop(signal.SIGKILL)
    again = await start_program(program.admin)
    found = await told(again, 3, resource=about(key), category=ACCESS)
    assert {one["action"] for one in found} == {
        "events.pulled", "request.denied", "stream.opened",
    }  # fmt: skip
