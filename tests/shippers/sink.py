"""A receiver of destinations of the type `http` that can be killed:

    python sink.py PORT FILE [REFUSED]

It reads each event, and answers once the lines are in the file, which a kill of the program cannot
undo. While there is a file REFUSED, it answers 400 to batches in which its content is.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for line in body.splitlines():
            json.loads(line)
        refused = self.server.refused
        if refused is not None and refused.exists() and refused.read_bytes() in body:
            self.send_response(400)
            self.send_header("Content-Length", "0")
        else:
            os.write(self.server.file, body)
            self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, path: str, refused: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.refused = refused
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The sender was killed."""


if __name__ == "__main__":
    _Server(int(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:])).serve_forever()
