"""Formats over every transport and page: what is asked for comes, and nothing that is masked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from gateway_client import NDJSON, Answer, cursor_at, event
from gateways import Gateway, Start

from gateway.client.aio import AsyncClient
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from tests.support.machine_time import patience

OTHERS = FORMAT_NAMES[1:]
TEXTS = ("cef", "rfc5424")
SSE = "text/event-stream"
BATCH, SINGLE = "application/cloudevents-batch+json", "application/cloudevents+json"
SUBPROTOCOLS = ("", "audit.v1", "audit.v1.batch", "audit.v1.lines")
# Every member that may be masked, with a value that stands nowhere else.
PLANT = "plantedZ7q"
PLANTED: dict[str, Any] = {
    "actor": {"type": f"{PLANT}1", "id": f"{PLANT}2", "name": f"{PLANT}3", "key_id": f"{PLANT}4"},
    "source": {"service": f"{PLANT}5", "ip": "198.51.100.77", "port": 64999,
               "user_agent": f"{PLANT}6"},
    "targets": [{"urn": f"user:{PLANT}7", "type": "user", "id": f"{PLANT}8", "name": f"{PLANT}9"}],
    "request": {"id": f"{PLANT}a", "trace_id": f"{PLANT}b"},
    "reason": f"{PLANT}c",
    "data": {f"{PLANT}d": [f"{PLANT}e", {"x": f"{PLANT}f"}]},
}  # fmt: skip
HIDDEN = (PLANT.encode(), b"198.51.100.77", b"64999")


def expected(name: str, natives: list[Any]) -> list[Any]:
    """Native events, as pages have them, in a format with the usual options."""
    encode = make_formats()[name].encode
    made = [encode(orjson.dumps(native)) for native in natives]
    return [one.decode() if name in TEXTS else orjson.loads(one) for one in made]


def without_host(name: str, shown: list[Any]) -> list[Any]:
    """Syslog messages with the name of no host."""
    if name != "rfc5424":
        return shown
    fields = [one.split(" ", 3) for one in shown]
    return [" ".join((first, time, "-", rest)) for first, time, _, rest in fields]


async def stream(gateway: Gateway, accept: str, key: str = "", **params: str) -> Answer:
    """A whole stream that ends by itself."""
    params = {"from": "start", "follow": "false", **params}
    return await gateway.get("/v1/stream", key=key, params=params, headers={"Accept": accept})


async def frames(
    gateway: Gateway, subprotocol: str, key: str = "", **params: str
) -> tuple[str | None, list[bytes]]:
    """The subprotocol that was chosen, and the text frames of a stream that ends by itself."""
    params = {"from": "start", "follow": "false", **params}
    async with (
        asyncio.timeout(patience()),
        gateway.session.ws_connect(
            f"{gateway.url}/v1/stream",
            params=params,
            protocols=[subprotocol] if subprotocol else [],
            headers={"Authorization": f"Bearer {key or gateway.user}"},
        ) as socket,
    ):
        found = [message.data.encode() async for message in socket]
        return socket.protocol, found


async def send(gateway: Gateway, count: int = 3) -> list[Any]:
    """Some events; the native ones, as a page has them."""
    for number in range(count):
        await gateway.send(event(id=f"e-{number}", actor={"id": "u-1"}, data={"n": number}))
    return list((await gateway.pull())["events"])


@pytest.mark.parametrize("name", OTHERS)
async def test_a_page_has_events_in_the_format(gateway: Gateway, name: str) -> None:
    natives = await send(gateway)
    page = await gateway.pull(format=name)
    assert without_host(name, page["events"]) == expected(name, natives)
    assert page["cursor"] >= natives[-1]["cursor"]
    lines = await gateway.get("/v1/events", params={"format": name}, headers={"Accept": NDJSON})
    shown = lines.body.decode().splitlines()
    assert without_host(name, [one if name in TEXTS else orjson.loads(one) for one in shown]) == (
        expected(name, natives)
    )
    kind = "text/plain; charset=utf-8" if name in TEXTS else NDJSON
    assert lines.headers["Content-Type"] == kind
    assert lines.headers["Audit-Cursor"] == page["cursor"]


@pytest.mark.parametrize("name", OTHERS)
async def test_one_event_has_the_format(gateway: Gateway, name: str) -> None:
    natives = await send(gateway, 1)
    answer = await gateway.get("/v1/events/e-0", params={"format": name})
    shown = answer.body.decode()
    assert without_host(name, [shown if name in TEXTS else orjson.loads(shown)]) == (
        expected(name, natives)
    )
    kind = "text/plain; charset=utf-8" if name in TEXTS else "application/json"
    assert answer.headers["Content-Type"] == kind


@pytest.mark.parametrize("name", OTHERS)
async def test_streams_over_http_have_the_format(gateway: Gateway, name: str) -> None:
    natives = await send(gateway)
    answer = await stream(gateway, SSE, format=name)
    messages = [one.split("\n") for one in answer.body.decode().split("\n\n")]
    ids = [one[0] for one in messages if len(one) == 2 and one[1].startswith("data: ")]
    assert ids == [f"id: {one['cursor']}" for one in natives]
    shown = [one[1][6:] for one in messages if len(one) == 2 and one[1].startswith("data: ")]
    assert without_host(name, [one if name in TEXTS else orjson.loads(one) for one in shown]) == (
        expected(name, natives)
    )
    lines = await stream(gateway, NDJSON, format=name)
    *shown, end = lines.body.decode().splitlines()
    assert orjson.loads(end)["type"] == "end"
    assert without_host(name, [one if name in TEXTS else orjson.loads(one) for one in shown]) == (
        expected(name, natives)
    )
    kind = "text/plain; charset=utf-8" if name in TEXTS else NDJSON
    assert lines.headers["Content-Type"] == kind


@pytest.mark.parametrize("name", OTHERS)
async def test_streams_over_websockets_have_the_format(gateway: Gateway, name: str) -> None:
    natives = await send(gateway)
    _, shown = await frames(gateway, "", format=name)
    assert without_host(
        name, [one.decode() if name in TEXTS else orjson.loads(one) for one in shown]
    ) == expected(name, natives)
    _, typed = await frames(gateway, "audit.v1", format=name)
    found = [one for one in map(orjson.loads, typed) if one["type"] == "event"]
    assert without_host(name, [one["event"] for one in found]) == expected(name, natives)
    assert [one["cursor"] for one in found] == [one["cursor"] for one in natives]
    _, batches = await frames(gateway, "audit.v1.batch", format=name)
    [whole] = [one for one in map(orjson.loads, batches) if one["type"] == "events"]
    assert without_host(name, whole["events"]) == expected(name, natives)
    assert whole["cursor"] == natives[-1]["cursor"]


async def test_cloudevents_come_by_their_media_types(gateway: Gateway) -> None:
    natives = await send(gateway)
    page = await gateway.get("/v1/events", headers={"Accept": BATCH}, params={"limit": "2"})
    assert page.headers["Content-Type"] == BATCH
    assert page.json() == expected("cloudevents", natives[:2])
    assert page.headers["Audit-Cursor"] == natives[1]["cursor"]
    assert page.headers["Audit-Has-More"] == "true"
    one = await gateway.get("/v1/events/e-1", headers={"Accept": SINGLE})
    assert one.headers["Content-Type"] == SINGLE
    assert one.json() == expected("cloudevents", natives[1:2])[0]


async def test_a_batch_of_cloudevents_says_in_headers_what_is_missing(gateway: Gateway) -> None:
    first, second = await send(gateway, 2)
    await gateway.forget_before(second)
    params = {"after": cursor_at(first["cursor"], 0), "on_gap": "skip"}
    page = await gateway.get("/v1/events", headers={"Accept": BATCH}, params=params)
    assert page.json() == expected("cloudevents", [second])
    gap = (await gateway.pull(**params))["gap"]
    assert orjson.loads(page.headers["Audit-Gap"]) == gap


async def test_a_websocket_of_cloudevents_has_one_in_each_frame(gateway: Gateway) -> None:
    natives = await send(gateway)
    for params in ({}, {"format": "cloudevents"}):
        chosen, shown = await frames(gateway, "cloudevents.json", **params)
        assert chosen == "cloudevents.json"
        assert [*map(orjson.loads, shown)] == expected("cloudevents", natives)
    for other in ("native", "ocsf"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await frames(gateway, "cloudevents.json", format=other)
        assert refused.value.status == 400


async def test_a_format_that_is_none_is_refused_with_those_that_are(gateway: Gateway) -> None:
    for path in ("/v1/events", "/v1/stream", "/v1/events/x"):
        answer = await gateway.get(path, params={"format": "xml"})
        detail = answer.problem(400, "unsupported_format")["detail"]
        assert all(name in detail for name in FORMAT_NAMES)


async def test_a_type_that_the_format_does_not_have_is_406(gateway: Gateway) -> None:
    for name, accept in (("ocsf", BATCH), ("native", BATCH), ("ocsf", "text/plain")):
        answer = await gateway.get(
            "/v1/events", params={"format": name}, headers={"Accept": accept}
        )
        assert answer.status == 406, (name, accept)
    answer = await gateway.get(
        "/v1/events", params={"format": "cef"}, headers={"Accept": "text/plain"}
    )
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_live_streams_of_several_formats_get_what_they_asked_for(gateway: Gateway) -> None:
    async with live_streams(gateway, gateway.user) as bodies:
        natives = await send(gateway, 2)
        made = await bodies()
    for (name, transport), body in made.items():
        if transport != NDJSON:
            continue
        *shown, _ = body.decode().splitlines()
        decoded = [one if name in TEXTS else orjson.loads(one) for one in shown]
        assert without_host(name, decoded) == expected(name, natives), name


async def test_settings_of_formats_are_heeded(start: Start) -> None:
    gateway = await start(
        formats={
            "type_prefix": "org.example", "source": "//log/", "unmapped": "none", "original": True,
            "enterprise_id": 99, "hostname": "gw-1",
        }
    )  # fmt: skip
    [native] = await send(gateway, 1)
    shown = {name: (await gateway.pull(format=name))["events"][0] for name in OTHERS}
    assert shown["cloudevents"]["type"] == "org.example.auth.user.login"
    assert shown["cloudevents"]["source"] == "//log/default"
    assert shown["ocsf"]["unmapped"] == {"cursor": native["cursor"]}
    assert orjson.loads(shown["ecs"]["event"]["original"]) == native
    assert shown["rfc5424"].split(" ")[2] == "gw-1"
    assert " [audit@99 id=" in shown["rfc5424"]


# Masks


def every_way() -> Iterator[tuple[str, str]]:
    for name in FORMAT_NAMES:
        for transport in (SSE, NDJSON, *SUBPROTOCOLS):
            yield name, transport
    yield "cloudevents", "cloudevents.json"


@asynccontextmanager
async def live_streams(gateway: Gateway, key: str, limit: int = 2) -> AsyncIterator[Any]:
    """Streams in every format over every transport, live before any event is sent. What it gives
    returns the bytes that each of them has got when it ends, after `limit` events."""
    ways, opened = [*every_way()], []
    headers = {"Authorization": f"Bearer {key}"}
    try:
        for name, transport in ways:
            params = {"format": name, "limit": str(limit)}
            if transport in (SSE, NDJSON):
                opened.append(
                    await gateway.session.get(
                        f"{gateway.url}/v1/stream",
                        params=params,
                        headers={**headers, "Accept": transport},
                    )
                )
            else:
                opened.append(
                    await gateway.session.ws_connect(
                        f"{gateway.url}/v1/stream",
                        params=params,
                        headers=headers,
                        protocols=[transport] if transport else [],
                    )
                )

        async def bodies() -> dict[tuple[str, str], bytes]:
            async with asyncio.timeout(patience()):
                read = await asyncio.gather(*map(_whole, opened))
            return dict(zip(ways, read, strict=True))

        yield bodies
    finally:
        for one in opened:
            closing = one.close()
            if closing is not None:
                await closing


async def _whole(opened: Any) -> bytes:
    if isinstance(opened, aiohttp.ClientResponse):
        return await opened.read()
    return b"\n".join([message.data.encode() async for message in opened])


@pytest.mark.parametrize("hidden", ["mask", "drop"])
async def test_no_format_and_no_transport_shows_a_masked_value(
    gateway: Gateway, hidden: str
) -> None:
    key = await gateway.reader_key(fields={hidden: sorted(PLANTED)})
    kinds = ("auth", "iam.user", "k8s.audit", "app.config")
    async with live_streams(gateway, key, len(kinds)) as bodies:
        for number, category in enumerate(kinds):
            await gateway.send({
                "id": f"shown-{number}", "category": category, "action": "user.delete",
                "outcome": "denied", **PLANTED,
            })  # fmt: skip
        made = await bodies()
    for name, transport in every_way():
        params = {"format": name}
        if transport in (SSE, NDJSON):
            answer = await stream(gateway, transport, key, **params)
            made[name, f"replayed over {transport}"] = answer.body
        else:
            _, found = await frames(gateway, transport, key, **params)
            made[name, f"replayed over {transport}"] = b"\n".join(found)
    for name in FORMAT_NAMES:
        for accept in ("application/json", NDJSON):
            answer = await gateway.get(
                "/v1/events", key=key, params={"format": name}, headers={"Accept": accept}
            )
            made[name, f"page of {accept}"] = answer.body
        for number in range(len(kinds)):
            answer = await gateway.get(
                f"/v1/events/shown-{number}", key=key, params={"format": name}
            )
            made[name, f"event {number}"] = answer.body
    answer = await gateway.get("/v1/events", key=key, headers={"Accept": BATCH})
    made["cloudevents", "batch"] = answer.body
    for way, body in made.items():
        assert b"shown-" in body, way
        for value in HIDDEN:
            assert value not in body, way
    clear = await gateway.get("/v1/events", params={"format": "ocsf"})
    assert all(value in clear.body for value in HIDDEN)


# The client of the package


@pytest.mark.parametrize("name", FORMAT_NAMES)
async def test_the_client_knows_positions_in_every_format(gateway: Gateway, name: str) -> None:
    natives = await send(gateway)
    cursors = [one["cursor"] for one in natives]
    async with AsyncClient(gateway.url, gateway.user) as client:
        streamed = [
            one async for one in client.stream(format=name, from_="start", follow=False, limit=3)
        ]
        assert [one.cursor for one in streamed] == cursors
        rest = client.stream(format=name, after=cursors[0], follow=False)
        assert [one.cursor async for one in rest] == cursors[1:]
        paged = [one async for page in client.pages(format=name) for one in page.events]
    for events in (streamed, paged):
        shown = [one.json.decode() for one in events]
        decoded = [one if name in TEXTS else orjson.loads(one) for one in shown]
        assert without_host(name, decoded) == expected(name, natives)
