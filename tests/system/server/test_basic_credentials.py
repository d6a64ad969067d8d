"""Basic credentials (RFC 7617): the key as password, wherever `Bearer` is taken."""

from __future__ import annotations

import asyncio
import base64
import logging
from ipaddress import ip_network
from typing import Any

import pytest
from gateway_client import Answer, GatewayClient, event, key_id, with_checksum
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, Refused, open_stream
from test_standards import basic

BEARER = "base64url.bearer.authorization.audit."
ASKED = ['Bearer realm="audit-gateway"', 'Basic realm="audit-gateway", charset="UTF-8"']
PROXIES = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


def encoded(content: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(content).decode()}


def challenges(answer: Answer) -> list[str]:
    headers: Any = answer.headers
    found: list[str] = headers.getall("WWW-Authenticate")
    return found


async def asked(gateway: GatewayClient, **headers: str) -> Answer:
    return await gateway.get("/v1/events", key=None, headers=headers)


async def in_raw_headers(gateway: GatewayClient, *lines: str, target: str = "/v1/events") -> bytes:
    head = [f"GET {target} HTTP/1.1", "Host: x", *lines, "Connection: close", "", ""]
    return await gateway.exchange("\r\n".join(head).encode("latin-1"))


# What is taken


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_key_as_password_ingests_pulls_and_opens_streams(
    gateway: Gateway, transport: str
) -> None:
    sent = await gateway.post("/v1/events", json=event(), key=None, headers=basic(gateway.user))
    assert sent.status == 201
    assert (await asked(gateway, **basic(gateway.user, "audit"))).status == 200
    stream = await open_stream(gateway, transport, None, headers=basic(gateway.user, ""))
    await gateway.send(event(id=f"basic-{transport}"))
    while (await stream.event())["id"] != f"basic-{transport}":
        pass


async def test_the_key_as_password_makes_tickets_and_administers(gateway: Gateway) -> None:
    made = await gateway.post("/v1/tickets", key=None, json={}, headers=basic(gateway.user))
    stream = await open_stream(gateway, "sse", None, ticket=made.json()["ticket"])
    stream.close()
    body = {
        "name": "n", "purpose": "p", "owner": "o",
        "grants": [{"actions": ["pull"], "categories": ["**"]}],
    }  # fmt: skip
    answer = await gateway.post("/v1/keys", key=None, json=body, headers=basic(gateway.admin))
    assert answer.status == 201


async def test_the_user_name_may_be_of_any_encoding_and_length(gateway: Gateway) -> None:
    for user in (
        b"", "müller".encode(), "müller".encode("latin-1"), b"\xff\xfe", b"a" * 1000, b" ",
        gateway.admin.encode(),
    ):  # fmt: skip
        assert (await asked(gateway, **encoded(user + b":" + gateway.user.encode()))).status == 200


async def test_the_name_of_the_scheme_is_written_in_any_case(gateway: Gateway) -> None:
    credentials = basic(gateway.user)["Authorization"][6:]
    for scheme in ("basic", "BASIC", "Basic"):
        answer = await asked(gateway, Authorization=f"{scheme}  {credentials}")
        assert answer.status == 200


# What asks for them


async def test_whoever_sends_no_good_key_is_told_that_basic_is_taken(gateway: Gateway) -> None:
    answer = await asked(gateway)
    answer.problem(401, "missing_key")
    assert challenges(answer) == ASKED
    for headers in (basic("x"), {"Authorization": "Bearer x"}):
        answer = await asked(gateway, **headers)
        answer.problem(401, "invalid_key")
        assert challenges(answer) == [f'{ASKED[0]}, error="invalid_token"', ASKED[1]]
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, "websocket", None)
    # The last of them, as this client reads it.
    assert refused.value.answer.headers["Www-Authenticate"] == ASKED[1]


async def test_a_browser_is_not_asked_as_it_would_keep_the_key_for_all_pages(
    gateway: Gateway,
) -> None:
    for mode in ("navigate", "cors", "no-cors", "websocket"):
        answer = await asked(gateway, **{"Sec-Fetch-Mode": mode})
        assert challenges(answer) == ASKED[:1]


async def test_nobody_is_asked_over_a_connection_that_others_can_read(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": PROXIES})
    away = {"X-Forwarded-For": "192.0.2.7"}
    assert challenges(await asked(gateway, **away)) == ASKED[:1]
    secure = {**away, "X-Forwarded-Proto": "https"}
    assert challenges(await asked(gateway, **secure)) == ASKED


async def test_over_plain_http_from_elsewhere_they_are_refused(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": PROXIES})
    away = {**basic(gateway.user), "X-Forwarded-For": "192.0.2.7"}
    (await asked(gateway, **away)).problem(403, "basic_needs_tls")
    assert (await asked(gateway, **away, **{"X-Forwarded-Proto": "https"})).status == 200


async def test_over_plain_http_they_can_be_allowed(start: Start) -> None:
    gateway = await start(server={"trusted_proxies": PROXIES, "basic": "always"})
    away = {"X-Forwarded-For": "192.0.2.7"}
    assert (await asked(gateway, **away, **basic(gateway.user))).status == 200
    assert challenges(await asked(gateway, **away)) == ASKED


# Attacks


@pytest.mark.parametrize(
    "credentials",
    ["", "!!", "====", "YQ", "YTo", "/w==", "bm9jb2xvbg==", "YW55Og==", "Og==", "YTo=", "YTr/",
     "\xe9", "YTpi YTpi", "YTpi,YTpi", "YTpi\tYTpi"],
    ids=repr,
)  # fmt: skip
async def test_what_is_no_base64_of_a_user_and_a_key_is_refused(
    gateway: Gateway, credentials: str
) -> None:
    answer = await asked(gateway, Authorization=f"Basic {credentials}")
    answer.problem(401, "invalid_key")
    assert challenges(answer)[0].endswith('error="invalid_token"')


async def test_a_key_without_a_colon_or_as_the_user_name_is_no_key(gateway: Gateway) -> None:
    key = gateway.user.encode()
    for content in (key, key + b":", key + b":x", b"u:" + key + b":x", b"u::" + key):
        (await asked(gateway, **encoded(content))).problem(401, "invalid_key")


async def test_no_other_spelling_of_base64_is_the_key(gateway: Gateway) -> None:
    """A proxy in front may read it differently."""
    good = basic(gateway.user, "ab")["Authorization"]
    assert (await asked(gateway, Authorization=good)).status == 200
    for other in (good + "=", good[:20] + " " + good[20:], good[:20] + "-" + good[20:], good * 2):
        (await asked(gateway, Authorization=other)).problem(401, "invalid_key")


async def test_a_password_with_more_than_the_key_is_no_key(gateway: Gateway) -> None:
    key = gateway.user.encode()
    for more in (b" ", b"\n", b"\r\n", b"\x00", b"\xff", "é".encode(), b":"):
        for password in (key + more, more + key):
            (await asked(gateway, **encoded(b"u:" + password))).problem(401, "invalid_key")


async def test_two_credentials_at_once_are_refused_whichever_is_good(gateway: Gateway) -> None:
    """A proxy in front may have looked at the other one."""
    good, bad = basic(gateway.user)["Authorization"], "Bearer x"
    bearer = f"Bearer {gateway.user}"
    for first, second in ((good, bad), (bad, good), (good, good), (good, bearer), (bearer, good)):
        answer = await in_raw_headers(
            gateway, f"Authorization: {first}", f"Authorization: {second}"
        )
        assert answer.split(b" ", 2)[1] in (b"400", b"401")
        assert b'"events"' not in answer
    (await asked(gateway, Authorization=f"{good}, {bearer}")).problem(401, "invalid_key")


def subprotocol(key: str) -> str:
    return BEARER + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def test_a_key_in_a_header_and_another_in_a_subprotocol_are_refused(
    gateway: Gateway,
) -> None:
    for credentials in (basic(gateway.user), {"Authorization": f"Bearer {gateway.user}"}):
        for other in (gateway.admin, f"{gateway.user}x"):
            headers = {**credentials, "Sec-WebSocket-Protocol": f"audit.v1, {subprotocol(other)}"}
            with pytest.raises(Refused) as refused:
                await open_stream(gateway, "websocket", None, headers=headers)
            refused.value.answer.problem(400, "ambiguous_key")
    hidden = subprotocol(gateway.user)
    twice = {"Sec-WebSocket-Protocol": f"audit.v1, {hidden}, {hidden}"}
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, "websocket", None, headers=twice)
    refused.value.answer.problem(400, "ambiguous_key")


async def test_a_proxy_may_put_the_key_of_a_subprotocol_into_a_header(gateway: Gateway) -> None:
    for credentials in (basic(gateway.user), {"Authorization": f"Bearer {gateway.user}"}):
        protocols = f"audit.v1, {subprotocol(gateway.user)}"
        headers = {**credentials, "Sec-WebSocket-Protocol": protocols}
        stream = await open_stream(gateway, "websocket", None, headers=headers)
        await gateway.send(event())
        await stream.event()


async def test_a_ticket_as_password_is_no_key(gateway: Gateway) -> None:
    ticket = (await gateway.post("/v1/tickets", json={})).json()["ticket"]
    problem = (await asked(gateway, **basic(ticket))).problem(401, "invalid_key")
    assert "this is a ticket" in problem["detail"]


async def test_credentials_in_the_address_of_a_url_are_no_key(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for target in (f"http://u:{gateway.user}@x/v1/events", f"//u:{gateway.user}@x/v1/events"):
            answer = await in_raw_headers(gateway, target=target)
            assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404")
            assert gateway.user.encode() not in answer
    assert gateway.user[18:] not in caplog.text


async def test_an_unknown_key_as_password_looks_just_like_a_wrong_secret(gateway: Gateway) -> None:
    wrong = with_checksum(f"alpk_{key_id(gateway.user)}_" + "0" * 43)
    unknown = with_checksum("alpk_" + "0" * 12 + "_" + "0" * 43)
    answers = [await asked(gateway, **basic(key)) for key in (wrong, unknown)]
    documents = [answer.problem(401, "invalid_key") for answer in answers]
    for document in documents:
        del document["request_id"]
    assert documents[0] == documents[1]
    assert challenges(answers[0]) == challenges(answers[1])


@pytest.mark.parametrize("state", ["revoked", "suspended", "expired"])
async def test_a_key_that_has_ended_is_refused_and_told_so(
    start: Start, shifted: ShiftedClock, state: str
) -> None:
    gateway = await start(clock=shifted)
    key = await gateway.mint(
        {"actions": ["pull", "stream", "ingest"], "categories": ["**"]}, expires_in="1h"
    )
    single = f"Content-Length: 2\r\nAuthorization: {basic(key)['Authorization']}\r\n"
    request = f"POST /v1/events HTTP/1.1\r\nHost: x\r\n{single}Connection: close\r\n\r\n{{}}"
    stream = await open_stream(gateway, "sse", None, headers=basic(key))
    if state == "expired":
        shifted.shift = 3601
    else:
        act = {"revoked": "revoke", "suspended": "suspend"}[state]
        await gateway.post(f"/v1/keys/{key_id(key)}/{act}", key=gateway.admin, json={"reason": "r"})
    (await asked(gateway, **basic(key))).problem(401, f"key_{state}")
    for transport in TRANSPORTS:
        with pytest.raises(Refused) as refused:
            await open_stream(gateway, transport, None, headers=basic(key))
        refused.value.answer.problem(401, f"key_{state}")
    assert f"key_{state}".encode() in await gateway.exchange(request.encode())
    stream.close()


async def test_wrong_passwords_are_limited_like_wrong_keys(start: Start) -> None:
    gateway = await start(limits={"address_failures_per_minute": 5})
    wrong = with_checksum("alpk_" + "0" * 12 + "_" + "0" * 43)
    answers = await asyncio.gather(*(asked(gateway, **basic(wrong)) for _ in range(20)))
    assert {answer.status for answer in answers} == {401, 429}


async def test_no_form_of_the_key_is_echoed_or_logged(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    good = basic(gateway.user, "ab")["Authorization"]
    secret = base64.b64encode(gateway.user[18:].encode())
    assert secret.decode() in good
    with caplog.at_level(logging.DEBUG):
        for line in (
            f"Authorization: {good}", f"Authorization: {good}!", f"Authorization : {good}",
            f"Authorization: {good}\x00", f"Authorization: Basic\r\n {good[6:]}", f"X: {good}",
        ):  # fmt: skip
            answer = await in_raw_headers(gateway, line)
            assert secret not in answer
            assert gateway.user[18:].encode() not in answer
    assert secret.decode() not in caplog.text
    assert gateway.user[18:] not in caplog.text
