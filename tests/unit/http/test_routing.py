"""Requests that are routed from memory are routed as aiohttp would."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.http.connection.routing import Routes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATHS = [
    "/", "/plain", "/plain/", "/%70lain", "/plain?a=1", "/plain%2F", "//plain", "/PLAIN",
    "/some/one", "/some/plain", "http://y/plain", "*", "/nowhere", "/plain;a", "/pl%C3%A4in",
]  # fmt: skip
PASSED: web.RequestKey[tuple[str, ...]] = web.RequestKey("passed", tuple)
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"]


async def said(request: web.Request) -> web.Response:
    """All that routing leaves in a request."""
    info = request.match_info
    resource = info.route.resource
    canonical = resource.canonical if resource is not None else None
    said = (canonical, dict(info), info.http_exception, info.handler.__name__, request[PASSED])
    return web.Response(text=f"{said} {request.app is info.apps[0]}", status=201)


async def also(request: web.Request) -> web.Response:
    return await said(request)


def noting(name: str) -> Any:
    @web.middleware
    async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[PASSED] = (*request.get(PASSED, ()), name)
        return await handler(request)

    return noted


def new_app() -> web.Application:
    app = web.Application(middlewares=[noting("first"), noting("second")])
    app.router.add_get("/", said)
    app.router.add_get("/plain", said)
    app.router.add_post("/plain", also)
    app.router.add_get("/some/{name}", also, allow_head=False)
    app.router.add_get("/some/plain", said, allow_head=False)
    return app


@asynccontextmanager
async def served(app: web.Application, *, from_memory: bool) -> AsyncIterator[int]:
    server = TestServer(app)
    await server.start_server()
    assert server.handler is not None
    assert server.port is not None
    if from_memory:
        server.handler.request_handler = Routes(app).handle  # type: ignore[assignment]
    yield server.port
    await server.close()


async def answer(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request}Host: x\r\nConnection: close\r\n\r\n".encode())
    whole = await reader.read()
    writer.close()
    return re.sub(rb"Date: [^\r]*", b"", whole)


@pytest.mark.parametrize("path", PATHS)
async def test_each_request_finds_the_handler_that_aiohttp_finds(path: str) -> None:
    requests = [
        f"{method} {path} HTTP/1.1\r\n{expects}"
        for method in METHODS
        for expects in ("", "Expect: 100-continue\r\n", "Expect: x\r\n")
    ]
    async with served(new_app(), from_memory=False) as port:
        theirs = [await answer(port, request) for request in requests]
    async with served(new_app(), from_memory=True) as port:
        ours = [await answer(port, request) for request in requests]
    assert ours == theirs
    assert all(ours)


async def test_a_path_without_parameters_is_not_asked_of_aiohttp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(self: web.Application, request: web.Request) -> web.StreamResponse:
        raise AssertionError("aiohttp was asked for the route")

    async with served(new_app(), from_memory=True) as port:
        monkeypatch.setattr(web.Application, "_handle", refuse)
        for request in ("GET / HTTP/1.1", "GET /plain?a=1 HTTP/1.1", "POST /plain HTTP/1.1"):
            assert b" 201 Created" in await answer(port, f"{request}\r\n")
