"""`POST /v1/events`: what is taken, what is refused and why, and that it is all or nothing."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from gateway_client import NDJSON, Event, GatewayClient, cursor_at, event, offset_of
from gateways import Gateway

JSON = "application/json"


async def post(gateway: GatewayClient, body: bytes, kind: str = JSON, **headers: str) -> Any:
    sent = {"Content-Type": kind, **{n.replace("_", "-"): v for n, v in headers.items()}}
    return await gateway.post("/v1/events", data=body, headers=sent)


async def stored(gateway: Gateway) -> list[Event]:
    events: list[Event] = (await gateway.pull(from_="start"))["events"]
    return events


# What is taken


async def test_one_json_event_is_stored_with_what_the_gateway_sets(gateway: Gateway) -> None:
    answer = await post(gateway, orjson.dumps(event(data={"n": 1})))
    assert answer.status == 201
    (kept,) = await stored(gateway)
    assert answer.json() == {
        "accepted": 1,
        "duplicates": 0,
        "first_cursor": kept["cursor"],
        "last_cursor": kept["cursor"],
    }
    assert kept["time"] == kept["recorded_at"]
    assert len(kept["id"]) == 36
    assert kept["id"][14] == "7"
    defaults = {"tenant": "default", "outcome": "unknown", "severity": 1}
    assert {name: kept[name] for name in defaults} == defaults
    assert kept["data"] == {"n": 1}


async def test_a_json_array_is_stored_in_its_order_and_answered_with_both_cursors(
    gateway: Gateway,
) -> None:
    await gateway.send(event())
    answer = (await post(gateway, orjson.dumps([event(data={"n": n}) for n in range(3)]))).json()
    events = await stored(gateway)
    assert [one["data"]["n"] for one in events[1:]] == [0, 1, 2]
    assert answer["first_cursor"] == events[1]["cursor"]
    assert answer["last_cursor"] == events[3]["cursor"]
    assert answer["accepted"] == 3


@pytest.mark.parametrize("kind", [NDJSON, "application/ndjson", "application/jsonl"])
async def test_ndjson_lines_are_stored_whatever_their_line_ends(
    gateway: Gateway, kind: str
) -> None:
    lines = [orjson.dumps(event(data={"n": n})) for n in range(3)]
    body = lines[0] + b"\r\n\n" + lines[1] + b"\n  \n" + lines[2]
    assert (await post(gateway, body, kind)).json()["accepted"] == 3
    assert [one["data"]["n"] for one in await stored(gateway)] == [0, 1, 2]


async def test_gzip_is_unpacked_also_with_several_members(gateway: Gateway) -> None:
    halves = [b"%b\n" % orjson.dumps(event(data={"n": n})) for n in range(2)]
    whole = gzip.compress(halves[0]) + gzip.compress(b"") + gzip.compress(halves[1])
    answer = await post(gateway, whole, NDJSON, Content_Encoding="gzip")
    assert answer.json()["accepted"] == 2
    answer = await post(gateway, gzip.compress(halves[0]), JSON, Content_Encoding="GZIP")
    assert answer.json()["accepted"] == 1


async def test_data_is_kept_exactly_as_it_was_sent(gateway: Gateway) -> None:
    data = b'{"big":18446744073709551615,"small":-9223372036854775808,"d":1.0,"e":1E+2,'
    data += b'"u":"\\u00e9\\/"}'
    await post(gateway, b'{"category":"a","action":"b","data":%b}' % data)
    page = await gateway.get("/v1/events")
    assert b'"data":' + data in page.body


async def test_a_time_is_stored_as_utc_with_microseconds(gateway: Gateway) -> None:
    await gateway.send(event(time="2026-01-31T12:00:00.1234567+02:00"))
    (kept,) = await stored(gateway)
    assert kept["time"] == "2026-01-31T10:00:00.123456Z"


@pytest.mark.parametrize("kind", [JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=UTF8"])
async def test_utf_8_is_taken_however_it_is_declared(gateway: Gateway, kind: str) -> None:
    body = orjson.dumps(event(reason="früh ☂ 𝄞"))
    assert (await post(gateway, body, kind)).status == 201
    assert (await stored(gateway))[0]["reason"] == "früh ☂ 𝄞"


# Duplicates


async def test_a_repeated_request_stores_nothing_and_names_the_same_cursors(
    gateway: Gateway,
) -> None:
    events = [event(id=f"e{n}") for n in range(3)]
    first = await gateway.send(*events)
    again = await gateway.send(*events)
    assert again == {**first, "accepted": 0, "duplicates": 3}
    assert len(await stored(gateway)) == 3


async def test_duplicates_within_a_request_and_beside_new_events_are_counted(
    gateway: Gateway,
) -> None:
    old = event(id="old", reason="sent before")
    await gateway.send(old)
    answer = await gateway.send(event(id="new"), old, event(id="new"))
    assert (answer["accepted"], answer["duplicates"]) == (1, 2)
    events = await stored(gateway)
    assert [(one["id"], one.get("reason")) for one in events] == [
        ("old", "sent before"),
        ("new", None),
    ]
    assert answer["first_cursor"] == events[0]["cursor"]


async def test_the_same_id_in_two_tenants_is_no_duplicate(gateway: Gateway) -> None:
    answer = await gateway.send(event(id="x", tenant="a"), event(id="x", tenant="b"))
    assert answer["accepted"] == 2


# All or nothing


async def test_every_refused_item_is_named_with_index_path_and_reason(gateway: Gateway) -> None:
    events = [
        event(),
        event(severity=7),
        {"action": "x"},
        event(actor={"id": 5}),
        event(colour="red"),
        event(cursor="mine"),
        event(time="yesterday"),
        event(targets=[{"urn": "a"}, {"urn": "b", "kind": "c"}]),
        "an event",
        event(id="ä"),
        event(data=[1]),
        event(tenant="UPPER"),
    ]
    answer = await post(gateway, orjson.dumps(events))
    problem = answer.problem(422, "invalid_events")
    named = [(error["index"], error["path"]) for error in problem["errors"]]
    assert named == [
        (1, "severity"), (2, "category"), (3, "actor.id"), (4, "colour"), (5, "cursor"),
        (6, "time"), (7, "targets[1].kind"), (8, ""), (9, "id"), (10, "data"), (11, "tenant"),
    ]  # fmt: skip
    assert all(set(error) == {"index", "path", "reason"} for error in problem["errors"])
    assert all(error["reason"] for error in problem["errors"])
    assert await stored(gateway) == []


async def test_one_bad_line_among_thousands_is_found_and_nothing_is_stored(
    gateway: Gateway,
) -> None:
    lines = [orjson.dumps(event()) for _ in range(3000)]
    lines[2718] = orjson.dumps(event(outcome="perhaps"))
    problem = (await post(gateway, b"\n".join(lines), NDJSON)).problem(422, "invalid_events")
    assert [error["index"] for error in problem["errors"]] == [2718]
    assert await stored(gateway) == []


async def test_every_refusal_of_a_large_request_is_listed(gateway: Gateway) -> None:
    body = b"\n".join([b'{"category":"a"}'] * 2000)
    problem = (await post(gateway, body, NDJSON)).problem(422, "invalid_events")
    assert [error["index"] for error in problem["errors"]] == list(range(2000))


# Who may write what


async def test_a_producer_bound_to_a_tenant_cannot_write_into_another(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["**"], "tenants": ["acme"]})
    events = [event(tenant="acme"), event(tenant="globex"), event()]
    answer = await gateway.post("/v1/events", json=events, key=key)
    problem = answer.problem(403, "events_not_granted")
    assert [(error["index"], error["path"]) for error in problem["errors"]] == [
        (1, "tenant"), (2, "tenant"),
    ]  # fmt: skip
    assert "insufficient_scope" in answer.headers["WWW-Authenticate"]
    assert await stored(gateway) == []
    assert (await gateway.send(event(tenant="acme"), key=key))["accepted"] == 1


@pytest.mark.parametrize(
    ("grant", "path"),
    [
        ({"tenants": ["globex"]}, "tenant"),
        ({"categories": ["billing.**"]}, "category"),
        ({"resources": ["k8s:prod/**"]}, "targets"),
        ({"min_severity": 2}, "severity"),
    ],
)
async def test_a_refused_event_is_told_the_member_that_is_outside(
    gateway: Gateway, grant: dict[str, Any], path: str
) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["**"], **grant})
    answer = await gateway.post("/v1/events", json=[event(tenant="acme")], key=key)
    assert answer.problem(403, "events_not_granted")["errors"][0]["path"] == path


@pytest.mark.parametrize("category", ["gateway", "gateway.keys"])
async def test_nobody_can_write_the_gateways_own_records(gateway: Gateway, category: str) -> None:
    by_wildcard = await gateway.mint({"actions": ["ingest"], "categories": ["**"]})
    for key in (by_wildcard, gateway.admin):
        answer = await gateway.post("/v1/events", json=event(category=category), key=key)
        assert answer.status in (403, 422)
    assert await stored(gateway) == []


async def test_an_event_at_the_largest_size_is_taken_and_comes_back_whole(
    gateway: Gateway,
) -> None:
    shell = len(orjson.dumps(event(data={"x": ""})))
    body = orjson.dumps(event(data={"x": "y" * (256 * 1024 - shell - 200)}))
    assert (await post(gateway, body)).status == 201
    too_large = orjson.dumps(event(data={"x": "y" * (256 * 1024 - shell + 1)}))
    problem = (await post(gateway, too_large)).problem(422, "invalid_events")
    assert problem["errors"][0]["path"] == ""
    (kept,) = await stored(gateway)
    assert len(kept["data"]["x"]) == 256 * 1024 - shell - 200


async def test_the_cursors_of_an_answer_resume_right_behind_its_events(gateway: Gateway) -> None:
    await gateway.send(event(id="before"))
    answer = await gateway.send(event(id="a"), event(id="b"))
    await gateway.send(event(id="after"))
    page = await gateway.pull(after=answer["last_cursor"])
    assert [one["id"] for one in page["events"]] == ["after"]
    before = cursor_at(answer["first_cursor"], offset_of(answer["first_cursor"]) - 1)
    page = await gateway.pull(after=before)
    assert [one["id"] for one in page["events"]] == ["a", "b", "after"]
