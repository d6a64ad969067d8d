"""Every route answers with every status that its row declares, as the OpenAPI document says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ServerDisconnectedError
from browser_sessions import sign_in
from gateway_client import NDJSON, Answer, event, key_id
from gateways import Gateway, Start, StoppedClock
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from msgspec.structs import replace
from open_streams import open_stream

from gateway.access.grants.grant import ACTIONS
from gateway.access.keys.key import Key
from gateway.delivery.destination import Destination
from gateway.delivery.outlets.outlet import SUCCESS, DeliveryResult, DeliveryVerdict
from gateway.http.app import DOCUMENT
from gateway.http.console.assets import console
from gateway.http.console.saved_views import MOST_VIEWS
from gateway.http.openapi.route import ANY_CREDENTIAL, SESSION, Route
from gateway.http.request import body
from gateway.http.routes.table import ROUTES
from tests.support.machine_time import becomes, eventually, patience
from tests.support.scripted_outlet import Receiver
from tests.support.services.valkey import Valkey

BY_NAME = {route.name: route for route in ROUTES}
WITH_KEY = [route for route in ROUTES if route.for_keys]
# Answers of these are in tests/system/server/test_oidc.py, which has a provider.
BY_PROVIDER = ("signInByProvider", "signedInByProvider")
ALL = [route for route in ROUTES if route.name not in BY_PROVIDER]
OF_SESSIONS = [route for route in ALL if route.actions in (SESSION, ANY_CREDENTIAL)]
WITH_BODY = [route for route in ROUTES if route.body is not None]
GRANT = {"actions": ["pull"], "categories": ["auth.*"], "tenants": ["acme"]}
NAMED = {**GRANT, "fields": {"pseudonymize": ["actor.id"]}}
EVERYTHING = {"actions": list(ACTIONS), "categories": ["**", "gateway.**"]}
NEW_KEY = {"name": "n", "purpose": "p", "owner": "o", "expires_in": "1h", "grants": [GRANT]}
UNKNOWN = {
    "id": "unknown00000", "name": "unknown", "secret": "token", "source": "okta", "cluster": "prod",
    "index": "x", "file": "x", "set": "prod",
}  # fmt: skip
ELSEWHERE = "other-" + "0" * 20
WHOLE = event(
    id="whole", time="2026-01-01T00:00:00Z", tenant="acme", outcome="denied", severity=3,
    actor={"type": "user", "id": "i", "name": "n", "key_id": "k"},
    source={"service": "s", "ip": "192.0.2.1", "port": 443, "user_agent": "curl"},
    targets=[{"urn": "u", "type": "t", "id": "i", "name": "n"}],
    request={"id": "r", "trace_id": "t"}, reason="because", data={"a": [1, {"b": None}]},
)  # fmt: skip


class Asked:
    """Asks one gateway, and compares what it answers with the document. `answered` are the routes
    and statuses that there were."""

    def __init__(self, gateway: Gateway, key: str | None = None) -> None:
        self.gateway = gateway
        self.key = gateway.admin if key is None else key
        self.answered: set[tuple[str, int]] = set()

    async def __call__(
        self, name: str, status: int, query: str = "", *, id: str = "", **options: Any
    ) -> Any:
        """The answer of a route, which must have that status: its JSON, if it is JSON."""
        route = BY_NAME[name]
        named = {**UNKNOWN, **({"id": id, "name": id, "source": id, "file": id} if id else {})}
        path = route.documented_path.format(**named) + query
        if not (route.public or route.for_keys):
            options["headers"] = {"Origin": self.gateway.url, **options.get("headers", {})}
        answer = await self.gateway.request(
            route.method, path, **{"key": self.key if route.for_keys else None, **options}
        )
        return self.compare(name, status, answer)

    def compare(self, name: str, status: int, answer: Answer) -> Any:
        assert answer.status == status, (name, answer.status, answer.body[:500])
        compare(BY_NAME[name], answer)
        self.answered.add((name, status))
        is_json = (
            answer.headers.get("Content-Type", "").endswith("json")
            and NDJSON not in (answer.headers["Content-Type"])
        )
        return answer.json() if is_json else answer.body


def resolved(part: Any) -> Any:
    while "$ref" in part:
        found: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def compare(route: Route, answer: Answer) -> None:
    """Fail unless the document has the status for the route, its type and a schema that holds."""
    operation = DOCUMENT["paths"][route.documented_path][route.method.lower()]
    documented = resolved(operation["responses"][str(answer.status)])
    contents = documented.get("content", {})
    if not contents:
        assert answer.body == b""
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    schema = contents[kind]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    if resolved(schema).get("type") == "string":
        validator.validate(answer.body.decode())
    else:
        for one in answer.lines() if kind == NDJSON else [answer.json()]:
            validator.validate(one)


async def answer_to(gateway: Gateway, route: Route, **headers: str) -> Answer:
    """The answer to a head without a body."""
    path = route.documented_path.format(**UNKNOWN)
    lines = [f"{route.method} {path} HTTP/1.1", f"Host: {gateway.host}:{gateway.port}"]
    lines.append(f"Origin: {gateway.url}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    reader, writer = await gateway.connect()
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(patience()):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            said = dict(line.split(": ", 1) for line in head[1:-2])
            content = await reader.readexactly(int(said["Content-Length"]))
    finally:
        writer.close()
    return Answer(int(head[0].split()[1]), said, content)


def declared(routes: list[Route], statuses: set[int] | None = None) -> set[tuple[str, int]]:
    return {
        (route.name, status)
        for route in routes
        for status in (*route.answers, *route.refusals)
        if (statuses is None and status < 400) or (statuses and status in statuses)
    }


async def stream_events(ask: Asked) -> None:
    reader = await ask.gateway.reader_key(
        fields={"mask": ["source.port", "actor"], "drop": ["data"]}
    )
    await ask("ingest", 201, json=[WHOLE, event(id="x", tenant="a"), event(id="x", tenant="b")])
    await ask("ingest", 201, json=[WHOLE])
    deep = json.loads('{"category":"auth","action":"a","data":' + '{"a":' * 80 + "1" + "}" * 81)
    skipped = await ask("ingest", 200, "?on_invalid=skip", json=[event(), {"category": 5}, deep])
    assert (len(skipped["rejected"]), len(skipped["truncated"])) == (1, 1)
    entry = {"uuid": "1", "eventType": "user.session.start", "published": 0}
    for name, accepted in (("ingestRecords", 1), ("ingestRecordsOfCluster", 0)):
        taken = await ask(name, 200, id="okta", json=[entry, {"x": 1}])
        assert (taken["accepted"], len(taken["rejected"])) == (accepted, 1)
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {"timeUnixNano": "x"}]}]}]}
    partly = await ask("receiveLogs", 200, json=logs)
    assert partly["partialSuccess"]["rejectedLogRecords"] == "1"
    binary = {"Content-Type": "application/x-protobuf"}
    assert await ask("receiveLogs", 200, data=b"", headers=binary) == b""
    for key in (ask.key, reader):
        page = await ask("pull", 200, "?tenant=acme", key=key)
        assert [one["id"] for one in page["events"]] == ["whole"]
        await ask("event", 200, "?tenant=acme", id="whole", key=key)
        await ask("pull", 200, "?tenant=acme", key=key, headers={"Accept": NDJSON})
    assert page["events"][0]["source"]["port"] == "***"
    await ask("counts", 200, "?by=category&by=severity", key=reader)
    gone = await ask("pull", 200, f"?after={ELSEWHERE}&on_gap=skip&category=none.such", key=reader)
    assert {"gap", "events"} <= gone.keys()
    assert "notice" in await ask("pull", 200, "?category=gateway.keys", key=reader)
    for kind in ("text/event-stream", NDJSON):
        accept = {"Accept": kind}
        await ask("stream", 200, "?from=start&follow=false", headers=accept)
        await ask("streamPost", 200, json={"from": "start", "follow": False}, headers=accept)
    upgraded = await open_stream(ask.gateway, "audit.v1", ask.key)
    [stream] = (await ask("streams", 200, "?transport=audit.v1"))["streams"]
    await ask("endStream", 200, id=stream["id"], json={"reason": "r"})
    upgraded.close()
    ask.compare("stream", 101, Answer(101, upgraded.answer.headers, b""))
    await ask("ticket", 201, json={"category": ["auth"], "min_severity": 1})


async def take_from_senders(ask: Asked) -> None:
    """What speaks the protocols of Splunk and Elasticsearch."""
    channel = "?channel=fe0ecfad-13d5-401b-847d-77833bd77131"
    for name in ("hec", "hecEvent", "hecRaw"):
        for version in ("", "V1"):
            taken = await ask(name + version, 200, channel, data=b'{"event":"x"}')
    assert (await ask("hecRaw", 200, data=b"x")).keys() == {"text", "code"}
    for name in ("hecAck", "hecAckV1"):
        asked = {"acks": [taken["ackId"]]}
        assert (await ask(name, 200, channel, json=asked))["acks"] == {str(taken["ackId"]): True}
    for name in ("hecHealth", "hecHealthV1"):
        await ask(name, 200)
    body = b'{"create":{"_id":"b"}}\n{"message":"x"}\n{"delete":{"_id":"b"}}\n'
    for name in ("bulk", "bulkPut", "bulkOfIndex", "bulkOfIndexPut"):
        assert len((await ask(name, 200, data=body))["items"]) == 2
    await ask("index", 200, headers={"Accept": "application/json"})


async def consume(ask: Asked) -> None:
    """The life of a durable consumer."""
    await ask("putConsumer", 201, id="siem", json={"from": "start", "mode": "explicit"})
    await ask("putConsumer", 200, id="siem", json={"ack_delay": "9s", "max_unacked": 5})
    page = await ask("pull", 200, "?consumer=siem&limit=1")
    await ask("acknowledge", 200, id="siem", json={"lease": page["lease"]})
    await ask("acknowledge", 200, id="siem", json={"cursor": page["cursor"]})
    stream = await open_stream(ask.gateway, "sse", ask.key, consumer="siem")
    await ask("consumer", 200, id="siem")
    await ask("consumers", 200)
    stream.close()
    await ask("rewindConsumer", 200, id="siem", json={"to": "earliest", "reason": "r"})
    await ask("deleteConsumer", 204, id="siem")


async def administer_keys(ask: Asked) -> None:
    limits = {"events_per_day": 5}
    body = {**NEW_KEY, "roles": ["auditor"], "limits": limits, "grants": [GRANT, EVERYTHING]}
    made = await ask("makeKey", 201, json=body)
    key, secret = made["id"], made["key"]
    await ask("ingest", 201, key=secret, json=event(id="used"))
    await ask("keys", 200)
    await ask("key", 200, id=key)
    reviewer = await ask.gateway.mint(
        {"actions": ["keys.read"], "categories": ["**"]}, owner="audit"
    )
    await ask("reviewKey", 200, id=key, json={"note": "n"}, key=reviewer)
    await ask("changeKey", 200, id=key, json={"owner": "o2"}, headers={"If-Match": "*"})
    await ask("suspendKey", 200, id=key, json={"reason": "r"})
    await ask("key", 200, id=key)
    await ask("resumeKey", 200, id=key)
    below = await ask("makeKey", 201, json=NEW_KEY, key=secret)
    successor = await ask("rotateKey", 201, id=key, json={"overlap": "1h"})
    await ask("key", 200, id=key)
    held = await ask("rotateKey", 201, id=successor["id"], json={"hold": True})
    await ask("key", 200, id=successor["id"])
    await ask("confirmKey", 200, id=held["id"])
    for kind in ("text/markdown", "text/html", "application/json"):
        await ask("keyDocument", 200, id=key, headers={"Accept": kind})
    await ask("keyHistory", 200, id=key)
    await ask("keyUsage", 200, "?window=1h&step=15m", id=key)
    await ask("usage", 200)
    await ask("usage", 200, "?by=owner&window=400d")
    await ask("keys", 200, "?limit=1")
    for kind in ("text/markdown", "text/html", "text/csv", "application/json"):
        await ask("review", 200, headers={"Accept": kind})
    await ask("preview", 200, json={"grants": [GRANT]})
    await ask("simulate", 200, json={"key": key, "grants": [GRANT], "roles": []})
    named = key_id(await ask.gateway.mint(NAMED))
    body = {"key": named, "pseudonym": f"ps1_{'a' * 26}", "reason": "r", "since": "1h"}
    await ask("resolvePseudonym", 200, json=body)
    await ask("simulate", 200, json={"key": key, "roles": []}, key=await manager(ask))
    for asked in ({"action": "pull", "category": "auth", "tenant": "b"}, {"action": "keys.admin"},
                  {"action": "pull", "category": "auth.x"}, {"action": "ingest"}):  # fmt: skip
        await ask("explain", 200, json={"key": below["id"], **asked})
    revoked = await ask("revokeKey", 200, id=key, json={"with_descendants": False})
    assert revoked["living_descendants"]
    await ask("revokeKey", 200, id=successor["id"], json={"with_descendants": True})
    await ask("keys", 200)


async def manager(ask: Asked) -> str:
    """A key that administers others, and does not read how they are used."""
    return await ask.gateway.mint(
        {"actions": ["keys.admin", "pull"], "categories": ["auth.*"], "tenants": ["acme"]}
    )


async def judge_findings(ask: Asked) -> None:
    reader = await ask.gateway.reader_key()
    for _ in range(5):
        await ask("keys", 403, key=reader)
    await ask.gateway.context.detector.poll()
    found = await ask("findings", 200, f"?key={key_id(reader)}")
    finding = found["findings"][0]["id"]
    await ask("expectFinding", 200, id=finding, json={"reason": "a test"})
    await ask("noLongerExpectFinding", 200, id=finding)


async def change_roles(ask: Asked) -> None:
    role = {"description": "d", "grants": [GRANT]}
    await ask("putRole", 201, id="watcher", json=role)
    await ask("putRole", 200, id="watcher", json={"grants": []})
    await ask("role", 200, id="watcher")
    await ask("roles", 200)
    await ask("makeKey", 201, json={**NEW_KEY, "roles": ["watcher"]})
    assert (await ask("deleteRole", 200, id="watcher"))["keys"]
    await ask("putRole", 201, id="watcher", json=role)
    await ask("deleteRole", 204, id="watcher")
    declared_key = {"purpose": "p", "owner": "o", "grants": [GRANT]}
    first = {"keys": {"a": declared_key, "b": {**declared_key, "roles": ["r"]}}}
    first["roles"] = {"r": {"grants": [GRANT]}}
    await ask("applyDeclarations", 200, json=first)
    other = {"keys": {"a": {**declared_key, "owner": "x"}}}
    plan = await ask("applyDeclarations", 200, "?dry_run=true&prune=true", json=other)
    await ask("applyDeclarations", 200, f"?prune=true&expect={plan['digest']}", json=other)


def with_receiver(gateway: Gateway) -> Receiver:
    """A receiver in memory, for destinations of the type `scripted`."""
    receiver = Receiver()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    return receiver


def destination(key: str, **members: Any) -> dict[str, Any]:
    return {"name": "siem", "type": "scripted", "key": key_id(key), "settings": {"url": "x"},
            **members}  # fmt: skip


async def deliver(ask: Asked) -> None:
    receiver, reader = with_receiver(ask.gateway), await ask.gateway.reader_key()
    select = {"category": ["auth"], "action": "x", "min_severity": 2, "filter": "severity > 1"}
    refused = DeliveryVerdict(DeliveryResult.PERMANENT, status=400, message="no")
    receiver.answer, receiver.test_answer = (lambda batch: refused), refused
    body = destination(reader, select=select, secrets={"token": "t"}, on_gap="fail")
    await ask("makeDestination", 201, json=body)
    sent = [event(id=one, category="auth", action="x", severity=3) for one in ("a", "b")]
    await ask.gateway.send(*sent)
    await eventually(lambda: receiver.tests > 0, "the test event was sent")
    receiver.answer = lambda batch: refused if batch[0].outbound.members.id == "a" else SUCCESS
    receiver.test_answer = SUCCESS
    store = ask.gateway.context.destination_store
    async with asyncio.timeout(patience()):
        while not await store.count_dead_letters("siem"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await ask("destination", 200, id="siem"))["last_error"]
    assert (await ask("destinations", 200))["destinations"]
    letters = (await ask("deadLetters", 200, "?limit=5", id="siem"))["dead_letters"]
    assert [one["event"] for one in letters] == ["a"]
    receiver.held.clear()
    await ask("replayDestination", 200, id="siem", json={"dead_letters": "all", "reason": "r"})
    await ask("cancelReplay", 200, id="siem")
    receiver.held.set()
    await ask("deleteDeadLetter", 200, id="siem")
    await ask("deleteDeadLetters", 200, id="siem")
    await ask("pauseDestination", 200, id="siem", json={"reason": "r"})
    await ask("resumeDestination", 200, id="siem", json={"reason": "r"})
    await ask("testDestination", 200, id="siem")
    await ask("changeDestination", 200, id="siem", json={"batch": {"max_wait": "2s"}})
    await ask("setDestinationSecret", 200, id="siem", json={"value": "v", "overlap": "1h"})
    await ask("deleteDestination", 204, id="siem")


async def test_every_success_is_what_the_document_says_of_it(start: Start) -> None:
    ask = Asked(await start(server={"allowed_origins": ("https://portal.example",)}))
    for name in (
        "index",
        "healthz",
        "readyz",
        "metrics",
        "openapi",
        "status",
        "doctor",
        "declarationSchema",
    ):
        await ask(name, 200)
    await ask("metrics", 200, headers={"Accept": "application/openmetrics-text"})
    await stream_events(ask)
    await take_from_senders(ask)
    await consume(ask)
    await administer_keys(ask)
    await judge_findings(ask)
    await change_roles(ask)
    await deliver(ask)
    await sign_in_and_out(ask)
    await show_embedded(ask)
    assert {one for one in ask.answered if one[1] < 400} == declared(ALL)


async def sign_in_and_out(ask: Asked) -> None:
    browser = await sign_in(ask.gateway, ask.key)
    await ask("consoleFile", 200, id=next(iter(console().assets)))
    await ask("signIn", 201, json={"key": ask.key})
    await ask("session", 200, headers=browser.headers)
    await ask("me", 200, headers=browser.headers)
    for status in (201, 200):
        view = {"query": {"category": "auth"}, "since": "24h"}
        await ask("putView", status, id="v", json=view)
    await ask("view", 200, id="v")
    await ask("views", 200)
    await ask("deleteView", 204, id="v")
    other = await sign_in(ask.gateway, ask.key)
    listed = await ask("sessions", 200, headers=other.headers)
    [own] = [one["id"] for one in listed["sessions"] if one["current"]]
    await ask("endSession", 204, id=own, headers=browser.headers)
    await ask("signOut", 204, headers=browser.headers)


async def show_embedded(ask: Asked) -> None:
    await ask("embed", 200)
    await ask("embedNamed", 200, id="portal")
    made = await ask("ticket", 201, json={"viewer": {}, "subject": "s"}, key=ask.key)
    session = await ask("openViewer", 201, json={"ticket": made["ticket"]})
    await ask("me", 200, headers={"Authorization": f"Bearer {session['token']}"})


async def make_with_a_key_that_is_revoked_meanwhile(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, store = await ask.gateway.mint(EVERYTHING), ask.gateway.context.key_store
    create = store.create

    async def racing(key: Key, **options: Any) -> None:
        await ask.gateway.revoke(maker)
        await create(key, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store, "create", racing)
        await ask("makeKey", 409, json=NEW_KEY, key=maker)


async def refuse_to_deliver(ask: Asked) -> None:
    with_receiver(ask.gateway)
    store, body = ask.gateway.context.destination_store, destination(ask.key)
    for name in ("destination", "deleteDestination", "pauseDestination", "resumeDestination",
                 "testDestination", "cancelReplay", "deadLetters", "deleteDeadLetters",
                 "deleteDeadLetter"):  # fmt: skip
        await ask(name, 404)
    await ask("changeDestination", 404, json={})
    await ask("setDestinationSecret", 404, json={"value": "v"})
    await ask("replayDestination", 404, json={"from": "start"})
    await ask("makeDestination", 404, json={**body, "key": UNKNOWN["id"]})
    await ask("makeDestination", 410, json={**body, "from": ELSEWHERE})
    await ask("makeDestination", 201, json=body)
    await ask("makeDestination", 409, json=body)
    await ask("resumeDestination", 409, id="siem")

    async def listed() -> list[Any]:
        return list((await ask("streams", 200))["streams"])

    [stream] = await becomes(listed, len)
    await ask("endStream", 409, id=stream["id"])
    await ask("pauseDestination", 200, id="siem")
    await ask("pauseDestination", 409, id="siem")
    await ask("replayDestination", 409, id="siem", json={"from": "start"})
    await ask("cancelReplay", 409, id="siem")
    await ask("replayDestination", 410, id="siem", json={"from": ELSEWHERE})

    def declare(before: Destination | None, others: int) -> Destination:
        assert before is not None
        return replace(before, managed_by="config")

    await store.change("siem", declare)
    await ask("changeDestination", 409, id="siem", json={})
    await ask("deleteDestination", 409, id="siem")
    await ask("setDestinationSecret", 409, id="siem", json={"value": "v"})


async def refuse_consumers(ask: Asked) -> None:
    unknown = f"?key={UNKNOWN['id']}"
    await ask("consumers", 404, unknown)
    await ask("putConsumer", 404, unknown, json={})
    await ask("acknowledge", 404, json={"cursor": ELSEWHERE})
    await ask("rewindConsumer", 404, json={"to": "latest"})
    for name in ("consumer", "deleteConsumer"):
        await ask(name, 404)
    for number in range(16):
        await ask("putConsumer", 201, id=f"c{number}", json={"from": "start", "selection": {}})
    await ask("putConsumer", 409, id="c16", json={})
    await ask("putConsumer", 410, id="c1", json={"from": ELSEWHERE})
    await ask("acknowledge", 410, id="c1", json={"cursor": ELSEWHERE})
    await ask("rewindConsumer", 410, id="c1", json={"to": ELSEWHERE})
    newest = (await ask("ingest", 201, json=event()))["last_cursor"]
    await ask("acknowledge", 409, id="c1", json={"cursor": newest})
    another = {"consumer": "c1", "category": "none.such"}
    for name in ("pull", "stream"):
        await ask(name, 409, "?consumer=c1&category=none.such")
    await ask("streamPost", 409, json=another)


async def refuse_views(ask: Asked) -> None:
    for name in ("view", "deleteView"):
        await ask(name, 404)
    for number in range(MOST_VIEWS):
        await ask("putView", 201, id=f"v{number}", json={"query": {}})
    await ask("putView", 409, id="another", json={"query": {}})


async def refuse_to_resolve(ask: Asked) -> None:
    key = key_id(await ask.gateway.mint(NAMED))
    body = {"key": key, "pseudonym": f"ps1_{'a' * 26}", "reason": "r"}
    await ask("resolvePseudonym", 404, json={**body, "key": UNKNOWN["id"]})
    await ask("resolvePseudonym", 410, json={**body, "after": ELSEWHERE})
    keyring = ask.gateway.context.keyring
    held = keyring.pseudonyms
    assert held is not None
    keyring.pseudonyms = held.without(1)
    await ask("resolvePseudonym", 409, json=body)
    keyring.pseudonyms = held


async def test_every_refusal_of_what_is_asked_is_what_the_document_says_of_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Asked(gateway)
    await make_with_a_key_that_is_revoked_meanwhile(ask, monkeypatch)
    ended = key_id(await gateway.mint(GRANT))
    await ask("revokeKey", 200, id=ended)
    for name in ("key", "keyDocument", "keyHistory", "keyUsage", "revokeKey", "suspendKey",
                 "resumeKey", "rotateKey", "confirmKey", "reviewKey", "event", "role",
                 "deleteRole"):  # fmt: skip
        await ask(name, 404)
    await ask("expectFinding", 404, json={})
    await ask("endStream", 404)
    await refuse_views(ask)
    await refuse_consumers(ask)
    await ask("noLongerExpectFinding", 404)
    await ask("explain", 404, json={"key": UNKNOWN["id"], "action": "pull"})
    await refuse_to_resolve(ask)
    await ask("simulate", 404, json={"key": UNKNOWN["id"], "roles": []})
    for name in ("pull", "stream", "keyDocument", "review"):
        await ask(name, 406, id=ended, headers={"Accept": "image/png"})
    await ask("streamPost", 406, json={}, headers={"Accept": "image/png"})
    await gateway.send(event(id="x", tenant="a"), event(id="x", tenant="b"))
    await ask("event", 409, id="x")
    for name in ("suspendKey", "resumeKey", "rotateKey", "confirmKey"):
        await ask(name, 409, id=ended)
    stale = {"If-Match": '"0"'}
    await ask("changeKey", 428, id=ended, json={})
    await ask("changeKey", 412, id=ended, json={}, headers=stale)
    await ask("changeKey", 409, id=ended, json={}, headers={"If-Match": "*"})
    await ask("changeKey", 404, json={}, headers=stale)
    await ask("deleteRole", 409, id="auditor")
    await ask("putRole", 201, id="taken", json={"grants": []})
    await ask("applyDeclarations", 409, json={"roles": {"taken": {}}})
    await ask("applyDeclarations", 412, f"?expect={'0' * 64}", json={})
    newer: Any = {"en": "as a newer version may write it"}
    unreadable = Key(id="A" * 12, digest=b"", name="n", purpose=newer, created_at=0, expires_at=9e9)
    await gateway.context.key_store.create(unreadable)
    await ask("revokeKey", 409, id=unreadable.id)
    await ask("reviewKey", 409, id=unreadable.id)
    for name in ("pull", "stream", "keyHistory"):
        await ask(name, 410, f"?after={ELSEWHERE}", id=ended)
    await ask("counts", 410, f"?before={ELSEWHERE}")
    await ask("streamPost", 410, json={"after": ELSEWHERE})
    await refuse_to_deliver(ask)
    await ask("ingest", 422, json=[{"x": 1}, event(tenant="A")])
    for name in ("ingestRecords", "ingestRecordsOfCluster"):
        await ask(name, 404, id="unknown", json={})
        await ask(name, 422, "?on_invalid=fail", id="okta", json={})
    await ask("receiveLogs", 404, "?source=unknown", json={})
    assert {one for one in ask.answered if one[1] >= 400} == declared(
        WITH_KEY, {404, 406, 409, 410, 412, 422, 428}
    )


async def test_every_refusal_of_a_key_or_a_parameter_is_what_the_document_says_of_it(
    gateway: Gateway,
) -> None:
    ask = Asked(gateway)
    powerless = await gateway.mint()
    for route in WITH_KEY:
        some = {} if route.body is None else {"json": {"x": 1}}
        await ask(route.name, 401, key=None, **some)
        await ask(route.name, 403, key=powerless, **some)
        await ask(route.name, 400, "?x=1", **some)
        large = {f"X_{number}": "x" * 10_000 for number in range(10)}
        if 431 in route.refusals:
            ask.compare(route.name, 431, await answer_to(gateway, route, **large))
    assert ask.answered == declared(WITH_KEY, {400, 401, 403, 431})


async def test_every_refusal_of_a_body_is_what_the_document_says_of_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "_JSON_SECONDS", 0)
    gateway = await start(server={"body_timeout": 0})
    ask = Asked(gateway)
    for route in WITH_BODY:
        plain = {"Content-Type": "text/plain"}
        if route.name.startswith("ingestRecords") or route.refusals_as is not None:
            plain["Content-Encoding"] = "br"
        await ask(route.name, 415, data=b"x", headers=plain)
        for status, length in ((408, 10), (413, 10**12)):
            headers = {
                "Authorization": f"Bearer {gateway.admin}", "Content_Length": str(length),
                "Content_Type": "application/json",
            }  # fmt: skip
            if status in route.refusals:
                ask.compare(route.name, status, await answer_to(gateway, route, **headers))
            # What is not to be repeated would be lost: what was too slow is repeated.
            elif 503 in route.refusals:
                again = await answer_to(gateway, route, **headers)
                assert again.headers["Retry-After"] == "1"
                compare(route, again)
            else:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await answer_to(gateway, route, **headers)
    assert ask.answered == declared(WITH_BODY, {408, 413, 415})


async def be_put_off(ask: Asked, route: Route) -> None:
    """A request that senders of other protocols have to repeat: answered as they understand it, or
    not at all."""
    if 503 in route.refusals:
        await ask(route.name, 503, key=ask.key, json={})
    else:
        with pytest.raises(ServerDisconnectedError):
            await ask(route.name, 0, key=ask.key, json={})


async def test_every_refusal_by_a_limit_is_what_the_document_says_of_it(start: Start) -> None:
    gateway = await start(clock=StoppedClock(), metrics={"require": "ops.read"})
    limits = {"requests_per_second": 1, "requests_burst": 1}
    ask = Asked(gateway, await gateway.mint(EVERYTHING, limits=limits))
    browser = await sign_in(gateway, ask.key)
    senders = Asked(gateway, ask.key)
    await ask("signIn", 429, json={"key": ask.key})
    for name in ("me", "session", "sessions", "endSession", "signOut"):
        await ask(name, 429, headers=browser.headers)
    for route in (*WITH_KEY, BY_NAME["metrics"]):
        some = {} if route.body is None else {"json": {}}
        if 429 in route.refusals:
            await ask(route.name, 429, key=ask.key, **some)
        else:
            await be_put_off(senders, route)
    await ask("metrics", 401)
    await ask("metrics", 403, key=await gateway.mint())
    metrics = declared([BY_NAME["metrics"]], {401, 403, 429})
    assert ask.answered == declared([*WITH_KEY, *OF_SESSIONS], {429}) | metrics


async def test_every_refusal_for_the_time_being_is_what_the_document_says_of_it(
    start: Start,
) -> None:
    with Valkey() as redis:
        gateway = await start(
            redis={"url": redis.url}, limits={"closed_without_redis": ("requests",)},
            metrics={"require": "ops.read"}, server={"allowed_origins": ("https://x.example",)},
        )  # fmt: skip
        limits = {"requests_per_second": 100}
        ask = Asked(gateway, await gateway.mint(EVERYTHING, limits=limits))
        browser = await sign_in(gateway, ask.key)
        made = await gateway.post("/v1/tickets", json={"viewer": {}}, key=ask.key)
        redis.kill()
        async with asyncio.timeout(patience()):
            while gateway.context.shared.health().up:
                await gateway.get("/v1/roles", key=ask.key)
        for route in (*WITH_KEY, BY_NAME["metrics"]):
            if 503 in route.refusals:
                some = {} if route.body is None else {"json": {}}
                await ask(route.name, 503, key=ask.key, **some)
            else:
                await be_put_off(ask, route)
        await ask("openViewer", 503, json={"ticket": made.json()["ticket"]})
        await ask("signIn", 503, json={"key": ask.key})
        for name in ("me", "session", "sessions", "endSession", "signOut"):
            await ask(name, 503, headers=browser.headers)
        gateway.context.ready = False
        for name in ("readyz", "hecHealth", "hecHealthV1"):
            await ask(name, 503)
        gateway.context.ready = True
    assert ask.answered == declared(ALL, {503})
