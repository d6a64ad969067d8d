"""Stream tickets: what a browser is given instead of a key, and what nobody can do with one."""

from __future__ import annotations

import asyncio
import base64
from ipaddress import ip_network
from typing import Any

import pytest
from gateway_client import Answer, GatewayClient, event, key_id
from gateways import Gateway, ShiftedClock, Start, StartProgram, StoppedClock
from open_streams import TRANSPORTS, Refused, Stream, open_stream

from gateway.access.credentials.ticket import KIND
from gateway.cursor import format_cursor
from gateway.errors import Unavailable

BEARER = "base64url.bearer.authorization.audit."
ORIGIN = "https://siem.example"


async def ticket(gateway: GatewayClient, key: str = "", origin: str = "", **params: Any) -> str:
    headers = {"Origin": origin} if origin else {}
    answer = await gateway.post("/v1/tickets", json=params, key=key, headers=headers)
    assert answer.status == 201, answer.body
    assert set(answer.json()) == {"ticket", "expires_at"}
    text: str = answer.json()["ticket"]
    assert text.startswith("alpt_")
    return text


async def opened(gateway: Gateway, text: str, **options: Any) -> Stream:
    stream: Stream = await open_stream(gateway, "sse", None, ticket=text, **options)
    return stream


async def refused(gateway: Gateway, text: str, **options: Any) -> Answer:
    with pytest.raises(Refused) as refusal:
        await opened(gateway, text, **options)
    assert text.encode() not in refusal.value.answer.body
    return refusal.value.answer


def cookie_of(stream: Stream) -> str:
    return stream.answer.headers["set-cookie"].partition(";")[0]


async def test_a_ticket_opens_the_stream_that_it_was_made_for(gateway: Gateway) -> None:
    await gateway.send(event(id="1"), event(id="2", category="billing"))
    params: dict[str, Any] = {"category": ["billing"], "from": "start", "follow": False}
    text = await ticket(gateway, **params)
    stream = await opened(gateway, text)
    await stream.to_end()
    assert [one["id"] for one in stream.events] == ["2"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_ticket_works_on_every_transport(gateway: Gateway, transport: str) -> None:
    await gateway.send(event(id="1"))
    text = await ticket(gateway, **{"from": "start"})
    stream = await open_stream(gateway, transport, None, ticket=text)
    assert (await stream.event())["id"] == "1"


async def test_a_ticket_in_the_subprotocol_opens_a_websocket_and_is_not_echoed(
    gateway: Gateway,
) -> None:
    text = await ticket(gateway)
    hidden = BEARER + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    headers = {"Sec-WebSocket-Protocol": f"audit.v1, {hidden}"}
    stream = await open_stream(gateway, "websocket", None, headers=headers)
    assert stream.answer.headers["sec-websocket-protocol"] == "audit.v1"
    assert hidden not in str(stream.answer.headers)


async def test_a_ticket_is_no_key(gateway: Gateway) -> None:
    text = await ticket(gateway)
    for path in ("/v1/events", "/v1/keys", "/v1/stream"):
        (await gateway.get(path, key=text)).problem(401, "invalid_key")
    (await gateway.get(f"/v1/events?ticket={text}", key=None)).problem(401, "missing_key")


async def test_a_ticket_opens_one_stream_only(gateway: Gateway) -> None:
    text = await ticket(gateway)
    await opened(gateway, text)
    (await refused(gateway, text)).problem(401, "invalid_ticket")


async def race(gateway: GatewayClient, text: str) -> list[int]:
    """The status of each of several requests with the same ticket at once."""

    async def attempt() -> int:
        try:
            return int((await open_stream(gateway, "sse", None, ticket=text)).answer.status)
        except Refused as refusal:
            return refusal.answer.status

    return sorted(await asyncio.gather(*(attempt() for _ in range(12))))


async def test_of_many_uses_at_once_one_opens_a_stream(gateway: Gateway) -> None:
    assert await race(gateway, await ticket(gateway)) == [200] + [401] * 11


async def test_a_ticket_opens_one_stream_whichever_worker_is_asked(
    start_program: StartProgram,
) -> None:
    program = await start_program(server__workers="2")
    for _ in range(3):
        assert await race(program, await ticket(program)) == [200] + [401] * 11


async def test_a_browser_reconnects_with_its_cookie(gateway: Gateway) -> None:
    await gateway.send(event(id="1"))
    text = await ticket(gateway, category="auth", **{"from": "start"})
    stream = await opened(gateway, text)
    cursor = (await stream.event())["cursor"]
    stream.close()
    await gateway.send(event(id="x", category="billing"), event(id="2"))
    headers = {"Cookie": cookie_of(stream), "Last-Event-ID": cursor}
    again = await opened(gateway, text, headers=headers)
    assert (await again.event())["id"] == "2"


async def test_a_position_beside_a_ticket_is_refused_and_the_ticket_is_not_spent(
    gateway: Gateway,
) -> None:
    await gateway.send(event(id="1"))
    text = await ticket(gateway, **{"from": "now"})
    start = format_cursor(gateway.context.log.epoch, 0)
    beside: list[dict[str, Any]] = [
        {"headers": {"Last-Event-ID": start}}, {"last_event_id": start}, {"lastEventId": start},
    ]  # fmt: skip
    for options in beside:
        problem = (await refused(gateway, text, **options)).problem(400, "invalid_request")
        assert problem["parameter"] == "last_event_id"
    stream = await opened(gateway, text, lastEventId="")
    await gateway.send(event(id="2"))
    assert (await stream.event())["id"] == "2"


async def test_a_cookie_goes_back_no_further_than_where_its_stream_began(
    gateway: Gateway,
) -> None:
    await gateway.send(event(id="1"))
    text = await ticket(gateway, on_gap="skip", **{"from": "now"})
    stream = await opened(gateway, text)
    stream.close()
    await gateway.send(event(id="2"))
    for epoch in (gateway.context.log.epoch, "anotherlog"):
        headers = {"Cookie": cookie_of(stream), "Last-Event-ID": format_cursor(epoch, 0)}
        again = await opened(gateway, text, headers=headers)
        assert (await again.event())["id"] == "2"
        again.close()


async def test_a_cookie_of_another_log_opens_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = await ticket(gateway)
    stream = await opened(gateway, text)
    monkeypatch.setattr(gateway.context.log, "epoch", "anotherlog")
    answer = await refused(gateway, text, headers={"Cookie": cookie_of(stream)})
    answer.problem(401, "invalid_ticket")


@pytest.mark.parametrize(
    ("trusted", "scheme", "secure"),
    [
        ("127.0.0.0/8", "https", True),
        ("127.0.0.0/8", "http", False),
        ("192.0.2.0/24", "https", False),
    ],
)
async def test_the_cookie_is_secure_where_a_trusted_proxy_says_that_the_client_is(
    start: Start, trusted: str, scheme: str, secure: bool
) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network(trusted),)})
    headers = {"X-Forwarded-Proto": scheme}
    stream = await opened(gateway, await ticket(gateway), headers=headers)
    attributes = stream.answer.headers["set-cookie"].split("; ")
    assert ("Secure" in attributes) is secure


async def test_the_cookie_is_kept_from_scripts_other_sites_and_other_paths(
    gateway: Gateway,
) -> None:
    stream = await opened(gateway, await ticket(gateway))
    _, *attributes = stream.answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/v1/stream"} <= set(attributes)


async def test_a_cookie_alone_or_beside_another_ticket_opens_nothing(gateway: Gateway) -> None:
    first, other = await ticket(gateway), await ticket(gateway)
    cookie = cookie_of(await opened(gateway, first))
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "sse", None, headers={"Cookie": cookie})
    refusal.value.answer.problem(401, "missing_key")
    await opened(gateway, other)
    (await refused(gateway, other, headers={"Cookie": cookie})).problem(401, "invalid_ticket")


async def test_parameters_beside_a_ticket_are_refused(gateway: Gateway) -> None:
    for name, value in (("category", "**"), ("tenant", "x"), ("filter", "true"), ("after", "x")):
        text = await ticket(gateway, category="auth")
        problem = (await refused(gateway, text, **{name: value})).problem(400, "unknown_parameter")
        assert problem["parameter"] == name


async def test_any_change_of_a_ticket_makes_it_worthless(gateway: Gateway) -> None:
    text = await ticket(gateway, category="auth")
    claims, _, signature = text.removeprefix("alpt_").partition(".")
    plain = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    forged = base64.urlsafe_b64encode(plain.replace(b"auth", b"a***")).decode().rstrip("=")
    for changed in (
        text[:-2], text + "A", f"alpt_{forged}.{signature}", f"alpt_{claims}.", "alpt_.",
        "alpt_", f"alpt_{claims}.{signature[::-1]}", f"alpt_{claims[:-4]}.{signature}", "x",
        f"alpt_{claims}.{'A' * 43}", "alpt_" + "A" * 9000, "alpt_\xff.\xff",
    ):  # fmt: skip
        with pytest.raises(Refused) as refusal:
            await opened(gateway, changed)
        assert refusal.value.answer.status in (400, 401)
    await opened(gateway, text)


async def test_tickets_that_open_nothing_are_limited_as_wrong_keys_and_as_requests(
    start: Start,
) -> None:
    gateway = await start(StoppedClock(), limits={"address_failures_per_minute": 3})
    text = await ticket(gateway)
    stream = await opened(gateway, text)
    answers = [await refused(gateway, one) for one in ("junk", text, "alpt_x.y", "junk", text)]
    assert [answer.status for answer in answers] == [401] * 3 + [429] * 2
    await opened(gateway, await ticket(gateway))
    await opened(gateway, text, headers={"Cookie": cookie_of(stream)})


async def test_a_ticket_that_is_none_counts_as_a_request_of_its_address(start: Start) -> None:
    # One of these requests has made the user's key.
    limits = {"address_requests_per_second": 1, "address_requests_burst": 3}
    gateway = await start(StoppedClock(), limits=limits)
    statuses = [(await refused(gateway, "junk")).status for _ in range(4)]
    assert statuses == [401, 401, 429, 429]


async def test_replays_and_tickets_of_ended_keys_cost_no_call_of_the_store(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.reader_key()
    used, unused = await ticket(gateway, key), await ticket(gateway, key)
    stream = await opened(gateway, used)
    notes: list[str] = []
    update = gateway.context.key_store.update_notes

    async def noted(kind: str, updates: Any) -> None:
        notes.append(kind)
        await update(kind, updates)

    monkeypatch.setattr(gateway.context.key_store, "update_notes", noted)
    for _ in range(5):
        (await refused(gateway, used)).problem(401, "invalid_ticket")
    again = await opened(gateway, used, headers={"Cookie": cookie_of(stream)})
    await gateway.revoke(key)
    await again.to_end()
    for _ in range(5):
        (await refused(gateway, unused)).problem(401, "key_revoked")
    assert KIND not in notes


async def test_a_ticket_that_could_not_be_noted_can_be_used_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = await ticket(gateway)

    async def fails(*_: Any) -> None:
        raise Unavailable("the store is away")

    with monkeypatch.context() as outage:
        outage.setattr(gateway.context.key_store, "update_notes", fails)
        assert (await refused(gateway, text)).status == 503
    await opened(gateway, text)


async def test_a_ticket_is_over_after_30_seconds(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(clock=shifted)
    early, late = await ticket(gateway), await ticket(gateway)
    shifted.shift = 25.0
    await opened(gateway, early)
    shifted.shift = 31.0
    (await refused(gateway, late)).problem(401, "invalid_ticket")


async def test_a_ticket_and_its_cookie_do_no_more_than_the_key_still_may(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key(categories=["auth"])
    await gateway.send(event(id="1", category="billing"), event(id="2"))
    used, unused = await ticket(gateway, key, **{"from": "start"}), await ticket(gateway, key)
    stream = await opened(gateway, used)
    assert (await stream.event())["id"] == "2"
    await gateway.revoke(key)
    assert (await stream.to_end())["code"] == 4501
    (await refused(gateway, unused)).problem(401, "key_revoked")
    headers = {"Cookie": cookie_of(stream)}
    (await refused(gateway, used, headers=headers)).problem(401, "key_revoked")


async def test_a_key_that_may_not_stream_gets_no_ticket(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["pull"], "categories": ["**"]})
    answer = await gateway.post("/v1/tickets", json={}, key=key)
    answer.problem(403, "action_not_granted")


async def test_parameters_that_make_no_sense_get_no_ticket(gateway: Gateway) -> None:
    wrong: list[Any] = [{"categroy": "x"}, {"category": []}, {"after": "x"}, {"filter": "(("}]
    for params in wrong:
        assert (await gateway.post("/v1/tickets", json=params)).status == 400
    assert (await gateway.post("/v1/tickets", json=["x"])).status == 400


async def test_a_ticket_is_bound_to_the_origin_that_asked_for_it(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (ORIGIN, "https://other.example")})
    text = await ticket(gateway, origin=ORIGIN)
    answer = await refused(gateway, text, headers={"Origin": "https://other.example"})
    answer.problem(403, "origin_not_allowed")
    text = await ticket(gateway, origin=ORIGIN)
    await opened(gateway, text, headers={"Origin": ORIGIN})


async def test_another_origin_does_not_spend_a_ticket(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (ORIGIN, "https://other.example")})
    text = await ticket(gateway, origin=ORIGIN)
    for headers in ({"Origin": "https://other.example"}, {"Origin": "https://evil.example"}):
        (await refused(gateway, text, headers=headers)).problem(403, "origin_not_allowed")
    await opened(gateway, text, headers={"Origin": ORIGIN})


async def test_a_page_of_a_foreign_origin_gets_no_ticket_and_opens_none(gateway: Gateway) -> None:
    evil = {"Origin": "https://evil.example"}
    answer = await gateway.post("/v1/tickets", json={}, headers=evil)
    answer.problem(403, "origin_not_allowed")
    text = await ticket(gateway)
    (await refused(gateway, text, headers=evil)).problem(403, "origin_not_allowed")


async def test_a_websocket_of_a_bound_ticket_says_its_origin(start: Start) -> None:
    gateway = await start(server={"allowed_origins": (ORIGIN,)})
    text = await ticket(gateway, origin=ORIGIN)
    with pytest.raises(Refused) as refusal:
        await open_stream(gateway, "websocket", None, ticket=text)
    refusal.value.answer.problem(403, "origin_not_allowed")
    await open_stream(gateway, "websocket", None, ticket=text, headers={"Origin": ORIGIN})


async def test_nothing_of_a_keys_secret_is_in_its_ticket(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    text = await ticket(gateway, key)
    claims = text.removeprefix("alpt_").partition(".")[0]
    plain = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode()
    assert key_id(key) in plain
    assert key[18:] not in plain
