"""Sessions of the console: how they begin, what they prove, and what ends them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from browser_sessions import BrowserSession, cookie_of, post_key, sign_in
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import open_stream
from use_record import told

from gateway.access.credentials.session import KIND, MOST_OF_KEY
from tests.support.machine_time import becomes

HALF_AN_HOUR, HALF_A_DAY = 1800, 12 * 3600
PROXIES = (ip_network("127.0.0.0/8"),)
ADMIN = {"actions": ["keys.admin", "pull", "stream"], "categories": ["**", "gateway.**"]}


@pytest.fixture
async def signed_in(gateway: Gateway) -> BrowserSession:
    return await sign_in(gateway, gateway.user)


async def test_a_key_signs_in_and_its_session_sees_what_the_key_sees(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["pull"], "categories": ["auth"], "tenants": ["acme"]})
    await gateway.send(event(id="a", tenant="acme"), event(id="b", tenant="other"))
    browser = await sign_in(gateway, key)
    page = (await browser.get("/v1/events")).json()
    assert [one["id"] for one in page["events"]] == ["a"]
    (await browser.get("/v1/keys")).problem(403, "action_not_granted")


async def test_the_cookie_is_kept_from_scripts_and_other_sites(gateway: Gateway) -> None:
    cookie, attributes = cookie_of(await post_key(gateway, gateway.user))
    assert cookie.startswith("audit-session=")
    assert attributes == {
        "path": "/", "max-age": str(HALF_A_DAY), "httponly": "True", "samesite": "Strict",
    }  # fmt: skip


async def test_over_tls_the_cookie_is_bound_to_the_host(start: Start) -> None:
    gateway = await start(server={"names": ("audit.example",), "trusted_proxies": PROXIES})
    there = {
        "Host": "audit.example", "Origin": "https://audit.example", "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "192.0.2.7",
    }  # fmt: skip
    answer = await post_key(gateway, gateway.user, **there)
    cookie, attributes = cookie_of(answer)
    assert cookie.startswith("__Host-audit-session=")
    assert attributes["secure"] == "True"
    page = await gateway.get("/v1/events", key=None, headers={**there, "Cookie": cookie})
    assert page.status == 200
    # One that plain HTTP could have set does not count.
    plain = {**there, "Cookie": cookie.removeprefix("__Host-")}
    (await gateway.get("/v1/events", key=None, headers=plain)).problem(401, "missing_key")


async def test_the_store_has_no_secret_of_a_session(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    secret = signed_in.cookie.partition("=")[2]
    ((name, note),) = (await gateway.context.key_store.notes(KIND)).items()
    assert secret.encode() not in note
    assert secret not in name


CROSS = "https://evil.example"
# What a page of somebody else, or a name that leads here, can make a browser send.
ATTACKS: dict[str, tuple[str, str, dict[str, str | None], str]] = {
    "form of another site": ("POST", "/v1/keys", {"Origin": CROSS}, "origin_not_allowed"),
    "form without an origin": ("POST", "/v1/keys", {"Origin": None}, "origin_not_allowed"),
    "sandboxed page": ("POST", "/v1/keys", {"Origin": "null"}, "origin_not_allowed"),
    "script without the token": ("POST", "/v1/keys", {"X-Audit-CSRF": None}, "csrf_refused"),
    "guessed token": ("POST", "/v1/keys", {"X-Audit-CSRF": "0" * 64}, "csrf_refused"),
    "change by DELETE": ("DELETE", "/v1/roles/x", {"X-Audit-CSRF": None}, "csrf_refused"),
    "change by PUT": ("PUT", "/v1/roles/x", {"X-Audit-CSRF": None}, "csrf_refused"),
    "sign-out by another site": ("DELETE", "/v1/session", {"Origin": CROSS}, "origin_not_allowed"),
    "neighbour that reads": ("GET", "/v1/events", {"Origin": CROSS}, "origin_not_allowed"),
    "image of a neighbour": (
        "GET", "/v1/events", {"Origin": None, "Sec-Fetch-Site": "same-site"}, "origin_not_allowed",
    ),
    "rebound name": ("GET", "/v1/events", {"Host": "evil.example", "Origin": None},
                     "host_not_named"),
    "ingest by a form": ("POST", "/v1/events", {"Origin": CROSS}, "origin_not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_others_make_a_browser_send_is_refused(gateway: Gateway, attack: str) -> None:
    browser = await sign_in(gateway, await gateway.mint(ADMIN))
    method, path, changed, code = ATTACKS[attack]
    headers = {**browser.headers, **changed}
    sent = {name: value for name, value in headers.items() if value is not None}
    body: Any = None if method == "GET" else {}
    answer = await gateway.request(method, path, key=None, headers=sent, json=body)
    answer.problem(403, code)
    assert (await browser.get("/v1/session")).status == 200


OWN_HOSTS = (
    "LocalHost:{port}", "localhost.:{port}", "127.0.0.1", "127.9.9.9:1", "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
)  # fmt: skip
OTHER_HOSTS = (
    "localhost.evil.example", "evil.localhost", "127.0.0.1.nip.io", "127.1", "2130706433",
    "0x7f000001", "0.0.0.0", "[::]", "::1", "localhost@evil.example", "localhost:x",
    "evil.example:127", "localhost/evil", "", ".", "localhost,evil.example", "\u24db\u24de",
)  # fmt: skip


async def test_a_session_counts_at_loopback_addresses_alone_however_written(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    port = gateway.url.rpartition(":")[2]
    for host in (*OWN_HOSTS, *OTHER_HOSTS):
        head = f"GET /v1/session HTTP/1.1\r\nHost: {host.format(port=port)}\r\n"
        sent = f"{head}Cookie: {signed_in.cookie}\r\nConnection: close\r\n\r\n"
        answer = await gateway.exchange(sent.encode())
        wanted = (b"200",) if host in OWN_HOSTS else (b"403", b"400")
        assert answer[9:12] in wanted, (host, answer)


async def test_what_another_site_asks_for_is_refused(signed_in: BrowserSession) -> None:
    for site in ("cross-site", "same-site", "SAME-SITE", "none, cross-site", "same-origin;x", "x"):
        answer = await signed_in.get("/v1/events", headers={"Sec-Fetch-Site": site})
        answer.problem(403, "origin_not_allowed")


@pytest.mark.parametrize("origin", [None, CROSS])
async def test_a_websocket_by_cookie_needs_the_own_origin(
    gateway: Gateway, signed_in: BrowserSession, origin: str | None
) -> None:
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Cookie": signed_in.cookie,
    }  # fmt: skip
    if origin is not None:
        handshake["Origin"] = origin
    answer = await gateway.get("/v1/stream", key=None, headers=handshake)
    answer.problem(403, "origin_not_allowed")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": CROSS}, "origin_not_allowed"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, "host_not_named"),
    ],
)
async def test_nobody_is_signed_in_by_a_page_of_others(
    gateway: Gateway, headers: dict[str, str], code: str
) -> None:
    answer = await post_key(gateway, gateway.user, **headers)
    answer.problem(403, code)
    assert "Set-Cookie" not in answer.headers


async def test_off_the_machine_sign_in_needs_a_name_and_tls(start: Start) -> None:
    gateway = await start(server={"names": ("audit.example",), "trusted_proxies": PROXIES})
    away = {"X-Forwarded-For": "192.0.2.7"}
    named = {"Host": "audit.example", "Origin": "http://audit.example"}
    problem = (await post_key(gateway, gateway.user, **away)).problem(403, "host_not_named")
    assert "server.names" in problem["detail"]
    refused = await post_key(gateway, gateway.user, **away, **named)
    assert "TLS" in refused.problem(403, "sign_in_needs_tls")["detail"]
    # A key is taken as ever.
    answer = await gateway.get("/v1/events", headers={**away, "Host": "other.example"})
    assert answer.status == 200


async def test_a_cookie_beside_a_key_is_refused(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    answer = await gateway.get("/v1/events", headers=signed_in.headers)
    answer.problem(400, "ambiguous_key")


async def test_signing_in_again_gives_another_secret_and_ends_the_old_one(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    again = await sign_in(gateway, gateway.user, Cookie=signed_in.cookie)
    assert again.cookie != signed_in.cookie
    (await signed_in.get("/v1/events")).problem(401, "session_ended")
    assert (await again.get("/v1/events")).status == 200


async def test_a_secret_that_an_attacker_chose_is_never_taken(gateway: Gateway) -> None:
    chosen = "audit-session=" + "A" * 43
    taken = await sign_in(gateway, gateway.user, Cookie=chosen)
    assert taken.cookie != chosen
    answer = await gateway.get("/v1/events", key=None, headers={"Cookie": chosen})
    answer.problem(401, "session_ended")


@pytest.mark.parametrize("value", ["", "x", '"', "A" * 4000, "é", "%00", "a=b"])
async def test_a_cookie_that_is_none_is_refused(gateway: Gateway, value: str) -> None:
    headers = {"Cookie": f"audit-session={value}"}
    answer = await gateway.get("/v1/events", key=None, headers=headers)
    assert answer.status == 401
    assert answer.json()["code"] in ("session_ended", "missing_key")


async def test_a_cookie_counts_under_its_very_name(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    """A page of a neighbouring host may set one that only looks like `__Host-..`."""
    for blank in ("\u2000", "\u00a0", "\u0085", "\u3000"):
        sent = {"Cookie": blank + signed_in.cookie}
        (await gateway.get("/v1/events", key=None, headers=sent)).problem(401, "missing_key")


async def test_bytes_that_are_no_text_are_refused_in_what_a_session_proves(
    gateway: Gateway, signed_in: BrowserSession
) -> None:
    for name in ("Cookie", "X-Audit-CSRF", "Origin", "Sec-Fetch-Site", "Host"):
        sent = {**signed_in.headers, "Host": gateway.url.removeprefix("http://")}
        sent[name] = sent["Cookie"][:20] + "\xff" if name == "Cookie" else "\xff"
        head = "".join(f"{one}: {value}\r\n" for one, value in sent.items())
        end = "Content-Length: 2\r\nConnection: close\r\n\r\n{}"
        answer = await gateway.exchange(f"POST /v1/keys HTTP/1.1\r\n{head}{end}".encode("latin-1"))
        assert answer[9:12] in (b"400", b"401", b"403"), (name, answer)


async def test_wrong_keys_sign_nobody_in_and_count_for_their_address(start: Start) -> None:
    gateway = await start(limits={"address_failures_per_minute": 2})
    for _ in range(2):
        (await post_key(gateway, "alpk_wrong")).problem(401, "invalid_key")
    assert (await post_key(gateway, "alpk_wrong")).status == 429


async def end_by_sign_out(gateway: Gateway, browser: BrowserSession, key_id: str) -> None:
    answer = await browser.request("DELETE", "/v1/session")
    assert answer.status == 204
    assert cookie_of(answer)[1]["path"] == "/"


async def end_by_another_process(gateway: Gateway, browser: BrowserSession, key_id: str) -> None:
    names = await gateway.context.key_store.notes(KIND)
    await gateway.context.key_store.update_notes(KIND, {name: lambda _: None for name in names})


async def end_by_revoking(gateway: Gateway, browser: BrowserSession, key_id: str) -> None:
    await gateway.post(f"/v1/keys/{key_id}/revoke", key=gateway.admin)


End = Callable[[Gateway, BrowserSession, str], Any]


@pytest.mark.parametrize(
    ("end", "code", "status"),
    [
        (end_by_sign_out, 4506, "session_ended"),
        (end_by_another_process, 4506, "session_ended"),
        (end_by_revoking, 4501, "key_revoked"),
    ],
)
async def test_what_ends_a_session_ends_its_streams(
    gateway: Gateway, end: End, code: int, status: str
) -> None:
    key = await gateway.mint({"actions": ["pull", "stream"], "categories": ["auth"]})
    browser = await sign_in(gateway, key)
    stream = await open_stream(gateway, "ndjson", None, headers=browser.headers)
    await end(gateway, browser, key_id(key))
    assert (await stream.to_end())["code"] == code
    refused = await becomes(lambda: browser.get("/v1/events"), lambda one: one.status != 200)
    refused.problem(401, status)


async def test_a_session_ends_when_nobody_has_done_anything_for_half_an_hour(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock=clock)
    browser = await sign_in(gateway, gateway.user)
    clock.shift += HALF_AN_HOUR - 60
    assert (await browser.get("/v1/events")).status == 200
    # What no person has caused does not keep it.
    for _ in range(3):
        clock.shift += HALF_AN_HOUR / 4
        await browser.get("/v1/session", headers={"X-Audit-Background": "1"})
    assert (await browser.get("/v1/session", headers={"X-Audit-Background": "1"})).status == 200
    clock.shift += HALF_AN_HOUR / 2
    (await browser.get("/v1/events")).problem(401, "session_ended")


async def test_a_session_ends_after_half_a_day_whatever_is_done(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock=clock)
    browser = await sign_in(gateway, gateway.user)
    for _ in range(HALF_A_DAY // 1200):
        assert (await browser.get("/v1/session")).status == 200
        clock.shift += 1200
    (await browser.get("/v1/session")).problem(401, "session_ended")


async def test_a_key_has_so_many_sessions_and_the_most_idle_goes_first(gateway: Gateway) -> None:
    key = await gateway.mint({"actions": ["pull"], "categories": ["auth"]})
    first = await sign_in(gateway, key)
    others = [await sign_in(gateway, key) for _ in range(MOST_OF_KEY)]
    (await first.get("/v1/events")).problem(401, "session_ended")
    assert (await others[0].get("/v1/events")).status == 200
    assert len(await gateway.context.key_store.notes(KIND)) == MOST_OF_KEY


async def test_sessions_that_are_over_leave_the_store(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock=clock)
    key = gateway.user
    for _ in range(3):
        await sign_in(gateway, key)
    clock.shift += HALF_A_DAY
    await sign_in(gateway, key)
    assert len(await gateway.context.key_store.notes(KIND)) == 1


async def test_each_look_is_recorded_with_its_page(recording: Gateway) -> None:
    gateway = recording
    key = await gateway.mint({"actions": ["pull"], "categories": ["auth"]})
    browser = await sign_in(gateway, key)
    await browser.get("/v1/events", headers={"X-Audit-Page": "console/investigate"})
    await browser.get("/v1/events", headers={"X-Audit-Page": "<script>"})
    await browser.request("DELETE", "/v1/session")
    wanted = ("session.opened", "session.closed", "events.pulled")
    found = await told(gateway, 3, actions=wanted, actor=key_id(key))
    actions = {one["action"]: one for one in found}
    assert actions["events.pulled"]["data"]["pages"] == ["console/investigate"]


async def test_a_file_is_recorded_with_the_page_that_saved_it(recording: Gateway) -> None:
    browser = await sign_in(recording, recording.user)
    sent = {"X-Audit-Page": "console/investigate", "Accept": "application/x-ndjson"}
    answer = await browser.get("/v1/stream", params={"follow": "false"}, headers=sent)
    assert answer.status == 200
    wanted = ("stream.closed", "events.exported")
    found = await told(recording, 2, where=lambda one: one["action"] in wanted)
    assert {one["action"] for one in found} == {*wanted}
    assert [one["data"].get("pages") for one in found] == [["console/investigate"]] * 2
