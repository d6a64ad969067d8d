"""Elasticsearch's bulk interface: items for themselves, and no answer that loses a batch."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest
from gateway_client import Answer
from gateways import Gateway

from gateway.errors import Unavailable
from gateway.http.receivers import elasticsearch


def lines(*documents: Any, action: str = "create", **about: Any) -> bytes:
    return b"".join(
        json.dumps({action: {"_id": f"d{n}", **about}}).encode()
        + b"\n"
        + (document if isinstance(document, bytes) else json.dumps(document).encode())
        + b"\n"
        for n, document in enumerate(documents)
    )


NATIVE = {"category": "auth", "action": "login"}


async def send(
    gateway: Gateway, body: bytes, path: str = "/_bulk", method: str = "POST", key: str = ""
) -> Answer:
    headers = {"Content-Type": "application/x-ndjson"}
    return await gateway.request(method, path, key=key or gateway.admin, data=body, headers=headers)


def statuses(answer: Answer) -> list[int]:
    assert answer.status == 200, answer.body
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    found = answer.json()
    results = [result for [result] in map(dict.values, found["items"])]
    assert found["errors"] == any("error" in one for one in results)
    return [one["status"] for one in results]


async def stored(gateway: Gateway, **selection: str) -> list[Any]:
    params = {"limit": "1000", **selection}
    answer = await gateway.get("/v1/events", key=gateway.admin, params=params)
    return list(answer.json()["events"])


async def test_every_item_is_answered_for_itself(gateway: Gateway) -> None:
    body = lines(NATIVE, b"{broken", NATIVE | {"severity": 9}, {"message": "m"})
    body += b'{"delete":{"_id":"x"}}\n{"update":{"_id":"x"}}\n{"doc":{}}\n\n'
    assert statuses(await send(gateway, body)) == [201, 400, 400, 201, 400, 400]
    again = await send(gateway, body)
    assert statuses(again) == [409, 400, 400, 409, 400, 400]
    types = [
        result.get("error", {}).get("type") for [result] in map(dict.values, again.json()["items"])
    ]
    assert types == [
        "version_conflict_engine_exception", "mapper_parsing_exception",
        "mapper_parsing_exception", "version_conflict_engine_exception",
        "illegal_argument_exception", "illegal_argument_exception",
    ]  # fmt: skip
    assert [one["id"] for one in await stored(gateway, category="auth")] == ["d0"]
    [event] = await stored(gateway, category="elasticsearch")
    assert (event["id"], event["data"]["message"]) == ("d3", "m")


async def test_to_index_again_is_no_error(gateway: Gateway) -> None:
    body = lines(NATIVE, {"message": "m"}, action="index")
    assert statuses(await send(gateway, body)) == [201, 201]
    assert statuses(await send(gateway, body)) == [200, 200]
    mixed = body + lines(NATIVE, NATIVE, NATIVE, action="index")
    assert statuses(await send(gateway, mixed)) == [200, 200, 200, 201, 201]


async def test_one_poisoned_document_in_twenty_costs_only_itself(gateway: Gateway) -> None:
    documents: list[Any] = [NATIVE] * 20
    documents[7] = b'{"message":"unescaped\nline", "and":\n"another"'
    found = statuses(await send(gateway, lines(*documents)))
    assert [place for place, status in enumerate(found) if status != 201] == [7]
    assert len(await stored(gateway, category="auth")) == 19


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_index_that_is_named_as_a_source_has_its_records(
    gateway: Gateway, method: str
) -> None:
    entry = {"uuid": "1", "eventType": "user.session.start", "published": 0}
    assert statuses(await send(gateway, lines(entry), "/okta-2026.11.30/_bulk", method)) == [201]
    assert statuses(await send(gateway, lines(entry, _index="okta"), "/x/_bulk", method)) == [409]
    assert statuses(await send(gateway, lines(entry), "/_bulk?source=okta", method)) == [409]
    assert [one["id"] for one in await stored(gateway, category="okta.**")] == ["1"]
    for index in ("..", "_all", "%2e%2e%2fokta", "A"):
        answer = await send(gateway, lines(entry), f"/{index}/_bulk", method)
        assert answer.status in (400, 404, 405) or statuses(answer) == [400], index


async def test_documents_of_shippers_are_taken(gateway: Gateway) -> None:
    ecs = {
        "@timestamp": "2026-01-01T00:00:00Z", "user": {"name": "bob"},
        "event": {"action": "ssh_login", "dataset": "system.auth", "outcome": "failure"},
        "organization": {"id": "Acme"},
    }  # fmt: skip
    beats = {"@timestamp": "2026-01-01T00:00:00Z", "message": "text", "host": {"name": "h"}}
    assert statuses(await send(gateway, lines(ecs, beats))) == [201, 201]
    [login] = await stored(gateway, category="system.auth")
    assert (login["tenant"], login["actor"]["name"], login["outcome"]) == ("acme", "bob", "failure")
    [text] = await stored(gateway, category="elasticsearch")
    assert (text["reason"], text["targets"][0]["urn"]) == ("text", "host:h")


async def test_what_the_key_may_not_write_is_refused_by_item(gateway: Gateway) -> None:
    grant = {"actions": ["ingest"], "categories": ["auth", "b"], "tenants": ["acme"]}
    key = await gateway.mint(grant)
    body = lines(NATIVE, NATIVE | {"tenant": "other"}, {"category": "pay", "action": "x"})
    assert statuses(await send(gateway, body, key=key)) == [201, 403, 403]
    assert {one["tenant"] for one in await stored(gateway, category="auth")} == {"acme"}


async def test_parameters_that_clients_send_are_known_and_answers_are_filtered(
    gateway: Gateway,
) -> None:
    path = "/_bulk?filter_path=errors,items.*.status&refresh=false&timeout=1m&pipeline=p"
    answer = await send(gateway, lines(NATIVE), path)
    assert answer.json() == {"errors": False, "items": [{"create": {"status": 201}}]}
    refused = await send(gateway, lines(NATIVE), "/_bulk?surce=okta")
    assert (refused.status, refused.json()["status"]) == (400, 400)
    assert "surce" in refused.json()["error"]["reason"]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"nothing\n", b'{"create":{}}\n{}\n{}\n'])
async def test_a_body_without_actions_is_refused_as_a_whole(gateway: Gateway, body: bytes) -> None:
    answer = await send(gateway, body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "illegal_argument_exception"
    assert await stored(gateway, category="elasticsearch") == []


async def test_a_full_queue_holds_the_request(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, tries = gateway.context.writer, []
    append = writer.append_together

    async def full_at_first(batches: Any) -> Any:
        tries.append(len(batches))
        if len(tries) < 3:
            raise Unavailable("full", code="write_queue_full", retry_after=0)
        return await append(batches)

    monkeypatch.setattr(writer, "append_together", full_at_first)
    assert statuses(await send(gateway, lines(NATIVE))) == [201]
    assert len(tries) == 3


async def test_a_queue_that_stays_full_and_a_stop_are_not_answered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "write_queue_full"

    async def fail(batches: Any) -> Any:
        raise Unavailable("not now", code=code, retry_after=1)

    monkeypatch.setattr(gateway.context.writer, "append_together", fail)
    monkeypatch.setattr(elasticsearch, "_HELD_SECONDS", 0)
    for code in ("write_queue_full", "stopping"):  # noqa: B007
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(gateway, lines(NATIVE))
    assert gateway.context.requests.answers["/_bulk", "5xx"] == 2, "it is counted nevertheless"
    monkeypatch.undo()
    assert statuses(await send(gateway, lines(NATIVE))) == [201]


async def test_an_envelope_of_which_a_record_is_stored_is_not_sent_again(gateway: Gateway) -> None:
    good = {"uuid": "1", "eventType": "user.session.start"}
    whole, partly = {"events": [good]}, {"events": [{**good, "uuid": "2"}, {"x": 1}]}
    body = lines(whole, partly, {"events": [{"x": 1}]}, action="index")
    assert statuses(await send(gateway, body, "/_bulk?source=okta")) == [201, 201, 400]
    assert len(await stored(gateway, category="okta.**")) == 2
    kept = await stored(gateway, category="gateway.rejected")
    assert len(kept) == 2
    assert statuses(await send(gateway, body, "/_bulk?source=okta")) == [200, 200, 400]


async def test_clients_are_told_a_version_and_people_what_is_where(gateway: Gateway) -> None:
    url = gateway.url + "/"
    for accept in ("application/json", "application/vnd.elasticsearch+json; compatible-with=8"):
        answer = await gateway.get("/", key=None, headers={"Accept": accept})
        found = answer.json()
        assert (found["tagline"], found["name"]) == ("You Know, for Search", "audit-gateway")
        assert "no Elasticsearch" in found["audit_gateway"]
        assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    async with gateway.session.get(url, skip_auto_headers=["Accept"]) as response:
        assert response.content_type == "application/json"
    people = {
        "*/*": "text/plain", "text/html,application/xhtml+xml,*/*;q=0.8": "text/html",
        "text/html": "text/html", "text/*": "text/plain",
    }  # fmt: skip
    for accept, kind in people.items():
        answer = await gateway.get("/", key=None, headers={"Accept": accept})
        assert answer.headers["Content-Type"].startswith(kind)
    head = await gateway.request("HEAD", "/", key=None, headers={"Accept": "application/json"})
    assert head.headers["X-Elastic-Product"] == "Elasticsearch"


@pytest.mark.parametrize("form", ["key", "id:key"])
async def test_an_api_key_of_elasticsearch_is_the_key(gateway: Gateway, form: str) -> None:
    text = gateway.admin
    if form != "key":
        text = base64.b64encode(f"id:{text}".encode()).decode()
    answer = await gateway.post(
        "/_bulk", key=None, data=lines(NATIVE), headers={"Authorization": f"ApiKey {text}"}
    )
    assert statuses(answer) == [201]


async def test_identical_documents_without_an_id_and_a_time_are_as_many(gateway: Gateway) -> None:
    body = b'{"create":{}}\n{"message":"same"}\n' * 2
    headers = {"Content-Type": "application/x-ndjson"}
    for status in (201, 409):
        answer = await gateway.post("/_bulk", key=gateway.admin, data=body, headers=headers)
        items = [item["create"] for item in answer.json()["items"]]
        assert [item["status"] for item in items] == [status, status]
        assert len({item["_id"] for item in items}) == 2
