"""Every refusal is a problem document (RFC 9457) that says what to do, and nothing else leaks."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from gateway_client import PROBLEM, Answer, GatewayClient, event
from gateways import Gateway

from gateway.errors import Unavailable

JSON = {"Content-Type": "application/json"}
Request = tuple[str, str, dict[str, Any]]
# One refusal of every status: (method, path, options of the request), status, code.
REFUSALS: list[tuple[Request, int, str]] = [
    (("GET", "/v1/events?limit=0", {}), 400, "invalid_request"),
    (("GET", "/v1/events?after=x", {}), 400, "malformed_cursor"),
    (("GET", "/v1/events?filter=((", {}), 400, "invalid_filter"),
    (("GET", "/v1/stream?x=1", {}), 400, "unknown_parameter"),
    (("GET", "/v1/stream?consumer=X", {}), 400, "invalid_consumer"),
    (("GET", "/v1/events?token=x", {}), 400, "key_in_url"),
    (("GET", "/v1/events?token=", {}), 400, "unknown_parameter"),
    (("POST", "/v1/events", {"data": b"[", "headers": JSON}), 400, "malformed_json"),
    (("GET", "/v1/events", {"key": None}), 401, "missing_key"),
    (("GET", "/v1/events", {"key": "alpk_x"}), 401, "invalid_key"),
    (("GET", "/v1/keys", {}), 403, "action_not_granted"),
    (("GET", "/v1/events/no-such", {}), 404, "not_found"),
    (("GET", "/v1/nothing", {}), 404, "no_route"),
    (("GET", "/nothing", {"key": None}), 404, "no_route"),
    (("DELETE", "/v1/events", {}), 405, "method_not_allowed"),
    (("GET", "/v1/events", {"headers": {"Accept": "image/png"}}), 406, "not_acceptable"),
    (("GET", "/v1/stream", {"headers": {"Accept": "image/png"}}), 406, "not_acceptable"),
    (("GET", "/v1/events?after=other-" + "0" * 20, {}), 410, "cursor_unknown"),
    (("POST", "/v1/events", {"data": b"{}"}), 415, "unsupported_media_type"),
    (("POST", "/v1/events", {"json": {"x": 1}}), 422, "invalid_events"),
]
every_refusal = pytest.mark.parametrize(
    ("request_", "status", "code"), REFUSALS, ids=[f"{r[0]} {r[1][:24]}" for r, *_ in REFUSALS]
)


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


async def refused(gateway: GatewayClient, request: Request) -> Answer:
    method, path, options = request
    return await gateway.request(method, path, **options)


@every_refusal
async def test_a_refusal_has_type_title_status_code_detail_and_request_id(
    gateway: Gateway, request_: Request, status: int, code: str
) -> None:
    answer = await refused(gateway, request_)
    document = answer.problem(status, code)
    assert answer.headers["Content-Type"].startswith(PROBLEM)
    assert answer.headers["Cache-Control"] == "no-store"
    assert document["type"] == "about:blank"
    assert document["title"]
    assert len(document["detail"]) > 10
    assert re.fullmatch(r"[0-9a-f]{16}", document["request_id"])
    again = (await refused(gateway, request_)).json()
    assert again.pop("request_id") != document.pop("request_id")
    assert again == document


@every_refusal
async def test_headers_go_with_the_status(
    gateway: Gateway, request_: Request, status: int, code: str
) -> None:
    headers = (await refused(gateway, request_)).headers
    expected = {401: {"WWW-Authenticate"}, 403: {"WWW-Authenticate"}, 405: {"Allow"}}
    found = {name for name in ("WWW-Authenticate", "Allow", "Retry-After") if name in headers}
    assert found == expected.get(status, set())
    if status in (401, 403):
        assert headers["WWW-Authenticate"].startswith('Bearer realm="')


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/events", {"GET", "POST"}),
        ("HEAD", "/v1/events", {"GET", "POST"}),
        ("OPTIONS", "/v1/events", {"GET", "POST"}),
        ("DELETE", "/v1/events/x", {"GET"}),
        ("PATCH", "/v1/stream", {"GET", "POST"}),
        ("HEAD", "/v1/stream", {"GET", "POST"}),
        ("GET", "/v1/keys/000000000000/revoke", {"POST"}),
        ("DELETE", "/v1/keys", {"GET", "POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_another_method_is_405_with_those_that_are_allowed(
    gateway: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    answer = await gateway.request(method, path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed
    if method != "HEAD":
        assert set(answer.problem(405, "method_not_allowed")["allowed"]) == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/%ff%fe", "/v1/events/%ff", "/v1/events/%ed%a0%80", "/v1/events?%ff=1", "/v1/events/%00",
        "/v1/events?tenant=%ff", "/v1/stream?follow=false&actor=%ed", "/v1/events?actor=%00",
        "/" + "x" * 7000, "/v1/events?actor=" + "x" * 7000, "/v1/roles/%ff", "/v1/keys/%ff",
        "/v1/events?since=%ff", "/v1/events?filter=%ff", "/v1/events?filter=%00",
        "/v1/events?" + "a=1&" * 1500,
    ],
    ids=lambda path: path[:32],
)  # fmt: skip
async def test_no_path_and_no_parameter_is_an_error_of_ours(gateway: Gateway, path: str) -> None:
    await gateway.send(event())
    answer = await gateway.get(path, key=gateway.admin)
    assert answer.status in (200, 400, 404)
    kinds = ("application/json", "text/event-stream", PROBLEM)
    assert answer.headers["Content-Type"].startswith(kinds)


@pytest.mark.parametrize(
    "header",
    [b"Accept: \xff", b"Content-Type: \xff", b"Content-Encoding: \xff", b"Origin: \xff",
     b"Last-Event-ID: \xff", b"Sec-WebSocket-Protocol: \xff", b"Authorization: Bearer \xff",
     b"Authorization: \xff", b"Content-Type: application/json; charset=\xff", b"Cookie: \xff=\xff",
     b"Accept: " + b"a/b," * 1500, b"Content-Type: ;", b"Content-Type: /", b"User-Agent: \xff"],
    ids=lambda header: header[:36],
)  # fmt: skip
@pytest.mark.parametrize("target", ["POST /v1/events", "GET /v1/stream", "POST /v1/stream"])
async def test_no_header_is_an_error_of_ours(gateway: Gateway, header: bytes, target: str) -> None:
    lines = [f"{target} HTTP/1.1".encode(), b"Host: x", b"Content-Length: 0"]
    if not header.startswith(b"Authorization"):
        lines.append(b"Authorization: Bearer " + gateway.user.encode())
    if target == "GET /v1/stream" and header.startswith(b"Sec"):
        lines += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                  b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]  # fmt: skip
    reader, writer = await gateway.connect()
    writer.write(b"\r\n".join([*lines, header, b"", b""]))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.split(b" ")[1] != b"500", head
    assert head.split(b" ")[1][:1] in (b"2", b"4"), head


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100,
     b"GET /\xff HTTP/1.1\r\n\r\n", b"NONSENSE\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n"],
    ids=lambda sent: repr(sent[:16]),
)  # fmt: skip
async def test_what_is_not_http_is_answered_with_a_problem_document_and_not_quoted(
    gateway: Gateway, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await gateway.exchange(sent + b"secret-behind\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b"Content-Type: " + PROBLEM.encode() in head
    assert b'"code":"malformed_http"' in body
    assert b"secret-behind" not in answer
    # To the watch, all that is refused in this module is one address.
    assert not [
        one for one in caplog.records if one.name != "gateway.oversight.detection.anomaly_detector"
    ]


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nX: secret" + b"y" * 20_000, b"GET /secret" + b"y" * 20_000 + b" HTTP/1.1"],
    ids=["header", "path"],
)
async def test_a_line_that_is_too_long_is_told_from_what_is_not_http(
    gateway: Gateway, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await gateway.exchange(sent + b"\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b'"code":"line_too_long"' in body
    assert b"POST /v1/stream" in body
    assert b"secret" not in answer
    assert not [
        one for one in caplog.records if one.name != "gateway.oversight.detection.anomaly_detector"
    ]


async def test_the_longest_filter_fits_into_a_url_with_every_byte_escaped(
    gateway: Gateway,
) -> None:
    expression = 'action == "' + "☂" * 1200 + '"'
    answer = await gateway.get("/v1/events", params={"filter": expression})
    assert answer.status == 200, answer.body


async def test_an_error_of_ours_is_500_with_an_id_that_the_log_has_and_no_traceback(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret inside")

    await gateway.send(event())
    monkeypatch.setattr(gateway.context.log, "find", broken)
    answer = await gateway.get("/v1/events/x")
    problem = answer.problem(500, "internal")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert problem["request_id"] in problem["detail"]
    assert problem["request_id"] in caplog.text
    assert "a secret inside" in caplog.text


@pytest.mark.parametrize("method", ["read", "find", "append"])
async def test_a_store_that_is_away_is_503_and_not_an_error_of_ours(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("the log cannot be read", code="store_unavailable", retry_after=5)

    await gateway.send(event())
    monkeypatch.setattr(gateway.context.log, method, away)
    if method == "append":
        answer = await gateway.post("/v1/events", json=event())
    else:
        answer = await gateway.get("/v1/events" if method == "read" else "/v1/events/x")
    answer.problem(503, "store_unavailable")
    assert answer.headers["Retry-After"] == "5"


async def test_only_what_is_public_is_answered_without_a_key(gateway: Gateway) -> None:
    assert (await gateway.get("/healthz", key=None)).body == b"ok\n"
    assert (await gateway.get("/readyz", key=None)).status == 200
    assert (await gateway.get("/metrics", key=None)).status == 200
    text = (await gateway.get("/", key=None)).body + (await gateway.get("/metrics", key=None)).body
    assert gateway.user[5:17].encode() not in text
    gateway.context.ready = False
    answer = await gateway.get("/readyz", key=None)
    answer.problem(503, "not_ready")
    assert int(answer.headers["Retry-After"]) > 0
    gateway.context.ready = True
