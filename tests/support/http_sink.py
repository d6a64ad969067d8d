"""Receiver of HTTP requests on a thread, for tests that run programs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class SunkRequest(NamedTuple):
    """Request that was answered with 204. Names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class HttpSink:
    """Requests that arrived, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[SunkRequest] = []


@contextmanager
def http_sink() -> Iterator[HttpSink]:
    """A sink that listens while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sink.received.append(SunkRequest(self.path, headers, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink = HttpSink(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
