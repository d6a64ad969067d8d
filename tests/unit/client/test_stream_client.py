"""Reading a stream over as many connections as it takes: each event once, in order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import web

from gateway.client import Client, Stream
from gateway.client.protocol import reading
from gateway.errors import (
    CursorGone,
    Forbidden,
    GatewayError,
    InvalidRequest,
    Unauthorized,
    Unavailable,
)
from tests.support.machine_time import slowness
from tests.support.stream_server import (
    COMPLETE,
    StreamServer,
    control,
    cursor,
    end,
    event,
    problem,
    running,
    stream,
)


class Reader:
    """Reads from a server that runs for one test; notes waits and notices."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.notices: list[str] = []
        self.stream: Stream | None = None

    def read(self, server: StreamServer, **parameters: Any) -> list[str]:
        """The ids of the events until the stream ends."""
        with (
            running(server) as url,
            Client(
                url, "alpk_sample", notice=self.notices.append, pause=self.waits.append
            ) as client,
        ):
            self.stream = client.stream(**parameters)
            return [event["id"] for event in self.stream]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_events_come_in_order_until_the_stream_is_complete(reader: Reader) -> None:
    server = StreamServer(stream(event(1), event(2) + event(3), COMPLETE))
    assert reader.read(server) == ["e1", "e2", "e3"]
    assert server.headers[0]["Authorization"] == "Bearer alpk_sample"
    assert server.headers[0]["Accept"] == "application/x-ndjson"
    assert reader.waits == []


def test_a_torn_connection_is_taken_up_behind_the_last_event(reader: Reader) -> None:
    server = StreamServer(
        stream(event(1), event(2), cut=True),
        stream(event(3), cut=True),
        stream(event(4), COMPLETE),
    )
    assert reader.read(server, since="15m", category=["auth.*"]) == ["e1", "e2", "e3", "e4"]
    assert server.requests == [
        {"since": ["15m"], "category": ["auth.*"]},
        {"after": [cursor(2)], "category": ["auth.*"]},
        {"after": [cursor(3)], "category": ["auth.*"]},
    ]
    assert len(reader.waits) == 2


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("kept", [1, 20, len(event(2)) - 1])
def test_an_event_cut_in_the_middle_comes_once_and_whole(
    reader: Reader, kept: int, cut: bool
) -> None:
    server = StreamServer(
        stream(event(1), event(2)[:kept], cut=cut), stream(event(2), event(3), COMPLETE)
    )
    assert reader.read(server) == ["e1", "e2", "e3"]


def test_an_event_that_is_sent_again_is_not_handed_out_again(reader: Reader) -> None:
    server = StreamServer(
        stream(event(1), event(2), cut=True), stream(event(1), event(2), event(3), COMPLETE)
    )
    assert reader.read(server) == ["e1", "e2", "e3"]


def test_a_connection_on_which_nothing_is_said_is_given_up_for_another(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "QUIET_SECONDS", 0.1 * slowness())

    async def mute(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(event(1))
        await asyncio.Event().wait()
        return response

    server = StreamServer(mute, *[stream(event(1), event(2), COMPLETE)] * 9)
    assert reader.read(server, **{"from": "start"}) == ["e1", "e2"]
    assert "connection lost: timed out; trying again" in reader.notices[0]


def test_a_stream_that_closes_without_an_end_is_taken_up_again(reader: Reader) -> None:
    server = StreamServer(stream(event(1)), stream(event(2), COMPLETE))
    assert reader.read(server) == ["e1", "e2"]


def test_a_bookmark_moves_the_position_over_what_is_not_for_us(reader: Reader) -> None:
    server = StreamServer(
        stream(event(1), control("bookmark", cursor=cursor(900)), cut=True), stream(COMPLETE)
    )
    reader.read(server)
    assert server.requests[1] == {"after": [cursor(900)]}


@pytest.mark.parametrize("code", [1001, 1012, 1013, 4001, 4002, 4005])
def test_an_end_that_asks_to_come_back_is_followed(reader: Reader, code: int) -> None:
    server = StreamServer(
        stream(event(1), end(code, "later", reconnect=True, offset=5)), stream(COMPLETE)
    )
    assert reader.read(server) == ["e1"]
    assert server.requests[1] == {"after": [cursor(5)]}


@pytest.mark.parametrize("code", [4501, 4502, 4503, 4504])
def test_an_end_that_is_final_is_not_tried_again(reader: Reader, code: int) -> None:
    server = StreamServer(stream(event(1), end(code, "key_revoked", reconnect=False)))
    with pytest.raises(Forbidden, match="key_revoked"):
        reader.read(server)
    assert len(server.requests) == 1


def test_the_code_decides_where_an_end_does_not_say(reader: Reader) -> None:
    server = StreamServer(
        stream(control("end", code=1001, reason="going_away")),
        stream(control("end", code=4501, reason="key_revoked")),
    )
    with pytest.raises(Forbidden):
        reader.read(server)
    assert len(server.requests) == 2


def test_an_end_of_another_kind_that_is_final_is_an_error(reader: Reader) -> None:
    server = StreamServer(stream(end(4100, "odd", reconnect=False)))
    with pytest.raises(GatewayError, match="odd"):
        reader.read(server)


def test_a_limit_counts_over_all_connections(reader: Reader) -> None:
    server = StreamServer(stream(event(1), event(2), cut=True), stream(event(3), event(4)))
    assert reader.read(server, limit=3) == ["e1", "e2", "e3"]
    assert [request["limit"] for request in server.requests] == [["3"], ["1"]]


def test_without_following_the_stream_ends_at_the_head(reader: Reader) -> None:
    server = StreamServer(stream(event(1), control("caught-up", cursor=cursor(1))))
    assert reader.read(server, follow=False) == ["e1"]
    assert server.requests == [{"follow": ["false"]}]


def test_without_following_a_connection_torn_before_the_head_is_taken_up(
    reader: Reader,
) -> None:
    server = StreamServer(stream(event(1), cut=True), stream(event(2), COMPLETE))
    assert reader.read(server, follow=False) == ["e1", "e2"]
    assert server.requests[1] == {"after": [cursor(1)], "follow": ["false"]}


def test_a_gap_is_told_and_never_passed_over_in_silence(reader: Reader) -> None:
    gap = control("gap", reason="cursor_expired", missing=7, cursor=cursor(8))
    assert reader.read(StreamServer(stream(gap, event(9), COMPLETE))) == ["e9"]
    assert reader.notices == ["gap: reason cursor_expired, missing 7"]


def test_a_loss_before_any_position_is_known_is_told(reader: Reader) -> None:
    reader.read(StreamServer(stream(cut=True), stream(COMPLETE)))
    assert any("may be missing" in notice for notice in reader.notices)


@pytest.mark.parametrize(
    "begin", [{"from": "start"}, {"after": cursor(1)}, {"since": "2026-01-01T00:00:00Z"}]
)
def test_a_loss_where_the_beginning_is_fixed_loses_nothing(
    reader: Reader, begin: dict[str, str]
) -> None:
    server = StreamServer(stream(cut=True), stream(COMPLETE))
    reader.read(server, **begin)
    assert server.requests[0] == server.requests[1]
    assert not any("may be missing" in notice for notice in reader.notices)


def test_a_position_that_is_gone_is_said_with_the_ones_that_work(reader: Reader) -> None:
    gone = problem(410, detail="deleted by retention", earliest=cursor(50), latest=cursor(90))
    with pytest.raises(CursorGone, match=f"deleted by retention.*{cursor(50)}.*{cursor(90)}"):
        reader.read(StreamServer(gone), after=cursor(1))
    server = StreamServer(stream(event(1), cut=True), gone)
    with pytest.raises(CursorGone):
        reader.read(server)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, InvalidRequest),
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, InvalidRequest),
    ],
)
def test_an_answer_that_is_final_is_not_tried_again(
    reader: Reader, status: int, error: type[GatewayError]
) -> None:
    server = StreamServer(problem(status, detail="because"))
    with pytest.raises(error, match="because"):
        reader.read(server)
    assert len(server.requests) == 1


def test_a_busy_gateway_is_asked_again_after_the_time_it_names(reader: Reader) -> None:
    server = StreamServer(problem(429, "7", detail="too many"), stream(event(1), COMPLETE))
    assert reader.read(server) == ["e1"]
    assert 7 <= reader.waits[0] <= 8
    assert not any("may be missing" in notice for notice in reader.notices)


def test_a_gateway_that_answered_and_then_breaks_off_is_asked_again(reader: Reader) -> None:
    async def torn(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    server = StreamServer(problem(408), torn, stream(event(1), COMPLETE))
    assert reader.read(server) == ["e1"]
    assert len(reader.waits) == 2


def test_a_gateway_that_is_busy_from_the_start_is_given_up(reader: Reader) -> None:
    server = StreamServer(*[problem(503, detail="draining")] * 100)
    with pytest.raises(Unavailable, match="gave up after 5 tries: draining"):
        reader.read(server)
    assert len(server.requests) == 5


def test_a_gateway_that_was_there_is_waited_for_longer_and_longer(reader: Reader) -> None:
    server = StreamServer(stream(event(1)), *[problem(503)] * 40, stream(event(2), COMPLETE))
    assert reader.read(server) == ["e1", "e2"]
    assert all(0.1 <= seconds <= 30 for seconds in reader.waits)
    assert all(seconds <= 0.5 * 2**n for n, seconds in enumerate(reader.waits))
    assert max(reader.waits) > 5


def test_waits_are_short_again_after_an_event(reader: Reader) -> None:
    server = StreamServer(stream(event(1)), *[problem(503)] * 8, stream(event(2)), stream(COMPLETE))
    reader.read(server)
    assert reader.waits[-1] <= 0.5


def test_nobody_there_from_the_start_is_said_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            Client(f"http://127.0.0.1:{unused.getsockname()[1]}", "k") as client,
            pytest.raises(Unavailable, match="is the gateway running"),
        ):
            next(iter(client.stream()))


def test_a_long_filter_goes_into_the_body(reader: Reader) -> None:
    expression = " || ".join(f'actor.id == "user{number}"' for number in range(300))
    server = StreamServer(stream(event(1), COMPLETE))
    reader.read(server, filter=expression, tenant=["a", "b"], limit=1, follow=False)
    assert server.requests == [
        {"body": {"filter": expression, "tenant": ["a", "b"], "limit": 1, "follow": False}}
    ]


def test_odd_characters_of_a_filter_arrive_as_they_are(reader: Reader) -> None:
    expression = 'reason.contains("50% + ü & more") && severity >= 4'
    server = StreamServer(stream(COMPLETE))
    reader.read(server, filter=expression)
    assert server.requests == [{"filter": [expression]}]


@pytest.mark.parametrize("line", [b"<html>\n", b"[]\n", b'{"cursor":7}\n'])
def test_what_is_no_event_ends_the_stream_with_a_reason(reader: Reader, line: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no event"):
        reader.read(StreamServer(stream(line)))


def test_a_line_without_end_is_not_held_for_ever(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 1000)
    with pytest.raises(InvalidRequest, match="a line of more than"):
        reader.read(StreamServer(stream(b"x" * 2000)))


def test_a_page_of_something_else_is_not_taken_for_a_stream(reader: Reader) -> None:
    with pytest.raises(InvalidRequest, match="is it an audit gateway"):
        reader.read(StreamServer(problem(200, hello="world")))


def test_events_of_a_quarter_megabyte_come_whole(reader: Reader) -> None:
    large = event(1, reason="x" * 1000, data={"text": "y" * 250_000})
    server = StreamServer(stream(large, event(2), COMPLETE))
    assert reader.read(server) == ["e1", "e2"]


def test_the_position_is_behind_the_last_event_handed_out(reader: Reader) -> None:
    reader.read(StreamServer(stream(event(1), event(2))), limit=2)
    assert reader.stream is not None
    assert reader.stream.cursor == cursor(2)
