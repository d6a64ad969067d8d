"""The streaming way in: lines of events go in, and lines come back that say what is durable."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_client import Event, GatewayClient, event, eventually, key_id, offset_of
from gateways import Gateway, ShiftedClock, Start, StartProgram, StoppedClock
from use_record import told

from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.ingest.writer import Completion
from gateway.log.ports import Appended
from tests.support.examples import examples
from tests.support.machine_time import patience

STREAMED = "Accept: application/x-ndjson"
INGEST = {"actions": ["ingest"], "categories": ["auth"]}


class Upload:
    """One request in chunks whose answer is read while it is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.text = b""
        self.ended = False

    async def begin(self, key: str, *headers: str, target: str = "/v1/events") -> str:
        """Send a head; the status line of the answer, which comes before any of the body."""
        lines = [
            f"POST {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}",
            "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", *headers, "", "",
        ]  # fmt: skip
        self.writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(patience()):
            self.head = await self.reader.readuntil(b"\r\n\r\n")
        return self.head.partition(b"\r\n")[0].decode()

    def send(self, text: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(text), text))

    def events(self, *events: Event) -> None:
        self.send(b"".join([orjson.dumps(one) + b"\n" for one in events]))

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def line(self) -> Any:
        """The next line of the answer; None at its end."""
        while b"\n" not in self.text and not self.ended:
            async with asyncio.timeout(patience()):
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                self.text += (await self.reader.readexactly(size + 2))[:-2]
            self.ended = size == 0
        line, _, self.text = self.text.partition(b"\n")
        return orjson.loads(line) if line else None

    async def rest(self) -> list[Any]:
        """All further lines."""
        lines = []
        while (line := await self.line()) is not None:
            lines.append(line)
        return lines

    async def until(self, count: int) -> Any:
        """The line that says that so many items are durable."""
        while (line := await self.line())["upto"] < count:
            assert "error" not in line, line
        return line

    async def error(self) -> Any:
        """The problem in the last line, and how much is durable."""
        last = (await self.rest())[-1]
        return last["error"] | {"upto": last["upto"]}


async def upload(
    gateway: GatewayClient, *headers: str, key: str = "", target: str = "/v1/events"
) -> Upload:
    """An upload that has been let in."""
    opened = Upload(*await gateway.connect())
    status = await opened.begin(key or gateway.user, STREAMED, *headers, target=target)
    assert status == "HTTP/1.1 200 OK", opened.head
    return opened


async def ids(gateway: GatewayClient, category: str = "auth") -> list[str]:
    page = await gateway.pull(category=category, limit="10000")
    return [one["id"] for one in page["events"]]


def numbered(first: int, count: int) -> list[Event]:
    return [event(id=f"n-{number}") for number in range(first, first + count)]


def names(first: int, count: int) -> list[str]:
    return [one["id"] for one in numbered(first, count)]


async def test_what_is_durable_is_said_while_the_body_is_open(gateway: Gateway) -> None:
    opened = await upload(gateway)
    assert b"Content-Type: application/x-ndjson\r\n" in opened.head
    opened.events(*numbered(0, 1))
    first = await opened.until(1)
    assert first["upto"] == 1
    assert await ids(gateway) == names(0, 1)
    opened.events(*numbered(1, 2))
    second = await opened.until(3)
    page = await gateway.pull()
    assert second == {"upto": 3, "last_cursor": page["events"][-1]["cursor"]}
    assert offset_of(second["last_cursor"]) > offset_of(first["last_cursor"])
    opened.events(*numbered(2, 2))
    opened.end()
    *_, last = await opened.rest()
    assert (last["upto"], last["accepted"], last["duplicates"]) == (5, 4, 1)
    assert "error" not in last
    # The connection stays open for the next request.
    assert await opened.begin(gateway.user, STREAMED) == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("size", [1, 7, 40_000])
async def test_lines_may_be_cut_anywhere(gateway: Gateway, size: int) -> None:
    events = [*numbered(0, 3), event(id="n-3", data={"text": "é" * 20_000})]
    text = b"\n".join(map(orjson.dumps, events))
    if size == 1:
        text = text[:400]
        text = text[: text.rindex(b"\n")]
    opened = await upload(gateway)
    for begin in range(0, len(text), size):
        opened.send(text[begin : begin + size])
    opened.end()
    *_, last = await opened.rest()
    assert last["upto"] == text.count(b"\n") + 1
    assert await ids(gateway) == names(0, last["upto"])


async def test_a_body_of_known_length_is_answered_in_lines_too(gateway: Gateway) -> None:
    lines = b"".join([orjson.dumps(one) + b"\r\n\r\n" for one in numbered(0, 2000)])
    answer = await gateway.post(
        "/v1/events",
        data=lines,
        headers={"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson"},
    )
    assert answer.status == 200
    last = answer.lines()[-1]
    assert (last["upto"], last["accepted"]) == (2000, 2000)
    assert await ids(gateway) == names(0, 2000)


async def test_empty_lines_are_no_items_and_an_empty_body_is_none_at_all(
    gateway: Gateway,
) -> None:
    opened = await upload(gateway)
    opened.send(b"\n\r\n  \n")
    opened.end()
    [last] = await opened.rest()
    assert (last["upto"], last["accepted"]) == (0, 0)
    assert gateway.context.in_flight.held == 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/x-ndjson"),
        ("application/*", "application/x-ndjson"),
        ("application/json, application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson;q=0.1, application/json", "application/x-ndjson"),
        ("application/x-ndjson", "application/json"),
    ],
)
async def test_others_get_one_answer_at_the_end(gateway: Gateway, accept: str, kind: str) -> None:
    answer = await gateway.post(
        "/v1/events",
        data=orjson.dumps(event()),
        headers={"Content-Type": kind, "Accept": accept},
    )
    assert answer.status == 201


async def test_a_compressed_body_is_refused_before_anything_is_stored(gateway: Gateway) -> None:
    answer = await gateway.post(
        "/v1/events",
        data=gzip.compress(orjson.dumps(event())),
        headers={
            "Content-Type": "application/x-ndjson",
            "Accept": "application/x-ndjson",
            "Content-Encoding": "gzip",
        },
    )
    answer.problem(415, "unsupported_encoding")


async def test_a_client_that_waits_to_be_let_in_is(gateway: Gateway) -> None:
    opened = Upload(*await gateway.connect())
    status = await opened.begin(gateway.user, STREAMED, "Expect: 100-continue")
    assert status == "HTTP/1.1 100 Continue"
    opened.head = await opened.reader.readuntil(b"\r\n\r\n")
    assert opened.head.startswith(b"HTTP/1.1 200 OK\r\n")
    opened.events(event())
    assert (await opened.until(1))["upto"] == 1


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 422, "invalid_events"),
    "an unknown member": (orjson.dumps(event(unknown=1)), 422, "invalid_events"),
    "too large": (orjson.dumps(event(data={"text": "a" * 300_000})), 422, "invalid_events"),
    "not granted": (orjson.dumps(event(category="billing")), 403, "events_not_granted"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_item_ends_the_body_and_earlier_groups_stay(
    gateway: Gateway, name: str
) -> None:
    item, status, code = REFUSED[name]
    key = await gateway.mint(INGEST)
    opened = await upload(gateway, key=key)
    opened.events(*numbered(0, 3))
    await opened.until(3)
    good = orjson.dumps(event(id="beside"))
    opened.send(good + b"\n" + item + b"\n" + good + b"\n")
    problem = await opened.error()
    assert (problem["status"], problem["code"]) == (status, code)
    assert [one["index"] for one in problem["errors"]] == [4]
    assert "upto" in problem["detail"]
    # Its group is all or nothing; what is larger than one read is in another.
    alone = name == "too large"
    assert problem["upto"] == 3 + alone
    assert await ids(gateway) == names(0, 3) + ["beside"] * alone
    # Nobody can tell where the next request would begin.
    async with asyncio.timeout(patience()):
        assert await opened.reader.read() == b""


async def test_what_was_decoded_before_a_refused_item_is_stored(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(gateway, monkeypatch) as gate:
        opened = await upload(gateway)
        opened.events(*numbered(0, 1))
        await eventually(lambda: gate.waiting == 1)
        opened.events(*numbered(1, 1))
        await eventually(lambda: gateway.context.in_flight.held > 100)
        opened.send(b"{\n")
        opened.events(*numbered(2, 1))
        gate.open()
        problem = await opened.error()
        assert (problem["upto"], problem["errors"][0]["index"]) == (2, 2)
        assert await ids(gateway) == names(0, 2)


@pytest.mark.parametrize("header", ["", "Prefer: handling=lenient"])
async def test_a_lenient_body_goes_on_behind_refused_items(gateway: Gateway, header: str) -> None:
    target = "/v1/events" if header else "/v1/events?on_invalid=skip"
    opened = await upload(gateway, *filter(None, [header]), target=target)
    assert (b"Preference-Applied: handling=lenient\r\n" in opened.head) == bool(header)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    deep = b'{"category":"auth","action":"x","id":"deep","data":' + b'{"a":' * 80 + b"1"
    opened.send(b"{\n" + orjson.dumps(event(id="n-1")) + b"\n" + deep + b"}" * 81 + b"\n")
    lines = [await opened.line()]
    while lines[-1]["upto"] < 4:
        lines.append(await opened.line())
    rejected = [one for line in lines for one in line.get("rejected", ())]
    truncated = [one for line in lines for one in line.get("truncated", ())]
    assert [one["index"] for one in rejected] == [1]
    assert [one["index"] for one in truncated] == [3]
    # Only marked events.
    opened.send(b"\xef\xbb\xbf{}\n")
    line = await opened.until(5)
    assert [one["index"] for one in line["rejected"]] == [4]
    opened.end()
    *_, last = await opened.rest()
    assert (last["upto"], last["accepted"]) == (5, 3)
    assert await ids(gateway) == ["n-0", "n-1", "deep"]
    page = await gateway.pull(gateway.admin, category="gateway.rejected")
    assert len(page["events"]) == 2


class Gate:
    """Holds appends to the log back until it is opened, or lets them fail."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self.failure: Exception | None = None
        self._opened = asyncio.Event()
        self._append = gateway.context.log.append
        monkeypatch.setattr(gateway.context.log, "append", self.append)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.set()

    def open(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self._opened.set()

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        if all(draft.category != "auth" for batch in batches for draft in batch):
            # The gateway's own records.
            return await self._append(batches)
        self.waiting += 1
        await self._opened.wait()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return await self._append(batches)


async def test_nothing_is_stored_behind_a_group_that_was_not(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await upload(gateway)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    with Gate(gateway, monkeypatch) as gate:
        opened.events(*numbered(1, 1))
        await eventually(lambda: gate.waiting == 1)
        held = gateway.context.in_flight.held
        opened.events(*numbered(2, 1))
        await eventually(lambda: gateway.context.in_flight.held > held)
        gate.open(Unavailable("the disk is full", code="store_unavailable", retry_after=3))
        problem = await opened.error()
        assert (problem["upto"], problem["code"], problem["retry_after"]) == (
            1, "store_unavailable", 3,
        )  # fmt: skip
        assert await ids(gateway) == names(0, 1)


async def test_a_bug_ends_the_body_and_is_reported(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(gateway.context.tasks, "report", lambda name, error: reported.append(name))
    Gate(gateway, monkeypatch).open(ValueError("a bug"))
    opened = await upload(gateway)
    opened.events(event())
    problem = await opened.error()
    assert (problem["upto"], problem["code"], problem["status"]) == (0, "internal", 500)
    assert "bug" not in problem["detail"]
    assert "request" in reported


async def test_reading_pauses_while_much_is_not_durable(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(gateway, monkeypatch) as gate:
        opened = await upload(gateway)
        line = orjson.dumps(event(data={"text": "a" * 60_000})) + b"\n"
        count = 400
        for _ in range(count):
            opened.send(line)
        held = gateway.context.in_flight
        await eventually(lambda: held.held > 1 << 20)
        # What the gateway does not take stays with the client.
        assert await stands_still(lambda: held.held) < 2 << 20
        assert opened.writer.transport.get_write_buffer_size() > 5 << 20
        gate.open()
        opened.end()
        *_, last = await opened.rest()
        assert last["upto"] == count
        assert held.held == 0


async def stands_still(value: Callable[[], int]) -> int:
    """A value that has been the same for a while."""
    last, same = value(), 0
    while same < 20:
        await asyncio.sleep(0.01)
        same = same + 1 if value() == last else 0
        last = value()
    return last


async def test_a_body_waits_for_its_own_bytes_before_it_is_refused_for_those_of_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(
        ingest={"max_request_bytes": 256 << 10}, limits={"key_bytes_in_flight": 1 << 20}
    )
    budget = gateway.context.in_flight
    with Gate(gateway, monkeypatch) as gate:
        opened = await upload(gateway)
        line = orjson.dumps(event(data={"text": "a" * 60_000})) + b"\n"
        for _ in range(60):
            opened.send(line)
        await eventually(lambda: budget.held > 500_000)
        assert await stands_still(lambda: budget.held) <= 1 << 20
        gate.open()
        await opened.until(60)
        # Others of the same key hold everything.
        await eventually(lambda: budget.held == 0)
        budget.take(key_id(gateway.user), 1 << 20)
        opened.events(event())
        problem = await opened.error()
        assert (problem["code"], problem["upto"]) == ("too_many_bytes_in_flight", 60)
        budget.give_back(key_id(gateway.user), 1 << 20)
        assert budget.held == 0


async def test_who_reads_no_answers_is_not_read_either(gateway: Gateway) -> None:
    opened = Upload(*await gateway.connect(receive_buffer=4096))
    await opened.begin(gateway.user, STREAMED, target="/v1/events?on_invalid=skip")
    # The answer is as long as the body: it names the path of what is refused.
    count = 100
    for number in range(count):
        opened.send(b'{"%b":%d}\n' % (b"a" * 200_000, number))
    requests = gateway.context.requests
    await eventually(lambda: requests.invalid > 0)
    assert await stands_still(lambda: requests.invalid) < count
    assert opened.writer.transport.get_write_buffer_size() > 1 << 20
    opened.end()
    *_, last = await opened.rest()
    assert last["upto"] == count


async def test_a_line_without_end_is_refused_and_not_kept(gateway: Gateway) -> None:
    opened = await upload(gateway)
    opened.events(event())
    await opened.until(1)
    for _ in range(40):
        opened.send(b" " * 65_536)
    problem = await opened.error()
    assert (problem["code"], problem["status"], problem["upto"]) == ("event_too_large", 413, 1)
    await eventually(lambda: gateway.context.in_flight.held == 0)


async def test_a_lenient_body_goes_on_behind_a_line_of_any_length(gateway: Gateway) -> None:
    opened = await upload(gateway, target="/v1/events?on_invalid=skip")
    opened.send(b'{"category":"auth","tenant":"acme","data":{"x":"')
    for _ in range(60):
        opened.send(b"x" * 65_536)
    one = event(id="good")
    opened.send(b'"}}\n' + orjson.dumps(one) + b"\n")
    opened.send(b"y" * (3 << 20))
    opened.end()
    lines = await opened.rest()
    rejected = [item for line in lines for item in line.get("rejected", [])]
    reason = "has more than 2097152 bytes"
    assert rejected == [{"index": index, "path": "", "reason": reason} for index in (0, 2)]
    assert (lines[-1]["upto"], lines[-1]["accepted"]) == (3, 1)
    assert (await gateway.get("/v1/events/good")).status == 200
    await eventually(lambda: gateway.context.in_flight.held == 0)


async def test_an_answer_without_chunks_ends_with_its_connection(gateway: Gateway) -> None:
    body = orjson.dumps(event())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.port, **gateway.tls_options()
    )
    head = [
        "POST /v1/events HTTP/1.0", f"Authorization: Bearer {gateway.user}", STREAMED,
        "Content-Type: application/x-ndjson", "Connection: keep-alive",
        f"Content-Length: {len(body)}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(head).encode() + body)
    async with asyncio.timeout(patience()):
        answer = await reader.read()
    assert b'"accepted":1' in answer.splitlines()[-1]
    writer.close()
    await writer.wait_closed()


async def revoke(gateway: Gateway, key: str) -> None:
    await gateway.revoke(key)


async def suspend(gateway: Gateway, key: str) -> None:
    await gateway.post(f"/v1/keys/{key_id(key)}/suspend", key=gateway.admin)


async def narrow(gateway: Gateway, key: str) -> None:
    grants = {"grants": [{"actions": ["ingest"], "categories": ["billing"]}]}
    answer = await gateway.request("PUT", "/v1/roles/writer", key=gateway.admin, json=grants)
    assert answer.status == 200


Change = Callable[[Gateway, str], Awaitable[Any]]


@pytest.mark.parametrize(
    ("change", "code"),
    [(revoke, "key_revoked"), (suspend, "key_suspended"), (narrow, "grants_changed")],
)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_key_that_changes_ends_the_body_within_a_second(
    gateway: Gateway, change: Change, code: str, busy: bool
) -> None:
    await gateway.request("PUT", "/v1/roles/writer", key=gateway.admin, json={"grants": [INGEST]})
    key = await gateway.mint(roles=["writer"])
    opened = await upload(gateway, key=key)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    loop = asyncio.get_running_loop()
    await change(gateway, key)
    changed = loop.time()
    ending = loop.create_task(opened.error())
    while busy and not ending.done():
        # A line that does not end: there is no group to check the key for.
        opened.send(b" ")
        await asyncio.sleep(0.01)
    problem = await ending
    assert loop.time() - changed < patience(1)
    assert (problem["code"], problem["upto"]) == (code, 1)
    opened.events(*numbered(1, 1))
    assert await ids(gateway) == names(0, 1)


async def test_a_key_that_expires_ends_the_body(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(shifted)
    key = await gateway.mint(INGEST, expires_in="1h")
    opened = await upload(gateway, key=key)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    shifted.shift = 3700
    problem = await opened.error()
    assert (problem["code"], problem["upto"]) == ("key_expired", 1)


async def test_a_full_queue_is_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start(ingest={"queue_events": 1})
    loop, writer, refused = asyncio.get_running_loop(), gateway.context.writer, 0
    put = writer.put

    def counted(batches: Sequence[Sequence[Draft]], done: Completion) -> None:
        nonlocal refused
        try:
            put(batches, done)
        except Unavailable:
            refused += 1
            raise

    async def fill() -> None:
        # A record of the gateway's own may fill the queue as well.
        with suppress(Unavailable):
            await gateway.append(event())

    monkeypatch.setattr(writer, "put", counted)
    with Gate(gateway, monkeypatch) as gate:
        others = [loop.create_task(fill())]
        await eventually(lambda: gate.waiting == 1)
        others.append(loop.create_task(fill()))
        await eventually(lambda: writer.has_small)
        opened = await upload(gateway)
        before = refused
        opened.events(*numbered(0, 2))
        await eventually(lambda: refused >= before + 2)
    assert (await opened.until(2))["upto"] == 2
    await asyncio.gather(*others)


async def test_nothing_is_stored_for_a_key_that_was_revoked_just_before(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.mint(INGEST)
    opened = await upload(gateway, key=key)
    with Gate(gateway, monkeypatch) as gate:
        opened.events(*numbered(0, 1))
        await eventually(lambda: gate.waiting == 1)
        held = gateway.context.in_flight.held
        opened.events(*numbered(1, 1))
        await eventually(lambda: gateway.context.in_flight.held > held)
        revoking = asyncio.get_running_loop().create_task(gateway.revoke(key))
        await eventually(lambda: gateway.context.keyring.cached(key_id(key)).revoked_at is not None)
        gate.open()
        problem = await opened.error()
        await revoking
        assert (problem["code"], problem["upto"]) == ("key_revoked", 1)
        assert await ids(gateway) == names(0, 1)


async def test_a_body_that_is_quiet_for_too_long_is_ended(start: Start) -> None:
    clock = StoppedClock()
    gateway = await start(clock, server={"body_timeout": 20})
    opened = await upload(gateway)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    clock.passed += 15
    # An empty line is enough.
    opened.send(b"\n")
    await eventually(lambda: gateway.context.in_flight.held == 0)
    opened.events(*numbered(1, 1))
    await opened.until(2)
    clock.passed += 21
    problem = await opened.error()
    assert (problem["code"], problem["status"], problem["upto"]) == ("request_timeout", 408, 2)


async def test_many_items_count_as_several_requests(start: Start) -> None:
    gateway = await start(ingest={"max_request_events": 10})
    key = await gateway.mint(INGEST, limits={"requests_per_second": 1, "requests_burst": 3})
    opened = await upload(gateway, key=key)
    for number in range(0, 100, 10):
        opened.events(*numbered(number, 10))
    problem = await opened.error()
    assert (problem["code"], problem["status"]) == ("rate_limited", 429)
    assert problem["retry_after"] >= 1
    assert 0 < problem["upto"] < 100
    assert await ids(gateway) == names(0, problem["upto"])


async def test_each_group_is_recorded_and_a_refusal_too(recording: Gateway) -> None:
    key = await recording.mint(INGEST)
    opened = await upload(recording, key=key)
    for number in range(3):
        opened.events(*numbered(number, 1))
        await opened.until(number + 1)
    # The record does not wait for the end of the body.
    found = await told(
        recording, actor=key_id(key), action="events.ingested",
        where=lambda one: one["data"].get("events", 0) > 0,
    )  # fmt: skip
    assert found
    opened.events(event(category="billing"))
    await opened.error()
    [denied] = await told(recording, actor=key_id(key), action="request.denied")
    assert denied["reason"] == "events_not_granted"
    assert denied["data"]["forbidden"] == ["billing"]


async def test_a_body_that_breaks_off_keeps_what_was_stored_and_holds_nothing(
    gateway: Gateway,
) -> None:
    opened = await upload(gateway)
    opened.events(*numbered(0, 1))
    await opened.until(1)
    opened.send(b'{"category":"auth",')
    await eventually(lambda: gateway.context.in_flight.held > 0)
    opened.writer.transport.abort()
    await eventually(lambda: gateway.context.in_flight.held == 0)
    assert await ids(gateway) == names(0, 1)


async def test_a_stop_ends_the_body_when_what_was_taken_is_durable(
    start_program: StartProgram,
) -> None:
    program = await start_program()
    opened = await upload(program)
    opened.events(*numbered(0, 2))
    await opened.until(2)
    stopping = asyncio.get_running_loop().create_task(program.stop(signal.SIGTERM))
    problem = await opened.error()
    assert (problem["code"], problem["status"], problem["upto"]) == ("stopping", 503, 2)
    assert await stopping == (0, "")


async def test_the_curl_line_of_the_page_shows_lines_while_it_sends(
    start_program: StartProgram,
) -> None:
    program = await start_program()
    page = (Path(__file__).parents[3] / "deploy" / "interface.md").read_text()
    [line] = re.findall(r"```sh\ntail -n 0 -f events\.ndjson \| (curl .*?)```", page, re.DOTALL)
    curl = await asyncio.create_subprocess_shell(
        line,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "URL": program.url, "KEY": program.user},
    )
    assert curl.stdin is not None
    assert curl.stdout is not None
    async with asyncio.timeout(patience()):
        for count in (1, 2):
            curl.stdin.write(orjson.dumps(event()) + b"\n")
            assert orjson.loads(await curl.stdout.readline())["upto"] == count
        curl.stdin.close()
        last = orjson.loads(await curl.stdout.readline())
        assert (last["upto"], last["accepted"]) == (2, 2)
        assert await curl.wait() == 0


async def test_a_client_that_sends_again_from_upto_loses_nothing_over_kills(
    start_program: StartProgram,
) -> None:
    durable, admin, sent = 0, "", 0
    for _ in range(examples(200, least=3, share=100)):
        program = await start_program(admin)
        admin = program.admin
        opened = await upload(program)
        begun, sent = durable, max(sent, durable)
        wanted = begun + random.randint(50, 400)
        at = begun
        while durable < wanted:
            # Up to 200 events wait for their answers.
            while at < durable + 200:
                opened.events(*numbered(at, 20))
                at += 20
            durable = begun + (await opened.line())["upto"]
        program.process.send_signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(patience()):
                while (line := await opened.line()) is not None:
                    durable = begun + line["upto"]
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        sent = max(sent, at)
        await program.process.end()
    program = await start_program(admin)
    found, after = Counter[str](), {}
    while True:
        page = await program.pull(category="auth", limit="1000", **after)
        found.update(one["id"] for one in page["events"])
        after = {"after": page["cursor"]}
        if not page["has_more"]:
            break
    assert set(found.values()) == {1}
    assert found.keys() >= set(names(0, durable))
    assert found.keys() <= set(names(0, sent))
