"""Destinations of the type `elasticsearch`: documents, and the table of answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.elasticsearch import ELASTICSEARCH, judge
from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.errors import InvalidRequest
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import HTTP_CASES, batch_of, connected, new_outlet
from tests.support.scripted_receiver import Reply

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
CASE = HTTP_CASES["elasticsearch"]
CREATED = {"create": {"status": 201}}


def item(status: int, kind: str = "", reason: str = "because") -> dict[str, Any]:
    return {"create": {"status": status, "error": {"type": kind, "reason": reason}}}


def answer(*items: dict[str, Any], errors: bool | None = None, **others: Any) -> RemoteAnswer:
    failed = any(one["create"]["status"] > 201 for one in items)
    body = {"errors": failed if errors is None else errors, "items": items, **others}
    return RemoteAnswer(200, {}, orjson.dumps(body))


FIELDS = "Limit of total fields [1000] has been exceeded"
ITEMS = [
    (item(409, "version_conflict_engine_exception"), SUCCESS),
    (item(409, "another_exception"), TRANSIENT),
    (item(429, "cluster_block_exception"), TRANSIENT),
    (item(429, "es_rejected_execution_exception"), TRANSIENT),
    (item(500, "anything"), TRANSIENT),
    (item(503, "unavailable_shards_exception"), TRANSIENT),
    (item(400, "mapper_parsing_exception"), PERMANENT),
    (item(400, "document_parsing_exception"), PERMANENT),
    (item(400, "strict_dynamic_mapping_exception"), PERMANENT),
    (item(400, "illegal_argument_exception", FIELDS), PERMANENT),
    (item(413, "too_large"), PERMANENT),
    (item(400, "illegal_argument_exception", "pipeline with id [x] does not exist"), CONFIG),
    (item(400, "illegal_argument_exception", "no write index is defined for alias [a]"), CONFIG),
    (item(400, "invalid_index_name_exception"), CONFIG),
    (item(400, "index_closed_exception"), CONFIG),
    (item(403, "cluster_block_exception"), CONFIG),
    (item(403, "security_exception"), CONFIG),
    (item(401, "security_exception"), CONFIG),
    (item(404, "index_not_found_exception"), CONFIG),
    (item(302, "moved"), CONFIG),
    (item(202, "accepted"), TRANSIENT),
]


@every(ITEMS)
def test_every_answer_to_one_document_has_its_result(case: tuple[Any, DeliveryResult]) -> None:
    one, result = case
    verdict = judge(answer(CREATED, one, CREATED), 3)
    assert verdict.delivered(3) == ({0, 1, 2} if result is SUCCESS else {0, 2})
    assert [refused.index for refused in verdict.refused] == ([1] if result is PERMANENT else [])
    assert verdict.again == ({1} if result in (TRANSIENT, CONFIG) else set())
    assert verdict.result == (SUCCESS if result is PERMANENT else result)
    assert verdict.duplicates == (result is SUCCESS)
    if verdict.result is not SUCCESS:
        status, error = one["create"]["status"], one["create"]["error"]
        assert (verdict.status, verdict.message) == (status, f"{error['type']}: {error['reason']}")


def test_results_of_documents_are_joined_without_forgetting_one() -> None:
    verdict = judge(
        answer(
            CREATED, item(429, "es_rejected_execution_exception"),
            item(400, "mapper_parsing_exception", "x" * 999), item(403, "security_exception"),
            item(409, "version_conflict_engine_exception"),
        ),
        5,
    )  # fmt: skip
    assert verdict.result is CONFIG
    assert verdict.delivered(5) == {0, 4}
    assert verdict.again == {1, 3}
    [refused] = verdict.refused
    assert (refused.index, refused.status) == (2, 400)
    assert refused.reason == "mapper_parsing_exception"
    assert verdict.duplicates == 1


@every([
    ("mapper_parsing_exception", "failed to parse field [user.id] of type [long] in document with "
     "id 'acme:e'. Preview of field's value: 'planted'",
     "mapper_parsing_exception: field user.id of type long"),
    ("mapper_parsing_exception", "planted: failed to parse field [planted] of type [long]",
     "mapper_parsing_exception"),
    ("document_parsing_exception", "failed to parse field [planted value] of type [long]",
     "document_parsing_exception"),
    ("planted Value", "because", "error"),
    # Words by which a wrong configuration is known otherwise.
    ("mapper_parsing_exception", "no write index", "mapper_parsing_exception"),
    ("illegal_argument_exception", "mapper [data stream] cannot be changed",
     "illegal_argument_exception"),
])  # fmt: skip
def test_a_document_is_refused_by_the_name_of_the_error_and_never_with_its_values(
    case: tuple[str, str, str],
) -> None:
    verdict = judge(answer(CREATED, item(400, case[0], case[1])), 2)
    [refused] = verdict.refused
    assert (verdict.result, refused.reason) == (SUCCESS, case[2])
    assert "planted" not in repr(verdict)


def test_where_every_document_is_refused_nothing_is_delivered() -> None:
    verdict = judge(answer(*[item(400, "mapper_parsing_exception")] * 3), 3)
    assert (verdict.result, len(verdict.refused)) == (PERMANENT, 3)
    assert verdict.delivered(3) == frozenset()


@every([
    answer(CREATED, CREATED), answer(CREATED, CREATED, CREATED, CREATED), answer(),
    answer(CREATED, CREATED, CREATED, errors=True), RemoteAnswer(200, {}, b'{"errors":false}'),
    RemoteAnswer(200, {}, b'{"items":[]}'), RemoteAnswer(200, {}, b""),
    RemoteAnswer(200, {}, b"<html>"), RemoteAnswer(200, {}, b"[]"), RemoteAnswer(200, {}, b"null"),
    RemoteAnswer(200, {}, b'{"errors":false,"items":[{},{},{}]}'),
    RemoteAnswer(200, {}, b'{"errors":false,"items":[1,2,3]}'),
    RemoteAnswer(200, {}, b'{"errors":false,"items":[{"create":{"status":"201"}}]}'),
])  # fmt: skip
def test_a_200_that_does_not_speak_of_each_document_is_none(lying: RemoteAnswer) -> None:
    verdict = judge(lying, 3)
    assert (verdict.result, verdict.kind) == (TRANSIENT, "protocol")
    assert verdict.delivered(3) == frozenset()


@every([
    (400, PERMANENT), (413, PERMANENT), (401, CONFIG), (403, CONFIG), (404, CONFIG), (406, CONFIG),
    (415, CONFIG), (301, CONFIG), (429, TRANSIENT), (503, TRANSIENT),
])  # fmt: skip
def test_answers_to_the_whole_request_have_their_result(case: tuple[int, DeliveryResult]) -> None:
    verdict = judge(RemoteAnswer(case[0], {}, b"because"), 3)
    assert verdict == DeliveryVerdict(case[1], kind="http", status=case[0], message="because")


@every([201, 202, 204])
def test_a_success_that_is_no_200_is_none_of_this_interface(status: int) -> None:
    assert judge(RemoteAnswer(status, {}, answer(CREATED).body), 1).result is TRANSIENT


async def test_documents_are_created_by_id_in_the_index_of_their_recording() -> None:
    async with connected(CASE, secrets={"api_key": ["k"]}) as (outlet, receiver):
        batch = batch_of(outlet, 2, tenant="acme")
        assert (await outlet.send(batch)).result is SUCCESS
        [received] = receiver.received
        assert received.target.startswith("/_bulk?filter_path=errors,items")
        assert received.headers["content-type"] == "application/x-ndjson"
        assert received.headers["authorization"] == "ApiKey k"
        *lines, end = received.body.split(b"\n")
        assert end == b""
        assert orjson.loads(lines[0]) == {"create": {"_index": "audit-2026.01", "_id": "acme:e-1"}}
        assert lines[1] == batch[0].outbound.json
        assert len(lines) == 4


async def test_the_index_follows_the_recording_and_not_the_time_of_sending() -> None:
    settings = {"url": "https://siem.example.org", "index": "a-{yyyy}.{MM}.{dd}"}
    async with connected(CASE, settings=settings) as (outlet, _):
        for recorded_at, index in (
            ("2026-01-31T23:59:59.999999Z", "a-2026.01.31"),
            ("2026-02-01T00:00:00.000000Z", "a-2026.02.01"),
        ):
            event = outbound_event(recorded_at=recorded_at, time="2020-05-05T00:00:00Z", id='a"b')
            action = orjson.loads(outlet.encode(event).split(b"\n")[0])["create"]
            assert action == {"_index": index, "_id": 'default:a"b'}


@every([
    ({"user": "ann"}, {"password": ["pw"]}, "Basic YW5uOnB3"), ({}, {"token": ["t"]}, "Bearer t"),
    ({}, {"api_key": ["k"]}, "ApiKey k"), ({}, {}, None),
])  # fmt: skip
def test_credentials_are_basic_bearer_or_an_api_key(case: tuple[Any, Any, str | None]) -> None:
    import asyncio

    async def attempt() -> None:
        async with connected(CASE, settings=case[0], secrets=case[1]) as (outlet, receiver):
            await outlet.send(batch_of(outlet))
            assert receiver.received[0].headers.get("authorization") == case[2]

    asyncio.run(attempt())


async def test_documents_that_are_refused_are_named_over_the_wire() -> None:
    async with connected(CASE) as (outlet, receiver):
        mixed = answer(CREATED, item(400, "mapper_parsing_exception"), item(429))
        receiver.script.append(Reply(200, mixed.body))
        verdict = await outlet.send(batch_of(outlet))
        assert verdict.delivered(3) == {0}
        assert [one.index for one in verdict.refused] == [1]
        assert verdict.again == {2}


@every([
    {"index": "Audit"}, {"index": "audit logs-{yyyy}"}, {"index": "-a-{yyyy}"}, {"index": ""},
    {"index": "audit-{year}"}, {"index": "audit"}, {"index": "audit-{MM}"}, {"url": "https://a/?x=1"},
])  # fmt: skip
def test_settings_that_would_lose_or_double_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(ELASTICSEARCH, {"url": "https://siem.example.org", **settings})
    assert refused.value.members["path"].split(".")[1] in settings


def test_data_streams_are_taken_where_repeats_are_allowed() -> None:
    from gateway.delivery.outlets.elasticsearch import ElasticsearchSettings, check
    from gateway.delivery.outlets.outlet_plan import NATIVE

    check(ElasticsearchSettings("https://a", index="logs-audit", allow_duplicates=True), NATIVE)
    with pytest.raises(InvalidRequest, match="documents are JSON"):
        check(ElasticsearchSettings("https://a"), NativeFormat("cef", False))
