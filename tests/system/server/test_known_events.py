"""Events with an id that another event has: stored, told apart, and told of to nobody else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from gateway_client import event, key_id
from gateways import Gateway

from gateway.cli.importing.folder_sink import FolderSink
from gateway.ingest.mapping.parsing import parse_definition
from gateway.ingest.sources.catalog import FUNCTIONS, make_source, shipped_text
from gateway.ingest.sources.envelopes import parse_envelope
from tests.support.machine_time import patience


async def metric(gateway: Gateway, name: str) -> float:
    text = (await gateway.get("/metrics", key=gateway.admin)).body.decode()
    [line] = [one for one in text.splitlines() if one.startswith(name + " ")]
    return float(line.split()[1])


async def conflict_findings(gateway: Gateway) -> list[Any]:
    deadline = time.monotonic() + patience(4.0)
    while True:
        answer = await gateway.get(
            "/v1/findings", key=gateway.admin, params={"signal": "id_conflict"}
        )
        if found := answer.json()["findings"]:
            return list(found)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_two_producers_with_one_id_both_have_their_event_and_learn_nothing(
    gateway: Gateway,
) -> None:
    one = await gateway.mint({"actions": ["ingest", "pull"], "categories": ["hr"]})
    other = await gateway.mint({"actions": ["ingest", "pull"], "categories": ["billing"]})
    first, second = event(id="e1", category="hr"), event(id="e1", category="billing")
    told_first = (await gateway.post("/v1/events", key=one, json=first)).json()
    told = await gateway.post("/v1/events", key=other, json=second)
    fresh = await gateway.post("/v1/events", key=other, json=event(id="e2", category="billing"))
    # As if the id were nobody's.
    assert (told.status, told.json().keys()) == (201, fresh.json().keys())
    assert (told.json()["accepted"], told.json()["duplicates"]) == (1, 0)
    assert told.json()["first_cursor"] > told_first["last_cursor"]
    again = await gateway.post("/v1/events", key=other, json=second)
    assert again.json() == {**told.json(), "accepted": 0, "duplicates": 1}
    [mine, _] = (await gateway.get("/v1/events", key=other)).json()["events"]
    assert mine["id"].startswith("e1~")
    [theirs] = (await gateway.get("/v1/events", key=one)).json()["events"]
    assert theirs["id"] == "e1"
    # Each id finds its own event, and none finds the other's.
    by_id = await gateway.get(f"/v1/events/{mine['id']}", key=other)
    assert by_id.json()["category"] == "billing"
    assert (await gateway.get("/v1/events/e1", key=one)).json()["category"] == "hr"
    assert (await gateway.get("/v1/events/e1", key=other)).status == 404
    assert (await gateway.get(f"/v1/events/{mine['id']}", key=one)).status == 404


async def test_a_conflict_is_counted_and_a_finding_of_whoever_sent_the_second_event(
    gateway: Gateway,
) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["auth"]})
    await gateway.post("/v1/events", key=key, json=event(id="e1"))
    batch = [event(id="e1", reason=str(n)) for n in range(3)]
    await gateway.post("/v1/events", key=key, json=batch)
    [finding] = await conflict_findings(gateway)
    assert (finding["key"], finding["count"]) == (key_id(key), 3)
    assert await metric(gateway, "audit_gateway_id_conflicts_total") == 3


async def test_the_content_of_mapped_events_is_their_record_alone(gateway: Gateway) -> None:
    record = {"eventID": "7", "size": 1}
    before = event(id="e1", data=record)
    after = event(id="e1", data=record, severity=5, category="auth.other")
    for sent, counts in ((before, (1, 0)), (after, (0, 1)), (before, (0, 1))):
        answer = await gateway.post("/v1/events?content=data", key=gateway.admin, json=sent)
        assert (answer.json()["accepted"], answer.json()["duplicates"]) == counts
    plain = await gateway.post("/v1/events?content=event", key=gateway.admin, json=before)
    assert plain.json()["accepted"] == 1
    for query in ("content=record", "contents=data", "content=data&content=event"):
        assert (
            await gateway.post(f"/v1/events?{query}", key=gateway.admin, json=before)
        ).status == 400


def test_an_import_with_a_changed_mapping_doubles_nothing(tmp_path: Any) -> None:
    record = {
        "eventID": "1", "eventTime": "2026-01-01T00:00:00Z", "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject", "eventVersion": "1.08", "awsRegion": "eu-west-1",
        "userIdentity": {"type": "IAMUser", "userName": "u"},
    }  # fmt: skip

    def line_of(text: str, record: dict[str, Any]) -> bytes:
        definition = parse_definition(text, "cloudtrail.toml", FUNCTIONS, parse_envelope)
        mapped = make_source(definition).draft(msgspec.json.encode(record))
        return b"{" + mapped.draft.tail

    text = shipped_text("cloudtrail")
    changed = text.replace("[event]", "[event]\nseverity = { const = 6 }")
    sink = FolderSink(tmp_path, mapped=True)
    try:
        assert sink.send([line_of(text, record)]).accepted == 1
        again = line_of(changed, record)
        assert b'"severity":6' in again
        result = sink.send([again])
        assert (result.accepted, result.duplicates) == (0, 1)
        other = line_of(changed, {**record, "awsRegion": "us-east-1"})
        assert sink.send([other]).accepted == 1, "another record under the same id"
    finally:
        sink.close()
