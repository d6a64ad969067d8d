"""Attacks on the way HTTP is read and answered, one test each, named after the attack."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest
from gateway_client import NDJSON, PROBLEM, GatewayClient, cursor_at, event, key_id
from gateways import Gateway, Start, StartProgram
from open_streams import TRANSPORTS, Refused, open_stream, open_with, upgrade_headers

from gateway.event import MAX_EVENT_BYTES
from gateway.http.connection import request_connection as malformed
from tests.support.machine_time import Stopwatch, patience

SSE = "text/event-stream"


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


def lines(gateway: GatewayClient, first: str, *headers: str, key: bool = True) -> bytes:
    sent = [first, "Host: gateway", *headers]
    if key:
        sent.append(f"Authorization: Bearer {gateway.user}")
    return "\r\n".join([*sent, "", ""]).encode("latin-1")


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/\d\.\d (\d{3})", answer)]


def refused(answer: bytes, status: int, code: str) -> None:
    """It is one answer, a problem document of that kind, and the connection has ended."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [status], answer[:300]
    assert f"Content-Type: {PROBLEM}".encode() in head, head
    assert orjson.loads(body)["code"] == code, body


# Where messages end


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        ("POST /v1/events HTTP/1.0", ["Transfer-Encoding: chunked"]),
        ("POST /v1/events HTTP/1.1", ["Transfer-Encoding: gzip, chunked"]),
        ("POST /v1/events HTTP/1.1", ["Transfer-Encoding: identity, chunked"]),
    ],
    ids=str,
)
async def test_smuggling_behind_a_transfer_coding_that_a_proxy_may_read_differently(
    gateway: Gateway, first: str, headers: list[str]
) -> None:
    inner = lines(gateway, "GET /v1/keys HTTP/1.1")
    head = lines(gateway, first, "Content-Type: application/json", *headers)
    refused(await gateway.exchange(head + b"0\r\n\r\n" + inner), 400, "malformed_http")


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n[]\r\n0\r\n\r\n", b"-2\r\n[]\r\n0\r\n\r\n", b"2\n[]\n0\n\n", b"2 \r\n[]\r\n0\r\n\r\n",
     b"0x2\r\n[]\r\n0\r\n\r\n", b"f" * 18 + b"\r\n[]\r\n0\r\n\r\n", b"2\r\n[]x\r\n0\r\n\r\n",
     b"\r\n[]\r\n0\r\n\r\n", b"2;" + b"x" * 20_000 + b"\r\n[]\r\n0\r\n\r\n"],
    ids=lambda chunks: repr(chunks[:16]),
)  # fmt: skip
async def test_chunks_that_are_none_run_nothing_behind_them(start: Start, chunks: bytes) -> None:
    gateway = await start()
    inner = lines(gateway, "GET /v1/events HTTP/1.1")
    head = lines(
        gateway, "POST /v1/events HTTP/1.1", "Content-Type: application/json",
        "Transfer-Encoding: chunked", "Connection: close",
    )  # fmt: skip
    answer = await gateway.exchange(head + chunks + inner)
    assert statuses(answer) == [400], answer[:300]
    assert (await gateway.pull())["events"] == []


async def test_trailers_add_no_credentials(gateway: Gateway) -> None:
    head = lines(
        gateway, "POST /v1/events HTTP/1.1", "Content-Type: application/json",
        "Transfer-Encoding: chunked", "Connection: close", key=False,
    )  # fmt: skip
    body = f"0\r\nAuthorization: Bearer {gateway.admin}\r\n\r\n".encode()
    refused(await gateway.exchange(head + body), 401, "missing_key")


async def test_http_0_9_is_refused(gateway: Gateway) -> None:
    answer = await gateway.exchange(b"GET /healthz\r\n\r\n")
    assert b"malformed_http" in answer


async def test_a_body_of_a_get_is_not_the_next_request(gateway: Gateway) -> None:
    inner = b"DELETE /v1/roles/x HTTP/1.1\r\nHost: x\r\n\r\n"
    head = lines(
        gateway, "GET /v1/events HTTP/1.1", f"Content-Length: {len(inner)}", "Connection: close"
    )
    assert statuses(await gateway.exchange(head + inner)) == [200]


async def test_an_expectation_that_is_not_known_is_refused_without_repeating_it(
    gateway: Gateway,
) -> None:
    head = lines(
        gateway, "POST /v1/events HTTP/1.1", f"Expect: {gateway.admin}", "Content-Length: 2",
    )  # fmt: skip
    answer = await gateway.exchange(head + b"[]")
    refused(answer, 400, "invalid_request")
    assert gateway.admin.encode() not in answer


async def test_a_million_pipelined_requests_are_held_back_and_take_no_memory(
    start_program: StartProgram,
) -> None:
    program = await start_program()
    before = program.rss
    _, writer = await program.connect(4096)
    sent = 0
    try:
        async with asyncio.timeout(1.5):
            while sent < 1_000_000:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
                await writer.drain()
                sent += 1000
    except TimeoutError:
        pass
    assert sent < 1_000_000, "it reads no further while its answers are not taken"
    assert program.rss - before < 20 << 20
    watch = Stopwatch()
    assert (await program.get("/healthz", key=None)).status == 200
    assert watch.seconds < 1


# Headers that stand twice, and lists of what is wanted


@pytest.mark.parametrize("transport", ["sse", "ndjson"])
async def test_two_last_event_ids_are_refused_unless_they_are_the_same(
    start: Start, transport: str
) -> None:
    gateway = await start()
    first = (await gateway.pull())["cursor"]
    last = (await gateway.send(event(id="a"), event(id="b")))["last_cursor"]
    target = "GET /v1/stream?follow=false HTTP/1.1"
    twice = (f"Last-Event-ID: {first}", f"Last-Event-ID: {last}")
    with pytest.raises(Refused) as caught:
        await open_with(gateway, lines(gateway, target, *twice))
    caught.value.answer.problem(400, "invalid_request")
    stream = await open_with(
        gateway, lines(gateway, target, f"Accept: {NDJSON}", *[twice[0]] * 2)
    )  # fmt: skip
    assert [one["id"] for one in await stream.take(2)] == ["a", "b"]


async def test_two_content_encodings_are_a_list_and_refused(gateway: Gateway) -> None:
    body = orjson.dumps(event())
    head = lines(
        gateway, "POST /v1/events HTTP/1.1", "Content-Type: application/json",
        "Content-Encoding: identity", "Content-Encoding: gzip", f"Content-Length: {len(body)}",
        "Connection: close",
    )  # fmt: skip
    refused(await gateway.exchange(head + body), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    "broken",
    [["Sec-WebSocket-Key: AQAAAAAAAAAAAAAAAAAAAA=="], ["Sec-WebSocket-Version: 13"],
     ["Sec-WebSocket-Version: 8"]],
    ids=str,
)  # fmt: skip
async def test_a_handshake_with_a_header_twice_is_400(gateway: Gateway, broken: list[str]) -> None:
    headers = [f"{name}: {value}" for name, value in upgrade_headers().items()]
    with pytest.raises(Refused) as caught:
        await open_with(gateway, lines(gateway, "GET /v1/stream HTTP/1.1", *headers, *broken))
    caught.value.answer.problem(400, "bad_handshake")


async def test_a_websocket_over_http_1_0_is_400(gateway: Gateway) -> None:
    headers = [f"{name}: {value}" for name, value in upgrade_headers().items()]
    with pytest.raises(Refused) as caught:
        await open_with(gateway, lines(gateway, "GET /v1/stream HTTP/1.0", *headers))
    caught.value.answer.problem(400, "bad_handshake")


@pytest.mark.parametrize("origin", ["null", "", "http://evil", "gateway", "https://"])
async def test_no_odd_origin_opens_a_websocket(gateway: Gateway, origin: str) -> None:
    headers = [f"{name}: {value}" for name, value in upgrade_headers().items()]
    first = "GET /v1/stream HTTP/1.1"
    with pytest.raises(Refused) as caught:
        await open_with(gateway, lines(gateway, first, *headers, f"Origin: {origin}"))
    caught.value.answer.problem(403, "origin_not_allowed")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], SSE),
        (["*/*"], SSE),
        (["text/*"], SSE),
        ([NDJSON], NDJSON),
        ([f"{NDJSON}, */*;q=0.1"], NDJSON),
        ([f"*/*, {NDJSON}"], NDJSON),
        ([f"{SSE};q=0, {NDJSON}"], NDJSON),
        ([f"{SSE};q=0.2, {NDJSON};q=0.3"], NDJSON),
        (["text/html", NDJSON], NDJSON),
        ([f"{SSE};q=0, text/*"], ""),
        ([f"{SSE};q=x"], ""),
        (["text/html"], ""),
        (["application/json"], ""),
        ([";;;,,,"], ""),
    ],
    ids=str,
)
async def test_a_stream_is_of_the_kind_that_is_wanted_most(
    gateway: Gateway, accept: list[str], kind: str
) -> None:
    request = lines(gateway, "GET /v1/stream HTTP/1.1", *(f"Accept: {value}" for value in accept))
    if kind:
        stream = await open_with(gateway, request)
        assert stream.answer.headers["content-type"].startswith(kind)
        return
    with pytest.raises(Refused) as caught:
        await open_with(gateway, request)
    caught.value.answer.problem(406, "not_acceptable")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], "application/json"), (["*/*"], "application/json"), ([NDJSON], NDJSON),
        (["application/*"], "application/json"), (["application/json;q=0, */*"], NDJSON),
        (["text/html", "application/json"], "application/json"),
        (["application/json;q=0"], ""), (["text/event-stream"], ""),
    ],
    ids=str,
)  # fmt: skip
async def test_a_page_is_of_the_kind_that_is_wanted_most(
    gateway: Gateway, accept: list[str], kind: str
) -> None:
    headers = (*(f"Accept: {value}" for value in accept), "Connection: close")
    answer = await gateway.exchange(lines(gateway, "GET /v1/events HTTP/1.1", *headers))
    if kind:
        assert f"Content-Type: {kind}".encode() in answer
    else:
        refused(answer, 406, "not_acceptable")


# Slow and silent peers


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nX: "], ids=repr)
async def test_a_connection_that_says_nothing_more_is_ended(start: Start, sent: bytes) -> None:
    gateway = await start(server={"keepalive": 1, "port": 0})
    reader, writer = await gateway.connect()
    watch = Stopwatch()
    writer.write(sent)
    async with asyncio.timeout(patience(5)):
        await reader.read()
    assert watch.seconds < 4


async def test_headers_that_drip_behind_a_first_request_are_cut_off(start: Start) -> None:
    gateway = await start(server={"keepalive": 1, "port": 0})
    reader, writer = await gateway.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"ok\n")
    watch = Stopwatch()

    async def drip() -> None:
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 100:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(patience(8)):
        try:
            await reader.read()
        except ConnectionError:
            pass
    assert watch.seconds < 6
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def large_page(gateway: Gateway) -> bytes:
    """A request whose answer no socket takes at once."""
    filler = "x" * 4000
    for _ in range(20):
        await gateway.send(*(event(data={"x": filler}) for _ in range(100)))
    return lines(gateway, "GET /v1/events?limit=10000 HTTP/1.1", "Connection: close")


async def test_whoever_does_not_take_its_answer_is_cut_off(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each such connection would hold a page of megabytes for ever."""
    monkeypatch.setattr(malformed, "STALLED_SECONDS", 0.5)
    request = await large_page(gateway)
    reader, writer = await gateway.connect(receive_buffer=4096)
    writer.write(request)
    await asyncio.sleep(2.5)
    taken = 0
    async with asyncio.timeout(patience(5)):
        try:
            while piece := await reader.read(1 << 16):
                taken += len(piece)
        except ConnectionError:
            pass
    assert taken < 6_000_000
    assert (await gateway.get("/healthz", key=None)).status == 200


async def test_whoever_takes_its_answer_slowly_gets_all_of_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start()
    monkeypatch.setattr(malformed, "STALLED_SECONDS", 0.5)
    request = await large_page(gateway)
    reader, writer = await gateway.connect(receive_buffer=65536)
    writer.write(request)
    answer = b""
    watch = Stopwatch()
    async with asyncio.timeout(patience(20)):
        while piece := await reader.read(200_000):
            answer += piece
            await asyncio.sleep(0.05)
    assert watch.elapsed > 1
    # How many events a page has depends on how long it took to make.
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert len(orjson.loads(body)["events"]) > 100


# Questions made to hurt


@pytest.mark.parametrize(
    "query",
    ["from=", "on_gap=", "follow=", "format=", "limit=", "wait=", "after=", "since=", "category=",
     "limit=-1", "limit=0", "limit=1.0", "limit=9007199254740993", "wait=61", "wait=60.5",
     "wait=-1", "since=-5m", "since=1e3s", "since=99999999999999999999d", "since=NaN",
     "since=0000-01-01T00:00:00Z", "since=2026-02-30T00:00:00Z", "since=2026-01-01",
     "since=9999-12-31T23:59:59-23:59", "since=2026-01-01T00:00:00%2B99:99",
     "min_severity=1.5", "LIMIT=1", "%E2%80%AElimit=1"],
)  # fmt: skip
async def test_a_value_that_is_none_is_refused_and_never_a_default(
    gateway: Gateway, query: str
) -> None:
    answer = await gateway.get(f"/v1/events?{query}")
    assert answer.status == 400, answer.body
    with pytest.raises(Refused) as caught:
        await open_with(gateway, lines(gateway, f"GET /v1/stream?{query} HTTP/1.1"))
    assert caught.value.answer.status == 400


async def test_a_cursor_changed_in_any_place_is_refused_or_stands_elsewhere_in_the_log(
    start: Start,
) -> None:
    gateway = await start()
    await gateway.send(*(event(id=str(n)) for n in range(5)))
    page = await gateway.pull()
    ids = {one["cursor"]: one["id"] for one in page["events"]}
    cursor = page["cursor"]
    for place in range(len(cursor)):
        for other in ("0", "9", "a", "Z", "-", "%00", "%20", "%2B", "%D9%A3", ""):
            changed = cursor[:place] + other + cursor[place + 1 :]
            answer = await gateway.get(f"/v1/events?after={changed}")
            if answer.status == 200:
                seen = [one["cursor"] for one in answer.json()["events"]]
                assert seen == [one for one in ids if one > changed]
            else:
                assert answer.status in (400, 410), (changed, answer.body)
    for offset in (2**63 - 1, 2**63, 2**64, 10**20 - 1):
        answer = await gateway.get(f"/v1/events?after={cursor_at(cursor, offset)}")
        assert answer.status in (400, 410)


async def test_a_hundred_thousand_parameters_are_refused_before_they_are_looked_at(
    gateway: Gateway,
) -> None:
    for query in ("a=1&" * 100_000, "&" * 400_000, "category=auth&" * 30_000):
        whole = await gateway.exchange(lines(gateway, f"GET /v1/events?{query} HTTP/1.1"))
        assert statuses(whole) == [400]
    body = orjson.dumps({"category": [f"c{n}" for n in range(6000)]})
    watch = Stopwatch()
    answer = await gateway.post(
        "/v1/stream", data=body, headers={"Content-Type": "application/json"}
    )
    answer.problem(400, "invalid_request")
    assert watch.seconds < 1


async def test_the_longest_questions_leave_records_of_bounded_size(start: Start) -> None:
    gateway = await start()
    key = await gateway.reader_key(categories=["auth"])
    for number in range(40):
        body: dict[str, Any] = {
            "category": [f"c{number}x{n}." + "y" * 50 for n in range(200)],
            "actor": [f"{number}" + "\x7f☂" * 50 + str(n) for n in range(150)],
            "follow": False,
        }
        assert (await gateway.post("/v1/stream", key=key, json=body)).status == 200
    await gateway.context.access_log.flush()
    page = await gateway.pull(gateway.admin, category="gateway.access", limit="10000")
    of_key = [one for one in page["events"] if one["actor"]["id"] == key_id(key)]
    assert sum(one["data"]["count"] for one in of_key if one["action"] == "stream.opened") == 40
    assert max(len(orjson.dumps(one)) for one in page["events"]) < MAX_EVENT_BYTES
    asked = [one for event in of_key for one in event["data"]["parameters"]]
    assert all(one["left_out"] > 0 for one in asked), "what did not fit is counted"
    await gateway.context.detector.poll()
    findings = (await gateway.get("/v1/findings", key=gateway.admin)).json()["findings"]
    [found] = [one for one in findings if one["signal"] == "forbidden_categories"]
    assert max(map(len, found["data"]["categories"])) <= 64


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_text_that_is_none_in_a_question_never_widens_it_and_is_recorded(
    start: Start, transport: str
) -> None:
    gateway = await start()
    await gateway.send(event())
    headers = [f"{n}: {v}" for n, v in upgrade_headers().items()] if "." in transport else []
    opened = 0
    for value in ("%ED%A0%80", "%FF", "%zz", "%00", "a%0Ab", "%F4%90%80%80", "%C0%AF", "%EF%BF%BE"):
        target = f"GET /v1/stream?actor={value}&follow=false&from=start HTTP/1.1"
        try:
            stream = await open_with(gateway, lines(gateway, target, *headers))
        except Refused as refused:
            refused.answer.problem(400, "invalid_request")
            continue
        opened += 1
        end = await stream.to_end()
        assert (end["reason"], stream.events) == ("complete", [])
    await gateway.context.access_log.flush()
    await gateway.context.detector.poll()
    page = await gateway.pull(gateway.admin, category="gateway.access", action="stream.closed")
    assert sum(one["data"]["count"] for one in page["events"]) == opened > 0


async def test_user_agents_that_are_no_text_are_recorded_and_found(start: Start) -> None:
    gateway = await start()
    key = await gateway.reader_key()
    for client in (b"\xff\xfe", b"\xed\xa0\x80", b"x" * 7000, b"\x01\x02", b"\xf0\x9f"):
        head = lines(gateway, "GET /v1/keys HTTP/1.1", "Connection: close", key=False)[:-2]
        head += b"Authorization: Bearer " + key.encode() + b"\r\nUser-Agent: " + client
        assert statuses(await gateway.exchange(head + b"\r\n\r\n"))[0] in (400, 403)
    for _ in range(5):
        await gateway.get("/v1/keys", key=key)
    await gateway.context.detector.poll()
    findings = (await gateway.get("/v1/findings", key=gateway.admin)).json()["findings"]
    assert "denials" in {one["signal"] for one in findings if one["key"] == key_id(key)}
    await gateway.context.access_log.flush()
    page = await gateway.pull(gateway.admin, category="gateway.access", limit="10000")
    denied = [one for one in page["events"] if one["actor"]["id"] == key_id(key)]
    assert sum(one["data"]["count"] for one in denied) >= 8


async def test_streams_and_pages_agree_after_every_kind_of_resumption(start: Start) -> None:
    """Whatever a client sends back, in whichever way: nothing twice and nothing left out."""
    gateway = await start()
    await gateway.send(*(event(id=str(n)) for n in range(9)))
    whole = [(one["id"], one["cursor"]) for one in (await gateway.pull())["events"]]
    for place, (_, cursor) in enumerate(whole):
        rest = [name for name, _ in whole[place + 1 :]]
        page = await gateway.pull(after=cursor)
        assert [one["id"] for one in page["events"]] == rest
        for ways in ({"after": cursor}, {"last_event_id": cursor}, {"lastEventId": cursor}):
            stream = await open_stream(gateway, "sse", follow="false", **ways)
            await stream.to_end()
            assert [one["id"] for one in stream.events] == rest
        headers = {"Last-Event-ID": cursor}
        stream = await open_stream(gateway, "sse", headers=headers, follow="false", from_="start")
        await stream.to_end()
        assert [one["id"] for one in stream.events] == rest, "the header wins over the URL"


async def test_no_answer_tells_what_the_gateway_is_made_of(gateway: Gateway) -> None:
    for request in (
        lines(gateway, "GET /healthz HTTP/1.1", "Connection: close"),
        lines(gateway, "GET /v1/events HTTP/1.1", "Connection: close"),
        lines(gateway, "GET /nothing HTTP/1.1", "Connection: close"),
        lines(gateway, "DELETE /v1/events HTTP/1.1", "Connection: close"),
        lines(gateway, "POST /v1/events HTTP/1.1", "Expect: x", "Connection: close"),
        lines(gateway, "GET /v1/stream?follow=false HTTP/1.1"),
        b"rubbish\r\n\r\n",
    ):
        answer = await gateway.exchange(request)
        assert not re.search(rb"(?i)aiohttp|python", answer), answer[:300]
