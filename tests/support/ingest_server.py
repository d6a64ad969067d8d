"""A small gateway to import into: validates, stores all or nothing, and misbehaves on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gateway.errors import InvalidEvents
from gateway.event import Draft
from gateway.ingest.decode import decode_events
from gateway.ingest.split import split_body

KEY = "alpk_sample"
DROP = "drop"
STORE_AND_DROP = "store and drop"


class IngestServer(ThreadingHTTPServer):
    """`answers` are given before any request is looked at; `stored` is in order of arrival.

    An answer is `(status, body, headers)`, or DROP or STORE_AND_DROP to lose the connection.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stored: dict[tuple[str, str], Draft] = {}
        self.answers: list[Any] = []
        self.batches: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_reported = 1000
        self.most_bytes = 8 * 1024 * 1024
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def store(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body, as `POST /v1/events` would answer."""
        items = split_body(body, lines=True, most=10_000)
        self.batches.append(len(items))
        try:
            drafts = decode_events(items, iter(()))
        except InvalidEvents as error:
            errors = error.members["errors"][: self.most_reported]
            return 422, {"code": error.code, "detail": error.detail, "errors": errors}
        fresh = {(d.tenant, d.id): d for d in drafts if (d.tenant, d.id) not in self.stored}
        self.stored |= fresh
        return 201, {"accepted": len(fresh), "duplicates": len(drafts) - len(fresh)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: IngestServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers.append(dict(self.headers))
        self.server.paths.append(self.path)
        answer: Any = self.server.answers.pop(0) if self.server.answers else None
        if answer in (DROP, STORE_AND_DROP):
            if answer == STORE_AND_DROP:
                self.server.store(body)
            self.close_connection = True
        elif answer is not None:
            self.answer(*answer)
        elif self.headers["Authorization"] != f"Bearer {KEY}":
            self.answer(401, {"detail": "no such key"}, {})
        elif len(body) > self.server.most_bytes:
            self.answer(413, {"detail": "the body is too large"}, {})
        else:
            self.answer(*self.server.store(body), {})

    def answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""


@contextmanager
def running() -> Iterator[IngestServer]:
    with IngestServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
