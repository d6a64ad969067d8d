"""What trusted proxies say of their clients, and leave unsaid."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from gateway_client import GatewayClient, event
from gateways import Gateway, Start
from open_streams import ACCEPT, open_with
from test_standards import basic, raw
from test_tickets import cookie_of, opened, ticket

AWAY = "X-Forwarded-For: 192.0.2.7"
SSE = f"Accept: {ACCEPT['sse']}"
PROTO = "X-Forwarded-Proto"


@pytest.fixture
async def behind(start: Start) -> Gateway:
    return await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})


async def answer_with(gateway: GatewayClient, *headers: str) -> bytes:
    """The head and the body of a page for Basic credentials and these headers."""
    credentials = basic(gateway.user)["Authorization"]
    lines = ["GET /v1/events HTTP/1.1", "Host: gateway", f"Authorization: {credentials}"]
    reader, writer = await gateway.connect()
    try:
        writer.write("\r\n".join([*lines, *headers, "Connection: close", "", ""]).encode())
        return await reader.read()
    finally:
        writer.close()


async def test_a_client_came_over_tls_only_where_all_that_is_forwarded_says_so(
    behind: Gateway,
) -> None:
    secure = ["https"], ["HTTPS"], ["https, https"], ["https,"], ["https", "https"], ["", "https"]
    for values in secure:
        answer = await answer_with(behind, AWAY, *(f"{PROTO}: {one}" for one in values))
        assert answer.startswith(b"HTTP/1.1 200 "), values
    plain = (
        [], [""], ["http"], ["http, https"], ["https, http"], ["http", "https"], ["https", "http"],
        ["https;http"], ["https http"], ["httpss"], ["wss"], ['"https"'], ["https, https", "http"],
        ["https, unknown"],
    )  # fmt: skip
    for values in plain:
        answer = await answer_with(behind, AWAY, *(f"{PROTO}: {one}" for one in values))
        assert answer.startswith(b"HTTP/1.1 403 "), values
        assert b'"basic_needs_tls"' in answer, values


async def test_the_cookie_is_not_secure_where_the_forwarded_schemes_differ(
    behind: Gateway,
) -> None:
    stream = await opened(behind, await ticket(behind), headers={PROTO: "http, https"})
    assert "Secure" not in stream.answer.headers["set-cookie"].split("; ")


async def test_a_trusted_proxy_on_the_machine_that_names_no_client_is_no_local_client(
    behind: Gateway,
) -> None:
    for said in (None, "", "127.0.0.1", "::ffff:127.0.0.9", "127.0.0.1, 127.0.0.1", "unknown"):
        headers = [] if said is None else [f"X-Forwarded-For: {said}"]
        answer = await answer_with(behind, *headers)
        assert b'"basic_needs_tls"' in answer, headers
        answer = await answer_with(behind, *headers, f"{PROTO}: https")
        assert answer.startswith(b"HTTP/1.1 200 "), headers


async def test_a_client_on_the_machine_is_local_where_its_address_is_no_proxys(
    start: Start,
) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.2/32"),)})
    for headers in ([], [AWAY], [f"{PROTO}: http"]):
        assert (await answer_with(gateway, *headers)).startswith(b"HTTP/1.1 200 "), headers


@pytest.mark.parametrize("place", range(3))
async def test_cookies_that_a_proxy_left_on_several_lines_are_read_together(
    gateway: Gateway, place: int
) -> None:
    text = await ticket(gateway)
    first = await opened(gateway, text)
    lines = ["Cookie: theme=dark; a=b=c", 'Cookie: quoted="x; y"']
    lines.insert(place, f"Cookie: {cookie_of(first)}")
    request = raw(gateway, f"GET /v1/stream?ticket={text} HTTP/1.1", SSE, *lines)
    stream = await open_with(gateway, without_key(request))
    await gateway.send(event(id="again"))
    assert (await stream.event())["id"] == "again"


async def test_the_oldest_cookies_make_room_on_whichever_line_they_stand(
    gateway: Gateway,
) -> None:
    cookies = [cookie_of(await opened(gateway, await ticket(gateway))) for _ in range(8)]
    lines = [f"Cookie: {one}" for one in cookies]
    text = await ticket(gateway)
    request = raw(gateway, f"GET /v1/stream?ticket={text} HTTP/1.1", SSE, *lines)
    stream = await open_with(gateway, without_key(request))
    forgotten = stream.answer.headers["set-cookie"]
    assert forgotten.partition("=")[0] in cookies[0]
    assert "Max-Age=0" in forgotten


def without_key(request: bytes) -> bytes:
    """The request of a browser, which has no key."""
    lines = request.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"Authorization"))
