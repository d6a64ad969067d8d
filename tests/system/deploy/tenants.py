"""Who a gateway behind a proxy serves, and a gateway that has no room for anybody."""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience


class Tenant:
    """A tenant of its own in a gateway, and keys for it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.name = f"t-{uuid.uuid4().hex[:12]}"

    def key(self, **grant: Any) -> str:
        granted = {"actions": ["stream", "pull", "ingest"], "categories": ["test"]}
        return self.gateway.make_key({**granted, "tenants": [self.name], **grant})

    def event(self, number: int) -> dict[str, Any]:
        return {
            "tenant": self.name, "category": "test", "action": "test.sent", "data": {"n": number}
        }  # fmt: skip

    async def send(self, *numbers: int) -> None:
        """Straight to the gateway; durable when this returns."""
        events = [self.event(number) for number in numbers]
        await asyncio.to_thread(self.gateway.post, events, self.gateway.first_key)


async def streams_become(gateway: GatewayProcess, count: int) -> None:
    """Return when the gateway says that so many streams are open."""
    deadline = time.monotonic() + patience(5)
    while (now := await asyncio.to_thread(open_streams, gateway)) != count:
        assert time.monotonic() < deadline, f"{now} streams are open, not {count}"
        await asyncio.sleep(0.01)


def open_streams(gateway: GatewayProcess) -> int:
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(5))
    connection.request("GET", "/metrics")
    found = re.search(rb"^audit_gateway_streams ([\d.e+]+)$", connection.getresponse().read(), re.M)
    connection.close()
    assert found is not None
    return int(float(found[1]))


class FullGateway:
    """Answers every request with 503, and that it is ready; `asked` are the methods it was sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                ready = self.path == "/readyz"
                if not ready:
                    asked.append(self.command)
                self.send_response(200 if ready else 503)
                self.send_header("Retry-After", "7")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = answer  # noqa: N815 - names that the library calls

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
