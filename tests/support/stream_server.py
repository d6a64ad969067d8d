"""A small gateway to stream from: speaks the NDJSON wire and breaks off where it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def cursor(offset: int) -> str:
    return f"epoch1-{offset:020d}"


def event(offset: int, **members: Any) -> bytes:
    """A native event line."""
    base = {
        "cursor": cursor(offset),
        "id": f"e{offset}",
        "time": "2026-01-15T08:00:00.250000Z",
        "tenant": "acme",
        "category": "auth",
        "action": "user.login",
        "outcome": "success",
        "severity": 1,
    }
    return json.dumps(base | members).encode() + b"\n"


def control(kind: str, **members: Any) -> bytes:
    return json.dumps({"type": kind, **members}).encode() + b"\n"


def end(code: int, reason: str, *, reconnect: bool, offset: int = 0) -> bytes:
    return control("end", code=code, reason=reason, cursor=cursor(offset), reconnect=reconnect)


COMPLETE = end(1000, "complete", reconnect=False)


def stream(*parts: bytes, cut: bool = False, begin: str | None = None) -> Answer:
    """A stream of these bytes, then its end: proper, or with the connection torn."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        if begin is not None:
            response.headers["Audit-Cursor"] = begin
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return answer


def problem(status: int, retry_after: str | None = None, **members: Any) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": retry_after} if retry_after else {}
        return web.json_response(members, status=status, headers=headers)

    return answer


class StreamServer:
    """Gives one answer per request, and notes what was asked for.

    `acknowledges`: the statuses of the answers to acknowledgements of consumers.
    """

    def __init__(self, *answers: Answer, acknowledges: Sequence[int] = ()) -> None:
        self.answers = list(answers)
        self.acknowledged: list[str] = []
        self._acknowledges = list(acknowledges)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked: dict[str, Any] = {name: request.query.getall(name) for name in request.query}
        if request.method == "POST":
            asked = {"body": await request.json()}
        self.requests.append(asked)
        self.headers.append(dict(request.headers))
        return await self.answers.pop(0)(request)

    async def acknowledge(self, request: web.Request) -> web.StreamResponse:
        self.acknowledged.append((await request.json())["cursor"])
        return web.json_response({}, status=self._acknowledges.pop(0))

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/v1/stream", self.handle)
        app.router.add_get("/v1/events", self.handle)
        app.router.add_get("/v1/counts", self.handle)
        app.router.add_post("/v1/consumers/{name}/ack", self.acknowledge)
        return app


@contextmanager
def running(server: StreamServer, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The server in a thread of its own; the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[web.AppRunner, str]:
        runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner, f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"

    runner, url = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
