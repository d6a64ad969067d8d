"""Clients that keep to their standards, from raw sockets: each is treated as its standard says."""

from __future__ import annotations

import base64
import gzip
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from gateway_client import Answer, GatewayClient, event
from gateways import Gateway, Start
from open_streams import ACCEPT, Refused, Stream, open_stream, open_with, upgrade_headers

PAGE = "https://siem.example"


def basic(key: str, user: str = "anybody") -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{key}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


async def answered(gateway: GatewayClient, request: bytes) -> bytes:
    """All that comes back to a client that closes its side right behind its request."""
    reader, writer = await gateway.connect()
    writer.write(request)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def raw(gateway: GatewayClient, first: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [first, "Host: gateway", f"Authorization: Bearer {gateway.user}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


# RFC 9112, section 9.6: half-closed connections


async def test_a_client_that_closes_its_side_behind_a_request_is_answered(
    gateway: Gateway,
) -> None:
    body = orjson.dumps(event(id="half-closed"))
    answer = await answered(gateway, raw(gateway, "POST /v1/events HTTP/1.1", body=body))
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] == 1
    page = await answered(gateway, raw(gateway, "GET /v1/events HTTP/1.1"))
    assert b'"half-closed"' in page


async def test_all_of_several_pipelined_requests_are_answered_to_a_half_closed_client(
    gateway: Gateway,
) -> None:
    bodies = [orjson.dumps(event(id=str(number))) for number in range(20)]
    requests = [raw(gateway, "POST /v1/events HTTP/1.1", body=body) for body in bodies]
    answer = await answered(gateway, b"".join(requests))
    assert answer.count(b"HTTP/1.1 201 ") == 20
    assert len((await gateway.pull())["events"]) == 20


async def test_a_request_that_ends_too_early_is_not_executed(gateway: Gateway) -> None:
    body = orjson.dumps(event(id="cut off"))
    whole = raw(gateway, "POST /v1/events HTTP/1.1", body=body)
    assert b" 201 " not in await answered(gateway, whole[:-5])
    assert (await gateway.pull())["events"] == []


@pytest.mark.parametrize("accept", ACCEPT.values())
@pytest.mark.parametrize("follow", ["", "&follow=false", "&limit=3"])
async def test_a_stream_of_a_half_closed_client_gives_what_there_is_and_its_end(
    gateway: Gateway, accept: str, follow: str
) -> None:
    await gateway.send_many(3)
    request = raw(gateway, f"GET /v1/stream?from=start{follow} HTTP/1.1", f"Accept: {accept}")
    answer = await answered(gateway, request)
    assert answer.count(b'"action":"user.login"') == 3
    reason = b"complete" if "false" in follow else b"client_closed"
    assert b'"reason":"%b"' % reason in answer
    assert answer.endswith(b"0\r\n\r\n"), "the body ends as HTTP says"


async def test_a_live_client_that_closes_its_side_gets_the_end_of_its_stream(
    gateway: Gateway,
) -> None:
    stream = await open_stream(gateway, "sse")
    sent = (await gateway.send_many(1))[0]
    assert (await stream.event())["id"] == sent
    stream.close_half()
    assert (await stream.to_end())["reason"] == "client_closed"
    await gateway.streams_become(0)


# RFC 9110, sections 5.3 and 7.8: Connection and Upgrade are lists


@pytest.mark.parametrize(
    "headers",
    [
        ["Connection: keep-alive, Upgrade", "Upgrade: websocket"],
        ["Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"],
        ["Connection: upgrade", "Upgrade: foo/1, WebSocket"],
        ["Connection: upgrade", "Upgrade: foo", "Upgrade: websocket"],
        ["Connection:upgrade ,", "Upgrade: websocket"],
    ],
    ids=str,
)
async def test_a_websocket_is_asked_for_with_lists_on_several_lines(
    gateway: Gateway, headers: list[str]
) -> None:
    rest = {n: v for n, v in upgrade_headers().items() if n.startswith("Sec-")}
    lines = [*headers, *(f"{name}: {value}" for name, value in rest.items())]
    stream = await open_with(gateway, raw(gateway, "GET /v1/stream HTTP/1.1", *lines))
    assert stream.answer.status == 101
    sent = (await gateway.send_many(1))[0]
    assert (await stream.event())["id"] == sent


@pytest.mark.parametrize(
    "headers",
    [
        ["Connection: not-upgrade", "Upgrade: websocket"],
        ["Connection: upgraded", "Upgrade: websocket"],
        ["Connection: upgrade", "Upgrade: websockets"],
        ["Connection: upgrade", "Upgrade: h2c"],
        ["Upgrade: websocket"],
    ],
    ids=str,
)
async def test_what_only_looks_like_an_upgrade_is_none(
    gateway: Gateway, headers: list[str]
) -> None:
    accept = f"Accept: {ACCEPT['ndjson']}"
    rest = [f"{n}: {v}" for n, v in upgrade_headers().items() if n.startswith("Sec-")]
    request = raw(gateway, "GET /v1/stream HTTP/1.1", accept, *headers, *rest)
    assert (await open_with(gateway, request)).answer.status == 200


# RFC 9110, sections 6.6.1 and 8.4.1.3


@pytest.mark.parametrize("transport", ["sse", "ndjson", "websocket"])
async def test_streams_carry_the_date(gateway: Gateway, transport: str) -> None:
    stream = await open_stream(gateway, transport)
    date = parsedate_to_datetime(stream.answer.headers["date"])
    assert abs(date.timestamp() - gateway.context.clock.now()) < 60


async def test_x_gzip_is_gzip(gateway: Gateway) -> None:
    headers = {"Content-Encoding": "x-gzip", "Content-Type": "application/json"}
    body = gzip.compress(orjson.dumps(event(id="1")))
    assert (await gateway.post("/v1/events", data=body, headers=headers)).status == 201


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_pages_are_compressed_for_those_who_ask(gateway: Gateway, kind: str) -> None:
    await gateway.send_many(200)
    plain = await gateway.get("/v1/events", headers={"Accept": kind, "Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    for asked in ("gzip", "x-gzip", "br;q=1, gzip;q=0.5", "zstd;q=0, *"):
        headers = {"Accept": kind, "Accept-Encoding": asked}
        packed = await gateway.get("/v1/events", headers=headers)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert len(packed.body) < len(plain.body) / 3
        assert gzip.decompress(packed.body) == plain.body
    for asked in ("gzip;q=0", "br", "identity"):
        headers = {"Accept": kind, "Accept-Encoding": asked}
        answer = await gateway.get("/v1/events", headers=headers)
        assert "Content-Encoding" not in answer.headers
        assert answer.body == plain.body


# RFC 6454: origins


@pytest.mark.parametrize(
    ("host", "origin", "same"),
    [
        ("gw.example", "http://gw.example", True),
        ("gw.example:80", "http://gw.example", True),
        ("gw.example", "http://gw.example:80", True),
        ("gw.example.", "http://gw.example", True),
        ("GW.example", "http://gw.EXAMPLE", True),
        ("gw.example:8080", "http://gw.example:8080", True),
        ("[::1]:80", "http://[::1]", True),
        ("gw.example", "https://gw.example", False),
        ("gw.example:443", "https://gw.example", False),
        ("gw.example:8080", "http://gw.example", False),
        ("gw.example", "http://gw.example:8080", False),
        ("gw.example", "http://gw.example.evil.example", False),
        ("gw.example", "null", False),
        ("gw.example", "file://gw.example", False),
        ("gw.example", "", False),
    ],
)
async def test_the_origin_of_a_page_is_compared_by_scheme_host_and_port(
    gateway: Gateway, host: str, origin: str, same: bool
) -> None:
    headers = {"Host": host, "Origin": origin}
    if same:
        await open_stream(gateway, "websocket", headers=headers)
        return
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "websocket", headers=headers)
    refusal.value.answer.problem(403, "origin_not_allowed")


async def test_an_origin_over_tls_is_the_gateways_where_a_trusted_proxy_ends_tls(
    start: Start,
) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    headers = {"Host": "gw.example", "Origin": "https://gw.example"}
    secure = {**headers, "X-Forwarded-Proto": "https"}
    await open_stream(gateway, "websocket", headers=secure)
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "websocket", headers=headers)
    refusal.value.answer.problem(403, "origin_not_allowed")


async def test_of_two_origins_none_counts(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (PAGE,)})
    rest = [f"{name}: {value}" for name, value in upgrade_headers().items()]
    for two in ((PAGE, "https://evil.example"), ("https://evil.example", PAGE), (PAGE, PAGE)):
        origins = [f"Origin: {one}" for one in two]
        with pytest.raises(Refused) as refusal:
            await open_with(gateway, raw(gateway, "GET /v1/stream HTTP/1.1", *origins, *rest))
        refusal.value.answer.problem(403, "origin_not_allowed")


# Fetch, section 3.2: CORS


def readable(answer: Answer) -> bool:
    """Whether a browser lets a page of that origin see the answer to a request with cookies."""
    return (
        answer.headers.get("Access-Control-Allow-Origin") == PAGE
        and answer.headers.get("Access-Control-Allow-Credentials") == "true"
        and "Origin" in answer.headers.get("Vary", "")
    )


async def test_a_page_of_an_allowed_origin_can_read_pages_errors_and_streams(
    start: Start,
) -> None:
    gateway = await start(server={"allowed_origins": (PAGE,)})
    origin = {"Origin": PAGE}
    assert readable(await gateway.get("/v1/events", headers=origin))
    assert readable(await gateway.get("/v1/events?x=y", headers=origin))
    assert readable(await gateway.get("/v1/events", key=None, headers=origin))
    assert readable(await gateway.get("/v1/nothing", headers=origin))
    assert readable(await gateway.post("/v1/tickets", json={}, headers=origin))
    stream = await open_stream(gateway, "sse", headers=origin)
    names = {name.title(): value for name, value in stream.answer.headers.items()}
    assert readable(Answer(200, names, b""))
    assert "Audit-Cursor" in names["Access-Control-Expose-Headers"]


async def test_a_page_of_a_foreign_origin_can_read_nothing(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (PAGE,)})
    for origin in ("https://evil.example", "http://siem.example", "null"):
        answer = await gateway.get("/v1/events", headers={"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/events", "GET"), ("/v1/events", "POST"), ("/v1/stream", "POST"), ("/v1/tickets", "POST"),
     ("/v1/events/x/y", "GET"), ("/v1/keys/x/rotate", "POST"), ("/v1/roles/x", "PUT")],
)  # fmt: skip
async def test_a_preflight_is_answered(start: Start, path: str, method: str) -> None:
    gateway = await start(server={"allowed_origins": (PAGE,)})
    asked = {"Origin": PAGE, "Access-Control-Request-Method": method,
             "Access-Control-Request-Headers": "authorization,last-event-id"}  # fmt: skip
    answer = await gateway.request("OPTIONS", path, key=None, headers=asked)
    assert answer.status == 204
    assert readable(answer)
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "last-event-id"} <= set(allowed)


async def test_a_preflight_of_a_foreign_origin_is_refused(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (PAGE,)})
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    answer = await gateway.request("OPTIONS", "/v1/events", key=None, headers=asked)
    answer.problem(403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    unasked = await gateway.request("OPTIONS", "/v1/events", key=None)
    unasked.problem(405, "method_not_allowed")


# WHATWG HTML, section 9.2.3: a browser comes back unless it is told not to


async def opened_with_ticket(gateway: GatewayClient, **params: Any) -> tuple[Stream, str]:
    answer = await gateway.post("/v1/tickets", json=params)
    text: str = answer.json()["ticket"]
    return await open_stream(gateway, "sse", None, ticket=text), text


async def again(gateway: GatewayClient, stream: Stream, text: str) -> Answer | Stream:
    """What a browser gets that comes back to its stream."""
    cookie = stream.answer.headers["set-cookie"].partition(";")[0]
    headers = {"Cookie": cookie, "Last-Event-ID": stream.cursor}
    answer = (
        await gateway.get(
            f"/v1/stream?ticket={text}", key=None, headers={**headers, "Accept": ACCEPT["sse"]}
        )
        if stream.others[-1].kind == "end"
        else None
    )
    if answer is not None:
        return answer
    reopened: Stream = await open_stream(gateway, "sse", None, headers=headers, ticket=text)
    return reopened


@pytest.mark.parametrize("how", [{"follow": False}, {"limit": 3}])
async def test_a_browser_that_comes_back_to_a_complete_stream_is_told_to_stay_away(
    gateway: Gateway, how: dict[str, Any]
) -> None:
    await gateway.send_many(3)
    stream, text = await opened_with_ticket(gateway, **{"from": "start"}, **how)
    assert (await stream.to_end())["reason"] == "complete"
    await gateway.send_many(3, category="billing")
    answer = await again(gateway, stream, text)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (204, b"")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_a_limit_holds_over_all_connections_of_a_browser(gateway: Gateway) -> None:
    await gateway.send_many(8)
    stream, text = await opened_with_ticket(gateway, **{"from": "start", "limit": 5})
    await stream.take(2)
    stream.close()
    resumed = await again(gateway, stream, text)
    assert isinstance(resumed, Stream)
    assert (await resumed.to_end())["reason"] == "complete"
    assert [one["data"]["n"] for one in resumed.events] == [2, 3, 4]


async def test_a_stream_that_drains_ends_where_it_would_have_without_the_reconnect(
    gateway: Gateway,
) -> None:
    await gateway.send_many(4)
    stream, text = await opened_with_ticket(gateway, **{"from": "start", "follow": False})
    await stream.take(1)
    stream.close()
    stream.others = [one for one in stream.others if one.kind != "end"]
    await gateway.send_many(4, category="billing")
    resumed = await again(gateway, stream, text)
    assert isinstance(resumed, Stream)
    await resumed.to_end()
    assert [one["data"]["n"] for one in resumed.events] == [1, 2, 3]


async def test_an_ordinary_stream_goes_on_when_a_browser_comes_back(gateway: Gateway) -> None:
    await gateway.send_many(2)
    stream, text = await opened_with_ticket(gateway, **{"from": "start"})
    await stream.take(2)
    stream.close()
    await gateway.send(event(id="later"))
    resumed = await again(gateway, stream, text)
    assert isinstance(resumed, Stream)
    assert (await resumed.event())["id"] == "later"


# Tickets that open nothing


async def test_a_ticket_is_not_spent_by_a_request_that_opens_no_stream(start: Start) -> None:
    gateway = await start(limits={"concurrent_streams": 1})
    await gateway.send_many(1)
    text = (await gateway.post("/v1/tickets", json={"from": "start"})).json()["ticket"]
    other = await open_stream(gateway, "sse")
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "sse", None, ticket=text)
    assert refusal.value.answer.status == 429
    wrong = {"Accept": "image/png"}
    answer = await gateway.get(f"/v1/stream?ticket={text}", key=None, headers=wrong)
    answer.problem(406, "not_acceptable")
    other.close()
    await gateway.streams_become(0)
    stream = await open_stream(gateway, "sse", None, ticket=text)
    await stream.event()
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "sse", None, ticket=text)
    refusal.value.answer.problem(401, "invalid_ticket")


async def test_the_origin_of_a_ticket_is_compared_as_other_origins_are(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (PAGE, "https://other.example")})
    made = await gateway.post("/v1/tickets", json={}, headers={"Origin": PAGE})
    text = made.json()["ticket"]
    for foreign in ("https://other.example", "null", "http://siem.example"):
        answer = await gateway.get(
            f"/v1/stream?ticket={text}", key=None, headers={"Origin": foreign}
        )
        answer.problem(403, "origin_not_allowed")
    twice = await gateway.get(f"/v1/stream?ticket={text}&ticket={text}", key=None)
    twice.problem(400, "invalid_request")
    same = {"Origin": "https://SIEM.example:443"}
    await open_stream(gateway, "sse", None, headers=same, ticket=text)


@pytest.mark.parametrize("empty", ["", ",", " , "])
async def test_an_empty_accept_header_wants_nothing_in_particular(
    gateway: Gateway, empty: str
) -> None:
    page = await gateway.get("/v1/events", headers={"Accept": empty})
    assert (page.status, page.headers["Content-Type"]) == (200, "application/json")


async def test_cookies_stay_few_and_short_however_many_pages_are_loaded(
    gateway: Gateway,
) -> None:
    jar: dict[str, str] = {}
    params = {"filter": " || ".join(f'actor.id == "user-{n}"' for n in range(40))}
    for _ in range(30):
        text = (await gateway.post("/v1/tickets", json=params)).json()["ticket"]
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        reader, writer = await gateway.connect()
        head = [f"GET /v1/stream?ticket={text} HTTP/1.1", "Host: x", f"Accept: {ACCEPT['sse']}",
                *(f"{n}: {v}" for n, v in headers.items() if v), "", ""]  # fmt: skip
        writer.write("\r\n".join(head).encode())
        said = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert said.startswith("HTTP/1.1 200"), said
        writer.close()
        for line in said.split("\r\n"):
            if line.startswith("Set-Cookie: "):
                pair, *attributes = line.removeprefix("Set-Cookie: ").split("; ")
                name, _, value = pair.partition("=")
                if "Max-Age=0" in attributes:
                    del jar[name]
                else:
                    jar[name] = value
    assert 0 < len(jar) <= 8
    assert sum(len(name) + len(value) + 3 for name, value in jar.items()) < 2048


# What every answer says


async def test_every_answer_forbids_guessing_its_type_and_telling_its_url(
    gateway: Gateway,
) -> None:
    paths = ["/", "/healthz", "/metrics", "/openapi.json", "/v1/events", "/v1/nothing", "/v1/keys"]
    answers = [await gateway.get(path) for path in paths]
    answers.append((await open_stream(gateway, "sse")).answer)
    for answer in answers:
        headers = {name.title(): value for name, value in answer.headers.items()}
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] == "audit-gateway"


async def test_an_event_whose_id_looks_like_a_key_can_be_read(gateway: Gateway) -> None:
    for name in ("alpk_", "order-alpk_7", gateway.user):
        await gateway.send(event(id=name))
        answer = await gateway.get(f"/v1/events/{name}")
        assert (answer.status, answer.json()["id"]) == (200, name)
    other = await gateway.reader_key()
    (await gateway.get(f"/v1/events/{other}")).problem(400, "key_in_url")
    (await gateway.get(f"/v1/events?x={other}")).problem(400, "key_in_url")
