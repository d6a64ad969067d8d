"""The client library: the same with asyncio and without, and nothing of the server in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from gateway.client import AsyncClient, Batch, Client, ReceivedEvent, SendResult
from gateway.client.protocol import publishing
from gateway.errors import Forbidden, InvalidRequest, Unauthorized, Unavailable
from tests.support import ingest_server
from tests.support.exports import ROOT
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

KEY = ingest_server.KEY


class InPlainCalls:
    """What is tested, by `Client`."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.cursor: str | None = None

    def read(self, url: str, **selection: Any) -> list[ReceivedEvent]:
        with Client(url, KEY, pause=self.waits.append) as client:
            stream = client.stream(**selection)
            try:
                return list(stream)
            finally:
                self.cursor = stream.cursor

    def first(self, url: str, count: int) -> list[ReceivedEvent]:
        """Some events of a stream that is left in its middle."""
        with Client(url, KEY) as client:
            found = []
            for one in client.stream():
                found.append(one)
                if len(found) == count:
                    break
            return found

    def consume(self, url: str, name: str, most: int = 100, **selection: Any) -> list[Batch]:
        """Batches of a consumer, of which the last one is not dealt with if they are the most."""
        with Client(url, KEY, pause=self.waits.append) as client:
            found = []
            for batch in client.consume(name, **selection):
                found.append(batch)
                if len(found) == most:
                    break
            return [batch for batch in found if batch.events]

    def publish(self, url: str, events: Iterable[Mapping[str, Any]]) -> SendResult:
        with Client(url, KEY, pause=self.waits.append) as client:
            return client.publish(events)

    def counts(self, url: str, **selection: Any) -> dict[str, Any]:
        with Client(url, KEY, pause=self.waits.append) as client:
            return client.counts(**selection)

    def pages(self, url: str, most: int = 100, **selection: Any) -> list[Any]:
        with Client(url, KEY, pause=self.waits.append) as client:
            found = []
            for page in client.pages(**selection):
                found.append(page)
                if len(found) == most:
                    break
            return found


class WithAsyncio(InPlainCalls):
    """The same by `AsyncClient`."""

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)

    def _run(self, use: Callable[[AsyncClient], Any], url: str) -> Any:
        async def run() -> Any:
            async with AsyncClient(url, KEY, pause=self._pause) as client:
                return await use(client)

        return asyncio.run(run())

    def read(self, url: str, **selection: Any) -> list[ReceivedEvent]:
        async def use(client: AsyncClient) -> list[ReceivedEvent]:
            stream = client.stream(**selection)
            try:
                return [one async for one in stream]
            finally:
                self.cursor = stream.cursor

        found: list[ReceivedEvent] = self._run(use, url)
        return found

    def first(self, url: str, count: int) -> list[ReceivedEvent]:
        async def use(client: AsyncClient) -> list[ReceivedEvent]:
            found = []
            async for one in client.stream():
                found.append(one)
                if len(found) == count:
                    break
            return found

        found: list[ReceivedEvent] = self._run(use, url)
        return found

    def consume(self, url: str, name: str, most: int = 100, **selection: Any) -> list[Batch]:
        async def use(client: AsyncClient) -> list[Batch]:
            found = []
            async for batch in client.consume(name, **selection):
                found.append(batch)
                if len(found) == most:
                    break
            return [batch for batch in found if batch.events]

        found: list[Batch] = self._run(use, url)
        return found

    def publish(self, url: str, events: Iterable[Mapping[str, Any]]) -> SendResult:
        result: SendResult = self._run(lambda client: client.publish(events), url)
        return result

    def counts(self, url: str, **selection: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._run(lambda client: client.counts(**selection), url)
        return found

    def pages(self, url: str, most: int = 100, **selection: Any) -> list[Any]:
        async def use(client: AsyncClient) -> list[Any]:
            found = []
            async for page in client.pages(**selection):
                found.append(page)
                if len(found) == most:
                    break
            return found

        found: list[Any] = self._run(use, url)
        return found


@pytest.fixture(params=[InPlainCalls, WithAsyncio])
def user(request: pytest.FixtureRequest) -> InPlainCalls:
    made: InPlainCalls = request.param()
    return made


def page(*offsets: int, more: bool = False) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {
            "Content-Type": "application/x-ndjson", "Audit-Has-More": "true" if more else "false",
            "Audit-Cursor": cursor(offsets[-1] if offsets else 99),
        }  # fmt: skip
        return web.Response(body=b"".join(map(event, offsets)), headers=headers)

    return answer


# Streams


def test_a_stream_is_taken_up_behind_the_last_event(user: InPlainCalls) -> None:
    server = StreamServer(
        stream(event(1), event(2)[:50], cut=True),
        stream(event(2), end(1012, "restart", reconnect=True, offset=2)),
        stream(event(3), end(1000, "complete", reconnect=False, offset=3)),
    )
    with running(server) as url:
        found = user.read(url, category=["auth"], since="15m", from_=None)
    assert [one["id"] for one in found] == ["e1", "e2", "e3"]
    assert [one.json + b"\n" for one in found] == [event(1), event(2), event(3)]
    assert [one.cursor for one in found] == [cursor(1), cursor(2), cursor(3)]
    assert user.cursor == cursor(3)
    assert server.requests == [
        {"category": ["auth"], "since": ["15m"]},
        {"category": ["auth"], "after": [cursor(1)]},
        {"category": ["auth"], "after": [cursor(2)]},
    ]
    assert len(user.waits) == 2


def test_events_before_an_error_are_handed_out_first(user: InPlainCalls) -> None:
    bad = [(end(4501, "key_revoked", reconnect=False), Forbidden), (b"<html>\n", InvalidRequest)]
    for line, error in bad:
        with running(StreamServer(stream(event(1) + event(2) + line))) as url:
            with pytest.raises(error):
                user.read(url)
            assert user.cursor is not None


def test_a_stream_may_be_left_in_its_middle(user: InPlainCalls) -> None:
    with running(StreamServer(stream(*map(event, range(1, 9)), COMPLETE))) as url:
        assert [one["id"] for one in user.first(url, 3)] == ["e1", "e2", "e3"]


def test_a_stream_that_was_left_is_not_read_again() -> None:
    """The rest of the batch in which it was left would be missing."""
    server = StreamServer(stream(event(1) + event(2) + event(3)))
    with running(server) as url, Client(url, KEY) as client:
        left = client.stream(from_="start")
        for one in left:
            if one["id"] == "e2":
                break
        assert left.cursor == cursor(1)
        with pytest.raises(InvalidRequest, match="is read once"):
            next(iter(left))


def test_a_stream_that_was_left_at_its_first_event_goes_on_where_it_began() -> None:
    server = StreamServer(stream(event(8), event(9), begin=cursor(7)))
    with running(server) as url, Client(url, KEY) as client:
        left = client.stream()
        next(iter(left))
    assert left.cursor == cursor(7)


def test_a_key_is_sent_without_the_line_break_of_its_file() -> None:
    server = StreamServer(stream(COMPLETE))
    with running(server) as url, Client(url, f" {KEY}\r\n") as client:
        assert list(client.stream()) == []
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["", " ", "s\ncret", "s cret", "s\u00e9cret", "s\0cret"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_cannot_be_a_key_is_refused_without_being_quoted(kind: Any, key: str) -> None:
    with pytest.raises(InvalidRequest, match="is no key") as refused:
        kind("http://127.0.0.1:9", key)
    assert "cret" not in repr(refused.value)


def test_a_gateway_that_is_not_there_is_an_error(user: InPlainCalls) -> None:
    with running(StreamServer()) as url:
        pass
    with pytest.raises(Unavailable, match="is the gateway running"):
        user.read(url)
    with pytest.raises(Unavailable, match="is the gateway running"):
        user.publish(url, [{"category": "auth", "action": "a"}])
    assert user.waits == []


def test_members_of_an_event_are_told_by_name() -> None:
    one = ReceivedEvent(event(1, actor={"id": "u-1"}), cursor(1))
    assert one["actor"]["id"] == "u-1"
    assert one.get("reason", "none") == "none"
    assert one.members["category"] == "auth"
    with pytest.raises(KeyError):
        one["reason"]


# Pages


def test_pages_go_up_to_the_newest_event(user: InPlainCalls) -> None:
    server = StreamServer(page(1, 2, more=True), page(more=True), problem(503), page(3))
    with running(server) as url:
        found = user.pages(url, category="auth", from_="start", limit=2)
    assert [[one["id"] for one in page.events] for page in found] == [["e1", "e2"], ["e3"]]
    assert [page.cursor for page in found] == [cursor(2), cursor(3)]
    assert server.requests[0] == {"category": ["auth"], "from": ["start"], "limit": ["2"]}
    assert server.requests[1] == {"category": ["auth"], "after": [cursor(2)], "limit": ["2"]}
    assert server.requests[2] == server.requests[3]


def test_pages_that_follow_wait_for_what_comes(user: InPlainCalls) -> None:
    server = StreamServer(page(1), page(), page(2))
    with running(server) as url:
        found = user.pages(url, most=3, follow=True, wait=7)
    assert [len(page.events) for page in found] == [1, 0, 1]
    assert server.requests[1:] == [
        {"after": [cursor(1)], "wait": ["7"]}, {"after": [cursor(99)], "wait": ["7"]},
    ]  # fmt: skip


def test_pages_of_the_newest_first_go_down_to_the_oldest(user: InPlainCalls) -> None:
    server = StreamServer(page(2, 1, more=True), page(more=True), page(0))
    with running(server) as url:
        found = user.pages(url, order="desc", since="1h", until="1m", text="ann", text_in="actor")
    assert [[one["id"] for one in page.events] for page in found] == [["e2", "e1"], ["e0"]]
    asked = {"order": ["desc"], "since": ["1h"], "until": ["1m"], "text": ["ann"],
             "text_in": ["actor"]}  # fmt: skip
    assert server.requests == [
        asked, {**asked, "before": [cursor(1)]}, {**asked, "before": [cursor(99)]},
    ]  # fmt: skip


@pytest.mark.parametrize("ended", [{"order": "desc"}, {"until": "1m"}, {"before": cursor(1)}])
def test_pages_that_have_an_end_are_not_followed(user: InPlainCalls, ended: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="follow: "):
        user.pages("http://127.0.0.1:9", follow=True, **ended)


def test_a_gateway_that_says_there_is_more_and_gives_none_of_it_is_asked_slowly(
    user: InPlainCalls,
) -> None:
    server = StreamServer(page(more=True), page(more=True), page(more=True), page(100))
    with running(server) as url:
        found = user.pages(url)
    assert [len(page.events) for page in found] == [1]
    assert user.waits == [1.0, 1.0]


def test_what_a_page_says_besides_its_events_is_told() -> None:
    """As where retention has passed the position, or a filter costs too much."""

    async def answer(request: web.Request) -> web.StreamResponse:
        gap = control("gap", reason="cursor_expired", missing=7, cursor=cursor(3))
        notice = control("notice", code="filter_cost_exceeded", detail="too costly")
        headers = {"Audit-Cursor": cursor(4), "Audit-Has-More": "false"}
        return web.Response(body=notice + gap + event(4), headers=headers)

    told: list[str] = []
    with running(StreamServer(answer)) as url, Client(url, KEY, notice=told.append) as client:
        (page,) = client.pages(on_gap="skip")
    assert [one["id"] for one in page.events] == ["e4"]
    assert told == [
        "notice: code filter_cost_exceeded, detail too costly",
        "gap: reason cursor_expired, missing 7",
    ]


def test_what_is_no_page_is_an_error(user: InPlainCalls) -> None:
    for answer, error in (
        (problem(401, detail="no such key"), Unauthorized),
        (problem(400, detail="unknown parameter"), InvalidRequest),
        (problem(200, hello="world"), InvalidRequest),
    ):
        with running(StreamServer(answer)) as url, pytest.raises(error):
            user.pages(url)


# Counts


def test_counts_are_the_answer_as_it_is(user: InPlainCalls) -> None:
    server = StreamServer(problem(503), problem(200, total=7, next=None))
    with running(server) as url:
        found = user.counts(url, since="1h", step="1m", by=["tenant", "actor"], top=5)
    assert (found["total"], found["next"]) == (7, None)
    assert server.requests[0] == server.requests[1] == {
        "since": ["1h"], "step": ["1m"], "by": ["tenant", "actor"], "top": ["5"],
    }  # fmt: skip
    with running(StreamServer(problem(403))) as url, pytest.raises(Forbidden):
        user.counts(url, by="actor")


# Publishing


def test_events_are_published_in_batches_with_ids_of_their_own(
    user: InPlainCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_BATCH_EVENTS", 3)
    with ingest_server.running() as server:
        events = ({"category": "c", "action": "a", "data": {"n": n}} for n in range(8))
        result = user.publish(server.url, events)
    assert (result.accepted, result.duplicates, result.refused) == (8, 0, [])
    assert server.batches == [3, 3, 2]
    assert len(server.stored) == 8


def test_what_is_published_again_is_a_duplicate_by_its_id(user: InPlainCalls) -> None:
    events = [{"id": f"e{n}", "category": "c", "action": "a"} for n in range(5)]
    with ingest_server.running() as server:
        server.answers = [(503, {}, {})]
        result = user.publish(server.url, events[:1])
        result = user.publish(server.url, events)
        assert (result.accepted, result.duplicates) == (4, 1)
        result = user.publish(server.url, events)
    assert (result.accepted, result.duplicates) == (0, 5)


@pytest.mark.parametrize("said", [{}, {"accepted": 2, "duplicates": 0}, {"accepted": "3"}])
def test_events_that_an_answer_does_not_count_are_not_taken_for_durable(
    user: InPlainCalls, said: dict[str, Any]
) -> None:
    with ingest_server.running() as server:
        server.answers = [(200, said, {})]
        with pytest.raises(InvalidRequest, match="does not say that it has all 3 events"):
            user.publish(server.url, [{"category": "c", "action": "a"}] * 3)


def test_a_time_to_try_again_counts_from_the_date_of_the_answer() -> None:
    in_an_hour = formatdate(time.time() + 3600, usegmt=True)
    long_ago = formatdate(0, usegmt=True)
    pauses: list[float] = []
    with ingest_server.running() as server:
        answers = (in_an_hour, long_ago, "2", "never")
        server.answers = [(503, {}, {"Retry-After": after}) for after in answers]
        with Client(server.url, ingest_server.KEY, pause=pauses.append) as client:
            client.publish([{"category": "c", "action": "a"}])
    assert 60 <= pauses[0] <= 61, "no longer than a minute"
    assert pauses[1] <= 1
    assert 2 <= pauses[2] <= 3
    assert pauses[3] > 1


def test_a_lost_answer_makes_no_second_event_where_the_client_gave_the_id(
    user: InPlainCalls,
) -> None:
    with ingest_server.running() as server:
        server.answers = [(503, {}, {}), ingest_server.STORE_AND_DROP]
        result = user.publish(server.url, [{"category": "c", "action": "a"}])
        assert (result.accepted, result.duplicates) == (0, 1)
        assert len(server.stored) == 1


def test_refused_events_have_their_place_in_the_whole(
    user: InPlainCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_BATCH_EVENTS", 2)
    good = {"category": "c", "action": "a"}
    with ingest_server.running() as server:
        result = user.publish(server.url, [good, good, good, {"action": "a"}, {"action": "b"}])
    assert result.accepted == 3
    assert [(one.index, one.path) for one in result.refused] == [(3, "category"), (4, "category")]


def test_what_is_no_event_is_refused_before_anything_is_sent(user: InPlainCalls) -> None:
    with ingest_server.running() as server:
        with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
            user.publish(server.url, [{"category": "c", "action": "a", "data": {"n": object()}}])
        assert user.publish(server.url, []) == SendResult()
    assert server.paths == []


def test_events_that_are_no_mappings_are_refused_with_their_place(user: InPlainCalls) -> None:
    event = {"category": "c", "action": "a"}
    wrong: list[tuple[Any, str]] = [
        (["x"], "event 0: a mapping of members is needed, not str"),
        ([event, None], "event 1: a mapping of members is needed, not NoneType"),
        ([[event]], "event 0: .* not list"),
        (event, "a list of events is needed, not dict"),
        ("x", "a list of events is needed, not str"),
        (b"{}", "a list of events is needed, not bytes"),
        (None, "a list of events is needed, not NoneType"),
    ]
    with ingest_server.running() as server:
        for events, reason in wrong:
            with pytest.raises(InvalidRequest, match=reason):
                user.publish(server.url, events)
        assert server.paths == []


@pytest.mark.parametrize("selection", [
    {"category": {"auth"}}, {"category": (one for one in ("auth",))}, {"category": [b"auth"]},
    {"since": 1.5}, {"tenant": {"a": "b"}}, {"actor": object()}, {"category": []}, {"tenant": ()},
])  # fmt: skip
def test_a_selection_that_cannot_be_sent_as_it_is_meant_is_refused(
    user: InPlainCalls, selection: dict[str, Any]
) -> None:
    server = StreamServer()
    [name] = selection
    with running(server) as url:
        for read in (user.read, user.pages):
            with pytest.raises(InvalidRequest, match=f"{name}: "):
                read(url, **selection)
        with pytest.raises(InvalidRequest, match=f"{name}: "):
            user.consume(url, "siem", **selection)
    assert server.requests == []


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_consumer_without_a_name_is_refused_and_not_read_without_a_position(
    user: InPlainCalls, name: Any
) -> None:
    server = StreamServer(stream(COMPLETE))
    with running(server) as url, pytest.raises(InvalidRequest, match="name: a text is needed"):
        user.consume(url, name)
    assert server.requests == []


def test_other_arguments_that_are_wrong_are_refused_by_their_names(user: InPlainCalls) -> None:
    server = StreamServer()
    with running(server) as url:
        with pytest.raises(InvalidRequest, match="wait: "):
            user.pages(url, wait="10")
        with pytest.raises(InvalidRequest, match="max_pause: "):
            user.read(url, max_pause="10")
        with Client(url, KEY) as client, pytest.raises(InvalidRequest, match="cursor: "):
            client.acknowledge("siem", None)  # type: ignore[arg-type]
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequest, match="is no key"):
            kind("http://127.0.0.1:9", None)  # type: ignore[operator]
        with pytest.raises(InvalidRequest, match="address of a gateway"):
            kind(None, KEY)  # type: ignore[operator]
    assert server.requests == []


def test_numbers_that_json_has_not_are_refused_before_they_are_sent_as_null(
    user: InPlainCalls,
) -> None:
    with ingest_server.running() as server:
        for data, where in (
            ({"n": float("nan")}, "data.n is nan"),
            ({"of": [1, {"rate": float("inf")}]}, "data.of.1.rate is inf"),
            ({"pair": (0.5, float("-inf")), "null": None}, "data.pair.1 is -inf"),
        ):
            event = {"category": "c", "action": "a", "data": data}
            with pytest.raises(InvalidRequest, match=f"{where}, which is no number"):
                user.publish(server.url, [event])
        assert server.paths == []
        fine = {"category": "c", "action": "a", "data": {"text": "null", "n": None}}
        assert user.publish(server.url, [fine]).accepted == 1


def test_batches_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_BATCH_BYTES", 100)
    lines = [b"x" * 30] * 7 + [b"y" * 200, b"z"]
    batches = list(publishing.batches_of(lines))
    assert [line for batch in batches for line in batch] == lines
    assert [len(batch) for batch in batches] == [3, 3, 1, 1, 1]


# The library


def test_the_client_loads_nothing_of_the_server() -> None:
    script = (
        "import json, sys, gateway.client\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )  # fmt: skip
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    loaded = set(json.loads(said.stdout))
    servers = {"aiohttp", "asyncpg", "redis", "apsw", "sqlite3", "uvloop", "orjson", "re2"}
    assert not servers & loaded
    ours = {name.split(".")[1] for name in loaded if name.startswith("gateway.")}
    assert ours == {"client", "errors", "formats", "ingest", "settings"}


def test_a_key_is_sent_to_no_other_place(user: InPlainCalls) -> None:
    elsewhere = StreamServer(stream(event(1), COMPLETE))
    with running(elsewhere) as url:

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{url}/v1/stream")

        with running(StreamServer(redirect)) as first, pytest.raises(InvalidRequest, match="307"):
            user.read(first)
    assert elsewhere.requests == []


def test_notices_of_the_gateway_are_told() -> None:
    told: list[str] = []
    server = StreamServer(stream(control("notice", code="nothing"), COMPLETE))
    with running(server) as url, Client(url, KEY, notice=told.append) as client:
        assert list(client.stream()) == []
    assert told == ["notice: code nothing"]


# Consumers


def test_a_consumer_is_taken_up_at_what_the_gateway_remembers(user: InPlainCalls) -> None:
    server = StreamServer(
        stream(event(1), cut=True),
        stream(event(2), end(1012, "restart", reconnect=True, offset=2)),
        stream(event(3), end(1000, "complete", reconnect=False, offset=3)),
        acknowledges=[200, 200, 200],
    )
    with running(server) as url:
        batches = user.consume(url, "siem", category="auth", from_="start")
    assert [one["id"] for batch in batches for one in batch.events] == ["e1", "e2", "e3"]
    assert server.requests == [
        {"category": ["auth"], "from": ["start"], "consumer": ["siem"]},
        {"category": ["auth"], "consumer": ["siem"]},
        {"category": ["auth"], "consumer": ["siem"]},
    ]
    assert server.acknowledged[-1] == cursor(3)
    assert len(set(server.acknowledged)) == len(server.acknowledged)


def test_what_was_not_dealt_with_is_not_acknowledged(user: InPlainCalls) -> None:
    server = StreamServer(stream(event(1)), stream(event(2), COMPLETE), acknowledges=[200])
    with running(server) as url:
        assert len(user.consume(url, "siem", most=2)) == 2
    assert server.acknowledged == [cursor(1)]


@pytest.mark.parametrize("status", [409, 503])
def test_an_acknowledgement_that_is_not_taken_follows_with_the_next(
    user: InPlainCalls, status: int
) -> None:
    server = StreamServer(
        stream(event(1), cut=True),
        stream(event(1), event(2), end(1000, "complete", reconnect=False, offset=2)),
        acknowledges=[status, 200],
    )
    with running(server) as url:
        batches = user.consume(url, "siem")
    # It comes again, and is told from a repeat.
    assert [one["id"] for batch in batches for one in batch.events] == ["e1", "e2"]
    assert server.acknowledged == [cursor(1), cursor(2)]


def test_an_acknowledgement_that_is_refused_ends_the_stream(user: InPlainCalls) -> None:
    for status, error in ((401, Unauthorized), (403, Forbidden), (404, InvalidRequest)):
        server = StreamServer(stream(event(1)), stream(event(2)), acknowledges=[status])
        with running(server) as url, pytest.raises(error):
            user.consume(url, "siem")


def test_a_consumer_that_another_reads_is_waited_for(user: InPlainCalls) -> None:
    server = StreamServer(
        problem(409, "5", code="consumer_in_use"),
        stream(event(1), end(1000, "complete", reconnect=False, offset=1)),
        acknowledges=[200],
    )
    with running(server) as url:
        assert len(user.consume(url, "siem")) == 1
    assert 5 <= user.waits[0] <= 6
    changed = StreamServer(problem(409, code="consumer_selection_changed"))
    with running(changed) as url, pytest.raises(InvalidRequest):
        user.consume(url, "siem")
