"""Requests of one event each: what is known of their heads changes nothing but their cost."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from gateway_client import Event, event, eventually, key_id
from gateways import Gateway, Start, StartProgram
from use_record import told

from gateway.errors import Unavailable
from gateway.http.connection.line_connection import LineConnection
from gateway.http.intake.single_events import SingleEvents
from tests.support.machine_time import patience

JSON = "Content-Type: application/json"
NDJSON = "Content-Type: application/x-ndjson"
# Whatever has such a header is never known: each of its values is another head.
OTHER = "X-Other"


class Answer:
    """A status, the headers but for the date, and the body but for what differs each time."""

    def __init__(self, head: bytes, body: bytes) -> None:
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.first = status
        self.headers = [line for line in lines if not line.startswith("Date: ")]
        self.dated = len(lines) - len(self.headers)
        self.document: dict[str, Any] = orjson.loads(body)

    @property
    def same(self) -> Any:
        once = {"request_id", "first_cursor", "last_cursor"}
        members = {name: value for name, value in self.document.items() if name not in once}
        return self.first, self.headers, self.dated, members, sorted(self.document)


class Producer:
    """One connection of a producer, and which of its requests needed no aiohttp."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._others = 0

    def request(self, key: str, body: bytes, *headers: str, plain: bool = False) -> bytes:
        """The bytes of a request; `plain` ones are understood by aiohttp each time."""
        lines = ["POST /v1/events HTTP/1.1", "Host: gateway"]
        if not any(line.lower().startswith("authorization:") for line in headers):
            lines.append(f"Authorization: Bearer {key}")
        if not any(line.lower().startswith("content-type:") for line in headers):
            lines.append(JSON)
        if plain:
            self._others += 1
            lines.append(f"{OTHER}: {self._others}")
        lines += [*headers, f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body

    async def answer(self) -> Answer:
        async with asyncio.timeout(patience()):
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            assert length is not None, head
            return Answer(head, await self.reader.readexactly(int(length[1])))

    async def post(self, key: str, body: bytes, *headers: str, plain: bool = False) -> Answer:
        self.writer.write(self.request(key, body, *headers, plain=plain))
        return await self.answer()


@asynccontextmanager
async def producer(gateway: Gateway) -> AsyncIterator[Producer]:
    reader, writer = await asyncio.open_connection(
        gateway.host, gateway.port, **gateway.tls_options()
    )
    try:
        yield Producer(reader, writer)
    finally:
        writer.close()


def one(**members: Any) -> bytes:
    return orjson.dumps(event(**members))


GOOD: dict[str, bytes] = {
    "an event": one(),
    "an event with an id": one(id="a-1"),
    "the same event again": one(id="a-1"),
    "another event with its id": one(id="a-1", severity=3),
    "an event on several lines": orjson.dumps(event(data={"n": 1}), option=orjson.OPT_INDENT_2),
    "an event with white space around it": b" \n" + one() + b"\r\n",
    "an event with a large number": b'{"category":"auth","action":"x",'
    b'"data":{"n":18446744073709551615}}',
    "an array of one": b"[" + one() + b"]",
    "a large event": one(data={"text": "a" * 16_000}),
    "a larger event": one(data={"text": "a" * 17_000}),
}
REFUSED: dict[str, bytes] = {
    "no JSON": b"{",
    "an empty array": b"[]",
    "white space": b"  ",
    "text": b'"a"',
    "an unknown member": one(unknown=1),
    "no category": b'{"action":"x"}',
    "a reserved category": one(category="gateway.access"),
    "a category that is not granted": one(category="billing"),
    "two members of one name": b'{"category":"auth","action":"x","action":"y"}',
    "a number that is too large": b'{"category":"auth","action":"x","data":{"n":1e999}}',
    "half of a surrogate pair": b'{"category":"auth","action":"\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf" + one(),
    "too deep": b'{"category":"auth","action":"x","data":' + b'{"a":' * 80 + b"1" + b"}" * 81,
    "two events, of which one is not granted": orjson.dumps([event(), event(category="billing")]),
}


@pytest.mark.parametrize("name", [*GOOD, *REFUSED])
async def test_a_known_head_gets_the_answer_of_an_unknown_one(
    gateway: Gateway, taken: list[int], name: str
) -> None:
    body = {**GOOD, **REFUSED}[name]
    key = await gateway.mint({"actions": ["ingest"], "categories": ["auth.**", "auth"]})
    async with producer(gateway) as sender:
        await sender.post(key, one(id="a-1"))
        await sender.post(key, one())
        assert sum(taken) == 1, "the head is known"
        known = await sender.post(key, body)
        if b'"id"' not in body:
            assert known.same == (await sender.post(key, body, plain=True)).same
        else:
            assert known.same == (await sender.post(key, body, plain=True)).same or name == (
                "another event with its id"
            )
        assert known.status == (201 if name in GOOD else known.status)
        assert (known.status == 201) == (name in GOOD)
        # It goes on as before.
        before = sum(taken)
        assert (await sender.post(key, one())).status == 201
        assert sum(taken) == before + 1


def of_basic(key: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"any:{key}".encode()).decode()


KNOWN: dict[str, Callable[[str], list[str]]] = {
    "another scheme": lambda key: [f"authorization: Splunk {key}"],
    "Basic": lambda key: [of_basic(key)],
    "a charset": lambda key: [f"{JSON}; charset=utf-8"],
    "lines": lambda key: [NDJSON],
    "a connection that stays open": lambda key: ["Connection: keep-alive", "Accept: */*"],
    "a name": lambda key: ["User-Agent: shipper/1.0"],
}
UNKNOWN: dict[str, Callable[[str], list[str]]] = {
    "a preference": lambda key: ["Prefer: handling=lenient"],
    "an origin": lambda key: ["Origin: http://gateway"],
    "something expected": lambda key: ["Expect: 100-continue"],
    "no encoding": lambda key: ["Content-Encoding: identity"],
}


@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
async def test_heads_are_known_where_they_say_no_more_than_whose_event_it_is(
    gateway: Gateway, taken: list[int], name: str
) -> None:
    headers = {**KNOWN, **UNKNOWN}[name](gateway.user)
    async with producer(gateway) as sender:
        for _ in range(3):
            sender.writer.write(sender.request(gateway.user, one(), *headers))
            if name == "something expected":
                assert (
                    await sender.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                )
            assert (await sender.answer()).status in (200, 201)
    assert sum(taken) == (2 if name in KNOWN else 0)


async def test_compressed_and_chunked_events_and_those_with_parameters_go_their_usual_way(
    gateway: Gateway, taken: list[int]
) -> None:
    async with producer(gateway) as sender:
        for _ in range(2):
            body = gzip.compress(one())
            answer = await sender.post(gateway.user, body, "Content-Encoding: gzip")
            assert answer.status == 201
            query = sender.request(gateway.user, one()).replace(
                b"/events ", b"/events?on_invalid=fail "
            )
            sender.writer.write(query)
            assert (await sender.answer()).status == 201
            chunked = sender.request(gateway.user, b"", "Transfer-Encoding: chunked")
            chunked = chunked.replace(b"Content-Length: 0\r\n", b"")
            sender.writer.write(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(one()), one()))
            assert (await sender.answer()).status == 201
    assert sum(taken) == 0


async def test_pipelined_requests_of_every_kind_are_answered_in_order(
    gateway: Gateway, taken: list[int]
) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["auth"]})
    async with producer(gateway) as sender:
        wanted: list[int] = []
        sent = b""
        for n in range(200):
            if n % 7 == 3:
                sent += sender.request(key, REFUSED["an unknown member"])
                wanted.append(422)
            elif n % 11 == 5:
                sent += sender.request(key, one(id=f"p-{n}"), plain=True)
                wanted.append(201)
            elif n % 13 == 6:
                sent += sender.request(key, one(category="billing"))
                wanted.append(403)
            elif n % 17 == 8:
                sent += b"GET /v1/events?limit=1 HTTP/1.1\r\nHost: a\r\n\r\n"
                wanted.append(401)
            else:
                sent += sender.request(key, one(id=f"p-{n}"))
                wanted.append(201)
        sender.writer.write(sent)
        answers = [await sender.answer() for _ in wanted]
    assert [answer.status for answer in answers] == wanted
    assert sum(taken) > 0
    events = (await gateway.pull(from_="start", limit="1000"))["events"]
    stored = [int(found["id"][2:]) for found in events if found["id"].startswith("p-")]
    assert stored == [n for n, status in enumerate(wanted) if status == 201]
    cursors = [answer.document["last_cursor"] for answer in answers if answer.status == 201]
    assert cursors == sorted(cursors)


async def test_requests_that_are_cut_anywhere_are_answered_once_each(
    gateway: Gateway, taken: list[int]
) -> None:
    async with producer(gateway) as sender:
        await sender.post(gateway.user, one())
        message = sender.request(gateway.user, one()) * 2
        for cut in range(1, len(message), 3):
            sender.writer.write(message[:cut])
            await sender.writer.drain()
            # The other part comes in a read of its own.
            await asyncio.sleep(0)
            sender.writer.write(message[cut:])
            assert [(await sender.answer()).status for _ in range(2)] == [201, 201]
        assert (await sender.post(gateway.user, one())).status == 201
    assert sum(taken) > 0


async def test_what_comes_too_slowly_is_waited_for_as_long_as_ever(
    start: Start, taken: list[int]
) -> None:
    gateway = await start(server={"body_timeout": 1})
    async with producer(gateway) as sender:
        for _ in range(2):
            assert (await sender.post(gateway.user, one())).status == 201
        message = sender.request(gateway.user, one())
        sender.writer.write(message[:-1])
        answer = await sender.answer()
        assert (answer.status, answer.document["code"]) == (408, "request_timeout")
        assert await sender.reader.read() == b""
    assert sum(taken) == 1


def lines_of_connections() -> list[LineConnection]:
    """The connections of this process that have been sent single events."""
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, LineConnection)
        and found.line is not None
        and (found.line.taken or found.line.head[1])
    ]


def rotate_peppers(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the keyring have other peppers, with which the same tokens are right."""
    keyring = gateway.context.keyring
    others = type(keyring.peppers)(keyring.peppers.all)
    monkeypatch.setattr(keyring, "_newest_peppers", lambda: others)
    keyring._take(others)


@pytest.mark.parametrize("change", ["revoke", "suspend", "narrow", "rotate peppers"])
async def test_what_changes_for_a_key_is_seen_by_its_next_request(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    role = {"grants": [{"actions": ["ingest"], "categories": ["**"]}]}
    assert (
        await gateway.request("PUT", "/v1/roles/senders", json=role, key=gateway.admin)
    ).status in (200, 201)
    key = await gateway.mint(roles=["senders"])
    async with producer(gateway) as sender:
        for _ in range(2):
            assert (await sender.post(key, one())).status == 201
        assert sum(taken) == 1
        path = f"/v1/keys/{key_id(key)}"
        if change == "revoke":
            assert (await gateway.post(f"{path}/revoke", json={}, key=gateway.admin)).status < 300
        elif change == "suspend":
            assert (await gateway.post(f"{path}/suspend", json={}, key=gateway.admin)).status < 300
        elif change == "narrow":
            role = {"grants": [{"actions": ["ingest"], "categories": ["billing"]}]}
            answer = await gateway.request("PUT", "/v1/roles/senders", json=role, key=gateway.admin)
            assert answer.status < 300
        else:
            rotate_peppers(gateway, monkeypatch)
        known = await sender.post(key, one())
        plain = await sender.post(key, one(), plain=True)
        assert known.same == plain.same
        codes = {
            "revoke": "key_revoked",
            "suspend": "key_suspended",
            "narrow": "events_not_granted",
        }
        assert known.document.get("code") == codes.get(change)
    assert sum(taken) == 1


async def test_answers_of_one_commit_name_the_places_of_their_events(
    gateway: Gateway, taken: list[int]
) -> None:
    names = ["a", "b", "a", "c", "b"]
    async with producer(gateway) as sender:
        await sender.post(gateway.user, one())
        requests = [sender.request(gateway.user, one(id=name, data={})) for name in names]
        sender.writer.write(b"".join(requests))
        answers = [(await sender.answer()).document for _ in names]
    assert sum(taken) == len(names)
    events = (await gateway.pull(from_="start", limit="1000"))["events"]
    cursors = {one["id"]: one["cursor"] for one in events}
    assert answers == [
        {
            "accepted": accepted,
            "duplicates": 1 - accepted,
            "first_cursor": cursors[name],
            "last_cursor": cursors[name],
        }
        for name, accepted in zip(names, (1, 1, 0, 1, 0), strict=True)
    ]


async def test_known_requests_are_recorded_and_counted_like_others(start: Start) -> None:
    gateway = await start(record={"delay": 0, "merge": 1, "merge_ingest": 1})
    keys = [await gateway.mint({"actions": ["ingest"], "categories": ["**"]}) for _ in range(2)]
    facts = []
    for key, plain in zip(keys, (False, True), strict=True):
        async with producer(gateway) as sender:
            for n in range(5):
                await sender.post(key, one(id=f"{plain}-{n % 4}"), "User-Agent: s/1", plain=plain)
        subject = f"key:{key_id(key)}"

        async def records(subject: str = subject) -> list[Event]:
            found = await told(gateway, 1, actions=["events.ingested"], resource=subject)
            return [one for one in found if one["action"] == "events.ingested"]

        while sum(found["data"]["count"] for found in await records()) < 5:
            pass
        found = await records()
        facts.append(
            {
                "count": sum(one["data"]["count"] for one in found),
                "events": sum(one["data"]["events"] for one in found),
                "duplicates": sum(one["data"].get("duplicates", 0) for one in found),
                "attempted": {one["data"]["attempted"] for one in found},
                "route": {one["data"]["route"] for one in found},
                "source": {one["source"]["ip"] for one in found},
                "severity": {one["severity"] for one in found},
            }
        )
        usage = (await gateway.get(f"/v1/keys/{key_id(key)}/usage", key=gateway.admin)).json()
        facts[-1]["requests"] = sum(row["requests"] for row in usage["rows"])
        use = (await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)).json()["last_used"]
        facts[-1]["client"] = use["client"]
    assert facts[0] == facts[1]
    assert facts[0]["requests"] == facts[0]["count"] == 5
    assert facts[0]["events"] == 4


async def test_errors_of_the_store_are_told_to_known_requests_like_to_others(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with producer(gateway) as sender:
        for _ in range(2):
            await sender.post(gateway.user, one())

        async def away(batches: Any) -> Any:
            raise Unavailable("the store is away", code="store_unavailable", retry_after=3)

        async def broken(batches: Any) -> Any:
            raise RuntimeError("a bug")

        log = gateway.context.writer._log
        for failing, status in ((away, 503), (broken, 500)):
            with monkeypatch.context() as patch:
                patch.setattr(log, "append", failing)
                message = sender.request(gateway.user, one())
                sender.writer.write(message * 3)
                answers = [await sender.answer() for _ in range(3)]
                plain = await sender.post(gateway.user, one(), plain=True)
                assert plain.status == status
                if status == 503:
                    assert [answer.same for answer in answers] == [plain.same] * 3
                assert [answer.status for answer in answers] == [status] * 3
        assert (await sender.post(gateway.user, one())).status == 201
    assert gateway.context.in_flight.held == 0


async def test_a_bug_ends_its_connection_alone(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with producer(gateway) as sender, producer(gateway) as other:
        for _ in range(2):
            await sender.post(gateway.user, one())
            await other.post(gateway.user, one())
        with monkeypatch.context() as patch:

            def broken(*arguments: Any) -> Any:
                raise RuntimeError("a bug")

            patch.setattr(SingleEvents, "stored", broken)
            sender.writer.write(sender.request(gateway.user, one()))
            async with asyncio.timeout(patience()):
                assert await sender.reader.read() == b""
        assert (await other.post(gateway.user, one())).status == 201
        assert await gateway.metric('internal_errors_total{task="request"}') == 1


@asynccontextmanager
async def stalled(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Event]:
    """The log appends nothing until the end of the block. The event tells that it was asked to."""
    log, go_on, asked = gateway.context.writer._log, asyncio.Event(), asyncio.Event()
    append = log.append

    async def late(batches: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await append(batches)

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", late)
        try:
            yield asked
        finally:
            go_on.set()


async def test_requests_in_flight_keep_their_connection_open_however_long_it_takes(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with producer(gateway) as sender:
        for _ in range(2):
            await sender.post(gateway.user, one())
        [connection] = lines_of_connections()
        async with stalled(gateway, monkeypatch) as asked:
            sender.writer.write(sender.request(gateway.user, one()))
            # A busy machine may take the usual way, which holds the connection open as well.
            await eventually(asked.is_set, "it is in flight")
            # As if it had been idle for too long.
            connection._next_keepalive_close_time = 0.0
            connection._process_keepalive()
            assert not connection.closing
        assert (await sender.answer()).status == 201


async def test_what_a_stalled_store_keeps_waiting_is_bounded(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with producer(gateway) as sender:
        for _ in range(2):
            await sender.post(gateway.user, one())
        [connection] = lines_of_connections()
        line = connection.line
        assert line is not None
        message = sender.request(gateway.user, one(data={"text": "a" * 2000}))
        count = 4000
        async with stalled(gateway, monkeypatch):
            sender.writer.write(message * count)
            await eventually(lambda: line.waits and line.in_flight > 700, "it is held")
            for _ in range(20):
                # As others do who wait for something else.
                line._connection.read_on()
                await asyncio.sleep(0.01)
            assert len(line._held) < 256 * 1024
        assert [(await sender.answer()).status for _ in range(count)] == [201] * count
    await eventually(lambda: gateway.context.in_flight.held == 0, "all is given back")


async def test_a_head_that_was_proven_by_former_peppers_is_not_known(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with producer(gateway) as sender:
        async with stalled(gateway, monkeypatch):
            sender.writer.write(sender.request(gateway.user, one()))
            await eventually(lambda: gateway.context.in_flight.held > 0, "it is on its way")
            rotate_peppers(gateway, monkeypatch)
        assert (await sender.answer()).status == 201
        assert (await sender.post(gateway.user, one())).status == 201
        assert sum(taken) == 0


async def test_a_full_queue_refuses_known_requests_like_others(
    gateway: Gateway, taken: list[int]
) -> None:
    writer = gateway.context.writer
    async with producer(gateway) as sender:
        for _ in range(2):
            await sender.post(gateway.user, one())
        before = writer._queue_events
        writer._queue_events = 0
        message = sender.request(gateway.user, one())
        sender.writer.write(message * 20)
        answers = [await sender.answer() for _ in range(20)]
        writer._queue_events = before
    assert {answer.status for answer in answers} <= {201, 503}
    refused = [answer for answer in answers if answer.status == 503]
    assert all(answer.document["code"] == "write_queue_full" for answer in refused)


async def test_a_peer_that_closes_its_side_gets_every_answer(
    gateway: Gateway, taken: list[int]
) -> None:
    async with producer(gateway) as sender:
        await sender.post(gateway.user, one())
        sender.writer.write(sender.request(gateway.user, one()) * 50)
        sender.writer.write_eof()
        assert [(await sender.answer()).status for _ in range(50)] == [201] * 50
        async with asyncio.timeout(patience()):
            assert await sender.reader.read() == b""
    assert sum(taken) == 50


async def test_known_requests_keep_their_connection_open(
    gateway: Gateway, taken: list[int]
) -> None:
    async with producer(gateway) as sender:
        await sender.post(gateway.user, one())
        [connection] = lines_of_connections()
        # What is known of the key may be too old now, on a busy machine: then aiohttp has it.
        while not sum(taken):
            before = connection._next_keepalive_close_time
            await sender.post(gateway.user, one())
            assert connection._next_keepalive_close_time > before


async def test_a_proxy_names_the_client_of_a_known_head(
    start: Start, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(
        server={
            "trusted_proxies": (ip_network("127.0.0.0/8"),),
            "max_connections_per_address": 1,
        },
    )
    grant = {"actions": ["ingest"], "categories": ["**"], "when": {"cidr": ["192.0.2.0/24"]}}
    key = await gateway.mint(grant)
    async with producer(gateway) as sender:
        for _ in range(3):
            answer = await sender.post(key, one(), "X-Forwarded-For: 192.0.2.7")
            assert answer.status == 201
        forwarded = gateway.context.connections
        async with stalled(gateway, monkeypatch):
            for _ in range(2):
                before = sum(taken)
                sender.writer.write(sender.request(key, one(), "X-Forwarded-For: 192.0.2.7"))
                await eventually(lambda: sum(taken) > before, "it is taken")  # noqa: B023
            assert [found.open for found in forwarded._of_address.values()] == [1]
        for _ in range(2):
            assert (await sender.answer()).status == 201
        answer = await sender.post(key, one(), "X-Forwarded-For: 198.51.100.7")
        assert answer.status == 403
    assert sum(taken) == 4
    await eventually(lambda: not gateway.context.connections._of_address, "nobody is counted")


async def test_a_limited_key_is_limited_whatever_is_known(gateway: Gateway) -> None:
    grant = {"actions": ["ingest"], "categories": ["**"]}
    key = await gateway.mint(grant, limits={"requests_per_second": 1, "requests_burst": 3})
    async with producer(gateway) as sender:
        sender.writer.write(sender.request(key, one()) * 20)
        answers = [await sender.answer() for _ in range(20)]
    assert {answer.status for answer in answers} == {201, 429}
    assert all(
        any(line.startswith("RateLimit-Limit") for line in answer.headers) for answer in answers
    )


async def test_a_stopping_gateway_answers_what_it_has_taken(start_program: StartProgram) -> None:
    gateway = await start_program()
    reader, writer = await asyncio.open_connection(
        gateway.host, gateway.port, **gateway.tls_options()
    )
    sender = Producer(reader, writer)
    await sender.post(gateway.user, one())
    acknowledged = 0
    stopping = None
    async with asyncio.timeout(patience()):
        try:
            for n in range(100):
                writer.write(sender.request(gateway.user, one(id=f"s-{n}")) * 1)
                if n == 50:
                    stopping = asyncio.create_task(gateway.stop())
                answer = await sender.answer()
                if answer.status == 201:
                    acknowledged = n
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
    writer.close()
    assert stopping is not None
    code, errors = await stopping
    assert code == 0
    assert "Traceback" not in errors
    again = await start_program(key=gateway.admin)
    events = (await again.pull(from_="start", limit="1000"))["events"]
    ids = [found["id"] for found in events if found["id"].startswith("s-")]
    assert ids[: acknowledged + 1] == [f"s-{n}" for n in range(acknowledged + 1)]
    assert len(ids) == len(set(ids))
