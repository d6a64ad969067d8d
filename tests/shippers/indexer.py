"""A receiver of destinations of the type `splunk_hec` with indexer acknowledgement:

    python indexer.py PORT FILE

What it takes is in memory alone until it is indexed, which is written to the file each second and
then acknowledged once. A kill takes what is not indexed, and ids of acknowledgements begin anew.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SECONDS = 1.0
_CHANNEL = "X-Splunk-Request-Channel"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path, _, query = self.path.partition("?channel=")
        if path.endswith("/ack"):
            said: Any = {"acks": self.server.told(query, json.loads(body)["acks"])}
        else:
            lines = [_native(line) for line in body.splitlines()]
            taken = self.server.take(self.headers[_CHANNEL], lines)
            said = {"text": "Success", "code": 0, "ackId": taken}
        answer = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""


def _native(line: bytes) -> bytes:
    """The event that was wrapped, byte for byte."""
    begin, end = line.index(b'"event":') + len(b'"event":'), line.rindex(b',"fields":')
    return line[begin:end] + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, path: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._taken: list[tuple[str, int, list[bytes]]] = []
        self._next: defaultdict[str, int] = defaultdict(int)
        self._indexed: set[tuple[str, int]] = set()
        threading.Thread(target=self._index, daemon=True).start()

    def take(self, channel: str, lines: list[bytes]) -> int:
        with self._lock:
            number = self._next[channel]
            self._next[channel] += 1
            self._taken.append((channel, number, lines))
            return number

    def told(self, channel: str, numbers: list[int]) -> dict[str, bool]:
        with self._lock:
            asked = {(channel, number) for number in numbers}
            known = asked & self._indexed
            self._indexed -= known
            return {str(number): (channel, number) in known for number in numbers}

    def _index(self) -> None:
        while True:
            time.sleep(_SECONDS)
            with self._lock:
                taken, self._taken = self._taken, []
                os.write(self._file, b"".join(line for *_, lines in taken for line in lines))
                self._indexed |= {(channel, number) for channel, number, _ in taken}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The sender was killed."""


if __name__ == "__main__":
    _Server(int(sys.argv[1]), sys.argv[2]).serve_forever()
