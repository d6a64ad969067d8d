"""Grants times events: who sees what, the same on every way out of the gateway.

The whole table is asked for once, over real sockets, live and from the log; then each
row is a test of its own, which looks at every event.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from gateway_client import NDJSON, Event, key_id
from gateways import Gateway, ShiftedClock
from grant_oracle import may_see
from grants_table import EVENTS, OLD, OWN, OWN_ROLE, OWN_ROLE_GRANTS, ROWS, Members, Row
from open_streams import TRANSPORTS, Refused, Stream, open_stream

from gateway.access.grants.role import BUILTIN
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from tests.support.cases import check_each
from tests.support.machine_time import eventually, patience

pytestmark = pytest.mark.slow
LIVE = tuple(f"live {name}" for name in TRANSPORTS)
CAUGHT_UP = tuple(f"from the log {name}" for name in TRANSPORTS)
PULLED = ("a page", "a page as lines", "by id")
AGE = 7200.0
# What a key saw on each way: events by their ids.
Seen = dict[str, dict[str, Event]]
GIVEN = {"server": {"port": 0}, "record": {"delay": 3600}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, dict[str, Seen]]:
    """What there was to see, and what each row's key saw of it."""
    return asyncio.run(_ask(tmp_path_factory.mktemp("table")))


async def _ask(folder: Path) -> tuple[Seen, dict[str, Seen]]:
    clock = ShiftedClock()
    sections = {name: of(**GIVEN.get(name, {})) for name, of in SECTIONS.items()}
    settings = Settings(data=folder / "data", **sections)
    async with AsyncExitStack() as connections:
        session = await connections.enter_async_context(aiohttp.ClientSession())
        async with running(settings, clock) as started:
            assert started.first_key is not None
            gateway = Gateway(started.url, started.first_key, session, started.context)
            connections.callback(gateway.disconnect)
            keys = await _prepare(gateway, clock)
            live = {name: await _open_live(gateway, key) for name, key in keys.items()}
            reading = asyncio.create_task(_to_the_end(live))
            whole, found = await _find(gateway, keys)
        # The gateway has stopped, which ends all streams.
        for name, seen in (await reading).items():
            found[name] |= seen
    return {"all": whole}, found


async def _prepare(gateway: Gateway, clock: ShiftedClock) -> dict[str, str]:
    """A key for each row; and the old event is old."""
    await gateway.make_user()
    body = {"grants": OWN_ROLE_GRANTS}
    answer = await gateway.request("PUT", f"/v1/roles/{OWN_ROLE}", key=gateway.admin, json=body)
    assert answer.status == 201
    keys = {row.name: await gateway.mint(*row.grants, roles=row.roles) for row in ROWS}
    await gateway.send({"id": OLD, "action": "test", **EVENTS[OLD]})
    clock.shift = AGE
    return keys


async def _find(gateway: Gateway, keys: dict[str, str]) -> tuple[dict[str, Event], dict[str, Seen]]:
    """Everything there is, and what each key gets of it from the log."""
    everything = await gateway.mint({"actions": ["pull"], "categories": ["**", "gateway.**"]})
    await _send(gateway)
    whole = await _page(gateway, everything, "application/json")
    found = {name: await _read(gateway, key) for name, key in keys.items()}
    for name, key in keys.items():
        for action in ("stream", "pull", "ingest"):
            found[name][f"explained {action}"] = await _explain(gateway, key, action, whole)
        found[name]["sent"] = await _sent_again(gateway, key)
    await gateway.tail_reaches(gateway.context.log.head)
    await eventually(lambda: gateway.context.hub.flush() is None, "all is written")
    return whole, found


async def _send(gateway: Gateway) -> None:
    for name, members in EVENTS.items():
        if name in OWN:
            await gateway.record(name, members["category"])
        elif name != OLD:
            await gateway.send({"id": name, "action": "test", **members})


async def _open_live(gateway: Gateway, key: str) -> dict[str, Stream | None]:
    return dict(zip(LIVE, [await _opened(gateway, name, key) for name in TRANSPORTS], strict=True))


async def _opened(gateway: Gateway, transport: str, key: str, **params: str) -> Stream | None:
    """The stream; None if the key may not have one."""
    try:
        stream: Stream = await open_stream(gateway, transport, key, **params)
    except Refused as refused:
        if refused.answer.status != 403:
            raise
        return None
    return stream


async def _to_the_end(live: dict[str, dict[str, Stream | None]]) -> dict[str, Seen]:
    """All streams, until the gateway stops."""

    async def read(stream: Stream | None) -> dict[str, Event]:
        if stream is not None:
            assert (await stream.to_end(60))["code"] == 1012
        return _by_id(stream.events if stream is not None else [])

    ways = [(name, way, stream) for name, row in live.items() for way, stream in row.items()]
    read_all = await asyncio.gather(*(read(stream) for _, _, stream in ways))
    seen: dict[str, Seen] = {name: {} for name in live}
    for (name, way, _), events in zip(ways, read_all, strict=True):
        seen[name][way] = events
    return seen


async def _read(gateway: Gateway, key: str) -> Seen:
    """What the key gets from the log."""
    seen: Seen = {}
    for way, transport in zip(CAUGHT_UP, TRANSPORTS, strict=True):
        stream = await _opened(gateway, transport, key, from_="start", follow="false")
        if stream is not None:
            await stream.to_end()
        seen[way] = _by_id(stream.events if stream is not None else [])
    seen["a page"] = await _page(gateway, key, "application/json")
    seen["a page as lines"] = await _page(gateway, key, NDJSON)
    asked = [("GET", f"/v1/events/{name}", None) for name in EVENTS]
    answers = dict(zip(EVENTS, await _answers(gateway, key, asked), strict=True))
    assert {status for status, _ in answers.values()} <= {200, 403, 404}
    seen["by id"] = {name: event for name, (status, event) in answers.items() if status == 200}
    return seen


async def _answers(
    gateway: Gateway, key: str, asked: list[tuple[str, str, Members | None]]
) -> list[tuple[int, Any]]:
    """Status and document of many requests, sent at once over one connection."""
    reader, writer = await gateway.connect()
    for method, path, body in asked:
        data = b"" if body is None else msgspec.json.encode(body)
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {gateway.host}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
    answers = []
    async with asyncio.timeout(patience()):
        for _ in asked:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
            body = msgspec.json.decode(await reader.readexactly(length))
            answers.append((int(head.split()[1]), body))
    writer.close()
    return answers


async def _sent_again(gateway: Gateway, key: str) -> dict[str, Event]:
    """The answers to sending each event, which the log has already."""
    asked = [
        ("POST", "/v1/events", {"id": name, "action": "test", **members})
        for name, members in EVENTS.items()
    ]
    answers = await _answers(gateway, key, asked)
    assert {status for status, _ in answers} <= {201, 403, 422}
    return {name: document for name, (_, document) in zip(EVENTS, answers, strict=True)}


async def _explain(
    gateway: Gateway, key: str, action: str, whole: dict[str, Event]
) -> dict[str, Event]:
    """Why it may do that with each event, or may not."""
    about = {"key": key_id(key), "action": action, "address": "127.0.0.1"}
    asked = [("POST", "/v1/authz/explain", {**about, "event": event}) for event in whole.values()]
    answers = await _answers(gateway, gateway.admin, asked)
    assert {status for status, _ in answers} == {200}, answers
    return {name: document for name, (_, document) in zip(whole, answers, strict=True)}


async def _page(gateway: Gateway, key: str, kind: str) -> dict[str, Event]:
    answer = await gateway.get("/v1/events?limit=1000", key=key, headers={"Accept": kind})
    if answer.status == 403:
        return {}
    return _by_id(answer.json()["events"] if kind == "application/json" else answer.lines())


def _by_id(events: list[Event]) -> dict[str, Event]:
    by_id = {one["id"]: one for one in events if one["id"] in EVENTS}
    assert len(by_id) == sum(one["id"] in EVENTS for one in events), "an event came twice"
    return by_id


# What is expected, from the table and the meaning of masks


def _expected(row: Row, name: str, whole: Event, letter: str, action: str) -> Event | None:
    if letter == ".":
        return None
    if letter == "s":
        return whole
    grants = [
        grant
        for grant in [*row.grants, *(grant for role in row.roles for grant in _grants_of(role))]
        if action in grant["actions"]
        and grant.get("effect") != "deny"
        and may_see([grant], whole)
        and not (name == OLD and grant.get("when", {}).get("max_lookback") == "1h")
    ]
    fields = [grant["fields"] for grant in grants if "fields" in grant]
    drop = {path for one in fields for path in one.get("drop", ())}
    mask = {path for one in fields for path in one.get("mask", ())} - drop
    return _hidden(whole, mask, drop)


def _grants_of(role: str) -> list[Members]:
    if role == OWN_ROLE:
        return OWN_ROLE_GRANTS
    grants: list[Members] = msgspec.to_builtins(BUILTIN[role].grants)
    return grants


def _hidden(whole: Event, mask: set[str], drop: set[str]) -> Event:
    event = deepcopy(whole)
    for path in drop:
        for holder, name in _places(event, path.split(".")):
            del holder[name]
    masked = []
    for path in sorted(mask):
        for holder, name in _places(event, path.split(".")):
            holder[name] = {} if path == "data" else _stars(holder[name], path)
            masked.append(path)
    if masked:
        event["masked"] = sorted(set(masked))
    return event


def _places(value: Any, parts: list[str]) -> list[tuple[Members, str]]:
    """The objects that hold what a path names."""
    if isinstance(value, list):
        return [place for item in value for place in _places(item, parts)]
    if not isinstance(value, dict) or parts[0] not in value:
        return []
    return [(value, parts[0])] if len(parts) == 1 else _places(value[parts[0]], parts[1:])


def _stars(value: Any, path: str) -> Any:
    if path.startswith("data"):
        return "***"
    if isinstance(value, dict):
        return dict.fromkeys(value, "***")
    return [_stars(item, path) for item in value] if isinstance(value, list) else "***"


# The tests


def test_the_table_is_large_and_each_row_whole() -> None:
    assert len(ROWS) * len(EVENTS) >= 200
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        for letters in (row.streamed, row.pulled):
            assert len(letters) == len(EVENTS), row.name
            assert set(letters) <= set("sm."), row.name


def test_there_was_everything_to_see(table: tuple[Seen, dict[str, Seen]]) -> None:
    assert set(table[0]["all"]) == set(EVENTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(table: tuple[Seen, dict[str, Seen]], row: Row) -> None:
    everything, seen = table[0]["all"], table[1][row.name]
    check_each(EVENTS, lambda name: _check(row, name, everything[name], seen))


def _check(row: Row, name: str, whole: Event, seen: Seen) -> None:
    column = list(EVENTS).index(name)
    ways = {
        **({} if name == OLD else dict.fromkeys(LIVE, row.streamed[column])),
        **dict.fromkeys(CAUGHT_UP, row.streamed[column]),
        **dict.fromkeys(PULLED, row.pulled[column]),
    }
    for way, letter in ways.items():
        action = "pull" if way in PULLED else "stream"
        expected = _expected(row, name, whole, letter, action)
        assert letter != "m" or expected != whole, "it has nothing that would be masked"
        assert seen[way].get(name) == expected, way
    for action, letters in (("stream", row.streamed), ("pull", row.pulled)):
        explained = seen[f"explained {action}"][name]
        assert explained["decision"] == ("deny" if letters[column] == "." else "allow")
        assert letters[column] != "m" or explained["masks"] or explained["drops"]
    explained = seen["explained ingest"][name]
    sent = seen["sent"][name]
    assert explained["decision"] == ("allow" if "accepted" in sent else "deny"), sent
    assert sent.get("code") != "action_not_granted" or explained["reason_code"] == sent["code"]
