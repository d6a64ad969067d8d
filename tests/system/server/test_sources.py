"""Records of others over HTTP: any envelope, each record for itself, under the key's grants."""

from __future__ import annotations

import dataclasses
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateways import Gateway

from gateway.runtime.compose import running
from gateway.settings.declarations import Settings
from gateway.settings.server import ServerSettings


def audit(number: int, **members: Any) -> dict[str, Any]:
    return {
        "level": "Metadata", "auditID": f"a-{number}", "stage": "ResponseComplete",
        "verb": "delete", "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        "user": {"username": "alice"}, "responseStatus": {"code": 200},
        "objectRef": {"resource": "deployments", "apiGroup": "apps", "namespace": "pay",
                      "name": "web"},
        **members,
    }  # fmt: skip


def event_list(*items: Any) -> dict[str, Any]:
    return {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}


async def stored(gateway: Gateway, **selection: str) -> list[Any]:
    params = {"limit": "100", **selection}
    return list(
        (await gateway.get("/v1/events", key=gateway.admin, params=params)).json()["events"]
    )


async def test_a_webhook_of_kubernetes_is_taken_as_it_is_sent(gateway: Gateway) -> None:
    body = event_list(audit(1), audit(2, responseStatus={"code": 403}))
    path = "/v1/ingest/kubernetes?cluster=prod&timeout=30s"
    answer = await gateway.post(path, key=gateway.admin, json=body)
    assert answer.status == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, [])
    again = (await gateway.post(path, key=gateway.admin, json=body)).json()
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    events = await stored(gateway, category="k8s.audit")
    assert [event["outcome"] for event in events] == ["success", "denied"]
    assert events[0]["targets"][0]["urn"] == "k8s:prod/ns/pay/deployments.apps/web"
    line = json.dumps({"kind": "Event", "apiVersion": "audit.k8s.io/v1", **audit(1)}) + "\n"
    alone = await gateway.post(
        "/v1/ingest/kubernetes?cluster=prod", key=gateway.admin, data=line.encode(),
        headers={"Content-Type": "text/plain"},
    )  # fmt: skip
    assert alone.json()["duplicates"] == 1, "the same record from a log file"


async def test_a_cluster_is_named_in_the_path_too(gateway: Gateway) -> None:
    """kube-apiserver drops the query of its webhook's address."""
    for path in ("kubernetes?cluster=prod", "kubernetes/prod?timeout=30s"):
        answer = await gateway.post(
            f"/v1/ingest/{path}", key=gateway.admin, json=event_list(audit(1))
        )
        assert answer.status == 200
    assert answer.json()["duplicates"] == 1
    [event] = await stored(gateway, category="k8s.audit")
    assert event["targets"][0]["urn"].startswith("k8s:prod/")
    twice = "/v1/ingest/kubernetes/prod?cluster=other"
    for wrong in (twice, "/v1/ingest/kubernetes/a%20b"):
        answer = await gateway.post(wrong, key=gateway.admin, json=event_list(audit(2)))
        assert answer.status == 400
        assert "cluster" in answer.json()["detail"]


async def test_a_bad_record_costs_only_itself(gateway: Gateway) -> None:
    broken = audit(4, requestReceivedTimestamp="yesterday")
    body = event_list(audit(3), {"x": 1}, None, broken, audit(5))
    answer = (await gateway.post("/v1/ingest/kubernetes", key=gateway.admin, json=body)).json()
    assert answer["accepted"] == 2
    assert [one["index"] for one in answer["rejected"]] == [1, 2, 3]
    assert "not a record of Kubernetes audit events" in answer["rejected"][0]["reason"]
    assert answer["rejected"][2]["path"] == "requestReceivedTimestamp"
    kept = await stored(gateway, category="gateway.rejected")
    assert len(kept) == 3
    strict = await gateway.post(
        "/v1/ingest/kubernetes?on_invalid=fail", key=gateway.admin,
        json=event_list(audit(6), {"x": 1}),
    )  # fmt: skip
    assert strict.status == 422
    assert [one["index"] for one in strict.json()["errors"]] == [1]
    found = await stored(gateway, category="k8s.audit")
    assert [one["request"]["id"] for one in found] == ["a-3", "a-5"], "nothing of it was stored"


async def test_events_of_the_gateways_own_form_are_taken_in_any_envelope(gateway: Gateway) -> None:
    event = {"id": "n-1", "tenant": "acme", "category": "auth", "action": "login", "data": {"n": 1}}
    wrong = event | {"id": "n-2", "severity": 9}
    body = {"Records": [event, wrong, {"x": 1}]}
    answer = (await gateway.post("/v1/ingest/native", key=gateway.admin, json=body)).json()
    assert answer["accepted"] == 1
    assert [one["path"] for one in answer["rejected"]] == ["severity", ""]
    known = (await gateway.post("/v1/events", key=gateway.admin, json=event)).json()
    assert (known["accepted"], known["duplicates"]) == (0, 1), "the same event"
    [found] = await stored(gateway, category="auth")
    assert found["data"] == {"n": 1}


async def test_lines_and_compressed_bodies_are_taken(gateway: Gateway) -> None:
    entries = [{"uuid": str(n), "eventType": "user.session.start", "published": n} for n in (1, 2)]
    lines = "\n".join(map(json.dumps, entries)).encode()
    answer = await gateway.post(
        "/v1/ingest/okta", key=gateway.admin, data=gzip.compress(lines),
        headers={"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"},
    )  # fmt: skip
    assert answer.json()["accepted"] == 2
    for events, known in ((entries, 2), ([], 0)):
        hook = {"eventType": "com.okta.event_hook", "data": {"events": events}}
        hooked = (await gateway.post("/v1/ingest/okta", key=gateway.admin, json=hook)).json()
        found = hooked["accepted"], hooked["duplicates"], hooked["rejected"]
        assert found == (0, known, []), "those entries, and never the hook"
    assert len(await stored(gateway, category="okta.**")) == 2


async def test_records_that_are_lines_of_text_are_taken(gateway: Gateway) -> None:
    head = '2026-01-15 09:01:10.123 UTC,"ann","shop",47,"192.0.2.1:50000",69.1a,'
    tail = ',"UPDATE",2026-01-15 09:00:00 UTC,3/12,0,LOG,00000,"{}",,,,,,,,,"","client backend",,0'
    audit = 'AUDIT: SESSION,1,1,WRITE,UPDATE,TABLE,public.account,""update\n\naccount"",<none>'
    lines = [head + str(number) + tail.format(audit) for number in range(3)]
    body = "\n".join([*lines, "LOG:  no line of CSV", lines[0]])
    for kind, known in (("text/plain", 1), ("application/x-ndjson", 4)):
        answer = await gateway.post(
            "/v1/ingest/pgaudit", key=gateway.admin, data=body, headers={"Content-Type": kind}
        )
        found = answer.json()
        assert (found["accepted"], found["duplicates"]) == (4 - known, known)
        assert [one["index"] for one in found["rejected"]] == [3]
    kept = await stored(gateway, category="pgaudit.**")
    assert [event["data"]["line"] for event in kept] == lines


async def test_a_time_without_a_year_is_that_of_the_gateways_clock(gateway: Gateway) -> None:
    now = datetime.now(UTC)
    line = f"<38>{now:%b %d %H:%M:%S} web-1 su[1]: session opened for user root"
    answer = await gateway.post("/v1/ingest/syslog", key=gateway.admin, data=line)
    assert answer.json()["accepted"] == 1
    [event] = await stored(gateway, category="syslog.su")
    assert event["time"] == f"{now:%Y-%m-%dT%H:%M:%S}.000000Z"
    assert event["data"]["line"] == line
    assert "time_unknown" not in event["data"]


async def test_a_key_sends_only_what_it_may_write(gateway: Gateway) -> None:
    key = await gateway.mint(
        {"actions": ["ingest"], "categories": ["okta.**"], "tenants": ["acme"]}
    )
    entry = {"uuid": "1", "eventType": "user.session.start", "published": 0}
    taken = await gateway.post("/v1/ingest/okta", key=key, json=entry)
    assert taken.json()["accepted"] == 1
    [event] = await stored(gateway, category="okta.**")
    assert event["tenant"] == "acme", "the only tenant that the key may write to"
    refused = await gateway.post("/v1/ingest/kubernetes", key=key, json=event_list(audit(1)))
    assert refused.json()["accepted"] == 0
    assert "may not write 'k8s.audit'" in refused.json()["rejected"][0]["reason"]
    reader = await gateway.mint({"actions": ["pull"], "categories": ["**"]})
    assert (await gateway.post("/v1/ingest/okta", key=reader, json=entry)).status == 403


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/ingest/oktaa", b"{}", 404, "there is no source 'oktaa'"),
        ("/v1/ingest/okta?timeouts=1", b"{}", 400, "timeouts"),
        ("/v1/ingest/okta?on_invalid=maybe", b"{}", 400, "on_invalid: one of"),
        ("/v1/ingest/kubernetes?cluster=a/b", b"{}", 400, "cluster: 1 to 64"),
        ("/v1/ingest/okta", b"  \n", 400, "the body is empty"),
        ("/v1/ingest/okta", b"[" + b"1," * 200_000 + b"1]", 413, "more than"),
        ("/v1/ingest/okta", b'{"Records":[' + b"1," * 200_000 + b"1]}", 413, "more than"),
        ("/v1/ingest/okta", b"1\n" * 200_000, 413, "more than"),
        ("/v1/ingest/okta", b"[" * 500_000 + b"]" * 500_000, 413, "objects and lists"),
    ],
)
async def test_a_wrong_request_is_told_what_to_do(
    gateway: Gateway, path: str, body: bytes, status: int, says: str
) -> None:
    answer = await gateway.post(
        path, key=gateway.admin, data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == status
    assert says in answer.json()["detail"]


async def test_sources_of_the_settings_are_taken_and_win_over_shipped_ones(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    event = {"category": {"const": "own"}, "action": "what", "id": "id"}
    settings = dataclasses.replace(
        Settings(data=tmp_path / "data", server=ServerSettings(port=0)),
        declared_sources={"mine": {"when": "what", "event": event}, "okta": {"event": event}},
    )
    async with running(settings) as started:
        gateway = Gateway(started.url, started.first_key or "", session, started.context)
        for name in ("mine", "okta"):
            body = {"what": "done", "id": name}
            answer = await gateway.post(f"/v1/ingest/{name}", key=gateway.admin, json=body)
            assert answer.json()["accepted"] == 1
        assert len(await stored(gateway, category="own")) == 2
        gateway.disconnect()


async def test_identical_records_of_one_request_without_an_id_and_a_time_are_as_many(
    gateway: Gateway,
) -> None:
    body, headers = '{"message":"same"}\n' * 3, {"Content-Type": "application/x-ndjson"}
    for accepted in (3, 0):
        answer = await gateway.post(
            "/v1/ingest/elasticsearch", key=gateway.admin, data=body, headers=headers
        )
        found = answer.json()
        assert (found["accepted"], found["duplicates"]) == (accepted, 3 - accepted)
