"""Embedded viewers: what a ticket and a token open, and what nobody can do with them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import Refused, open_stream
from use_record import told

from gateway.access.credentials.viewer import TOKEN_SECONDS
from gateway.http.openapi.route import Route
from gateway.http.routes.table import ROUTES

HOST = "https://portal.example"
FOREIGN = "https://evil.example"
LOOKS = {"actions": ["pull", "stream"], "categories": ["auth.**", "billing"]}
BEARER = "base64url.bearer.authorization.audit."
MAY = ["text", "export", "live"]
# What a viewer may ask at all.
OPENS = {("GET", f"/v1/{one}") for one in ("events", "counts", "stream", "me")}


@pytest.fixture
async def portal(start: Start) -> Gateway:
    return await start(server={"allowed_origins": (HOST,)})


async def make(gateway: Gateway, key: str = "", **members: Any) -> Answer:
    body = {"viewer": {"may": MAY}, "tenant": ["acme"], "subject": "customer-7", **members}
    return await gateway.post("/v1/tickets", json=body, key=key or gateway.user)


async def ticket(gateway: Gateway, key: str = "", **members: Any) -> str:
    answer = await make(gateway, key, **members)
    assert answer.status == 201, answer.body
    assert answer.json()["ticket"].startswith("alpt_")
    text: str = answer.json()["ticket"]
    return text


async def trade(gateway: Gateway, text: str, **headers: str) -> Answer:
    return await gateway.post(
        "/v1/viewer/session", key=None, json={"ticket": text}, headers=headers
    )


async def token(gateway: Gateway, key: str = "", **members: Any) -> str:
    answer = await trade(gateway, await ticket(gateway, key, **members))
    assert answer.status == 201, answer.body
    text: str = answer.json()["token"]
    return text


async def ids(gateway: Gateway, held: str, **params: str) -> list[str]:
    return [one["id"] for one in (await gateway.pull(held, **params))["events"]]


async def some_events(gateway: Gateway) -> None:
    await gateway.send(
        event(id="a", tenant="acme", category="auth.session", actor={"id": "ann"}),
        event(id="b", tenant="acme", category="billing", actor={"id": "bob"}),
        event(id="g", tenant="globex", category="auth.session"),
        event(id="k", tenant="acme", category="k8s.audit"),
    )


# What it opens


async def test_a_viewer_sees_what_both_its_key_and_its_ticket_let_it_see(portal: Gateway) -> None:
    await some_events(portal)
    held = await token(portal, await portal.mint(LOOKS), category="auth.**")
    assert await ids(portal, held) == ["a"]
    assert await ids(portal, held, order="desc", category="auth.session") == ["a"]
    counts = await portal.get("/v1/counts", key=held)
    assert counts.json()["total"] == 1


async def test_text_files_and_live_are_opened_where_the_ticket_says_so(portal: Gateway) -> None:
    await some_events(portal)
    held = await token(portal)
    assert await ids(portal, held, text="ann") == ["a"]
    csv = await portal.get(
        "/v1/stream?follow=false&from=start&columns=id,tenant", key=held,
        headers={"Accept": "text/csv"},
    )  # fmt: skip
    assert csv.body.decode().split() == ["id,tenant", "a,acme", "b,acme", "k,acme"]
    page = await portal.get("/v1/events", key=held, headers={"Accept": "text/csv"})
    assert page.status == 200
    stream = await open_stream(portal, "ndjson", held, **{"from": "start"})
    assert [one["id"] for one in await stream.take(3)] == ["a", "b", "k"]
    await portal.send(event(id="h", tenant="globex"), event(id="n", tenant="acme"))
    assert (await stream.event())["id"] == "n"


@pytest.mark.parametrize(
    ("may", "path", "accept"),
    [
        (["export", "live"], "/v1/events?text=ann", "application/json"),
        (["export", "live"], "/v1/events?text_in=actor", "application/json"),
        (["export", "live"], "/v1/counts?text=ann", "application/json"),
        (["text", "live"], "/v1/events", "text/csv"),
        (["text", "live"], "/v1/stream?follow=false", "text/csv"),
        (["text", "live"], "/v1/stream?follow=false", "application/x-ndjson"),
        (["text", "live"], "/v1/events?columns=id", "application/json"),
        (["text", "export"], "/v1/stream", "application/x-ndjson"),
        ([], "/v1/stream", "text/event-stream"),
    ],
)
async def test_what_the_ticket_does_not_say_is_refused(
    portal: Gateway, may: list[str], path: str, accept: str
) -> None:
    held = await token(portal, viewer={"may": may})
    answer = await portal.get(path, key=held, headers={"Accept": accept})
    answer.problem(403, "not_for_viewers")


async def test_it_looks_no_further_back_than_its_ticket_says(start: Start) -> None:
    clock = ShiftedClock()
    portal = await start(clock=clock, server={"allowed_origins": (HOST,)})
    await portal.send(event(id="old", tenant="acme"))
    cursor = (await portal.pull())["events"][0]["cursor"]
    clock.shift += 7200
    await portal.send(event(id="new", tenant="acme"))
    key = await portal.reader_key()
    held = await token(portal, key, viewer={"may": MAY, "since": "1h"})
    before = cursor.rpartition("-")[0] + "-" + "0" * 20
    for params in ({}, {"since": "30d"}, {"order": "desc"}, {"after": before}, {"from_": "start"}):
        assert await ids(portal, held, **params) == ["new"], params
    counted = await portal.get("/v1/counts?since=30d", key=held)
    assert counted.json()["total"] == 1
    stream = await open_stream(portal, "ndjson", held, after=before)
    assert (await stream.event())["id"] == "new"


async def test_a_change_of_its_key_takes_a_stream_no_further_back(portal: Gateway) -> None:
    body = {"grants": [LOOKS]}
    await portal.request("PUT", "/v1/roles/shown", key=portal.admin, json=body)
    key = await portal.mint(roles=["shown"])
    held = await token(portal, key, viewer={"may": MAY, "since": "1h"})
    await open_stream(portal, "ndjson", held)
    [stream] = portal.context.hub.streams_of(key_id(key))
    body = {"grants": [{**LOOKS, "categories": ["billing"]}]}
    await portal.request("PUT", "/v1/roles/shown", key=portal.admin, json=body)
    [rule] = stream.interest.query.view.rules
    assert (rule.scope.category, rule.lookback) == (("billing",), 3600)


async def test_me_tells_a_viewer_of_itself_alone(portal: Gateway) -> None:
    key = await portal.mint(LOOKS, name="siem", owner="soc")
    held = await token(portal, key, viewer={"may": []}, subject="customer-7")
    told = (await portal.get("/v1/me", key=held)).json()
    assert (told["kind"], told["id"], told["actions"]) == ("viewer", key_id(key), ["pull"])
    assert (told["name"], told["owner"], told["limits"]) == ("", "", {})
    assert told["parameters"] == [{"name": "tenant", "value": "acme"}]
    assert told["can"]
    assert all("acme" in sentence for sentence in told["can"]), told["can"]


async def test_the_session_says_what_the_page_needs_and_sets_no_cookie(portal: Gateway) -> None:
    options = {"may": ["live"], "columns": ["time", "actor.id"], "theme": "sand", "since": "30d"}
    answer = await trade(portal, await ticket(portal, viewer=options))
    told = answer.json()
    assert told["token"].startswith("alpv_")
    assert (told["origin"], told["theme"], told["since"]) == (HOST, "sand", 30 * 86400)
    assert (told["may"], told["columns"]) == (["live"], ["time", "actor.id"])
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_websocket_offers_the_token_beside_its_subprotocol(portal: Gateway) -> None:
    held = await token(portal)
    hidden = BEARER + base64.urlsafe_b64encode(held.encode()).decode().rstrip("=")
    headers = {"Sec-WebSocket-Protocol": f"audit.v1.lines, {hidden}", "Origin": portal.url}
    stream = await open_stream(portal, "audit.v1.lines", None, headers=headers)
    assert stream.answer.headers["sec-websocket-protocol"] == "audit.v1.lines"
    await portal.send(event(id="x", tenant="acme"))
    assert (await stream.event())["id"] == "x"


# Attacks


def paths_of(route: Route) -> str:
    path = route.documented_path
    for name in ("id", "name", "source", "cluster", "secret", "index", "file", "set"):
        path = path.replace("{" + name + "}", "x")
    return path


async def test_the_token_opens_pages_counts_and_a_stream_and_nothing_else(portal: Gateway) -> None:
    key = await portal.mint(
        {
            "actions": [
                "pull", "stream", "ingest", "keys.admin", "usage.read", "ops.read", "ops.act",
                "destinations.admin", "pseudonyms.resolve",
            ],
            "categories": ["**", "gateway.**"],
        }
    )  # fmt: skip
    held = await token(portal, key)
    opened = set()
    for route in ROUTES:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            some = {} if method == "GET" else {"json": {}}
            path = paths_of(route) + ("?follow=false" if route.path == "/v1/stream" else "")
            answer = await portal.request(method, path, key=held, **some)
            public = route.public or (route.path, method) == ("/v1/session", "POST")
            if answer.status < 300 and not route.public:
                opened.add((method, route.path))
            elif not public:
                # Without an identity provider there is none of its routes.
                gone = (404,) if path.startswith("/v1/session/oidc") else ()
                assert answer.status in (401, 403, 405, *gone), (method, path, answer.body)
    assert opened == OPENS


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/roles", "/v1/sessions", "/v1/views"])
async def test_a_token_on_a_route_of_administration_is_refused(portal: Gateway, path: str) -> None:
    (await portal.get(path, key=await token(portal))).problem(403, "not_for_viewers")


WIDENING: dict[str, tuple[str, str]] = {
    "another tenant": ("tenant=globex", "outside_ticket"),
    "all tenants": ("tenant=**", "outside_ticket"),
    "one more tenant": ("tenant=acme&tenant=globex", "outside_ticket"),
    "wider category": ("category=**", "outside_ticket"),
    "sibling category": ("category=billing", "outside_ticket"),
    "category of the gateway": ("category=gateway.**", "outside_ticket"),
    "another outcome": ("outcome=success", "outside_ticket"),
    "filter": ("filter=true", "not_for_viewers"),
    "filter that closes one": ("filter=true)%20%7C%7C%20(true", "not_for_viewers"),
    "consumer": ("consumer=x", "not_for_viewers"),
    "wait": ("wait=10", "not_for_viewers"),
    "format": ("format=cef", "not_for_viewers"),
    "raw cells": ("raw=1", "not_for_viewers"),
}


@pytest.mark.parametrize("widening", WIDENING)
async def test_no_parameter_widens_what_a_ticket_selects(portal: Gateway, widening: str) -> None:
    held = await token(
        portal, category=["auth.**"], outcome=["denied"], min_severity=3, filter="actor.id == 'a'"
    )
    query, code = WIDENING[widening]
    for path in ("/v1/events", "/v1/stream"):
        answer = await portal.get(f"{path}?{query}", key=held)
        answer.problem(403, code)


async def test_a_lower_severity_is_not_asked_for(portal: Gateway) -> None:
    await portal.send(event(id="low", tenant="acme"), event(id="high", tenant="acme", severity=5))
    held = await token(portal, min_severity=4)
    assert await ids(portal, held, min_severity="1") == ["high"]
    assert await ids(portal, held, min_severity="6") == []


async def test_a_replayed_ticket_is_refused(portal: Gateway) -> None:
    text = await ticket(portal)
    assert (await trade(portal, text)).status == 201
    (await trade(portal, text)).problem(401, "invalid_ticket")
    # Nor after a restart, of which the process knows nothing.
    portal.context.used_tickets.__init__()  # type: ignore[misc]
    (await trade(portal, text)).problem(401, "invalid_ticket")


async def test_a_ticket_that_is_over_or_changed_is_refused(start: Start) -> None:
    clock = ShiftedClock()
    portal = await start(clock=clock, server={"allowed_origins": (HOST,)})
    text = await ticket(portal)
    claims, _, signature = text.removeprefix("alpt_").partition(".")
    forged = claims[:-4] + ("AAAA" if claims[-4:] != "AAAA" else "BBBB")
    for wrong in (f"alpt_{forged}.{signature}", f"alpt_{claims}.{signature[:-2]}", "alpt_x.y", "x"):
        (await trade(portal, wrong)).problem(401, "invalid_ticket")
    clock.shift += 31
    (await trade(portal, text)).problem(401, "invalid_ticket")


async def test_tickets_of_streams_and_of_viewers_do_not_pass_for_each_other(
    portal: Gateway,
) -> None:
    plain = await portal.post("/v1/tickets", json={"category": "auth.**"})
    (await trade(portal, plain.json()["ticket"])).problem(401, "invalid_ticket")
    text = await ticket(portal)
    (await portal.get(f"/v1/stream?ticket={text}", key=None)).problem(401, "invalid_ticket")
    held = await token(portal)
    as_ticket = "alpt_" + held.removeprefix("alpv_")
    (await trade(portal, as_ticket)).problem(401, "invalid_ticket")
    as_token = "alpv_" + text.removeprefix("alpt_")
    (await portal.get("/v1/events", key=as_token)).problem(401, "viewer_ended")


@pytest.mark.parametrize("origin", [HOST, FOREIGN, "null"])
async def test_no_page_but_the_own_trades_a_ticket(portal: Gateway, origin: str) -> None:
    text = await ticket(portal)
    (await trade(portal, text, Origin=origin)).problem(403, "origin_not_allowed")
    # It was not spent.
    assert (await trade(portal, text, Origin=portal.url)).status == 201


async def test_a_token_is_over_after_a_quarter_of_an_hour_with_its_stream(start: Start) -> None:
    clock = ShiftedClock()
    portal = await start(clock=clock, server={"allowed_origins": (HOST,)})
    held = await token(portal)
    stream = await open_stream(portal, "ndjson", held)
    clock.shift += TOKEN_SECONDS - 2
    assert (await portal.get("/v1/events", key=held)).status == 200
    clock.shift += 3
    for path in ("/v1/events", "/v1/counts", "/v1/stream", "/v1/me"):
        (await portal.get(path, key=held)).problem(401, "viewer_ended")
    assert portal.context.clock.now() > 0
    [subscription] = portal.context.hub.streams_of(key_id(portal.user))
    left = subscription.ends_at - portal.context.clock.monotonic()
    assert 0 < left <= TOKEN_SECONDS
    stream.close()


async def test_revoking_the_key_ends_the_stream_and_the_token_of_its_viewers(
    portal: Gateway,
) -> None:
    key = await portal.mint(LOOKS)
    waiting = await ticket(portal, key)
    held = await token(portal, key)
    stream = await open_stream(portal, "ndjson", held)
    await portal.revoke(key)
    assert (await stream.to_end())["code"] == 4501
    (await portal.get("/v1/events", key=held)).problem(401, "key_revoked")
    (await trade(portal, waiting)).problem(401, "key_revoked")


async def test_a_viewer_narrows_with_the_grants_of_its_key(portal: Gateway) -> None:
    await some_events(portal)
    body = {"grants": [LOOKS]}
    await portal.request("PUT", "/v1/roles/shown", key=portal.admin, json=body)
    key = await portal.mint(roles=["shown"])
    held = await token(portal, key)
    assert await ids(portal, held) == ["a", "b"]
    stream = await open_stream(portal, "ndjson", held)
    body = {"grants": [{**LOOKS, "categories": ["billing"]}]}
    await portal.request("PUT", "/v1/roles/shown", key=portal.admin, json=body)
    assert await ids(portal, held) == ["b"]
    await portal.send(
        event(id="x", tenant="acme", category="auth.session"),
        event(id="y", tenant="acme", category="billing"),
    )
    assert (await stream.event())["id"] == "y"


async def test_a_viewer_has_one_stream_and_the_newer_takes_over(portal: Gateway) -> None:
    held, other = await token(portal), await token(portal)
    first = await open_stream(portal, "ndjson", held)
    beside = await open_stream(portal, "ndjson", other)
    second = await open_stream(portal, "ndjson", held)
    assert (await first.to_end())["reason"] == "viewer_taken_over"
    await portal.send(event(id="x", tenant="acme"))
    for stream in (second, beside):
        assert (await stream.event())["id"] == "x"
    assert await portal.streams() == 2


async def test_the_limits_of_its_key_hold_for_its_viewers(portal: Gateway) -> None:
    key = await portal.mint(LOOKS, limits={"concurrent_streams": 1})
    first = await open_stream(portal, "ndjson", await token(portal, key))
    with pytest.raises(Refused) as refused:
        await open_stream(portal, "ndjson", await token(portal, key))
    refused.value.answer.problem(429, "too_many_streams")
    first.close()


async def test_records_name_the_subject_and_have_no_ticket(start: Start) -> None:
    portal = await start(server={"allowed_origins": (HOST,)}, record={"delay": 0.0, "merge": 0.1})
    key = await portal.mint(LOOKS)
    text = await ticket(portal, key, subject="customer-7")
    held = (await trade(portal, text)).json()["token"]
    other = await token(portal, key, subject="customer-8")
    for one in (held, other):
        await portal.pull(one)
    await portal.get("/v1/keys", key=held)
    stream = await open_stream(portal, "ndjson", held)
    stream.close()
    await portal.streams_become(0)
    await portal.context.access_log.flush()
    found = await told(portal, 7, actor=key_id(key), category="gateway.access")
    named = {(one["action"], one["data"].get("subject")) for one in found}
    for action in ("viewer.opened", "events.pulled"):
        assert {(action, "customer-7"), (action, "customer-8")} <= named
    for action in ("stream.opened", "stream.closed"):
        assert (action, "customer-7") in named
    written = str(await portal.pull(portal.admin, category="gateway.**", limit="1000"))
    for secret in (text, held, other):
        assert secret not in written
        assert secret.partition(".")[2] not in written


async def test_a_token_or_ticket_in_a_client_name_is_not_recorded(start: Start) -> None:
    portal = await start(server={"allowed_origins": (HOST,)}, record={"delay": 0.0})
    text, held = await ticket(portal), await token(portal)
    await portal.get("/v1/events", key=held, headers={"User-Agent": f"{text} {held}"})
    await portal.context.access_log.flush()
    written = str(await portal.pull(portal.admin, category="gateway.**", limit="1000"))
    assert text.partition(".")[2] not in written
    assert held.partition(".")[2] not in written


# Making tickets

REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown option": ({"viewer": {"x": 1}}, 400, "invalid_request"),
    "unknown permission": ({"viewer": {"may": ["keys.admin"]}}, 400, "invalid_request"),
    "unknown theme": ({"viewer": {"theme": "red; } body {"}}, 400, "invalid_request"),
    "column that is none": ({"viewer": {"columns": ["<b>"]}}, 400, "unknown_column"),
    "two columns in one": ({"viewer": {"columns": ["id,time"]}}, 400, "invalid_request"),
    "no columns": ({"viewer": {"columns": []}}, 400, "invalid_request"),
    "foreign origin": ({"viewer": {"origin": FOREIGN}}, 400, "invalid_request"),
    "duration that is none": ({"viewer": {"since": "soon"}}, 400, "invalid_request"),
    "position": ({"after": "x"}, 400, "unknown_parameter"),
    "following": ({"follow": True}, 400, "unknown_parameter"),
    "selector of nothing": ({"tenant": []}, 400, "invalid_request"),
    "filter that does not compile": ({"filter": "a =="}, 400, "invalid_filter"),
    "subject that is none": ({"subject": 7}, 400, "invalid_request"),
    "subject with a line break": ({"subject": "a\nb"}, 400, "invalid_request"),
    "long subject": ({"subject": "x" * 257}, 400, "invalid_request"),
    "options that are none": ({"viewer": "portal"}, 400, "invalid_request"),
    "too long": ({"tenant": [f"tenant-{one}" for one in range(250)]}, 400, "invalid_request"),
}


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_ticket_with_wrong_options_is_not_made(portal: Gateway, wrong: str) -> None:
    members, status, code = REFUSED[wrong]
    (await make(portal, **members)).problem(status, code)


async def test_a_key_makes_viewers_of_what_it_may_do_itself(portal: Gateway) -> None:
    pulls = await portal.mint({"actions": ["pull"], "categories": ["auth.**"]})
    assert (await make(portal, pulls, viewer={"may": ["text", "export"]})).status == 201
    (await make(portal, pulls, viewer={"may": ["live"]})).problem(403, "action_not_granted")
    streams = await portal.mint({"actions": ["stream"], "categories": ["auth.**"]})
    (await make(portal, streams)).problem(403, "action_not_granted")
    answer = await portal.post("/v1/tickets", json={"category": "auth"}, key=pulls)
    answer.problem(403, "action_not_granted")


async def test_the_origin_is_said_where_there_are_several(start: Start) -> None:
    two = await start(server={"allowed_origins": (HOST, "https://other.example")})
    (await make(two)).problem(400, "invalid_request")
    options = {"origin": "https://other.example"}
    told = (await trade(two, await ticket(two, viewer=options))).json()
    assert told["origin"] == options["origin"]


async def test_a_ticket_of_a_stream_names_its_subject_too(start: Start) -> None:
    gateway = await start(record={"delay": 0.0})
    made = await gateway.post("/v1/tickets", json={"category": "auth", "subject": "customer-9"})
    stream = await open_stream(gateway, "ndjson", None, ticket=made.json()["ticket"])
    stream.close()
    [record] = await told(gateway, action="stream.opened", actor=key_id(gateway.user))
    assert record["data"]["subject"] == "customer-9"


# The page


async def test_the_page_may_be_framed_by_the_allowed_origins_and_others_by_nobody(
    portal: Gateway,
) -> None:
    for path in ("/embed", "/embed/portal"):
        answer = await portal.get(path, key=None)
        policy = answer.headers["Content-Security-Policy"]
        assert f"frame-ancestors {HOST};" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "X-Frame-Options" not in answer.headers
    console = await portal.get("/", key=None, headers={"Accept": "text/html,*/*;q=0.8"})
    assert "frame-ancestors 'none'" in console.headers["Content-Security-Policy"]


async def test_there_is_no_page_where_nobody_may_show_it(gateway: Gateway) -> None:
    (await make(gateway)).problem(400, "invalid_request")
    (await gateway.get("/embed", key=None)).problem(404, "not_found")
