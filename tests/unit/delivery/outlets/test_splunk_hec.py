"""Destinations of the type `splunk_hec`: objects, acknowledgements, and every code of an answer."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict, Outlet
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.delivery.outlets.splunk_hec import (
    SPLUNK_HEC,
    acknowledged,
    judge,
    judge_acknowledgements,
)
from gateway.errors import InvalidRequest
from tests.conftest import FakeClock
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import HTTP_CASES, TAKEN, batch_of, connected, http_outlet, new_outlet
from tests.support.scripted_receiver import (
    HTML,
    Exchange,
    Received,
    Reply,
    ScriptedReceiver,
    cut_before_answer,
    scripted_receiver,
)

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
CASE = HTTP_CASES["splunk_hec"]


def answer(status: int, code: int, number: int | None = None, **others: Any) -> RemoteAnswer:
    body = {"text": "because", "code": code, **others}
    if number is not None:
        body["invalid-event-number"] = number
    return RemoteAnswer(status, {}, orjson.dumps(body))


@every([
    (200, 0, SUCCESS), (200, 9, TRANSIENT), (200, 6, TRANSIENT), (201, 0, TRANSIENT),
    (503, 9, TRANSIENT), (503, 18, TRANSIENT), (503, 23, TRANSIENT), (503, 6, TRANSIENT),
    (500, 8, TRANSIENT), (500, 7, TRANSIENT), (429, 0, TRANSIENT), (429, 26, TRANSIENT),
    (408, 0, TRANSIENT), (400, 5, PERMANENT), (400, 6, PERMANENT), (400, 12, PERMANENT),
    (400, 13, PERMANENT), (400, 15, PERMANENT), (400, 99, PERMANENT), (413, 0, PERMANENT),
    (400, 7, CONFIG), (400, 10, CONFIG), (400, 11, CONFIG), (400, 14, CONFIG), (400, 16, CONFIG),
    (403, 1, CONFIG), (401, 2, CONFIG), (401, 3, CONFIG), (403, 4, CONFIG), (404, 0, CONFIG),
    (302, 0, CONFIG),
])  # fmt: skip
def test_every_status_and_code_has_its_result(case: tuple[int, int, DeliveryResult]) -> None:
    status, code, result = case
    verdict = judge(answer(status, code), 3)
    assert (verdict.result, verdict.status) == (result, status)
    assert verdict.delivered(3) == (frozenset({0, 1, 2}) if result is SUCCESS else frozenset())
    if result is not SUCCESS:
        assert "because" in verdict.message
        assert verdict.kind


@every([6, 12, 13, 15])
def test_a_named_event_is_alone_suspect_and_all_others_go_again(code: int) -> None:
    for number in range(3):
        verdict = judge(answer(400, code, number), 3)
        assert verdict.result is PERMANENT
        assert [(one.index, one.status) for one in verdict.refused] == [(number, 400)]
        assert verdict.again == {0, 1, 2} - {number}
        assert verdict.delivered(3) == frozenset()
    assert judge(answer(400, code, 0), 1).again == frozenset()


@every([(6, 3), (6, -1), (6, None), (5, 1), (7, 1), (11, 0)])
def test_a_number_of_no_event_or_of_another_code_names_none(case: tuple[int, int | None]) -> None:
    verdict = judge(answer(400, *case), 3)
    assert verdict.refused == ()
    assert verdict.again == frozenset()


@every([
    b"", b"<html>", b"null", b"[]", b"{}", b'{"text":"Success"}', b'{"code":"0"}',
    b'{"code":false}', b'{"code":0,"ackId":"1"}', b'{"code":0,"ackId":true}',
])  # fmt: skip
def test_a_200_with_another_body_is_no_success(body: bytes) -> None:
    verdict = judge(RemoteAnswer(200, {}, body), 3)
    assert (verdict.result, verdict.kind) == (TRANSIENT, "protocol")


@every([
    (b'{"acks":{"0":true,"1":false,"7":true}}', {0, 7}), (b'{"acks":{}}', set()),
    (b'{"acks":{"x":true}}', None), (b'{"acks":{"1":1}}', None), (b'{"acks":[]}', None),
    (b"{}", None), (b"", None),
])  # fmt: skip
def test_only_what_is_told_as_true_is_acknowledged(case: tuple[bytes, set[int] | None]) -> None:
    told = RemoteAnswer(200, {}, case[0])
    assert acknowledged(told) == case[1]
    assert judge_acknowledgements(told).result is (TRANSIENT if case[1] is None else SUCCESS)
    assert acknowledged(told._replace(status=500)) is None


async def test_objects_have_time_metadata_event_and_indexed_fields() -> None:
    settings = {"index": "audit", "host": 'gw"1', "source": "eu", "sourcetype": "audit:x"}
    async with connected(CASE, settings=settings) as (outlet, receiver):
        assert (await outlet.send(batch_of(outlet, 2, tenant="acme"))).result is SUCCESS
        [received] = receiver.received
        assert received.target == "/services/collector/event"
        assert received.headers["content-type"] == "application/json"
        first, second, end = received.body.split(b"\n")
        assert end == b""
        event = outbound_event(1, tenant="acme")
        assert orjson.loads(first) == {
            "time": 1769860800.0, "host": 'gw"1', "source": "eu", "sourcetype": "audit:x",
            "index": "audit", "event": orjson.loads(event.json),
            "fields": {"event_id": "e-1", "tenant": "acme", "cursor": event.cursor},
        }  # fmt: skip
        assert event.json in first
        assert orjson.loads(second)["fields"]["event_id"] == "e-2"


@every([
    ("2026-11-29T10:00:00.123456Z", b'{"time":1795946400.123,'),
    ("1969-12-31T23:59:59.5Z", b'{"time":-0.500,'),
    ("9999-12-31T23:59:59.999999Z", b'{"time":253402300799.999,'),
])  # fmt: skip
def test_the_time_is_that_of_the_event_with_milliseconds(case: tuple[str, bytes]) -> None:
    outlet = new_outlet(SPLUNK_HEC, {"url": "https://splunk.example.org"}, transport=object())
    body = outlet.encode(outbound_event(time=case[0]))
    assert body.startswith(case[1] + b'"sourcetype":"audit:gateway","event":{"cursor":')


async def test_text_formats_are_sent_as_text() -> None:
    format = NativeFormat("cef", False, lambda native: b'CEF:0|a "b"')
    async with connected(CASE, format=format) as (outlet, receiver):
        await outlet.send(batch_of(outlet, 1))
        assert orjson.loads(receiver.received[0].body)["event"] == 'CEF:0|a "b"'


async def test_the_channel_is_one_of_this_run() -> None:
    channels = []
    for _ in range(2):
        async with connected(CASE, secrets={"token": ["t-1"]}) as (outlet, receiver):
            for _ in range(2):
                await outlet.send(batch_of(outlet, 1))
            assert {one.headers["authorization"] for one in receiver.received} == {"Splunk t-1"}
            [channel] = {one.headers["x-splunk-request-channel"] for one in receiver.received}
            channels.append(str(uuid.UUID(channel)))
    assert channels[0] != channels[1]


class PassingClock(FakeClock):
    """Clock whose sleepers are woken at once, when the time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.tick(seconds)


class Indexer:
    """Collector with indexer acknowledgement: each channel counts its batches from 0. What is
    `indexed` is told as acknowledged once, and forgotten."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.indexed: set[int] = set()
        self.asked: list[list[int]] = []
        self.receiver: ScriptedReceiver

    def reply(self, received: Received) -> Reply:
        channel = received.headers["x-splunk-request-channel"]
        path, _, query = received.target.partition("?")
        if path == "/services/collector/event":
            self.taken[channel] += 1
            told = {"text": "Success", "code": 0, "ackId": self.taken[channel] - 1}
            return Reply(200, orjson.dumps(told), {"Set-Cookie": "node=a; Path=/"})
        assert (path, query) == ("/services/collector/ack", f"channel={channel}")
        assert "content-encoding" not in received.headers
        assert received.headers["cookie"] == "node=a"
        ids = orjson.loads(received.body)["acks"]
        self.asked.append(ids)
        acks = {str(ack_id): ack_id in self.indexed for ack_id in ids}
        self.indexed -= set(ids)
        return Reply(200, orjson.dumps({"acks": acks}))


@asynccontextmanager
async def indexed(**settings: Any) -> AsyncIterator[tuple[Outlet, Indexer, PassingClock]]:
    indexer, clock = Indexer(), PassingClock()
    async with (
        scripted_receiver(indexer.reply) as receiver,
        http_outlet(
            CASE, f"http://127.0.0.1:{receiver.port}", clock=clock, settings=settings
        ) as outlet,
    ):
        indexer.receiver = receiver
        yield outlet, indexer, clock


async def sent(outlet: Outlet, count: int = 1) -> Sequence[DeliveryVerdict]:
    verdicts = [await outlet.send(batch_of(outlet, 1)) for _ in range(count)]
    assert {verdict.result for verdict in verdicts} == {SUCCESS}
    return verdicts


async def test_a_batch_is_confirmed_when_it_is_indexed_and_asked_for_ever_more_rarely() -> None:
    async with indexed() as (outlet, indexer, clock):
        [verdict] = await sent(outlet)
        assert verdict.receipt is not None
        assert outlet.confirmation == "stored"
        replies = [Reply(200, b'{"acks":{"0":false}}')] * 5
        indexer.receiver.script.extend(replies)
        indexer.indexed = {0}
        assert (await outlet.confirm(verdict.receipt)).result is SUCCESS
        assert clock.slept == [1.0, 2.0, 4.0, 10.0, 10.0, 10.0]
        assert indexer.asked == [[0]]


async def test_what_is_told_once_is_remembered_for_every_batch() -> None:
    async with indexed() as (outlet, indexer, clock):
        verdicts = await sent(outlet, 3)
        indexer.indexed = {0, 1, 2}
        for verdict in verdicts:
            assert (await outlet.confirm(verdict.receipt)).result is SUCCESS
        assert indexer.asked == [[0, 1, 2]]
        assert clock.slept == [1.0]


async def test_a_batch_that_waits_is_asked_for_without_those_that_are_confirmed() -> None:
    async with indexed() as (outlet, indexer, _):
        first, second = await sent(outlet, 2)
        indexer.indexed = {0}
        assert (await outlet.confirm(first.receipt)).result is SUCCESS
        indexer.indexed = {1}
        assert (await outlet.confirm(second.receipt)).result is SUCCESS
        assert indexer.asked == [[0, 1], [1]]


async def test_what_is_never_acknowledged_is_sent_again_over_another_channel() -> None:
    async with indexed(ack_timeout="1m") as (outlet, indexer, clock):
        first, second = await sent(outlet, 2)
        verdict = await outlet.confirm(first.receipt)
        assert (verdict.result, verdict.kind) == (TRANSIENT, "acknowledgement")
        assert sum(clock.slept) == 60.0
        # Nor is what was sent behind it confirmed, whatever is told of it.
        indexer.indexed = {0, 1}
        assert (await outlet.confirm(second.receipt)).result is TRANSIENT
        [again] = await sent(outlet)
        assert len(indexer.taken) == 2
        assert (await outlet.confirm(again.receipt)).result is SUCCESS


async def test_an_indexer_that_begins_anew_confirms_no_earlier_batch() -> None:
    async with indexed() as (outlet, indexer, _):
        [lost] = await sent(outlet)
        # It was killed, and gives the id of the lost batch to the next.
        indexer.taken.clear()
        verdict = await outlet.send(batch_of(outlet, 1))
        assert (verdict.result, verdict.kind) == (TRANSIENT, "acknowledgement")
        indexer.indexed = {0}
        assert (await outlet.confirm(lost.receipt)).result is TRANSIENT
        assert indexer.asked == []
        [again] = await sent(outlet)
        assert (await outlet.confirm(again.receipt)).result is SUCCESS


async def test_an_answer_that_comes_late_confirms_nothing_of_another_channel() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await exchange.whole()
        asked.set()
        await told.wait()
        exchange.writer.write(Reply(200, b'{"acks":{"0":true}}').encoded())

    async with indexed(ack_timeout="1m") as (outlet, indexer, _):
        [lost] = await sent(outlet)
        indexer.receiver.script.append(late)
        confirming = asyncio.create_task(outlet.confirm(lost.receipt))
        await asked.wait()
        indexer.taken.clear()
        assert (await outlet.send(batch_of(outlet, 1))).result is TRANSIENT
        [again] = await sent(outlet)
        told.set()
        assert (await confirming).result is TRANSIENT
        assert (await outlet.confirm(again.receipt)).result is TRANSIENT


async def test_questions_that_fail_are_asked_again() -> None:
    async with indexed() as (outlet, indexer, clock):
        [verdict] = await sent(outlet)
        busy = Reply(503, b'{"text":"Server is busy","code":9}')
        indexer.receiver.script.extend([busy, HTML, cut_before_answer, Reply(400, b"{}")])
        indexer.indexed = {0}
        assert (await outlet.confirm(verdict.receipt)).result is SUCCESS
        assert len(clock.slept) == 5


@pytest.mark.parametrize(
    "refusal",
    [Reply(401), Reply(403, b'{"text":"Invalid token","code":4}'),
     Reply(400, b'{"text":"ACK is disabled","code":14}')],
)  # fmt: skip
async def test_questions_that_are_refused_are_of_the_configuration(refusal: Reply) -> None:
    async with indexed() as (outlet, indexer, clock):
        [verdict] = await sent(outlet)
        indexer.receiver.script.append(refusal)
        told = await outlet.confirm(verdict.receipt)
        assert (told.result, told.status) == (CONFIG, refusal.status)
        assert clock.slept == [1.0]


async def test_without_acknowledgement_what_is_taken_is_received() -> None:
    async with connected(CASE) as (outlet, receiver):
        verdict = await outlet.send(batch_of(outlet))
        assert (verdict.result, verdict.receipt) == (SUCCESS, None)
        assert outlet.confirmation == "received"
        assert len(receiver.received) == 1


async def test_a_token_without_acknowledgement_is_an_error_where_it_is_required() -> None:
    async with connected(CASE, settings={"ack": "required"}) as (outlet, receiver):
        receiver.script.append(TAKEN)
        verdict = await outlet.send(batch_of(outlet))
        assert (verdict.result, verdict.kind) == (CONFIG, "acknowledgement")
        assert verdict.delivered(3) == frozenset()


async def test_the_test_event_leaves_nothing_to_be_confirmed() -> None:
    async with indexed() as (outlet, indexer, _):
        verdict = await outlet.test(batch_of(outlet, 1)[0])
        assert (verdict.result, verdict.receipt) == (SUCCESS, None)
        [real] = await sent(outlet)
        indexer.indexed = {1}
        assert (await outlet.confirm(real.receipt)).result is SUCCESS
        assert indexer.asked == [[1]]


@every([
    {"url": "https://a/?x=1"}, {"ack_timeout": "5x"}, {"ack_timeout": "0s"}, {"ack_timeout": "2h"},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(SPLUNK_HEC, {"url": "https://splunk.example.org", **settings})
    assert refused.value.members["path"].split(".")[1] in settings
