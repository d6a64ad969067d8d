"""Masks reach what members were taken from under `data`, whatever categories a source gives."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from gateways import Gateway
from open_streams import open_stream

from gateway.ingest.mapping.definition import SourceDefinition, paths_of
from gateway.ingest.mapping.path import Each, Item, Member, Pick, Step
from gateway.ingest.sources.catalog import definition_in_settings, shipped
from gateway.runtime.compose import running
from gateway.settings.declarations import Settings
from gateway.settings.server import ServerSettings

JSON = {"Content-Type": "application/json"}
MEMBERS = (
    "actor.type", "actor.id", "actor.name", "actor.key_id", "source.service", "source.ip",
    "source.port", "source.user_agent", "targets.urn", "targets.type", "targets.id", "targets.name",
    "request.id", "request.trace_id", "reason",
)  # fmt: skip
HOW = ("mask", "drop", "pseudonymize")
_OWN_EVENT = {
    "category": "area", "action": "what", "actor": {"id": "who.login", "name": "who.name"},
    "source": {"ip": "from"}, "reason": "why",
    "targets": [{"each": "things[]", "urn": "thing:{@.key}", "name": "@.label"}],
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "mine": {"when": "area && what", "event": _OWN_EVENT},
    # It says of no record that it is one of its own.
    "any": {"event": {**_OWN_EVENT, "actor": {"id": "someone.login"}}},
    "loud": {"when": "AREA && what", "ignore_case": True,
             "event": {**_OWN_EVENT, "actor": {"id": "Person.login"}}},
}  # fmt: skip
# By source: the least record of it, with a category that another source might give.
LEAST: dict[str, dict[str, Any]] = {
    "cloudevents": {"specversion": "1.0", "id": "1", "source": "/s", "type": "github.push.made"},
    "ecs": {"@timestamp": "2026-01-01T00:00:00Z",
            "event": {"action": "login", "dataset": "github.audit"}},
    "elasticsearch": {"@timestamp": "2026-01-01T00:00:00Z", "data_stream": {"dataset": "okta.x"}},
    "ocsf": {"class_uid": 3002, "time": 1767225600000, "metadata": {"log_name": "aws.trail"}},
    "otlp": {"resource": {}, "attributes": {"audit.category": "github.web"}},
    "splunk_hec": {"time": 1767225600.5, "event": {"action": "login"},
                   "fields": {"category": "vault.request"}},
    "mine": {"area": "k8s.audit", "what": "done"},
    "any": {"area": "corp", "what": "done"},
    "loud": {"Area": "corp", "what": "done"},
}  # fmt: skip


def definition_of(name: str) -> SourceDefinition:
    return definition_in_settings(name, OWN[name]) if name in OWN else shipped(name)


def taken_from(definition: SourceDefinition) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Members, and the paths that they are taken from."""
    for member, value in definition.members.items():
        if member in MEMBERS:
            yield from ((member, path.steps) for path in paths_of(value))
    for target in definition.targets:
        for name, value in target.members.items():
            for path in paths_of(value):
                if path.in_item:
                    assert target.each is not None
                    yield f"targets.{name}", (*target.each.steps, *path.steps)
                else:
                    yield f"targets.{name}", path.steps


def filled(name: str, backwards: bool) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """A record with a value of its own at each path, and by member the values that it may have.

    Where a value and an object exclude each other, `backwards` chooses the other one.
    """
    record: dict[str, Any] = json.loads(json.dumps(LEAST[name]))
    values: dict[str, set[str]] = {}
    known: dict[tuple[Step, ...], str] = {}
    found = sorted(taken_from(definition_of(name)), key=lambda one: len(one[1]), reverse=backwards)
    for number, (member, steps) in enumerate(found):
        value = f"192.0.2.{number}" if member == "source.ip" else f"qz{number}zq"
        value = str(40_000 + number) if member == "source.port" else value
        value = known.setdefault(steps, value)
        if put(record, steps, int(value) if member == "source.port" else value):
            values.setdefault(member, set()).add(value)
    return record, values


def put(record: dict[str, Any], steps: tuple[Step, ...], value: Any) -> bool:
    inner: Any = record
    for step, following in itertools.pairwise((*steps, None)):
        key: Any = step.name if isinstance(step, Member) else 0
        if isinstance(step, Pick):
            return False
        if not isinstance(inner, dict if isinstance(step, Member) else list):
            return False
        there = key in inner if isinstance(inner, dict) else len(inner) > 0
        if following is None:
            if there and inner[key] != value:
                return False
            new = value
        else:
            new = [] if isinstance(following, Each | Item) else {}
        if not there:
            inner.append(new) if isinstance(inner, list) else inner.update({key: new})
        inner = inner[key]
    return True


async def send(gateway: Gateway, name: str, way: str, record: dict[str, Any]) -> None:
    key, body = gateway.admin, json.dumps(record)
    if way == "events":
        headers = {"Content-Type": "application/cloudevents+json"}
        answer = await gateway.post("/v1/events", key=key, data=body, headers=headers)
    elif way == "collector":
        headers = {"Authorization": f"Splunk {key}"}
        answer = await gateway.post("/services/collector", key=None, data=body, headers=headers)
    elif way == "bulk":
        headers = {"Content-Type": "application/x-ndjson"}
        body = f'{{"create":{{}}}}\n{body}\n'
        answer = await gateway.post("/_bulk", key=key, data=body, headers=headers)
        assert not answer.json()["errors"], answer.body
    elif way == "logs":
        answer = await gateway.post("/v1/logs", key=key, data=otlp(record), headers=JSON)
    else:
        answer = await gateway.post(f"/v1/ingest/{name}", key=key, data=body, headers=JSON)
    assert answer.status in (200, 201), answer.body


def otlp(record: dict[str, Any]) -> str:
    """A log record as OTLP sends it."""

    def pairs(members: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"key": key, "value": {"stringValue": str(value)}} for key, value in members.items()
        ]

    log = {
        "timeUnixNano": "1767225600000000000",
        "body": {"stringValue": record.get("body", "done")},
        "attributes": pairs(record["attributes"]),
    }
    scopes = [{"scope": record.get("scope", {}), "logRecords": [log]}]
    resource = {"attributes": pairs(record["resource"])}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]})


WAYS = [
    ("cloudevents", "events"), ("cloudevents", "ingest"), ("ecs", "ingest"), ("ecs", "bulk"),
    ("elasticsearch", "bulk"), ("ocsf", "ingest"), ("otlp", "logs"), ("splunk_hec", "collector"),
    ("splunk_hec", "ingest"), ("mine", "ingest"), ("any", "ingest"), ("loud", "ingest"),
]  # fmt: skip
NATIVE = {
    "category": "app", "action": "x", "actor": {"id": "ann"}, "reason": "r",
    "source": {"ip": "192.0.2.200"},
    "data": {"note": "ann", "class_uid": 1, "user": {"id": "b"}, "api": {"x": "192.0.2.200"}},
}  # fmt: skip


@pytest_asyncio.fixture
async def gateway(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Gateway]:
    settings = dataclasses.replace(
        Settings(data=tmp_path / "data", server=ServerSettings(port=0)), declared_sources=OWN
    )
    async with running(settings) as started:
        gateway = Gateway(started.url, started.first_key or "", session, started.context)
        await gateway.make_user()
        yield gateway
        gateway.disconnect()


async def reader(gateway: Gateway, member: str, how: str) -> str:
    return await gateway.mint(
        {"actions": ["pull", "stream"], "categories": ["**"], "fields": {how: [member]}}
    )


async def events_of(gateway: Gateway, key: str) -> list[dict[str, Any]]:
    """The events that a key gets, but for the gateway's own."""
    page = await gateway.pull(from_="start", key=key)
    return [one for one in page["events"] if not one["category"].startswith("gateway.")]


def values_in(event: dict[str, Any], member: str) -> set[str]:
    """The values of a member of an event."""
    name, _, inner = member.partition(".")
    found = event.get(name, ())
    if not inner:
        return {str(found)} if found else set()
    return {str(one[inner]) for one in (found if name == "targets" else [found]) if inner in one}


def leaks(shown: str, values: set[str]) -> list[str]:
    return [one for one in values if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", shown)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("name", "way"), WAYS)
async def test_no_value_that_a_member_was_taken_from_is_shown(
    gateway: Gateway, name: str, way: str, backwards: bool
) -> None:
    record, values = filled(name, backwards)
    await send(gateway, name, way, record)
    [true] = await events_of(gateway, gateway.admin)
    members = [member for member in MEMBERS if member in values]
    assert {"source.ip", "actor.id"} <= {*members}
    for member, how in itertools.product(members, HOW):
        if how == "pseudonymize" and member == "source.port":
            continue
        key = await reader(gateway, member, how)
        [seen] = await events_of(gateway, key)
        # Constants of the source, such as a type, are in no record.
        hidden = values[member] | (values_in(true, member) - {"file", "host", "url", "user"})
        assert not leaks(json.dumps(seen["data"]), hidden), (member, how)
        others = {name: value for name, value in true.items() if name != "data"}
        others[member.partition(".")[0]] = None
        elsewhere = json.dumps(
            [others, [values_in(true, m) for m in MEMBERS if m != member]], default=list
        )
        alone = {one for one in hidden if one not in elsewhere}
        assert not leaks(json.dumps(seen), alone), (member, how)


async def test_live_and_replayed_streams_hide_the_same_and_leave_other_events_as_they_are(
    gateway: Gateway,
) -> None:
    keys = [await reader(gateway, member, "mask") for member in ("actor.id", "source.ip")]
    keys += [await reader(gateway, member, "drop") for member in ("actor.id", "source.ip")]
    keys.append(await reader(gateway, "reason", "mask"))
    categories = {"category": ["app", "ocsf.3002", "github.push", "elasticsearch"]}
    live = [await open_stream(gateway, "ndjson", key, **categories) for key in keys]
    record, values = filled("ocsf", False)
    del record["metadata"]["log_name"], record["class_uid"]
    rounds = 30
    for number in range(rounds):
        await send(gateway, "ocsf", "ingest", {**record, "class_uid": 3002, "n": number})
        await gateway.send(NATIVE | {"id": str(number)}, key=gateway.admin)
    replayed = [
        await open_stream(gateway, "ndjson", key, from_="start", **categories) for key in keys
    ]
    for streams in (live, replayed):
        for stream, member in zip(
            streams, ("actor.id", "source.ip") * 2 + ("reason",), strict=True
        ):
            for event in await stream.take(2 * rounds):
                if event["category"] == "app":
                    assert event["data"] == NATIVE["data"], "no record of a source"
                else:
                    assert not leaks(json.dumps(event["data"]), values[member]), member
            stream.close()


async def test_filters_see_masked_copies(gateway: Gateway) -> None:
    record, _ = filled("ecs", False)
    await send(gateway, "ecs", "ingest", record)
    key = await reader(gateway, "actor.id", "mask")
    asked = f'data.user.id == "{record["user"]["id"]}"'
    whole = await gateway.pull(from_="start", key=gateway.admin, filter=asked)
    assert len(whole["events"]) == 1
    assert not (await gateway.pull(from_="start", key=key, filter=asked))["events"]
