"""Attacks on who may do what, one test each."""

from __future__ import annotations

import logging
import re
from ipaddress import ip_network
from typing import Any

import pytest
from gateway_client import Answer, GatewayClient, event, key_id, with_checksum
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, Refused, open_stream

NEEDING_A_KEY = [
    ("POST", "/v1/events"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/x"),
    ("GET", "/v1/stream"),
    ("POST", "/v1/stream"),
    ("POST", "/v1/tickets"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys/000000000000"),
    ("POST", "/v1/keys/000000000000/revoke"),
    ("GET", "/v1/roles"),
    ("PUT", "/v1/roles/x"),
]
NEW_KEY = {"name": "n", "purpose": "p", "owner": "o", "expires_in": "1h"}
needing_a_key = pytest.mark.parametrize(("method", "path"), NEEDING_A_KEY)


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


def challenge(answer: Answer) -> str:
    return answer.headers["WWW-Authenticate"]


async def with_header(gateway: GatewayClient, value: str, path: str = "/v1/events") -> Answer:
    return await gateway.get(path, key=None, headers={"Authorization": value})


async def raw(gateway: GatewayClient, *headers: str, target: str = "/v1/events") -> bytes:
    """The answer to a request with exactly these header lines."""
    lines = [f"GET {target} HTTP/1.1", "Host: x", *headers, "Connection: close", "", ""]
    return await gateway.exchange("\r\n".join(lines).encode("latin-1"))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def without_id(answer: Answer) -> tuple[int, Any, str]:
    document = answer.json()
    del document["request_id"]
    return answer.status, document, challenge(answer)


# Keys that are none


@needing_a_key
async def test_without_a_key_nothing_is_answered(gateway: Gateway, method: str, path: str) -> None:
    answer = await gateway.request(method, path, key=None)
    answer.problem(401, "missing_key")
    assert challenge(answer) == 'Bearer realm="audit-gateway"'


@needing_a_key
async def test_with_an_unknown_key_nothing_is_answered(
    gateway: Gateway, method: str, path: str
) -> None:
    key = with_checksum("alpk_" + "0" * 12 + "_" + "0" * 43)
    answer = await gateway.request(method, path, key=key)
    answer.problem(401, "invalid_key")
    assert challenge(answer) == 'Bearer realm="audit-gateway", error="invalid_token"'


async def test_a_malformed_key_is_refused(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    for malformed in (
        "x", key[:-1], key + "0", key.upper(), key.replace("alpk", "alpt"), key[5:], f'"{key}"',
        f"{key} {key}", f"{key},{key}", f"Bearer {key}", key.replace("_", "-"), "alpk_",
        "\xe9" * 66,
    ):  # fmt: skip
        (await with_header(gateway, f"Bearer {malformed}")).problem(401, "invalid_key")


async def test_a_ticket_where_a_key_belongs_is_told_from_a_bad_copy(gateway: Gateway) -> None:
    problem = (await with_header(gateway, "Bearer alpt_x.y")).problem(401, "invalid_key")
    assert "this is a ticket" in problem["detail"]


async def test_a_replaced_key_is_told_which_one_has_taken_over(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(clock=shifted)
    key = await gateway.reader_key()
    path = f"/v1/keys/{key_id(key)}/rotate"
    successor = (await gateway.post(path, key=gateway.admin, json={"overlap": "1h"})).json()["id"]
    shifted.shift = 3601
    problem = (await gateway.get("/v1/events", key=key)).problem(401, "key_expired")
    assert f"key {successor} has taken over" in problem["detail"]


async def test_a_wrong_checksum_is_refused(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    (await gateway.get("/v1/events", key=wrong)).problem(401, "invalid_key")


async def test_a_wrong_secret_looks_just_like_an_unknown_key(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    wrong = with_checksum(f"alpk_{key_id(key)}_" + "0" * 43)
    unknown = with_checksum("alpk_" + "0" * 12 + "_" + "0" * 43)
    answers = [await gateway.get("/v1/events", key=one) for one in (wrong, unknown)]
    assert without_id(answers[0]) == without_id(answers[1])
    assert answers[0].status == 401


async def test_a_revoked_key_is_refused_and_told_so(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await gateway.pull(key)
    await gateway.revoke(key)
    (await gateway.get("/v1/events", key=key)).problem(401, "key_revoked")
    for transport in TRANSPORTS:
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, transport, key)
        refused.value.answer.problem(401, "key_revoked")


async def test_a_wrong_secret_never_learns_that_the_key_was_revoked(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await gateway.revoke(key)
    wrong = with_checksum(f"alpk_{key_id(key)}_" + "0" * 43)
    (await gateway.get("/v1/events", key=wrong)).problem(401, "invalid_key")


async def test_an_expired_key_is_refused(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(clock=shifted)
    key = await gateway.mint({"actions": ["pull"], "categories": ["**"]}, expires_in="1h")
    shifted.shift = 3599.0
    await gateway.pull(key)
    shifted.shift = 3601.0
    (await gateway.get("/v1/events", key=key)).problem(401, "key_expired")


@pytest.mark.parametrize("action", ["stream", "pull", "ingest", "keys.admin"])
async def test_a_key_can_do_only_what_it_was_granted(gateway: Gateway, action: str) -> None:
    key = await gateway.mint({"actions": [action], "categories": ["**"]})
    answers = {
        "pull": await gateway.get("/v1/events", key=key),
        "ingest": await gateway.post("/v1/events", key=key, json=event()),
        "keys.admin": await gateway.post("/v1/keys", key=key, json=NEW_KEY),
    }
    (await gateway.get("/v1/events/x", key=key)).problem(
        *((404, "not_found") if action == "pull" else (403, "action_not_granted"))
    )
    for needed, answer in answers.items():
        if needed == action:
            assert answer.status in (200, 201)
        else:
            assert answer.problem(403, "action_not_granted")["action"] == needed
            assert 'error="insufficient_scope"' in challenge(answer)
    for transport in TRANSPORTS:
        if action != "stream":
            with pytest.raises(Refused) as refused:
                await open_stream(gateway, transport, key)
            refused.value.answer.problem(403, "action_not_granted")


async def test_a_key_without_grants_can_do_nothing(gateway: Gateway) -> None:
    key = await gateway.mint()
    for path in ("/v1/events", "/v1/stream", "/v1/keys"):
        (await gateway.get(path, key=key)).problem(403, "action_not_granted")


async def test_deny_wins_over_every_allow(start: Start) -> None:
    gateway = await start()
    await gateway.send(event(id="1", tenant="a"), event(id="2", tenant="b"))
    key = await gateway.mint(
        {"effect": "deny", "actions": ["pull"], "categories": ["**"], "tenants": ["a"]},
        {"actions": ["pull"], "categories": ["**"]},
        {"actions": ["pull"], "categories": ["auth"], "tenants": ["a"]},
    )
    assert [one["id"] for one in (await gateway.pull(key))["events"]] == ["2"]


async def test_deny_wins_for_what_is_not_about_events_too(gateway: Gateway) -> None:
    """And the explanation and the document say the same."""
    both = ["keys.admin", "usage.read"]
    key = await gateway.mint(
        {"actions": both, "categories": ["**"]},
        {"id": "no", "effect": "deny", "actions": both, "categories": ["**"]},
    )
    body = {"name": "n", "purpose": "p", "owner": "o"}
    # Nor does it imply keys.read.
    (await gateway.get("/v1/keys", key=key)).problem(403, "action_not_granted")
    for answer in (
        await gateway.post("/v1/keys", key=key, json=body),
        await gateway.get(f"/v1/keys/{key_id(key)}/usage", key=key),
        await gateway.get("/v1/findings", key=key),
    ):
        answer.problem(403, "denied_by_grant")
    for action in both:
        question = {"key": key_id(key), "action": action}
        found = await gateway.post("/v1/authz/explain", key=gateway.admin, json=question)
        assert found.json()["reason_code"] == "denied_by_grant"
        assert found.json()["nearest"]["id"] == "no"
    path = f"/v1/keys/{key_id(key)}/document"
    told = await gateway.get(path, key=gateway.admin, headers={"Accept": "application/json"})
    assert told.json()["can"] == []


# Where a key stands


async def test_the_scheme_token_works_as_bearer_does(gateway: Gateway) -> None:
    for scheme in ("token", "Token", "bearer", "BEARER", "Splunk"):
        assert (await with_header(gateway, f"{scheme} {gateway.admin}")).status == 200


@pytest.mark.parametrize("scheme", ["Digest", "Negotiate", "", "Bearer:", "Bearertoken"])
async def test_any_other_scheme_is_no_key(gateway: Gateway, scheme: str) -> None:
    (await with_header(gateway, f"{scheme} {gateway.admin}")).problem(401, "missing_key")


@pytest.mark.parametrize(
    "name",
    ["X-Authorization", "Proxy-Authorization", "X-Forwarded-Authorization", "X-Api-Key", "Cookie",
     "Authorization_", "X-Original-Authorization"],
)  # fmt: skip
async def test_a_key_in_any_other_header_is_no_key(gateway: Gateway, name: str) -> None:
    answer = await gateway.get("/v1/events", key=None, headers={name: f"Bearer {gateway.admin}"})
    answer.problem(401, "missing_key")


async def test_two_authorization_headers_are_refused_whichever_is_good(gateway: Gateway) -> None:
    """A proxy in front may have looked at the other one."""
    good, bad = f"Authorization: Bearer {gateway.admin}", "Authorization: Bearer x"
    for headers in ((good, bad), (bad, good), (good, good)):
        assert status_of(await raw(gateway, *headers)) in (400, 401)


@pytest.mark.parametrize(
    "line",
    ["Authorization : Bearer {}", "Authorization: Bearer\r\n {}", " Authorization: Bearer {}",
     "Authorization:Bearer {}\x00", "Authorization: Bearer {}\rX: y", "Authorization\t: Bearer {}"],
    ids=repr,
)  # fmt: skip
async def test_header_lines_that_parsers_read_differently_are_400(
    gateway: Gateway, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await raw(gateway, line.format(gateway.admin))
    assert status_of(answer) == 400
    assert gateway.admin.encode() not in answer
    assert gateway.admin not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
    ],
    ids=str,
)
async def test_ambiguous_lengths_are_refused_and_nothing_behind_them_is_run(
    gateway: Gateway, headers: list[str]
) -> None:
    key = f"Authorization: Bearer {gateway.admin}"
    lines = ["POST /v1/events HTTP/1.1", "Host: x", key, "Content-Type: application/json", *headers]
    inner = f"GET /v1/keys HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n"
    answer = await gateway.exchange(("\r\n".join([*lines, "", ""]) + "0\r\n\r\n" + inner).encode())
    assert status_of(answer) == 400
    assert len(re.findall(rb"HTTP/1\.\d \d{3}", answer)) == 1


@pytest.mark.parametrize(
    "target",
    ["//v1/keys", "/v1//keys", "/v1/./keys", "/v1/events/../keys", "/v1/keys/", "/V1/keys",
     "/v1/keys;x", "/v1/%6beys", "/v1/events/..%2fkeys", "/v1/events/%2e%2e/keys", "/v1\\keys",
     "http://x/v1/keys", "/v1/keys?", "/v1/keys#", "/v1/keys%00", "/%76%31/keys"],
)  # fmt: skip
async def test_no_spelling_of_a_path_reaches_what_the_key_may_not(
    gateway: Gateway, target: str
) -> None:
    key = await gateway.reader_key()
    headers = (
        f"Authorization: Bearer {key}",
        "X-Original-URL: /v1/keys",
        "X-Rewrite-URL: /v1/keys",
    )
    answer = await raw(gateway, *headers, target=target)
    assert status_of(answer) in (400, 403, 404)
    assert b'"keys"' not in answer


# Keys in URLs


@pytest.mark.parametrize(
    "target",
    [
        "/v1/events?key={}", "/v1/events?access_token={}", "/v1/stream?token={}",
        "/v1/stream?category={}", "/v1/stream?ticket={}", "/v1/stream?after={}",
        "/v1/events?{}=1", "/v1/events/{}", "/v1/events/x?tenant={}", "/v1/keys/{}",
        "/v1/keys?KEY={}", "/v1/roles/{}", "/v1/stream?%61ccess_token={}", "/v1/{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("credentials", ["none", "good"])
async def test_a_key_in_a_url_is_refused_with_a_hint_and_neither_echoed_nor_logged(
    gateway: Gateway, target: str, credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = await gateway.reader_key()
    with caplog.at_level(logging.DEBUG):
        answer = await gateway.get(
            target.format(key), key=None if credentials == "none" else gateway.admin
        )
    # An event may have such an id: whoever sends no key is asked for one first.
    asked = credentials == "none" and target == "/v1/events/{}"
    problem = answer.problem(*((401, "missing_key") if asked else (400, "key_in_url")))
    assert "Authorization: Bearer" in problem["detail"]
    assert key.encode() not in answer.body
    for form in (key, key[18:]):
        assert form not in caplog.text


async def test_a_key_in_a_url_opens_nothing_even_if_it_is_the_only_one(gateway: Gateway) -> None:
    for transport in TRANSPORTS:
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, transport, None, token=gateway.admin)
        refused.value.answer.problem(400, "key_in_url")


async def test_the_id_of_a_key_may_stand_in_a_url(gateway: Gateway) -> None:
    path = f"/v1/findings?key={key_id(gateway.user)}"
    assert (await gateway.get(path, key=gateway.admin)).status == 200


# Addresses


async def test_a_client_cannot_say_itself_where_it_comes_from(gateway: Gateway) -> None:
    key = await gateway.reader_key(when={"cidr": ["10.0.0.0/8"]})
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP", "True-Client-IP"):
        value = "for=10.0.0.1" if name == "Forwarded" else "10.0.0.1"
        answer = await gateway.get("/v1/events", key=key, headers={name: value})
        answer.problem(403, "address_not_allowed")


async def test_behind_a_trusted_proxy_only_what_the_proxy_appended_counts(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    key = await gateway.reader_key(when={"cidr": ["10.0.0.0/8"]})
    for forwarded, status in (
        ("10.0.0.1", 200), ("10.0.0.1, 192.0.2.1", 403), ("192.0.2.1, 10.0.0.1", 200),
        ("10.0.0.1, 192.0.2.1, 127.0.0.9", 403), ("", 403), ("junk", 403), ("10.0.0.1, junk", 403),
    ):  # fmt: skip
        headers = {"X-Forwarded-For": forwarded}
        answer = await gateway.get("/v1/events", key=key, headers=headers)
        assert answer.status == status, forwarded


# Origins


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://127.0.0.1", "https://siem.example.evil.example",
     "https://siem.example:444", "http://siem.example", "siem.example", "https://SIEM.example/x",
     "file://"],
)  # fmt: skip
async def test_a_page_of_another_origin_cannot_open_a_websocket(start: Start, origin: str) -> None:
    gateway = await start(server={"allowed_origins": ("https://siem.example",)})
    for headers in ({"Origin": origin}, {"Origin": origin, "Host": ""}):
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, "websocket", headers=headers)
        refused.value.answer.problem(403, "origin_not_allowed")


async def test_own_and_allowed_origins_and_programs_can_open_a_websocket(start: Start) -> None:
    gateway = await start(server={"allowed_origins": ("https://siem.example",)})
    own = f"http://{gateway.host}:{gateway.port}"
    for headers in ({}, {"Origin": own}, {"Origin": "https://siem.example"}):
        await open_stream(gateway, "websocket", headers=headers)


# Parameters


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "name",
    ["categroy", "Category", "categories", "category[]", "category ", "wait", "tenant%00", "",
     "severity", "query", "x" * 200, "Last-Event-ID", "access"],
)  # fmt: skip
async def test_a_parameter_that_is_not_known_never_opens_a_stream(
    gateway: Gateway, transport: str, name: str
) -> None:
    params: dict[str, Any] = {name: "auth"}
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, transport, **params)
    problem = refused.value.answer.problem(400, "unknown_parameter")
    assert problem["parameter"] == name[:64]


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "1"), ("follow", "true"), ("filter", "true"), ("on_gap", "skip"), ("from", "now"),
     ("min_severity", "1"), ("format", "native"), ("since", "1h"), ("after", ""),
     ("last_event_id", ""), ("lastEventId", "")],
)  # fmt: skip
async def test_a_singular_parameter_is_refused_twice(
    gateway: Gateway, name: str, value: str
) -> None:
    value = value or (await gateway.pull())["cursor"]
    params: dict[str, Any] = {name + "_": [value, value]}
    for transport in ("sse", "websocket"):
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, transport, **params)
        problem = refused.value.answer.problem(400, "invalid_request")
        assert problem["parameter"] == name


async def test_two_positions_at_once_are_refused(gateway: Gateway) -> None:
    cursor = (await gateway.pull())["cursor"]
    for params in ({"after": cursor, "from_": "start"}, {"since": "1h", "from_": "now"},
                   {"last_event_id": cursor, "lastEventId": cursor},
                   {"last_event_id": cursor, "from_": "nowhere"}):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, "sse", **params)
        refused.value.answer.problem(400, "invalid_request")
