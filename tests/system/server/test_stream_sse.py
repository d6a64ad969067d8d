"""`/v1/stream` as Server-Sent Events: what goes over the wire, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_client import GatewayClient, cursor_at, event, offset_of
from gateways import Gateway, Start
from open_streams import HttpStream, Refused, open_stream, open_with

from gateway.http.response.problem import ALWAYS
from tests.support.machine_time import patience

HOSTILE = [
    "line\nbreak", "cr\rlf\r\n", "\u2028\u2029", "\ufeffbom", "data: x\n\nid: 1\nevent: end\n\n",
    "\x00", "\x85", "", " leading", "\U0001f600", "</script>", ": comment",
]  # fmt: skip


async def sse(gateway: GatewayClient, **params: Any) -> HttpStream:
    stream: HttpStream = await open_stream(gateway, "sse", **params)
    return stream


# Opening


async def test_the_headers_keep_proxies_from_buffering_and_caching(gateway: Gateway) -> None:
    stream = await sse(gateway)
    headers = dict(stream.answer.headers)
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("audit-cursor") == (await stream.next("opening")).content["cursor"]
    assert headers == {
        **{name.lower(): value for name, value in ALWAYS.items()},
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "connection": "close",
        "transfer-encoding": "chunked",
    }


async def test_retry_comment_and_position_come_at_once(start: Start) -> None:
    gateway = await start(stream={"heartbeat": 60})
    await gateway.send_many(3)
    stream = await sse(gateway)
    first = await asyncio.wait_for(stream.say(), patience(1))
    assert first is not None
    cursor = stream.answer.headers["audit-cursor"]
    retry = first.content["retry"]
    assert first.raw == f"retry: {retry}\n: stream open\nid: {cursor}".encode()


async def test_retry_is_jittered_above_the_setting(start: Start) -> None:
    gateway = await start(stream={"retry_ms": 3000})
    told = {(await (await sse(gateway)).next("opening")).content["retry"] for _ in range(20)}
    assert len(told) > 10
    assert all(3000 <= int(retry) <= 6000 for retry in told)


async def test_sse_is_what_a_browser_or_curl_gets_without_asking(gateway: Gateway) -> None:
    for accept in ("*/*", "text/event-stream", "text/*", "text/html, text/event-stream;q=0.5"):
        stream = await sse(gateway, headers={"Accept": accept})
        assert stream.answer.headers["content-type"].startswith("text/event-stream")


async def test_a_type_that_a_stream_cannot_have_is_406(gateway: Gateway) -> None:
    with pytest.raises(Refused) as refused:
        await sse(gateway, headers={"Accept": "application/json"})
    refused.value.answer.problem(406, "not_acceptable")


async def test_an_allowed_origin_may_read_the_stream_and_others_may_not(start: Start) -> None:
    gateway = await start(server={"allowed_origins": ("https://siem.example",)})
    stream = await sse(gateway, headers={"Origin": "https://siem.example"})
    assert stream.answer.headers["access-control-allow-origin"] == "https://siem.example"
    assert stream.answer.headers["vary"] == "Origin"
    stream = await sse(gateway, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stream.answer.headers


# Events


async def test_an_event_is_its_cursor_and_its_json_and_has_no_event_field(
    gateway: Gateway,
) -> None:
    stream = await sse(gateway)
    await gateway.send(event(id="x", data={"n": 1.50}))
    said = await stream.next("event")
    json = (await gateway.get("/v1/events/x")).body
    assert said.raw == b"id: %b\ndata: %b" % (said.content["cursor"].encode(), json)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_no_content_can_break_out_of_its_block(gateway: Gateway, text: str) -> None:
    stream = await sse(gateway)
    await gateway.send(event(reason=text, data={text: text}, actor={"name": text}), event(id="2"))
    first, second = await stream.take(2)
    assert (first["reason"], first["data"], first["actor"]["name"]) == (text, {text: text}, text)
    assert second["id"] == "2"


async def test_raw_line_ends_in_data_do_not_reach_the_wire(gateway: Gateway) -> None:
    stream = await sse(gateway)
    body = b'{"category":"a","action":"b",\r\n"data":{\r\n\t"x":\r\n1\n}\n}'
    headers = {"Content-Type": "application/json"}
    assert (await gateway.post("/v1/events", data=body, headers=headers)).status == 201
    said = await stream.next("event")
    assert said.raw.count(b"\n") == 1
    assert said.content["data"] == {"x": 1}


async def test_caught_up_is_a_named_event_told_once_after_the_past(gateway: Gateway) -> None:
    await gateway.send_many(3)
    stream = await sse(gateway, from_="start")
    assert len(await stream.take(3)) == 3
    said = await stream.next("caught-up")
    cursor = said.content["cursor"]
    # Records of the gateway's own may stand between them.
    assert offset_of(cursor) >= offset_of(stream.events[-1]["cursor"])
    assert said.raw == (f'id: {cursor}\nevent: caught-up\ndata: {{"cursor":"{cursor}"}}'.encode())
    await gateway.send(event())
    await stream.event()
    assert [said.kind for said in stream.others] == ["opening", "caught-up"]


# Quiet


async def test_a_quiet_stream_gets_its_cursor_every_15_seconds_without_an_event(
    start: Start, clock: Any
) -> None:
    gateway = await start(clock=clock, stream={"heartbeat": 15})
    stream = await sse(gateway)
    # Until the records of the opening itself are gone by.
    await clock.advance(30)
    await stream.next("bookmark")
    await gateway.append(event(id="1"))
    await stream.event()
    before = len(stream.others)
    await clock.advance(13)
    await gateway.append(event(id="2"))
    await stream.event()
    await clock.advance(13)
    await gateway.append(event(id="3"))
    await stream.event()
    assert len(stream.others) == before
    await clock.advance(16)
    said = await stream.next("bookmark")
    assert said.raw == f"id: {stream.events[-1]['cursor']}".encode()


async def test_scanning_without_a_match_moves_the_cursor_every_5_seconds(
    start: Start, clock: Any
) -> None:
    gateway = await start(clock=clock, stream={"heartbeat": 15})
    stream = await sse(gateway, category="auth")
    begin = offset_of(stream.answer.headers["audit-cursor"])
    for _ in range(12):
        sent = await gateway.send(event(category="billing"))
        await gateway.tail_reaches(offset_of(sent["last_cursor"]))
        await clock.advance(1)
    await gateway.send(event())
    await stream.event()
    bookmarks = [said.content["cursor"] for said in stream.others if said.kind == "bookmark"]
    first, second = [offset_of(bookmark) - begin for bookmark in bookmarks]
    assert 4 <= first < second
    assert second >= 9


async def test_a_stream_that_waits_for_its_last_event_gets_heartbeats_too(
    gateway: Gateway,
) -> None:
    stream = await sse(gateway, limit="1")
    assert (await stream.next("bookmark", 3)).raw.startswith(b"id: ")


# Ends


async def test_follow_false_drains_to_the_head_of_the_request_and_ends(gateway: Gateway) -> None:
    sent = await gateway.send_many(2500)
    stream = await sse(gateway, from_="start", follow="false")
    end = await stream.to_end()
    assert [one["id"] for one in stream.events] == sent
    assert end["cursor"] >= stream.events[-1]["cursor"]
    assert end == {"code": 1000, "reason": "complete", "cursor": end["cursor"],
                   "reconnect": False}  # fmt: skip
    assert stream.ended_properly
    assert stream.others[-1].raw.startswith(f"id: {end['cursor']}\nevent: end\ndata: ".encode())


async def test_follow_false_on_an_empty_log_ends_at_once(gateway: Gateway) -> None:
    stream = await sse(gateway, follow="false")
    assert (await stream.to_end(1))["code"] == 1000


@pytest.mark.parametrize("limit", [1, 3, 1000, 1001])
async def test_limit_ends_right_behind_that_many_events(gateway: Gateway, limit: int) -> None:
    sent = await gateway.send_many(1001)
    stream = await sse(gateway, from_="start", limit=str(limit))
    end = await stream.to_end()
    assert [one["id"] for one in stream.events] == sent[:limit]
    assert end["cursor"] == stream.events[-1]["cursor"]


async def test_limit_counts_matching_events_and_waits_for_them(gateway: Gateway) -> None:
    await gateway.send(event(id="1"), event(category="billing"))
    stream = await sse(gateway, from_="start", limit="2", category="auth")
    assert (await stream.event())["id"] == "1"
    await gateway.send(event(category="billing"), event(id="2"), event(id="3"))
    end = await stream.to_end()
    assert [one["id"] for one in stream.events] == ["1", "2"]
    assert end["cursor"] == stream.events[-1]["cursor"]


# Resuming


async def test_the_last_event_id_resumes_however_a_client_sends_it(gateway: Gateway) -> None:
    sent = await gateway.send_many(5)
    last = (await gateway.pull(limit="2"))["cursor"]
    for how in (
        {"headers": {"Last-Event-ID": last}},
        {"last_event_id": last},
        {"lastEventId": last},
        {"after": last},
        {"headers": {"Last-Event-ID": last}, "from_": "start"},
        {"headers": {"Last-Event-ID": last}, "after": cursor_at(last, 0)},
        {"headers": {"Last-Event-ID": ""}, "after": last},
        {"lastEventId": "", "after": last},
    ):
        stream = await sse(gateway, follow="false", **how)
        await stream.to_end()
        assert [one["id"] for one in stream.events] == sent[2:], how


async def test_a_malformed_last_event_id_is_400_and_not_a_fresh_start(gateway: Gateway) -> None:
    for how in ({"headers": {"Last-Event-ID": "7"}}, {"last_event_id": "x"}, {"lastEventId": "0"}):
        with pytest.raises(Refused) as refused:
            await sse(gateway, **how)
        refused.value.answer.problem(400, "malformed_cursor")


async def test_the_id_of_every_block_resumes_without_loss(gateway: Gateway) -> None:
    await gateway.send_many(10)
    stream = await sse(gateway, from_="start", category="auth")
    await stream.take(10)
    ids = [said.content["cursor"] for said in stream.others] + [
        one["cursor"] for one in stream.events
    ]
    for cursor in ids:
        again = await sse(gateway, headers={"Last-Event-ID": cursor}, follow="false")
        await again.to_end()
        assert again.events == [one for one in stream.events if one["cursor"] > cursor]


# HTTP/1.0 and POST


async def test_http_1_0_gets_the_same_without_chunks(gateway: Gateway) -> None:
    sent = await gateway.send_many(3)
    stream = await sse(gateway, version="1.0", from_="start", limit="4")
    assert "transfer-encoding" not in stream.answer.headers
    assert stream.answer.headers["connection"] == "close"
    await stream.take(3)
    await gateway.send(event(id="live"))
    assert (await stream.to_end())["code"] == 1000
    assert [one["id"] for one in stream.events] == [*sent, "live"]


async def test_post_takes_the_same_parameters_as_a_json_body(gateway: Gateway) -> None:
    await gateway.send(
        event(id="1", category="auth", severity=3), event(id="2", category="billing", severity=4),
        event(id="3", category="auth", severity=5), event(id="4", category="other", severity=5),
    )  # fmt: skip
    body = (
        b'{"category":["auth","billing"],"min_severity":4,"from":"start","follow":false,'
        b'"filter":"action != \'' + b"x" * 4000 + b"'\"}"
    )
    head = (
        "POST /v1/stream HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {gateway.user}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    stream = await open_with(gateway, head.encode() + body)
    await stream.to_end()
    assert [one["id"] for one in stream.events] == ["2", "3"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'"x"', b"{", b'{"category":[]}', b'{"category":null}',
        b'{"category":{"a":1}}', b'{"category":[["a"]]}', b'{"limit":1.5}', b'{"categroy":"a"}',
        b'{"category":"a","category":"b"}', b'{"limit":%b}' % (b"9" * 5000), b'{"follow":"maybe"}',
        b'{"tenant":"\\ud800"}', b'{"min_severity":[1,2]}', b'{"":1}', b'{"x":' + b"[" * 60_000,
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
async def test_a_body_that_makes_no_sense_is_400_and_never_a_wider_stream(
    gateway: Gateway, body: bytes
) -> None:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    answer = await gateway.post("/v1/stream", data=body, headers=headers)
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_parameters_in_body_and_url_at_once_are_400(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/stream?category=auth", json={"category": "auth"})
    answer.problem(400, "invalid_request")
