"""`/v1/stream` as WebSocket (RFC 6455): handshake, the three dialects, and ends."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
import pytest
from gateway_client import GatewayClient, event, key_id
from gateways import Gateway, Start
from open_streams import CLOSE, Refused, WebSocketStream, open_stream, upgrade_headers

from tests.support.machine_time import Stopwatch

TYPED = ("audit.v1", "audit.v1.batch")
BEARER = "base64url.bearer.authorization.audit."


async def websocket(
    gateway: GatewayClient, dialect: str = "websocket", key: str | None = "", **params: Any
) -> WebSocketStream:
    stream: WebSocketStream = await open_stream(gateway, dialect, key, **params)
    return stream


async def refusal(gateway: GatewayClient, dialect: str = "websocket", **params: Any) -> Any:
    with pytest.raises(Refused) as refused:
        await websocket(gateway, dialect, **params)
    return refused.value.answer


# The handshake


async def test_the_handshake_answers_as_the_rfc_says_and_negotiates_no_extension(
    gateway: Gateway,
) -> None:
    sent = upgrade_headers()
    offered = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    stream = await websocket(gateway, headers={**sent, **offered})
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = hashlib.sha1((sent["Sec-WebSocket-Key"] + guid).encode()).digest()
    cursor = stream.answer.headers["audit-cursor"]
    headers = dict(stream.answer.headers)
    assert headers.pop("date").endswith(" GMT")
    assert headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": base64.b64encode(digest).decode(),
        "audit-cursor": cursor,
    }
    await gateway.send(event(id="next"))
    assert (await stream.event())["id"] == "next"
    assert [one["id"] for one in (await gateway.pull(after=cursor))["events"]] == ["next"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Key": "c2hvcnQ="},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "not base64 at all!!!!!=="},
    ],
    ids=str,
)
async def test_a_broken_handshake_is_400(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = await refusal(gateway, headers=headers)
    answer.problem(400, "bad_handshake")
    assert answer.headers["Sec-Websocket-Version"] == "13"


async def test_a_refused_handshake_is_a_problem_document_on_a_connection_that_lives(
    gateway: Gateway,
) -> None:
    (await refusal(gateway, key=None)).problem(401, "missing_key")
    (await refusal(gateway, after="x")).problem(400, "malformed_cursor")
    (await refusal(gateway, after="other-" + "0" * 20)).problem(410, "cursor_unknown")
    (await refusal(gateway, categroy="x")).problem(400, "unknown_parameter")
    assert await gateway.streams() == 0


@pytest.mark.parametrize("offered", ["chat", "audit.v2", "AUDIT.V1", "audit.v1.", "cloudevents"])
async def test_an_unknown_subprotocol_is_400(gateway: Gateway, offered: str) -> None:
    answer = await refusal(gateway, offered)
    answer.problem(400, "unsupported_subprotocol")


@pytest.mark.parametrize("dialect", TYPED)
async def test_the_subprotocol_that_was_offered_is_echoed(gateway: Gateway, dialect: str) -> None:
    for offered in (dialect, f"chat, {dialect}", f"{dialect},chat"):
        stream = await websocket(gateway, headers={"Sec-WebSocket-Protocol": offered})
        assert stream.answer.headers["sec-websocket-protocol"] == dialect


async def test_the_first_offer_that_the_gateway_speaks_wins(gateway: Gateway) -> None:
    for offered in ("audit.v1.batch, audit.v1", "audit.v1, audit.v1.batch"):
        stream = await websocket(gateway, headers={"Sec-WebSocket-Protocol": offered})
        assert stream.answer.headers["sec-websocket-protocol"] == offered.partition(",")[0]


# Credentials in the subprotocol


def as_subprotocol(key: str) -> str:
    return BEARER + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def test_a_key_in_the_subprotocol_opens_the_stream_and_is_not_echoed(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key()
    for offered in (f"audit.v1, {as_subprotocol(key)}", f"{as_subprotocol(key)}, audit.v1"):
        headers = {"Sec-WebSocket-Protocol": offered}
        stream = await websocket(gateway, key=None, headers=headers, from_="start")
        assert stream.answer.headers["sec-websocket-protocol"] == "audit.v1"
        assert "bearer" not in str(stream.answer.headers)
        await stream.next("caught-up")


@pytest.mark.parametrize(
    "offered",
    [BEARER, BEARER + "!!", BEARER + "YQ", BEARER + "w7w", BEARER.upper() + "YQ", "audit.v1"],
)
async def test_a_subprotocol_without_a_good_key_is_401(gateway: Gateway, offered: str) -> None:
    headers = {"Sec-WebSocket-Protocol": f"audit.v1, {offered}"}
    answer = await refusal(gateway, key=None, headers=headers)
    assert answer.status == 401
    assert offered.removeprefix(BEARER) == "" or offered.encode() not in answer.body


async def test_credentials_alone_are_no_subprotocol(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    headers = {"Sec-WebSocket-Protocol": as_subprotocol(key)}
    answer = await refusal(gateway, key=None, headers=headers)
    answer.problem(400, "unsupported_subprotocol")
    assert key_id(key).encode() not in answer.body


# What is said


async def test_without_a_subprotocol_a_frame_is_an_event_and_nothing_else_is_said(
    gateway: Gateway,
) -> None:
    sent = await gateway.send_many(3)
    stream = await websocket(gateway, from_="start")
    await stream.take(3)
    await gateway.send(event(id="live"))
    said = await stream.next("event")
    assert said.raw == (await gateway.get("/v1/events/live")).body
    await stream.next("ping", 3)
    assert {said.kind for said in stream.others} == {"ping"}
    assert [one["id"] for one in stream.events] == [*sent, "live"]


async def test_audit_v1_says_each_event_in_an_envelope(gateway: Gateway) -> None:
    stream = await websocket(gateway, "audit.v1")
    assert (await stream.next("bookmark")).content["type"] == "bookmark"
    assert (await stream.next("caught-up")).content["type"] == "caught-up"
    await gateway.send(event(id="1"), event(id="2"))
    for name in "12":
        said = await stream.next("event")
        json = (await gateway.get(f"/v1/events/{name}")).body
        assert said.raw == b'{"type":"event","event":%b}' % json


async def test_audit_v1_batch_says_the_events_of_a_flush_in_one_frame(gateway: Gateway) -> None:
    stream = await websocket(gateway, "audit.v1.batch")
    sent = await gateway.send_many(100)
    events = [await stream.next("event") for _ in sent]
    assert [said.content["id"] for said in events] == sent
    assert len({said.raw for said in events}) == 1
    assert orjson.loads(events[0].raw)["type"] == "events"


async def test_a_frame_of_a_batch_never_reaches_a_mebibyte(gateway: Gateway) -> None:
    sent = [event(id=str(n), data={"x": "y" * 200_000}) for n in range(12)]
    await gateway.send(*sent)
    stream = await websocket(gateway, "audit.v1.batch", from_="start")
    events = [await stream.next("event") for _ in sent]
    assert [said.content["id"] for said in events] == [one["id"] for one in sent]
    assert max(len(said.raw) for said in events) < 1 << 20


@pytest.mark.parametrize("dialect", TYPED)
async def test_a_quiet_stream_with_types_gets_bookmarks(
    start: Start, clock: Any, dialect: str
) -> None:
    gateway = await start(clock=clock, stream={"heartbeat": 15})
    stream = await websocket(gateway, dialect)
    await stream.next("caught-up")
    await gateway.send(event())
    cursor = (await stream.event())["cursor"]
    await clock.advance(16)
    said = await stream.next("bookmark")
    assert said.content == {"type": "bookmark", "cursor": stream.cursor}
    assert stream.cursor >= cursor


async def test_a_ping_comes_every_20_seconds(start: Start, clock: Any) -> None:
    gateway = await start(clock=clock, stream={"ping": 20})
    stream = await websocket(gateway)
    await gateway.send(event())
    await stream.event()
    await clock.advance(61)
    await gateway.send(event())
    await stream.event()
    assert [said.kind for said in stream.others] == ["ping"] * 3


async def test_a_stream_that_waits_for_its_last_event_is_pinged_too(gateway: Gateway) -> None:
    stream = await websocket(gateway, limit="1")
    watch = Stopwatch()
    await stream.next("ping", 3)
    await stream.next("ping", 3)
    assert watch.seconds < 3


# Ends


@pytest.mark.parametrize("dialect", ["websocket", *TYPED])
async def test_an_end_is_a_close_frame_with_code_reason_and_cursor(
    gateway: Gateway, dialect: str
) -> None:
    await gateway.send_many(3)
    stream = await websocket(gateway, dialect, from_="start", limit="2")
    end = await stream.to_end()
    cursor = stream.events[-1]["cursor"]
    assert (end["code"], end["reason"], end["cursor"]) == (1000, "complete", cursor)
    *_, last = stream.others
    assert len(last.raw) <= 125
    ends = [said.content for said in stream.others if said.kind == "end"]
    if dialect in TYPED:
        message = {"type": "end", "code": 1000, "reason": "complete", "cursor": cursor,
                   "reconnect": False}  # fmt: skip
        assert ends[:-1] == [message]
    else:
        assert len(ends) == 1


async def test_the_server_waits_for_the_clients_close_frame_but_not_for_ever(
    gateway: Gateway,
) -> None:
    await gateway.send_many(1)
    reader, writer = await gateway.connect()
    headers = "".join(f"{name}: {value}\r\n" for name, value in upgrade_headers().items())
    writer.write(
        "GET /v1/stream?from=start&limit=1 HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {gateway.user}\r\n{headers}\r\n".encode()
    )
    watch = Stopwatch()
    heard = await reader.read()
    assert bytes((0x80 | CLOSE,)) in heard
    assert watch.seconds < 2
    assert await gateway.streams() == 0


async def test_resuming_at_the_end_loses_and_repeats_nothing(gateway: Gateway) -> None:
    sent = await gateway.send_many(100)
    found: list[str] = []
    cursor = None
    while len(found) < 100:
        where = {"after": cursor} if cursor else {"from_": "start"}
        stream = await websocket(gateway, limit="7", follow="false", **where)
        cursor = (await stream.to_end())["cursor"]
        found += [one["id"] for one in stream.events]
    assert found == sent
