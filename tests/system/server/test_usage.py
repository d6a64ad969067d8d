"""How much a key was used: counted in the process, read back over HTTP and on the command line."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from gateway_client import NDJSON, event, key_id
from gateways import Gateway, Start, finish_program
from use_record import KEYS, about, told

from tests.support.machine_time import patience
from tests.support.services.valkey import Valkey


async def used(gateway: Gateway, key: str) -> dict[str, int]:
    path = f"/v1/keys/{key_id(key)}/usage"
    answer = await gateway.get(path, key=gateway.admin, params={"window": "1h", "step": "1m"})
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return {
        name: sum(row[name] for row in rows)
        for name in ("requests", "streams", "events", "bytes", "denials")
    }


async def test_requests_streams_events_bytes_and_denials_of_a_key_are_counted(
    gateway: Gateway,
) -> None:
    key = await gateway.mint({"actions": ["stream"], "categories": ["auth"]})
    await gateway.send(*(event(category="auth") for _ in range(7)), event(category="billing"))
    accept = {"Accept": "application/x-ndjson"}
    answer = await gateway.get("/v1/stream?from=start&follow=false", key=key, headers=accept)
    delivered = answer.lines()[:-1]
    assert len(delivered) == 7
    (await gateway.get("/v1/events", key=key)).problem(403, "action_not_granted")
    counts = await used(gateway, key)
    sent = sum(len(line) + 1 for line in answer.body.splitlines()[:-1])
    assert counts.pop("bytes") >= sent
    assert counts == {"requests": 2, "streams": 1, "events": 7, "denials": 1}


async def test_what_live_streams_of_two_keys_get_is_counted_for_each(gateway: Gateway) -> None:
    keys = [await gateway.mint({"actions": ["stream"], "categories": ["auth"]}) for _ in range(2)]
    url = gateway.url + "/v1/stream?category=auth"
    sockets = []
    for key in (keys[0], keys[0], keys[1]):
        headers = {"Authorization": f"Bearer {key}"}
        sockets.append(await gateway.session.ws_connect(url, headers=headers))
    await gateway.send(event(category="auth"), event(category="auth"))
    for socket in sockets:
        assert [(await socket.receive(patience(5))).type.name for _ in range(2)] == ["TEXT", "TEXT"]
    assert [(await used(gateway, key))["events"] for key in keys] == [4, 2]
    for socket in sockets:
        await socket.close()


async def test_what_is_pulled_is_counted_as_what_is_streamed(gateway: Gateway) -> None:
    own = {"actions": ["pull"], "categories": ["auth", "gateway.keys"]}
    key = await gateway.mint(own)
    await gateway.send(event(id="a"), event(id="b"), event(id="c", category="billing"))
    pages = [
        await gateway.get("/v1/events?category=auth", key=key),
        await gateway.get("/v1/events?category=auth&limit=1", key=key, headers={"Accept": NDJSON}),
    ]
    sent = [*pages[0].json()["events"], *pages[1].lines()]
    sent.append((await gateway.get("/v1/events/b", key=key)).json())
    (await gateway.get("/v1/events/c", key=key)).problem(404, "not_found")
    path = f"/v1/keys/{key_id(key)}/history"
    await told(gateway, category=KEYS, resource=about(key))
    sent += (await gateway.get(path, key=key)).json()["events"]
    counts = await used(gateway, key)
    assert counts["events"] == len(sent) == 5
    assert counts["bytes"] == sum(len(orjson.dumps(one)) for one in sent)


async def test_the_events_of_a_document_are_counted_as_those_of_a_page(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["pull", "usage.read"], "categories": ["auth"]})
    await gateway.send(event(id="a"), event(id="b", data={"x": "y" * 500}))
    path, headers = f"/v1/keys/{key_id(key)}/document", {"Accept": "application/json"}
    samples = (await gateway.get(path, key=key, headers=headers)).json()["samples"]
    counts = await used(gateway, key)
    assert counts["events"] == len(samples) == 2
    assert counts["bytes"] == sum(len(orjson.dumps(one)) for one in samples)


async def test_the_detector_counts_the_events_of_a_document(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["pull", "usage.read"], "categories": ["auth"]})
    await gateway.send(event(), event(), event())
    moved: list[int] = []
    gateway.context.access_log.on_access(
        lambda access: moved.append(access.events) if access.key_id == key_id(key) else None
    )
    await gateway.get(f"/v1/keys/{key_id(key)}/document", key=key)
    assert moved == [3]


async def test_what_is_sent_in_is_not_counted_as_delivered(gateway: Gateway) -> None:
    await gateway.send(event(), event())
    assert (await used(gateway, gateway.user))["events"] == 0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("window=1h&stp=1m", "unknown_parameter"),
        ("window=a", "invalid_request"),
        ("window=1h&step=30s", "bad_window"),
        ("window=24h&window=1h", "invalid_request"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(
    gateway: Gateway, query: str, code: str
) -> None:
    path = f"/v1/keys/{key_id(gateway.admin)}/usage?{query}"
    (await gateway.get(path, key=gateway.admin)).problem(400, code)


async def test_the_program_reads_what_gateways_have_counted_in_redis(start: Start) -> None:
    with Valkey() as redis:
        gateway = await start(redis={"url": redis.url})
        for _ in range(3):
            await gateway.get("/v1/events")
        assert (await used(gateway, gateway.user))["requests"] == 3
        data = str(gateway.context.settings.data)
        asked = ("keys", "usage", key_id(gateway.user), "--json", "--data", data)
        status, out, errors = await finish_program(*asked, redis__url=redis.url)
        assert status == 0, errors
        assert sum(row["requests"] for row in orjson.loads(out)["rows"]) == 3
        redis.kill()
        status, out, errors = await finish_program(*asked, redis__url=redis.url)
        assert status == 5
        assert "usage cannot be read while Redis is away" in errors


async def test_usage_needs_its_own_action_and_a_key_that_exists(gateway: Gateway) -> None:
    path = f"/v1/keys/{key_id(gateway.user)}/usage"
    (await gateway.get(path)).problem(403, "action_not_granted")
    unknown = await gateway.get("/v1/keys/000000000000/usage", key=gateway.admin)
    unknown.problem(404, "unknown_key")
