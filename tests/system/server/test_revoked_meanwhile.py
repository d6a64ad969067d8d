"""A key that changes while its request is still arriving gets nothing done with it.

Otherwise whoever has a stolen key begins a request, sends its body a byte at a time, and
ends it when the key has long been revoked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway
from use_record import about, told

from gateway.http.pages import search
from gateway.http.routes import document
from tests.support.machine_time import patience

ACTIONS = ["stream", "pull", "ingest", "keys.admin", "usage.read"]
GRANT = {"actions": ["pull"], "categories": ["auth"]}
NEW_KEY = {"name": "kept", "purpose": "p", "owner": "o", "expires_in": "1d", "grants": [GRANT]}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/events", event(id="late")),
    ("POST", "/v1/keys", NEW_KEY),
    ("PUT", "/v1/roles/late", {"grants": [GRANT]}),
    ("POST", "/v1/tickets", {}),
    ("POST", "/v1/stream", {"follow": False}),
    ("POST", "/v1/keys/{kid}/revoke", {"reason": "late"}),
    ("POST", "/v1/keys/{kid}/rotate", {"overlap": "1h"}),
]
Change = Callable[[Gateway, str], Awaitable[Any]]


async def revoke(gateway: Gateway, key: str) -> None:
    await gateway.revoke(key)


async def suspend(gateway: Gateway, key: str) -> None:
    await gateway.post(f"/v1/keys/{key_id(key)}/suspend", key=gateway.admin)


async def nothing(gateway: Gateway, key: str) -> None:
    pass


async def interrupted(
    gateway: Gateway, key: str, request: tuple[str, str, Any], change: Change, *, chunked: bool
) -> tuple[int, bytes]:
    """A request in whose body the key is changed; the status and body of the answer."""
    method, path, content = request
    body = orjson.dumps(content)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", length,
         "Content-Type: application/json", "Connection: close", "", ""]
    ).encode()  # fmt: skip

    def piece(part: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(part), part) if chunked else part

    reader, writer = await gateway.connect()
    writer.write(head + piece(body[:1]))
    # Until it has been let in and waits for the rest.
    for _ in range(3):
        await gateway.get("/healthz", key=None)
    await change(gateway, key)
    writer.write(piece(body[1:]) + (b"0\r\n\r\n" if chunked else b""))
    async with asyncio.timeout(patience(5)):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{request[0]} {request[1]}")
@pytest.mark.parametrize(("change", "code"), [(revoke, "key_revoked"), (suspend, "key_suspended")])
async def test_a_body_that_ends_after_its_key_does_nothing(
    recording: Gateway, request_: tuple[str, str, Any], change: Change, code: str, chunked: bool
) -> None:
    method, path, content = request_
    other = await recording.mint(GRANT)
    request_ = (method, path.replace("{kid}", key_id(other)), content)
    key = await recording.mint({"actions": ACTIONS, "categories": ["**"]})
    keys = len((await recording.get("/v1/keys", key=recording.admin)).json()["keys"])
    status, body = await interrupted(recording, key, request_, change, chunked=chunked)
    assert (status, orjson.loads(body)["code"]) == (401, code)
    after = (await recording.get("/v1/keys", key=recording.admin)).json()["keys"]
    assert len(after) == keys
    assert [one["state"] for one in after if one["id"] == key_id(other)] == ["active"]
    assert (await recording.get("/v1/roles/late", key=recording.admin)).status == 404
    assert (await recording.get("/v1/events/late", key=recording.admin)).status == 404
    [denied] = await told(recording, resource=about(key), outcome="denied")
    assert denied["reason"] == code


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{request[0]} {request[1]}")
async def test_a_slow_body_of_a_key_that_has_not_changed_is_as_good_as_any(
    gateway: Gateway, request_: tuple[str, str, Any]
) -> None:
    method, path, content = request_
    other = await gateway.mint(GRANT)
    request_ = (method, path.replace("{kid}", key_id(other)), content)
    key = await gateway.mint({"actions": ACTIONS, "categories": ["**"]})
    status, body = await interrupted(gateway, key, request_, nothing, chunked=False)
    assert status in (200, 201), body


async def test_a_role_that_is_narrowed_meanwhile_counts(gateway: Gateway) -> None:
    async def put(categories: list[str]) -> None:
        body = {"grants": [{"actions": ["ingest"], "categories": categories}]}
        answer = await gateway.request("PUT", "/v1/roles/writer", key=gateway.admin, json=body)
        assert answer.status in (200, 201)

    async def narrow(gateway: Gateway, key: str) -> None:
        await put(["billing"])

    await put(["auth", "billing"])
    key = await gateway.mint(roles=["writer"])
    request = ("POST", "/v1/events", event(id="late"))
    status, body = await interrupted(gateway, key, request, narrow, chunked=False)
    assert (status, orjson.loads(body)["code"]) == (503, "grants_changed")
    assert (await gateway.post("/v1/events", key=key, json=event(id="late"))).status == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/events", None),
        ("GET", "/v1/keys/{kid}/history", None),
        ("GET", "/v1/keys/{kid}/document", None),
        ("POST", "/v1/authz/simulate", {"key": "{kid}", "grants": [GRANT]}),
    ],
    ids=str,
)
async def test_nothing_is_shown_to_a_key_that_was_revoked_while_the_log_was_searched(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    key = await gateway.mint({"actions": ACTIONS, "categories": ["**", "gateway.**"]})
    await gateway.send(event(id="secret"))
    await gateway.context.access_log.flush()
    log = gateway.context.log
    whole = log.read

    async def slow(*arguments: Any, **options: Any) -> Any:
        page = await whole(*arguments, **options)
        await gateway.revoke(key)
        return page

    monkeypatch.setattr(log, "read", slow)
    options: dict[str, Any] = {} if body is None else {"json": {**body, "key": key_id(key)}}
    answer = await gateway.request(method, path.replace("{kid}", key_id(key)), key=key, **options)
    monkeypatch.setattr(log, "read", whole)
    answer.problem(401, "key_revoked")
    assert b"secret" not in answer.body


READS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/events", None),
    ("GET", "/v1/events/secret", None),
    ("GET", "/v1/events/nowhere", None),
    ("GET", "/v1/events/twice", None),
    ("GET", "/v1/keys/{kid}/history", None),
    ("GET", "/v1/keys/{kid}/document", None),
    ("POST", "/v1/authz/simulate", {"grants": [GRANT]}),
]


def when_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, change: Callable[[], Awaitable[Any]]
) -> None:
    """Have something happen, once, when the log has been read for a request."""
    log, done = gateway.context.log, False

    def slow(name: str) -> None:
        whole = getattr(log, name)

        async def read(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            found = await whole(*arguments, **options)
            if not done:
                done = True
                await change()
            return found

        monkeypatch.setattr(log, name, read)

    slow("read")
    slow("find")


async def asked(gateway: Gateway, key: str, method: str, path: str, body: Any) -> Answer:
    options: dict[str, Any] = {} if body is None else {"json": {**body, "key": key_id(key)}}
    return await gateway.request(method, path.replace("{kid}", key_id(key)), key=key, **options)


async def send_secrets(gateway: Gateway) -> None:
    twice = [event(id="twice", tenant=tenant) for tenant in ("secret-a", "secret-b")]
    await gateway.send(event(id="secret", tenant="secret"), *twice)
    await gateway.context.access_log.flush()


@pytest.mark.parametrize(("method", "path", "body"), READS, ids=str)
async def test_whoever_is_suspended_while_the_log_is_read_is_told_nothing_of_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    key = await gateway.mint({"actions": ACTIONS, "categories": ["**", "gateway.**"]})
    await send_secrets(gateway)
    when_read(gateway, monkeypatch, lambda: suspend(gateway, key))
    answer = await asked(gateway, key, method, path, body)
    answer.problem(401, "key_suspended")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(("method", "path", "body"), READS, ids=str)
async def test_a_role_that_is_narrowed_while_the_log_is_read_counts(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    """What it lets its keys pull counts where they asked as administrators, too."""

    async def put(**grant: Any) -> None:
        body = {"grants": [{"actions": ["pull"], "categories": ["**", "gateway.**"], **grant}]}
        answer = await gateway.request("PUT", "/v1/roles/reader", key=gateway.admin, json=body)
        assert answer.status in (200, 201)

    await put()
    key = await gateway.mint(roles=["reader", "key-admin"])
    await send_secrets(gateway)
    when_read(gateway, monkeypatch, lambda: put(tenants=["mine"]))
    answer = await asked(gateway, key, method, path, body)
    answer.problem(503, "grants_changed")
    assert b"secret" not in answer.body


async def test_a_page_that_waited_shows_nothing_of_what_its_key_has_lost_since(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put(*categories: str) -> None:
        body = {"grants": [{"actions": ["pull"], "categories": list(categories)}]}
        answer = await gateway.request("PUT", "/v1/roles/pulls", key=gateway.admin, json=body)
        assert answer.status in (200, 201)

    await put("auth", "gateway.access")
    key = await gateway.mint(roles=["pulls"])
    await gateway.pull(key)
    await gateway.context.access_log.flush()
    wait = search._growth

    async def narrowed_then_grown(*arguments: Any) -> None:
        await put("auth")
        await gateway.send(event(id="wakes"))
        await wait(*arguments)

    monkeypatch.setattr(search, "_growth", narrowed_then_grown)
    # The records of its own pulls end no wait.
    page = await gateway.pull(key, category="gateway.access", actor=key_id(key), wait="30")
    assert (page["events"], page["has_more"]) == ([], True)
    monkeypatch.undo()
    page = await gateway.pull(key, after=page["cursor"])
    assert [one["id"] for one in page["events"]] == ["wakes"]


async def test_a_document_is_withheld_from_a_key_that_is_suspended_while_it_is_written(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.mint({"actions": ACTIONS, "categories": ["**"]})
    await send_secrets(gateway)
    loop, write = asyncio.get_running_loop(), document.to_markdown

    def slow(blocks: Any) -> str:
        asyncio.run_coroutine_threadsafe(suspend(gateway, key), loop).result(patience(10))
        return write(blocks)

    monkeypatch.setattr(document, "to_markdown", slow)
    answer = await asked(gateway, key, "GET", "/v1/keys/{kid}/document", None)
    answer.problem(401, "key_suspended")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("part", "name", "method", "path", "body"),
    [
        ("key_store", "get", "GET", "/v1/keys/{kid}", None),
        ("usage", "rows", "GET", "/v1/keys/{kid}/usage", None),
        ("key_store", "roles", "GET", "/v1/roles/key-reviewer", None),
        ("key_store", "roles", "POST", "/v1/authz/explain", {"action": "pull"}),
    ],
    ids=str,
)
async def test_nothing_is_shown_to_a_key_that_was_revoked_while_the_store_was_asked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch,
    part: str, name: str, method: str, path: str, body: Any,
) -> None:  # fmt: skip
    key = await gateway.mint({"actions": ACTIONS, "categories": ["**"]})
    answer = await gateway.request(
        "PUT", "/v1/roles/key-reviewer", key=gateway.admin, json={"grants": [GRANT]}
    )
    assert answer.status == 201
    # From now on it is known without the store.
    await gateway.pull(key)
    asked_of = getattr(gateway.context, part)
    whole, done = getattr(asked_of, name), False

    async def slow(*arguments: Any) -> Any:
        nonlocal done
        found = await whole(*arguments)
        if not done:
            done = True
            await gateway.revoke(key)
        return found

    monkeypatch.setattr(asked_of, name, slow)
    answer = await asked(gateway, key, method, path, body)
    answer.problem(401, "key_revoked")


@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
async def test_many_events_whose_key_is_revoked_while_they_are_decoded_are_not_stored(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, on_invalid: str
) -> None:
    key = await gateway.mint({"actions": ["ingest"], "categories": ["**"]})
    decoder = gateway.context.decoder
    name = "decode" if on_invalid == "fail" else "decode_leniently"
    whole = getattr(decoder, name)

    async def slow(*arguments: Any, **options: Any) -> Any:
        decoded = await whole(*arguments, **options)
        await gateway.revoke(key)
        return decoded

    monkeypatch.setattr(decoder, name, slow)
    many = [event(id=f"late-{n}") for n in range(3)]
    path = f"/v1/events?on_invalid={on_invalid}"
    (await gateway.post(path, key=key, json=many)).problem(401, "key_revoked")
    assert (await gateway.pull())["events"] == []
