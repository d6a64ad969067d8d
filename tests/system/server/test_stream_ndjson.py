"""`/v1/stream` as NDJSON: one event per line, and the few other lines have a `type`."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import NDJSON, GatewayClient, event, offset_of
from gateways import Gateway, Start
from open_streams import HttpStream, open_stream, open_with

from gateway.http.response.problem import ALWAYS


async def ndjson(gateway: GatewayClient, **params: Any) -> HttpStream:
    stream: HttpStream = await open_stream(gateway, "ndjson", **params)
    return stream


@pytest.mark.parametrize("accept", [NDJSON, "application/ndjson", f"text/html, {NDJSON};q=0.9"])
async def test_the_headers_are_those_of_a_stream_of_lines(gateway: Gateway, accept: str) -> None:
    stream = await ndjson(gateway, headers={"Accept": accept})
    headers = dict(stream.answer.headers)
    sent = await gateway.send_many(2)
    behind = (await gateway.pull(after=headers.pop("audit-cursor")))["events"]
    assert [one["id"] for one in behind] == sent
    assert headers.pop("date").endswith(" GMT")
    assert headers == {
        **{name.lower(): value for name, value in ALWAYS.items()},
        "content-type": NDJSON,
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "connection": "close",
        "transfer-encoding": "chunked",
    }


async def test_a_line_is_the_event_as_a_page_has_it(gateway: Gateway) -> None:
    stream = await ndjson(gateway)
    await gateway.send(event(id="x", data={"n": 1.50}))
    said = await stream.next("event")
    assert said.raw == (await gateway.get("/v1/events/x")).body
    assert "type" not in said.content


@pytest.mark.parametrize("text", ["a\nb", "\r\n", "\u2028", "\x85", '"}\n{"', "\x00"], ids=ascii)
async def test_no_content_can_break_a_line(gateway: Gateway, text: str) -> None:
    stream = await ndjson(gateway)
    await gateway.send(event(reason=text, data={"x": text}), event(id="2"))
    first, second = await stream.take(2)
    assert (first["reason"], first["data"]["x"], second["id"]) == (text, text, "2")


async def test_a_quiet_stream_gets_bookmarks_that_resume(start: Start, clock: Any) -> None:
    gateway = await start(clock=clock, stream={"heartbeat": 15})
    await gateway.send(event(id="1"))
    stream = await ndjson(gateway, from_="start")
    await stream.event()
    await gateway.send(event(id="2"))
    await stream.event()
    await clock.advance(16)
    said = await stream.next("bookmark")
    assert said.content == {"type": "bookmark", "cursor": stream.cursor}
    assert stream.cursor >= stream.events[-1]["cursor"]
    await gateway.send(event(id="3"))
    again = await ndjson(gateway, after=said.content["cursor"], follow="false")
    await again.to_end()
    assert [one["id"] for one in again.events] == ["3"]


async def test_scanning_without_a_match_moves_the_cursor(start: Start, clock: Any) -> None:
    gateway = await start(clock=clock, stream={"heartbeat": 15})
    stream = await ndjson(gateway, category="auth")
    last = (await gateway.send(event(category="billing")))["last_cursor"]
    await gateway.tail_reaches(offset_of(last))
    await clock.advance(6)
    assert (await stream.next("bookmark")).content["cursor"] >= last


async def test_follow_false_ends_with_a_last_line_and_a_whole_body(gateway: Gateway) -> None:
    sent = await gateway.send_many(2500)
    stream = await ndjson(gateway, from_="start", follow="false")
    end = await stream.to_end()
    assert [one["id"] for one in stream.events] == sent
    assert end["cursor"] >= stream.events[-1]["cursor"]
    assert end == {"type": "end", "code": 1000, "reason": "complete", "reconnect": False,
                   "cursor": end["cursor"]}  # fmt: skip
    assert stream.ended_properly


async def test_limit_ends_right_behind_that_many_events(gateway: Gateway) -> None:
    sent = await gateway.send_many(10)
    stream = await ndjson(gateway, from_="start", limit="12")
    await stream.take(10)
    sent += await gateway.send_many(5)
    end = await stream.to_end()
    assert [one["id"] for one in stream.events] == sent[:12]
    assert end["cursor"] == stream.events[-1]["cursor"]


async def test_http_1_0_gets_bare_lines(gateway: Gateway) -> None:
    sent = await gateway.send_many(3)
    stream = await ndjson(gateway, version="1.0", from_="start", limit="3")
    assert "transfer-encoding" not in stream.answer.headers
    await stream.to_end()
    assert [one["id"] for one in stream.events] == sent


async def test_post_gives_the_lines_of_a_json_body_of_parameters(gateway: Gateway) -> None:
    await gateway.send(event(id="1"), event(id="2", outcome="denied"))
    body = b'{"outcome":"denied","from":"start","limit":1}'
    head = (
        f"POST /v1/stream HTTP/1.1\r\nHost: x\r\nAccept: {NDJSON}\r\n"
        f"Authorization: Bearer {gateway.user}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    stream = await open_with(gateway, head.encode() + body)
    await stream.to_end()
    assert [one["id"] for one in stream.events] == ["2"]
