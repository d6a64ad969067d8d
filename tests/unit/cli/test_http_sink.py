"""Posting batches: what is refused, what is tried again, and when it gives up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from gateway.cli.importing.http_sink import HttpSink
from gateway.client.protocol.exchange import MAX_TRIES
from gateway.errors import Forbidden, InvalidRequest, Unauthorized, Unavailable
from tests.support.ingest_server import DROP, KEY, STORE_AND_DROP, IngestServer, running


@pytest.fixture
def server() -> Iterator[IngestServer]:
    with running() as server:
        yield server


Connect = Callable[..., HttpSink]


@pytest.fixture
def waits() -> list[float]:
    """The seconds that a sink of `connect` would have slept."""
    return []


@pytest.fixture
def connect(server: IngestServer, waits: list[float]) -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect(url: str = server.url, key: str = KEY) -> HttpSink:
            return stack.enter_context(closing(HttpSink(url, key, sleep=waits.append)))

        yield connect


def lines(*numbers: int) -> list[bytes]:
    return [b'{"id":"%d","category":"c","action":"a"}' % number for number in numbers]


BAD = b'{"id":"bad"}'


def test_what_is_sent_is_counted_and_one_connection_is_kept(
    server: IngestServer, connect: Connect
) -> None:
    sink = connect()
    first, second = sink.send(lines(1, 2)), sink.send(lines(2, 3))
    assert (first.accepted, first.duplicates, first.refused) == (2, 0, [])
    assert (second.accepted, second.duplicates) == (1, 1)
    assert server.connections == 1
    assert server.headers[0]["Content-Type"] == "application/x-ndjson"


def test_refused_items_do_not_keep_the_others_out(server: IngestServer, connect: Connect) -> None:
    result = connect().send([BAD, *lines(1), BAD, *lines(2)])
    assert result.accepted == 2
    assert [(one.index, one.path) for one in result.refused] == [(0, "category"), (2, "category")]
    assert server.batches == [4, 2]


def test_a_gateway_that_stops_listing_reasons_is_asked_again(
    server: IngestServer, connect: Connect
) -> None:
    server.most_reported = 1
    result = connect().send([BAD, BAD, *lines(1), BAD])
    assert result.accepted == 1
    assert sorted(one.index for one in result.refused) == [0, 1, 3]


def test_a_batch_of_nothing_but_refused_items_ends(server: IngestServer, connect: Connect) -> None:
    result = connect().send([BAD, BAD])
    assert (result.accepted, len(result.refused)) == (0, 2)
    assert server.batches == [2]


@pytest.mark.parametrize(
    "errors", [[], None, "x", [{"index": 99}], [{"index": -1}], [{"index": "0"}], [None]]
)
def test_a_refusal_that_names_no_item_ends_instead_of_repeating(
    server: IngestServer, errors: Any, connect: Connect
) -> None:
    server.answers = [(422, {"detail": "no", "errors": errors}, {})] * 2
    with pytest.raises(InvalidRequest, match="422: no"):
        connect().send(lines(1))
    assert len(server.paths) == 1


def test_a_batch_that_is_too_large_is_halved(server: IngestServer, connect: Connect) -> None:
    server.most_bytes = 150
    result = connect().send(lines(*range(10)))
    assert (result.accepted, result.refused) == (10, [])
    assert max(server.batches) <= 3
    assert [draft.id for draft in server.stored.values()] == [str(number) for number in range(10)]


def test_an_event_that_is_too_large_is_refused_alone(
    server: IngestServer, connect: Connect
) -> None:
    server.most_bytes = 150
    large = b'{"id":"large","category":"c","action":"a","reason":"%b"}' % (b"x" * 200)
    result = connect().send([*lines(1), large, *lines(2)])
    assert result.accepted == 2
    assert [(one.index, one.reason) for one in result.refused] == [(1, "the body is too large")]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_gateway_is_asked_again_after_the_time_it_names(
    server: IngestServer, status: int, connect: Connect, waits: list[float]
) -> None:
    server.answers = [(status, {"detail": "busy"}, {"Retry-After": "7"})] * 2
    assert connect().send(lines(1)).accepted == 1
    assert len(waits) == 2
    assert all(7 <= seconds < 8 for seconds in waits)


def test_a_wait_has_a_bound_whatever_the_gateway_asks_for(
    server: IngestServer, connect: Connect, waits: list[float]
) -> None:
    server.answers = [(429, {}, {"Retry-After": "86400"})]
    connect().send(lines(1))
    assert max(waits) < 61


def test_waits_grow_where_the_gateway_names_none(
    server: IngestServer, connect: Connect, waits: list[float]
) -> None:
    server.answers = [(502, {}, {"Retry-After": "soon"})] * 6
    connect().send(lines(1))
    assert all(0.125 * 2**n <= waits[n - 1] <= 0.25 * 2**n for n in range(1, 7))


def test_a_gateway_that_stays_busy_is_given_up_with_its_reason(
    server: IngestServer, connect: Connect, waits: list[float]
) -> None:
    server.answers = [(503, {"detail": "draining"}, {})] * 100
    with pytest.raises(Unavailable, match="gave up after 8 tries: draining"):
        connect().send(lines(1))
    assert len(waits) == MAX_TRIES - 1
    assert len(server.paths) == MAX_TRIES


def test_a_lost_answer_loses_nothing_and_doubles_nothing(
    server: IngestServer, connect: Connect, waits: list[float]
) -> None:
    sink = connect()
    sink.send(lines(0))
    server.answers = [DROP, STORE_AND_DROP]
    result = sink.send(lines(1, 2))
    assert (result.accepted, result.duplicates) == (0, 2)
    assert len(server.stored) == 3
    assert len(waits) == 2


def test_nobody_there_from_the_start_is_said_at_once(connect: Connect, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        sink = connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unavailable, match="cannot be reached"):
            sink.send(lines(1))
    assert waits == []


def test_a_connection_that_stays_lost_is_given_up(
    server: IngestServer, connect: Connect, waits: list[float]
) -> None:
    sink = connect()
    sink.send(lines(0))
    server.answers = [DROP] * 100
    with pytest.raises(Unavailable, match="gave up after 8 tries: connection lost"):
        sink.send(lines(1))
    assert len(waits) == MAX_TRIES - 1


def test_a_key_that_is_refused_is_not_tried_again(server: IngestServer, connect: Connect) -> None:
    with pytest.raises(Unauthorized, match="no such key"):
        connect(key="alpk_other").send(lines(1))
    server.answers = [(403, {"detail": "the key does not allow ingest"}, {})]
    with pytest.raises(Forbidden, match="does not allow ingest"):
        connect().send(lines(1))
    assert len(server.paths) == 2


def test_a_redirect_is_not_followed_with_the_key(server: IngestServer, connect: Connect) -> None:
    server.answers = [(307, {}, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(InvalidRequest, match="307"):
        connect().send(lines(1))
    assert server.paths == ["/v1/events"]


def test_a_gateway_below_a_path_is_reached_there(server: IngestServer, connect: Connect) -> None:
    connect(f"{server.url}/audit/").send(lines(1))
    assert server.paths == ["/audit/v1/events"]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080", "ftp://x", "http://", "http://h:99999", "http://h:0", "http://h:-1",
        "http://[::1", "http://h\n", "http://a..b", f"http://{'a' * 64}", "http://u:p@h",
        "http://h/?key=1", "http://h?", "http://h#",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_gateway_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        HttpSink(url, KEY)
