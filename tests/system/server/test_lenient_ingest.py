"""One bad item keeps no other out: `on_invalid=skip` and `Prefer: handling=lenient`."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

import msgspec
import pytest
from gateway_client import NDJSON, event, key_id
from gateways import Gateway

from gateway.http.intake import sorted_items
from gateway.ingest.marked import tenant_of

SKIP = "/v1/events?on_invalid=skip"
GOOD = {"id": "good", "category": "auth", "action": "user.login", "tenant": "acme"}
BAD = {"id": "bad", "category": "auth", "tenant": "acme", "data": {"secret": "s3cret"}}


async def marked(gateway: Gateway, key: str | None = None) -> list[dict[str, Any]]:
    answer = await gateway.get(
        "/v1/events", key=key or gateway.admin, params={"category": "gateway.rejected"}
    )
    assert answer.status == 200, answer.body
    return list(answer.json()["events"])


def nested(depth: int) -> bytes:
    head = b'{"id":"deep","category":"auth","action":"a","outcome":"denied","actor":{"id":"u"},'
    inner = b'{"x":' * (depth - 2) + b"1" + b"}" * (depth - 2)
    return head + b'"data":{"small":1,"deep":' + inner + b"}}"


async def test_the_good_ones_are_stored_and_the_refused_ones_named_and_kept(
    gateway: Gateway,
) -> None:
    answer = await gateway.post(SKIP, key=gateway.admin, json=[GOOD, BAD, 7])
    assert answer.status == 200, answer.body
    said = answer.json()
    assert (said["accepted"], said["duplicates"]) == (1, 0)
    assert said["rejected"] == [
        {"index": 1, "path": "action", "reason": "required"},
        {"index": 2, "path": "", "reason": "an event is a JSON object"},
    ]
    assert "truncated" not in said
    first, second = await marked(gateway)
    assert (first["tenant"], second["tenant"]) == ("acme", "gateway")
    assert first["outcome"] == "failure"
    assert first["actor"]["key_id"] == key_id(gateway.admin)
    item = first["data"]["rejected_item"]
    assert (first["data"]["path"], item["reason"]) == ("action", "required")
    assert json.loads(item["content"]) == BAD
    assert item["bytes"] == len(item["content"])


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("handling=lenient", True),
        ('respond-async, Handling="lenient"; x=1', True),
        ("handling=strict", False),
        ("return=minimal", False),
        ("handling=strict, handling=lenient", False),
    ],
)
async def test_the_preference_counts_and_is_said_to_be_applied(
    gateway: Gateway, prefer: str, applied: bool
) -> None:
    answer = await gateway.post(
        "/v1/events", key=gateway.admin, json=[GOOD, BAD], headers={"Prefer": prefer}
    )
    assert answer.status == (200 if applied else 422)
    assert answer.headers.get("Preference-Applied") == ("handling=lenient" if applied else None)


async def test_the_parameter_wins_over_the_preference(gateway: Gateway) -> None:
    headers = {"Prefer": "handling=lenient"}
    for value, status in (("fail", 422), ("skip", 200)):
        answer = await gateway.post(
            f"/v1/events?on_invalid={value}", key=gateway.admin, json=[GOOD, BAD], headers=headers
        )
        assert answer.status == status
        assert "Preference-Applied" not in answer.headers
    wrong = await gateway.post("/v1/events?on_invalid=drop", key=gateway.admin, json=[GOOD])
    assert wrong.status == 400


async def test_repeated_refused_items_are_kept_once(gateway: Gateway) -> None:
    for _ in range(3):
        answer = await gateway.post(SKIP, key=gateway.admin, json=[GOOD, BAD, BAD])
        assert [one["index"] for one in answer.json()["rejected"]] == [1, 2]
    assert len(await marked(gateway)) == 1
    assert answer.json()["duplicates"] == 1


async def test_a_request_of_bad_items_alone_is_answered_with_what_was_wrong(
    gateway: Gateway,
) -> None:
    answer = await gateway.post(SKIP, key=gateway.admin, json=[BAD])
    assert (answer.status, answer.json()["accepted"]) == (200, 0)
    assert len(answer.json()["rejected"]) == 1
    after = await gateway.get(
        "/v1/events", key=gateway.admin, params={"after": answer.json()["last_cursor"]}
    )
    assert after.status == 200


async def test_broken_lines_are_items_and_a_body_that_is_no_json_is_none(gateway: Gateway) -> None:
    lines = json.dumps(GOOD).encode() + b'\n{"broken\n\xff\xfe\n' + b"null\n"
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    answer = await gateway.post(SKIP, key=gateway.admin, data=gzip.compress(lines), headers=headers)
    assert answer.status == 200, answer.body
    assert [one["index"] for one in answer.json()["rejected"]] == [1, 2, 3]
    assert answer.json()["accepted"] == 1
    plain = {"Content-Type": "application/json"}
    for body in (b"no json", b'{"a":', b'[{"a":1},', b"\xff"):
        refused = await gateway.post(SKIP, key=gateway.admin, data=body, headers=plain)
        assert refused.status == 400, body
    assert (await gateway.post(SKIP, key=gateway.admin, data=b"x", headers={
        "Content-Type": "text/plain"})).status == 415  # fmt: skip


async def test_what_the_key_may_not_write_is_refused_alone_and_kept_where_it_may(
    gateway: Gateway,
) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["auth"], "tenants": ["acme"]})
    items = [GOOD, {**GOOD, "id": "x", "tenant": "other"}, {**GOOD, "id": "y", "category": "hr"},
             {**BAD, "tenant": "other"}]  # fmt: skip
    answer = await gateway.post(SKIP, key=key, json=items)
    assert [(one["index"], one["path"]) for one in answer.json()["rejected"]] == [
        (1, "tenant"), (2, "category"), (3, "action"),
    ]  # fmt: skip
    assert [one["tenant"] for one in await marked(gateway)] == ["gateway", "acme", "gateway"]


async def test_at_most_64_kib_of_an_item_are_kept_however_it_is_escaped(gateway: Gateway) -> None:
    large = {**BAD, "data": {"x": '\x01\\"' * 30_000, "key": "alpk_" + "a" * 43}}
    await gateway.post(SKIP, key=gateway.admin, json=[large])
    [event_of_it] = await marked(gateway)
    item = event_of_it["data"]["rejected_item"]
    assert item["truncated"] is True
    assert item["bytes"] > 64 * 1024
    assert 32 * 1024 < len(msgspec.json.encode(item["content"])) <= 64 * 1024


async def test_keys_in_refused_items_are_not_kept(gateway: Gateway) -> None:
    await gateway.post(SKIP, key=gateway.admin, json=[{**BAD, "reason": gateway.admin}])
    [event_of_it] = await marked(gateway)
    assert gateway.admin not in event_of_it["data"]["rejected_item"]["content"]


async def test_no_wildcard_reaches_refused_items(gateway: Gateway) -> None:
    await gateway.post(SKIP, key=gateway.admin, json=[BAD])
    key = await gateway.mint({"actions": ["pull"], "categories": ["**"]})
    assert await marked(gateway, key) == []
    named = await gateway.mint({"actions": ["pull"], "categories": ["gateway.rejected"]})
    [seen] = await marked(gateway, named)
    assert "s3cret" in seen["data"]["rejected_item"]["content"]


@pytest.mark.parametrize(
    "more",
    [
        {"actions": ["pull"], "categories": ["auth"], "fields": {"mask": ["data.secret"]}},
        {"actions": ["pull"], "categories": ["auth"], "fields": {"drop": ["data.secret"]}},
        {"effect": "deny", "actions": ["pull"], "categories": ["auth"]},
    ],
)
async def test_what_a_mask_or_a_denial_hides_does_not_come_out_of_a_refused_item(
    gateway: Gateway, more: dict[str, Any]
) -> None:
    await gateway.post(SKIP, key=gateway.admin, json=[BAD])
    [whole] = await marked(gateway)
    key = await gateway.mint({"actions": ["pull"], "categories": ["**", "gateway.rejected"]}, more)
    [seen] = await marked(gateway, key)
    by_id = await gateway.get(f"/v1/events/{whole['id']}", key=key)
    lines = await gateway.get(
        "/v1/events", key=key, params={"category": "gateway.rejected"},
        headers={"Accept": "application/x-ndjson"},
    )  # fmt: skip
    assert seen["data"]["rejected_item"] == "***"
    assert b"s3cret" not in by_id.body + lines.body
    tried = await gateway.get(
        "/v1/events", key=key,
        params={"filter": 'data.rejected_item.content.contains("s3cret")'},
    )  # fmt: skip
    assert tried.json()["events"] == []


@pytest.mark.parametrize("depth", [65, 500])
async def test_an_event_that_is_too_deep_keeps_who_what_when_and_outcome(
    gateway: Gateway, depth: int
) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await gateway.post(SKIP, key=gateway.admin, data=nested(depth), headers=headers)
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, [])
    assert answer.json()["truncated"] == [
        {"index": 0, "path": "data", "reason": "nested deeper than 64 levels"}
    ]
    stored = (await gateway.get("/v1/events/deep", key=gateway.admin)).json()
    assert (stored["actor"], stored["outcome"], stored["action"]) == ({"id": "u"}, "denied", "a")
    assert stored["data"]["small"] == 1
    assert stored["data"]["truncated"]["cut"] == ["data.deep"]
    again = await gateway.post(SKIP, key=gateway.admin, data=nested(depth), headers=headers)
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 1)
    strict = await gateway.post(
        "/v1/events", key=gateway.admin, data=nested(depth), headers=headers
    )
    assert strict.status == 422


async def test_an_event_that_is_too_large_keeps_what_fits(gateway: Gateway) -> None:
    data = {"kept": [1.50], "large": "x" * 300_000, "truncated": "mine", "also": {"kept": True}}
    answer = await gateway.post(SKIP, key=gateway.admin, json=[event(id="large", data=data)])
    assert answer.json()["accepted"] == 1
    stored = (await gateway.get("/v1/events/large", key=gateway.admin)).json()["data"]
    assert (stored["kept"], stored["also"]) == ([1.5], {"kept": True})
    assert stored["truncated"]["cut"] == ["data.large", "data.truncated"]
    assert stored["truncated"]["bytes"] > 300_000


async def test_an_event_64_deep_is_stored_masked_filtered_and_streamed(gateway: Gateway) -> None:
    await gateway.post(
        "/v1/events",
        key=gateway.admin,
        data=nested(64),
        headers={"Content-Type": "application/json"},
    )
    key = await gateway.mint(
        {"actions": ["pull"], "categories": ["auth"], "fields": {"mask": ["data.small"]}}
    )
    for asked, small in ((gateway.admin, 1), (key, "***")):
        page = await gateway.get("/v1/events", key=asked, params={"filter": "has(data.deep.x)"})
        [found] = page.json()["events"]
        assert found["data"]["small"] == small
        inner: Any = found["data"]["deep"]
        for _ in range(62):
            inner = inner["x"]
        assert inner == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(b"NaN", "NaN is not JSON"), (rb'"\ud800"', "half of a surrogate pair"),
     (b'"a\tb"', "not valid JSON"), (b"[1,]", "not valid JSON")],
)  # fmt: skip
async def test_an_item_of_an_array_that_is_no_json_is_refused_alone(
    gateway: Gateway, bad: bytes, reason: str
) -> None:
    item = b'{"id":"b","category":"auth","action":"a","tenant":"acme","data":{"x":%s}}' % bad
    one = msgspec.json.encode(GOOD)
    body = b"[" + b",".join([one, item, one.replace(b"good", b"other")]) + b"]"
    headers = {"Content-Type": "application/json"}
    answer = await gateway.post(SKIP, key=gateway.admin, data=body, headers=headers)
    assert answer.status == 200, answer.body
    said = answer.json()
    assert (said["accepted"], [one["index"] for one in said["rejected"]]) == (2, [1])
    assert reason in said["rejected"][0]["reason"]
    [kept] = await marked(gateway)
    assert kept["data"]["rejected_item"]["bytes"] == len(item)


async def test_an_item_of_an_array_of_any_size_keeps_no_other_out(gateway: Gateway) -> None:
    large = {**GOOD, "id": "large", "data": {"text": "}, {" * 700_000, "small": 1}}
    body = json.dumps([GOOD, large, {**GOOD, "id": "other"}]).encode()
    assert len(body) > 2 << 20
    headers = {"Content-Type": "application/json"}
    answer = await gateway.post(SKIP, key=gateway.admin, data=body, headers=headers)
    assert answer.status == 200, answer.body
    said = answer.json()
    assert (said["accepted"], said["rejected"]) == (3, [])
    assert [one["index"] for one in said["truncated"]] == [1]


async def test_large_refused_items_are_looked_at_by_a_thread(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    make = sorted_items.rejected_event

    def made(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return make(*given, **named)

    monkeypatch.setattr(sorted_items, "rejected_event", made)
    small, large = b'{"category":1}', b'{"category":1,"data":{"a":"%b"}}' % (b"x" * 50_000)
    answer = await gateway.post(
        "/v1/events?on_invalid=skip",
        data=b"\n".join([small, large]),
        headers={"Content-Type": NDJSON},
    )
    assert len(answer.json()["rejected"]) == 2
    main = threading.main_thread()
    assert [one is main for one in threads] == [True, False]


async def test_of_an_item_of_very_many_parts_nothing_more_is_looked_at(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ingest.marked._MOST_TOKENS", 1000)
    many = b'{"tenant":"acme","data":' + b"[" * 2000 + b"]" * 2000 + b"}"
    answer = await gateway.post(
        "/v1/events?on_invalid=skip", data=many, headers={"Content-Type": "application/json"}
    )
    [rejected] = answer.json()["rejected"]
    assert rejected["reason"] == "more than 1000 strings, brackets and commas"
    assert tenant_of(many) is None
