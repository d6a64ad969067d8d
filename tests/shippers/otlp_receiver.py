"""A receiver of OTLP in JSON, over HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines, refused = bodies_of(json.loads(body)), self.server.refused
        if refused and any(refused[0] in line for line in lines):
            self.send_response(400)
        else:
            self.server.lines += lines
            self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, refused: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refused = refused
        self.lines: list[bytes] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The sender was killed."""


def bodies_of(request: dict[str, Any]) -> list[bytes]:
    """The body of each record, as a line."""
    return [
        record["body"]["stringValue"].encode() + b"\n"
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


@contextmanager
def receiving(refused: list[bytes] | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a receiver, and the lines that it has got. It answers 400 to batches in which
    there is what is `refused`, for as long as that is anything."""
    with _Server([] if refused is None else refused) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.lines
        finally:
            server.shutdown()
            thread.join()
