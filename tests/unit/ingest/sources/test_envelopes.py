"""The same record gives one event in each envelope, and an envelope is never an event."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from gateway.errors import InvalidSetting
from gateway.ingest.sources import envelopes
from gateway.ingest.sources.catalog import make_source, read_definition
from gateway.ingest.sources.source import Mapped, NotMapped
from tests.support.exports import event_of, source_named

TRAIL = {
    "eventVersion": "1.08", "eventID": "e-1", "eventTime": "2026-01-01T00:00:00Z",
    "eventSource": "s3.amazonaws.com", "eventName": "GetObject", "amount": 1.5,
    "userIdentity": {"type": "IAMUser", "principalId": "AIDA"},
}  # fmt: skip
TEXT = json.dumps(TRAIL, separators=(",", ":"))
B64 = base64.b64encode(TEXT.encode()).decode()
SQUEEZED = base64.b64encode(gzip.compress(TEXT.encode())).decode()
EVENT = event_of("cloudtrail", TRAIL)


def mapped(source: str, raw: bytes) -> list[Mapped | NotMapped]:
    return list(source_named(source).map(raw))


ENVELOPES: dict[str, Any] = {
    "Records": {"Records": [TRAIL]},
    "records": {"records": [TRAIL]},
    "items": {"items": [TRAIL]},
    "events": {"events": [TRAIL]},
    "value": {"value": [TRAIL]},
    "array": [TRAIL],
    "EventBridge": {"version": "0", "detail-type": "AWS API Call via CloudTrail", "detail": TRAIL},
    "lookup-events": {"Events": [{"EventId": "e-1", "CloudTrailEvent": TEXT}]},
    "CloudWatch Logs": {"messageType": "DATA_MESSAGE", "logEvents": [{"message": TEXT}]},
    "CloudWatch subscription": {"awslogs": {"data": SQUEEZED}},
    "SNS": {"Type": "Notification", "Message": TEXT},
    "SQS": {"Records": [{"messageId": "m", "body": TEXT}]},
    "SNS in SQS": {"Records": [{"body": json.dumps({"Type": "Notification", "Message": TEXT})}]},
    "EventBridge in SQS": {"Records": [{"body": json.dumps({"detail": TRAIL})}]},
    "Kinesis": {"Records": [{"kinesis": {"data": B64}}]},
    "Event Hub": {"records": [{"properties": TRAIL}]},
    "diagnostic setting": {"properties": {"log": TEXT}},
    "HEC": {"time": 1, "event": TRAIL},
    "Splunk export": {"preview": False, "result": {"_raw": TEXT}},
    "Pub/Sub push": {"message": {"data": B64, "messageId": "1"}},
    "CloudEvents": {"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": TRAIL},
    "CloudEvents base64": {"specversion": "1.0", "type": "t", "id": "1", "data_base64": B64},
    "webhook of a webhook": {"data": {"events": [TRAIL]}},
}  # fmt: skip


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_record_gives_the_same_event_in_each_envelope(name: str) -> None:
    raw = json.dumps(ENVELOPES[name], separators=(",", ":")).encode()
    [found] = mapped("cloudtrail", raw)
    assert isinstance(found, Mapped), found
    assert json.loads(b"{" + found.draft.tail) == EVENT
    alone = source_named("cloudtrail").draft(TEXT.encode()).draft
    assert (found.draft.id, found.draft.content) == (alone.id, alone.content)


@pytest.mark.parametrize(
    "line",
    [
        f"2026-01-01T00:00:00.1Z stdout F {TEXT}",
        f"2026-01-01T00:00:00.1+02:00 stderr F {TEXT}",
        f"Jan  1 00:00:00 host app[7]: {TEXT}",
        f"host {TEXT}",
        f"\x1e{TEXT}\n",
    ],
)
def test_what_stands_before_a_record_on_its_line_is_passed_over(line: str) -> None:
    [found] = mapped("cloudtrail", line.encode())
    assert isinstance(found, Mapped), found
    assert json.loads(b"{" + found.draft.tail) == EVENT


def test_a_part_of_a_line_is_no_record() -> None:
    [found] = mapped("cloudtrail", f"2026-01-01T00:00:00.1Z stdout P {TEXT}".encode())
    assert isinstance(found, NotMapped)


@pytest.mark.parametrize(
    ("envelope", "title"),
    [
        ({"detail": {"state": "running"}}, "an EventBridge event around something that is no"),
        ({"Records": [{"s3": {"object": {"key": "a.json.gz"}}}]}, "a list of records around"),
        ({"Message": "hello"}, "an SNS notification around"),
        ({"data": {"events": [{"eventType": "a.b"}]}}, "an object with data around"),
    ],
)
def test_an_envelope_around_something_else_is_refused_by_its_name(
    envelope: Any, title: str
) -> None:
    [found] = mapped("cloudtrail", json.dumps(envelope).encode())
    assert isinstance(found, NotMapped)
    assert found.reason.startswith(title)


@pytest.mark.parametrize(
    "empty",
    [
        {"Records": []}, {"items": []}, {"records": None}, [], {"data": {"events": []}},
        {"eventType": "com.okta.event_hook", "data": {"events": None}},
    ],
)  # fmt: skip
def test_an_empty_envelope_holds_no_record(empty: Any) -> None:
    assert mapped("cloudtrail", json.dumps(empty).encode()) == []
    assert mapped("okta", json.dumps(empty).encode()) == []


@pytest.mark.parametrize(
    "notification",
    [
        {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
         "eventTime": "2026-01-01T00:00:00Z", "awsRegion": "us-east-1",
         "userIdentity": {"principalId": "A"}, "s3": {"object": {"key": "a.json.gz"}}},
        {"eventID": "1", "eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": {}},
    ],
)  # fmt: skip
def test_a_notification_that_looks_like_a_record_of_cloudtrail_is_refused_by_name(
    notification: Any,
) -> None:
    for body in (notification, {"Records": [notification]}):
        [found] = mapped("cloudtrail", json.dumps(body).encode())
        assert isinstance(found, NotMapped)
        assert not found.skipped
        assert "no" in found.reason
        assert "record of AWS CloudTrail" in found.reason


@pytest.mark.parametrize("value", [None, []])
@pytest.mark.parametrize("member", ["detail", "data", "message", "properties", "awslogs"])
def test_a_record_with_an_empty_member_is_no_empty_envelope(member: str, value: Any) -> None:
    record = {name: value for name, value in TRAIL.items() if name != "eventName"}
    [found] = mapped("cloudtrail", json.dumps(record | {member: value}).encode())
    assert isinstance(found, NotMapped)


def test_an_item_that_is_no_record_costs_only_itself() -> None:
    items = [TRAIL, None, {"x": 1}, 7, TRAIL | {"eventID": "e-2"}]
    found = mapped("cloudtrail", json.dumps({"Records": items}).encode())
    assert [type(one) for one in found] == [Mapped, NotMapped, NotMapped, NotMapped, Mapped]


def test_envelopes_are_opened_three_deep_and_no_deeper() -> None:
    three: Any = {"records": [{"detail": {"events": [TRAIL]}}]}
    assert isinstance(mapped("cloudtrail", json.dumps(three).encode())[0], Mapped)
    four = {"value": [three]}
    assert isinstance(mapped("cloudtrail", json.dumps(four).encode())[0], NotMapped)


def test_the_items_of_an_event_list_are_the_records_of_a_log_file() -> None:
    members = {
        "level": "Metadata", "auditID": "a-1", "stage": "ResponseComplete", "verb": "get",
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        "user": {"username": "u"}, "responseStatus": {"code": 200},
    }  # fmt: skip
    listed = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [members]}
    alone = {"kind": "Event", "apiVersion": "audit.k8s.io/v1", **members}
    [one] = mapped("kubernetes", json.dumps(listed).encode())
    [other] = mapped("kubernetes", json.dumps(alone).encode())
    assert isinstance(one, Mapped)
    assert isinstance(other, Mapped)
    assert (one.draft.id, one.draft.content) == (other.draft.id, other.draft.content)


@pytest.mark.parametrize("depth", [900, 1_500, 20_000])
def test_a_deep_record_in_an_envelope_takes_no_other_with_it(depth: int) -> None:
    deep = TEXT[:-1].replace("e-1", "e-2") + ',"deep":' + '{"x":' * depth + "1" + "}" * depth + "}"
    found = mapped("cloudtrail", f'{{"Records":[{deep},{TEXT}]}}'.encode())
    assert [one.draft.id for one in found if isinstance(one, Mapped)] == ["e-2", "e-1"]
    first = found[0]
    assert isinstance(first, Mapped)
    assert first.marks == ("truncated",)


@pytest.mark.parametrize("source", ["cloudtrail", "pgaudit"])
@pytest.mark.parametrize("before", ["", "2026-01-01T00:00:00.1Z stdout F "])
def test_lists_within_lists_are_refused_however_deep(source: str, before: str) -> None:
    found = mapped(source, (before + "[" * 5000 + "]" * 5000).encode())
    assert [type(one) for one in found] == [NotMapped]


def test_a_compressed_bomb_is_refused() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * (80 * 1024 * 1024))).decode()
    [found] = mapped("cloudtrail", json.dumps({"data": bomb}).encode())
    assert isinstance(found, NotMapped)
    assert found.reason == "an object with data whose text is too large when it is unpacked"


def test_the_texts_of_one_envelope_are_unpacked_within_one_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unpacked = 0

    made = zlib.decompressobj

    class Counted:
        def __init__(self, wbits: int) -> None:
            self._inflating = made(wbits)

        def decompress(self, value: bytes, most: int) -> bytes:
            nonlocal unpacked
            plain = self._inflating.decompress(value, most)
            unpacked += len(plain)
            return plain

        @property
        def eof(self) -> bool:
            return self._inflating.eof

    monkeypatch.setattr(envelopes.zlib, "decompressobj", Counted)
    bombs = [gzip.compress(b" " * (1024 * 1024 + n)) for n in range(12)]
    bodies = [{"body": base64.b64encode(bomb).decode()} for bomb in bombs]
    found = mapped("cloudtrail", json.dumps({"Records": bodies}).encode())
    assert found
    assert not any(isinstance(one, Mapped) for one in found)
    assert unpacked < 5 * 1024 * 1024


def test_a_source_may_name_envelopes_of_its_own(tmp_path: Any) -> None:
    file = tmp_path / "own.toml"
    body = '[event]\nid = "id"\ncategory = { const = "own" }\naction = "what"\n'
    head = 'name = "own"\nwhen = "what"\n'
    file.write_text(head + 'envelopes = ["entries[].message|base64|json"]\n' + body)
    source = make_source(read_definition(file))
    inner = base64.b64encode(b'{"what":"x","id":"7"}').decode()
    [found] = source.map(json.dumps({"entries": [{"message": inner}]}).encode())
    assert isinstance(found, Mapped)
    assert found.draft.id == "7"
    file.write_text(head + 'envelopes = ["entries[].message|rot13"]\n' + body)
    with pytest.raises(InvalidSetting, match=r"own.toml, line 3: envelopes: .*'rot13' is none of"):
        read_definition(file)


POISON = {
    "a member twice": '{"a":1,"a":2}',
    "no number": "NaN",
    "a large integer": "123456789012345678901234567890",
    "half of a pair": '"\\ud83d"',
    "a large number": "1e999",
    "a word": "yes",
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
@pytest.mark.parametrize("padding", [10, 2**20], ids=["small", "large"])
@pytest.mark.parametrize(
    "envelope",
    ['{"Records":[%s]}', '{"items":[%s],"x":{}}', '[{"events":[%s]}]', '{"data":{"events":[%s]}}'],
)
def test_a_record_that_no_strict_parser_reads_costs_only_itself(
    envelope: str, padding: int, poison: str
) -> None:
    first = json.dumps({**TRAIL, "eventID": "e-2", "padding": "x" * padding})
    poisoned = TEXT[:-1] + f',"requestParameters":{poison}}}'
    raw = (envelope % ",".join((first, poisoned, TEXT))).encode()
    before, refused, behind = mapped("cloudtrail", raw)
    assert isinstance(before, Mapped)
    assert isinstance(refused, NotMapped)
    assert refused.raw == poisoned.encode()
    assert (refused.reason, refused.skipped) == (mapped_reason(poisoned), False)
    assert isinstance(behind, Mapped)
    assert behind.draft.id == source_named("cloudtrail").draft(TEXT.encode()).draft.id


def mapped_reason(record: str) -> str:
    [found] = mapped("cloudtrail", record.encode())
    assert isinstance(found, NotMapped)
    return found.reason


def test_a_text_that_is_no_utf_8_costs_only_itself() -> None:
    line = b'"<38>1 2026-01-01T00:00:00Z h su 1 - - hello"'
    wrong = b'"<38>1 - h \xff"', b'"\\q"'
    body = b'{"records":[{"message":%b},{"message":%b},{"message":%b}]}' % (*wrong, line)
    found = [*source_named("syslog").map(body)]
    assert [isinstance(one, Mapped) for one in found] == [False, False, True]


@pytest.mark.parametrize("many", [1, 100, 3000], ids=["small", "brackets", "large"])
@pytest.mark.parametrize(
    "envelope",
    [
        '{"Records":[%s],"Records":[]}',
        '{"Records":[],"Records":[%s]}',
        '{"Records":[%s],"\\u0052ecords":[]}',
        '{"data":{"events":[%s],"events":[]}}',
        '{"data":{"events":[%s]},"data":{}}',
    ],
)
def test_an_envelope_that_names_its_list_twice_is_refused(envelope: str, many: int) -> None:
    records = ",".join([TEXT] * many)
    [found] = mapped("cloudtrail", (envelope % records).encode())
    assert isinstance(found, NotMapped)
    assert "twice" in found.reason


def test_an_envelope_may_spell_its_names_and_spaces_as_it_likes() -> None:
    records = ", ".join([TEXT] * 100)
    raw = f'{{ "\\u0052ecords" :\n [ {records} ], "x" : 1 }}'
    assert [type(found) for found in mapped("cloudtrail", raw.encode())] == [Mapped] * 100


def test_what_is_inside_of_a_record_that_is_refused_is_no_record() -> None:
    for envelope in ('"Records":[%s]', '"detail":%s', '"event":%s'):
        record = TEXT[:-1] + f',"a":NaN,{envelope % TEXT}}}'
        [found] = mapped("cloudtrail", record.encode())
        assert isinstance(found, NotMapped)
        assert "NaN" in found.reason


def test_an_item_without_what_the_others_hold_is_refused_by_name() -> None:
    batch = {"Records": [{"body": TEXT}, {"attributes": {}}]}
    found, other = mapped("cloudtrail", json.dumps(batch).encode())
    assert isinstance(found, Mapped)
    assert isinstance(other, NotMapped)
    assert "not a record of AWS CloudTrail" in other.reason
