"""The record of every use: what is merged, what is told apart, and what survives an outage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from gateway.access.keys.key import Key
from gateway.access.usage.access import CLOSED, DENIED, INGESTED, OPENED, PULLED, READ, Access
from gateway.cursor import format_cursor
from gateway.errors import Unavailable
from gateway.event import MAX_EVENT_BYTES, Draft
from gateway.log.ports import Appended
from gateway.oversight.access_log.access_log import (
    MOST_ENTRIES,
    MOST_KEYLESS,
    AccessLog,
    AccessLogTimings,
)

if TYPE_CHECKING:
    from tests.conftest import FakeClock

EPOCH = "k3f9xq7m2p"
KEY = Key(id="A" * 12, digest=b"", name="siem", purpose="p", created_at=0.0, expires_at=9e9)
OTHER = msgspec.structs.replace(KEY, id="B" * 12, name="other")


class FakeLog:
    """Takes drafts, once each id; `away` refuses them, `forgetful` stores them and says no."""

    def __init__(self) -> None:
        self.drafts: dict[str, Draft] = {}
        self.offered: list[str] = []
        self.away = False
        self.forgetful = False

    async def append(self, batch: Sequence[Draft]) -> Appended:
        self.offered += [draft.id for draft in batch]
        if self.away:
            raise Unavailable("the log is away")
        self.drafts.update({draft.id: draft for draft in batch})
        if self.forgetful:
            raise Unavailable("nobody knows")
        return Appended(len(batch), 0, 1, len(batch))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(b"{" + draft.tail) for draft in self.drafts.values()]

    def of(self, action: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["action"] == action]

    def counts(self, action: str) -> list[int]:
        return [event["data"]["count"] for event in self.of(action)]


class Recorder:
    """A record over a fake log; `run` lets it work for a while of the fake clock."""

    def __init__(self, clock: FakeClock, timings: AccessLogTimings | None = None) -> None:
        self.log = FakeLog()
        self.clock = clock
        self.record = AccessLog(self.log, clock, EPOCH, timings or AccessLogTimings())

    def note(self, times: int = 1, **members: Any) -> None:
        for _ in range(times):
            use = {"key": KEY, "action": PULLED, "address": "10.0.0.1", "at": self.clock.now()}
            self.record.log(Access(**{**use, **members}))

    async def work(self) -> None:
        self.record._take_due(self.clock.monotonic())
        await self.record._send()

    async def run(self, seconds: float) -> None:
        """What the background task does, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.clock.tick(0.25)
            await self.work()


@pytest.fixture
def recorder(clock: FakeClock) -> Recorder:
    return Recorder(clock)


async def test_a_use_is_in_the_log_within_a_second_or_so(recorder: Recorder) -> None:
    recorder.note(
        action=OPENED, client="curl/8", begin=7, end=7, transport="sse", attempted="stream",
        route="GET /v1/stream", request_id="r1", parameters='{"category":["auth"]}',
    )  # fmt: skip
    await recorder.run(1.0)
    [event] = recorder.log.events
    cursor = format_cursor(EPOCH, 7)
    assert event.pop("id")
    assert event == {
        "time": "2023-11-14T22:13:20.000000Z",
        "tenant": "gateway",
        "category": "gateway.access",
        "action": "stream.opened",
        "outcome": "success",
        "severity": 1,
        "actor": {"type": "key", "id": KEY.id, "name": "siem", "key_id": KEY.id},
        "source": {"ip": "10.0.0.1", "user_agent": "curl/8"},
        "targets": [{"urn": f"key:{KEY.id}", "type": "key", "id": KEY.id}],
        "request": {"id": "r1"},
        "data": {
            "count": 1,
            "events": 0,
            "attempted": "stream",
            "route": "GET /v1/stream",
            "transport": "sse",
            "ranges": [{"after": cursor, "to": cursor}],
            "parameters": [{"category": ["auth"]}],
        },
    }


async def test_a_read_without_parameters_is_told_from_those_it_is_merged_with(
    recorder: Recorder,
) -> None:
    for parameters in ("", '{"category":["auth"]}', ""):
        recorder.note(parameters=parameters)
    await recorder.run(1)
    [event] = recorder.log.events
    assert event["data"]["parameters"] == [{"category": ["auth"]}, {}]


async def test_repeats_are_merged_into_one_event_with_a_count(recorder: Recorder) -> None:
    recorder.note(1000, events=2, begin=0, end=5, request_id="the first of them")
    await recorder.run(1)
    recorder.note(500, events=1, begin=5, end=9)
    await recorder.run(4)
    assert recorder.log.counts(PULLED) == [1000]
    await recorder.run(2)
    assert recorder.log.counts(PULLED) == [1000, 500]
    first, second = recorder.log.events
    assert (first["data"]["events"], second["data"]["events"]) == (2000, 500)
    assert "until" in second["data"]
    assert "request" not in first, "there were many"


async def test_no_use_is_lost_whatever_its_rate(recorder: Recorder) -> None:
    for _ in range(200):
        recorder.note(3)
        await recorder.run(0.5)
    await recorder.record.flush()
    assert sum(recorder.log.counts(PULLED)) == 600


async def test_what_goes_on_and_on_becomes_an_event_a_minute(recorder: Recorder) -> None:
    for _ in range(600):
        recorder.note()
        await recorder.run(1)
    # 1, 5, 10, 20, 40 seconds, and then every 60.
    assert len(recorder.log.events) <= 15
    before = len(recorder.log.events)
    for _ in range(120):
        recorder.note()
        await recorder.run(1)
    assert len(recorder.log.events) - before <= 2


async def test_after_a_rest_without_repeats_a_use_is_written_at_once_again(
    recorder: Recorder,
) -> None:
    recorder.note()
    await recorder.run(20)
    recorder.note()
    await recorder.run(1)
    assert recorder.log.counts(PULLED) == [1, 1]


async def test_what_rests_is_forgotten(recorder: Recorder) -> None:
    for number in range(200):
        recorder.note(address=f"10.0.0.{number}")
        recorder.note(key=None, action=DENIED, outcome="denied", address=f"10.1.0.{number}")
    await recorder.run(20)
    record = recorder.record
    assert (len(record._entries), len(record._due), record._keyless) == (0, 0, 0)


async def test_requests_that_ingest_are_summed_up_by_the_minute(recorder: Recorder) -> None:
    for second in range(180):
        recorder.note(10, action=INGESTED, events=100, duplicates=1, begin=second, end=second + 1)
        await recorder.run(1)
    await recorder.record.flush()
    assert len(recorder.log.events) <= 5
    assert sum(recorder.log.counts(INGESTED)) == 1800
    assert sum(event["data"]["events"] for event in recorder.log.events) == 180_000
    assert sum(event["data"]["duplicates"] for event in recorder.log.events) == 1800
    assert all(len(event["data"]["ranges"]) == 1 for event in recorder.log.events)


@pytest.mark.parametrize(
    "different",
    [
        {"key": OTHER},
        {"address": "10.0.0.2"},
        {"action": READ},
        {"action": DENIED, "outcome": "denied", "reason": "key_revoked"},
        {"reason": "complete"},
    ],
    ids=lambda members: next(iter(members)),
)
async def test_different_uses_are_different_events(
    recorder: Recorder, different: dict[str, Any]
) -> None:
    recorder.note(3)
    recorder.note(2, **different)
    await recorder.run(1)
    assert sorted(event["data"]["count"] for event in recorder.log.events) == [2, 3]


async def test_refusals_of_unknown_keys_are_told_by_address(recorder: Recorder) -> None:
    denied: dict[str, Any] = {
        "key": None, "action": DENIED, "outcome": "denied", "reason": "invalid_key",
    }  # fmt: skip
    recorder.note(4, **denied, claimed="Z" * 12)
    recorder.note(2, **denied, address="10.9.9.9")
    await recorder.run(1)
    first, second = recorder.log.events
    assert (first["outcome"], first["reason"], first["data"]["count"]) == (
        "denied", "invalid_key", 4,
    )  # fmt: skip
    assert first["source"]["ip"] == "10.0.0.1"
    assert "actor" not in first
    assert first["targets"] == [{"urn": f"key:{'Z' * 12}", "type": "key", "id": "Z" * 12}]
    assert second["source"]["ip"] == "10.9.9.9"


async def test_a_flood_of_made_up_addresses_becomes_few_events(recorder: Recorder) -> None:
    for number in range(MOST_KEYLESS + 5000):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        recorder.note(
            key=None, action=DENIED, outcome="denied", reason="invalid_key", address=address
        )
    await recorder.record.flush()
    assert len(recorder.log.events) == MOST_KEYLESS + 1
    assert sum(recorder.log.counts(DENIED)) == MOST_KEYLESS + 5000
    merged = recorder.log.events[-1]
    assert len(merged["data"]["whose"]) == 31
    assert merged["data"]["without_details"] == 5000 - 31
    assert "source" not in merged
    assert recorder.record.waiting == 0


async def test_ipv6_neighbours_are_one_address(recorder: Recorder) -> None:
    for number in range(100):
        address = f"2001:db8::{number:x}"
        recorder.note(key=None, action=DENIED, outcome="denied", address=address)
    await recorder.record.flush()
    assert sum(recorder.log.counts(DENIED)) == 100
    assert len(recorder.log.events) == 1


async def test_more_keys_than_can_be_told_apart_are_named_together(recorder: Recorder) -> None:
    count = MOST_ENTRIES + 62
    for number in range(count):
        recorder.note(key=msgspec.structs.replace(KEY, id=f"{number:012d}"))
    await recorder.record.flush()
    assert sum(recorder.log.counts(PULLED)) == count
    named = {target["id"] for event in recorder.log.events for target in event["targets"]}
    assert len(named) == count, "every key finds its use"
    assert len(recorder.log.events) == MOST_ENTRIES + 2


async def test_what_was_read_by_id_is_told_of_completely(recorder: Recorder) -> None:
    ids = [f"event:acme/e{number}" for number in range(1000)]
    for name in ids:
        recorder.note(action=READ, about=name, events=1)
    await recorder.record.flush()
    told = [name for event in recorder.log.events for name in event["data"]["about"]]
    assert told == ids
    assert len(recorder.log.events) == 4
    assert recorder.log.events[0]["targets"][0]["urn"] == ids[0]
    assert recorder.log.events[0]["targets"][-1]["urn"] == f"key:{KEY.id}"
    assert all(len(event["targets"]) == 32 for event in recorder.log.events)


async def test_pages_one_after_the_other_are_one_range(recorder: Recorder) -> None:
    for page in range(50):
        recorder.note(begin=100 * page, end=100 * (page + 1), events=100)
    recorder.note(begin=9000, end=9100, events=1)
    await recorder.record.flush()
    [event] = recorder.log.events
    assert event["data"]["ranges"] == [
        {"after": format_cursor(EPOCH, 0), "to": format_cursor(EPOCH, 5000)},
        {"after": format_cursor(EPOCH, 9000), "to": format_cursor(EPOCH, 9100)},
    ]


async def test_every_parameter_set_is_kept_until_there_are_too_many_of_them(
    recorder: Recorder,
) -> None:
    for number in range(100):
        recorder.note(parameters=f'{{"filter":["data.n == {number}"]}}')
    await recorder.run(1)
    told = [one for event in recorder.log.events for one in event["data"]["parameters"]]
    assert len(told) == 100
    assert len(recorder.log.events) == 7
    for number in range(10_000):
        recorder.note(parameters=f'{{"filter":["data.m == {number}"]}}')
    await recorder.run(10)
    assert sum(recorder.log.counts(PULLED)) == 10_100
    assert len(recorder.log.events) <= 7 + 10, "the log is not for whoever fills it"
    before = len(recorder.log.of(PULLED))
    for number in range(100):
        recorder.note(parameters=f'{{"filter":["data.o == {number}"]}}')
    await recorder.run(20)
    later = recorder.log.of(PULLED)[before:]
    assert sum(len(event["data"]["parameters"]) for event in later) == 100, "it is a new rest"


async def test_streams_opened_and_closed_by_thousands_are_few_events(recorder: Recorder) -> None:
    for number in range(5000):
        recorder.note(action=OPENED, begin=number, end=number, key=KEY if number % 2 else OTHER)
    for number in range(5000):
        recorder.note(
            action=CLOSED, begin=number, end=6000, events=3, seconds=2.0, reason="restart",
            key=KEY if number % 2 else OTHER,
        )  # fmt: skip
    await recorder.record.flush()
    assert len(recorder.log.events) == 4
    assert sum(recorder.log.counts(OPENED)) == sum(recorder.log.counts(CLOSED)) == 5000
    closed = recorder.log.of(CLOSED)[0]["data"]
    assert closed["seconds"] == 5000.0
    assert closed["ranges"] == [
        {"after": format_cursor(EPOCH, 0), "to": format_cursor(EPOCH, 6000)}
    ]


async def test_while_the_log_is_away_uses_wait_and_go_on_merging(recorder: Recorder) -> None:
    recorder.log.away = True
    for _ in range(300):
        recorder.note(10)
        await recorder.run(1)
    assert recorder.log.drafts == {}
    assert recorder.record.waiting <= 20
    recorder.log.away = False
    await recorder.run(1)
    await recorder.record.flush()
    assert sum(recorder.log.counts(PULLED)) == 3000
    assert recorder.record.waiting == 0


async def test_what_may_have_been_stored_is_sent_again_under_its_id(recorder: Recorder) -> None:
    recorder.log.forgetful = True
    recorder.note()
    await recorder.run(3)
    recorder.log.forgetful = False
    await recorder.run(1)
    assert len(set(recorder.log.offered)) == 1
    assert len(recorder.log.offered) > 2
    assert recorder.log.counts(PULLED) == [1]


async def test_the_memory_of_an_outage_is_bounded_and_every_use_is_counted(
    clock: FakeClock,
) -> None:
    recorder = Recorder(clock)
    recorder.log.away = True
    long = "x" * 2000
    for number in range(20_000):
        recorder.note(
            key=msgspec.structs.replace(KEY, id=f"{number % 500:012d}"),
            parameters=f'{{"filter":["{long}{number}"]}}',
            address=f"10.0.0.{number % 7}",
        )
        if number % 500 == 0:
            await recorder.run(1)
    assert recorder.record._characters <= (16 << 20) + 3000
    recorder.log.away = False
    await recorder.record.flush()
    assert sum(recorder.log.counts(PULLED)) == 20_000
    assert any("without_details" in event["data"] for event in recorder.log.events)
    assert recorder.record._characters == 0


async def test_the_largest_event_of_the_record_is_no_larger_than_events_may_be(
    recorder: Recorder,
) -> None:
    for number in range(2000):
        recorder.note(
            parameters=orjson.dumps({"filter": [f"{number}" + "ß" * 2040]}).decode(),
            about=f"event:{'t' * 64}/{number:0128d}",
            client=f"{number}" + "ß" * 250,
            forbidden=tuple(f"{number}.{'c' * 60}{place}" for place in range(5)),
            begin=10 * number,
            end=10 * number + 1,
            action=READ,
        )
    await recorder.record.flush()
    assert max(len(draft.tail) for draft in recorder.log.drafts.values()) < MAX_EVENT_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "curl alpk_4fK2mQ9sLx0a_" + "x" * 49,
        "alpt_eyJhIjoxfQ.c2ln",
        "broken \udcff half",
        "new\nline\x00and\x1b[31m",
        "ordinary ß \N{SNOWMAN}",
    ],
)
async def test_what_clients_say_of_themselves_is_kept_without_keys_and_control_characters(
    recorder: Recorder, text: str
) -> None:
    recorder.note(client=text, address=text[:20])
    await recorder.run(1)
    [event] = recorder.log.events
    shown = event["source"]["user_agent"]
    assert shown.isprintable()
    assert "alpk_4" not in shown
    assert "eyJ" not in shown
    if "ordinary" in text:
        assert shown == text


async def test_texts_are_cut_where_events_end_them(recorder: Recorder) -> None:
    recorder.note(client="c" * 3000, address="a" * 300, reason="r" * 3000)
    await recorder.run(1)
    [event] = recorder.log.events
    assert len(event["source"]["user_agent"]) == len(event["reason"]) == 1024
    assert len(event["source"]["ip"]) == 256


async def test_the_last_uses_are_in_the_log_before_it_is_closed(recorder: Recorder) -> None:
    recorder.note(3)
    recorder.note(action=READ, about="event:a/b")
    await recorder.record.close()
    assert sorted(event["data"]["count"] for event in recorder.log.events) == [1, 3]


async def test_an_end_without_a_log_does_not_last_for_ever(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    recorder.log.away = True
    recorder.note()
    closing = asyncio.create_task(recorder.record.close())
    await recorder.clock.advance(10)
    assert closing.done()
    assert "1 records of uses are lost" in caplog.text


async def test_the_background_task_writes_and_warns_once_of_an_outage(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    task = asyncio.create_task(recorder.record.run())
    recorder.note()
    await recorder.clock.advance(1.5)
    assert recorder.log.counts(PULLED) == [1]
    recorder.log.away = True
    recorder.note()
    await recorder.clock.advance(20)
    assert caplog.text.count("cannot be recorded now") == 1
    recorder.log.away = False
    await recorder.clock.advance(1)
    assert recorder.log.counts(PULLED) == [1, 1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
