"""An answer is, byte for byte, what aiohttp would send of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway.http.response.answer import ALWAYS, Answer

Make = Callable[[], web.Response]
BODY = b'{"accepted":1}'
CLOSE = "Connection: close\r\n"
REQUESTS = [
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\n{CLOSE}\r\n",
    "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    "HEAD / HTTP/1.0\r\n\r\n",
    "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
]
Headers = Mapping[str, str]
TWICE = CIMultiDict([("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "Basic")])
FORMS: list[tuple[int, str, Headers]] = [
    (200, "application/json", {}),
    (201, "application/json", {"Location": "/v1/keys/a"}),
    (401, "application/problem+json", {"WWW-Authenticate": "Bearer"}),
    (401, "application/problem+json", TWICE),
    (429, "application/problem+json", {"Retry-After": "1"}),
]


def by_aiohttp(status: int, kind: str, headers: Headers) -> web.Response:
    response = web.Response(
        body=BODY, status=status, content_type=kind,
        headers=CIMultiDict([("Cache-Control", "no-store"), *headers.items()]),
    )  # fmt: skip
    response.headers.update(ALWAYS)
    return response


def by_us(status: int, kind: str, headers: Headers) -> web.Response:
    return Answer(BODY, kind, status=status, headers=headers)


@asynccontextmanager
async def served(make: Make, *, listens: bool = False) -> AsyncIterator[int]:
    @web.middleware
    async def answered(request: web.Request, handler: object) -> web.StreamResponse:
        return make()

    async def listen(request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers["Vary"] = "Origin"

    app = web.Application(middlewares=[answered])
    if listens:
        app.on_response_prepare.append(listen)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def said(port: int, request: str) -> tuple[bytes, bool]:
    """What is answered but for its date, and whether the connection goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"" if request.startswith("HEAD") else await reader.readexactly(len(BODY))
        # Asked once more, for an end.
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{CLOSE}\r\n".encode())
        more = await reader.read()
    finally:
        writer.close()
    found = re.subn(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"Date:\r\n", head)
    assert found[1] == 1
    return found[0] + body, bool(more)


async def assert_same(make: Callable[..., web.Response], request: str, *, listens: bool) -> None:
    answers = []
    for by in (by_aiohttp, by_us):
        async with served(lambda by=by: make(by), listens=listens) as port:  # type: ignore[misc]
            answers.append(await said(port, request))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("request_text", REQUESTS)
@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_is_what_aiohttp_sends(
    request_text: str, form: tuple[int, str, Headers]
) -> None:
    await assert_same(lambda by: by(*form), request_text, listens=False)


@pytest.mark.parametrize("request_text", REQUESTS)
async def test_an_answer_that_others_add_headers_to_is_what_aiohttp_sends(
    request_text: str,
) -> None:
    await assert_same(lambda by: by(*FORMS[0]), request_text, listens=True)

    def added(by: Callable[..., web.Response]) -> web.Response:
        response = by(*FORMS[0])
        response.headers.update({"RateLimit-Limit": "5", "Server": "other"})
        return response

    await assert_same(added, request_text, listens=False)


@pytest.mark.parametrize("request_text", REQUESTS)
async def test_an_answer_that_ends_its_connection_is_what_aiohttp_sends(request_text: str) -> None:
    def closing(by: Callable[..., web.Response]) -> web.Response:
        response = by(*FORMS[0])
        response.force_close()
        return response

    await assert_same(closing, request_text, listens=False)


async def test_an_answer_with_a_cookie_is_what_aiohttp_sends() -> None:
    def with_cookie(by: Callable[..., web.Response]) -> web.Response:
        response = by(*FORMS[0])
        response.set_cookie("a", "b")
        return response

    await assert_same(with_cookie, REQUESTS[0], listens=False)


async def test_the_usual_answer_is_not_made_by_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: web.Response, request: web.BaseRequest) -> None:
        raise AssertionError("aiohttp was asked to make it")

    monkeypatch.setattr(web.Response, "prepare", refuse)
    for form in FORMS:
        async with served(lambda form=form: by_us(*form)) as port:  # type: ignore[misc]
            whole, _ = await said(port, REQUESTS[0])
            assert whole.startswith(b"HTTP/1.1 %d " % form[0])
            assert whole.endswith(BODY)
