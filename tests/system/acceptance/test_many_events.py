"""Many real audit events over every transport, killed and resumed again and again: 100,000 of them,
in an ordinary run a fifth."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import socket
import subprocess
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import pytest
from websockets.sync.client import connect

from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.lines import Line, lines_of
from tests.support.examples import examples
from tests.support.exports import source_named
from tests.support.gateway_process import PROGRAM, ROOT, GatewayProcess, environment
from tests.support.machine_time import patience

_EVENTS = examples(100_000)
_KILLS = 20
_IMPORT_SECONDS = 60
_TENANT = b'"tenant":"any"'
_READ_BYTES = 256 * 1024
# Real exports where they stand beside the checkout; else the samples that the program brings.
_REAL = ROOT.parent / "shared" / "data"
_SAMPLES = ROOT / "gateway" / "cli" / "samples"
_EXPORTS = {
    "cloudtrail": ("cloudtrail/*.json.gz", "cloudtrail.json"),
    "kubernetes": ("kubernetes.ndjson", "kubernetes.ndjson"),
    "github": ("github.ndjson", "github.json"),
    "okta": ("okta.ndjson", "okta.json"),
}
_CURSOR = re.compile(rb'\{"cursor":"([0-9a-z]+-(\d{20}))"')
# Yields the JSON of events behind a cursor, or from the start; closing it cuts the connection.
Transport = Callable[[GatewayProcess, str | None], Generator[bytes]]


def real_events() -> list[bytes]:
    """Each event of the exports once, as a line of NDJSON of the tenant `any`."""
    found: dict[bytes, None] = {}
    for name, (real, sample) in _EXPORTS.items():
        lines = lines_of(source_named(name), "any")
        paths = sorted(_REAL.glob(real)) or [_SAMPLES / sample]
        for path in paths:
            with path.open("rb") as stream:
                for record in read_records(stream):
                    assert isinstance(record, Record), record
                    for made in lines(record.raw):
                        if isinstance(made, Line):
                            found[made.line] = None
    assert all(line.count(_TENANT) == 1 for line in found)
    return list(found)


def many_events() -> Iterator[bytes]:
    """The same events for one tenant after the other: all of them distinct."""
    once = real_events()
    for number in count():
        tenant = b'"tenant":"t-%d"' % number
        for line in once:
            yield line.replace(_TENANT, tenant) + b"\n"


def import_into(data: Path) -> None:
    """Through the program, from its standard input."""
    command = [*PROGRAM, "import", "--data", str(data), "--batch", "2000", "-"]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        for line in islice(many_events(), _EVENTS):
            program.stdin.write(line)
        program.stdin.close()
        said = program.stderr.read().decode()
        assert program.wait(patience(_IMPORT_SECONDS)) == 0, said
    assert f"{_EVENTS:,} accepted, 0 duplicates, 0 refused" in said


def over_http(gateway: GatewayProcess, accept: str, headers: dict[str, str]) -> Generator[bytes]:
    """The lines of a stream."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(20))
    authorization = {"Authorization": f"Bearer {gateway.first_key}", "Accept": accept}
    try:
        connection.request("GET", "/v1/stream?from=start", headers=authorization | headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        unfinished = b""
        while received := answer.read1(_READ_BYTES):
            *lines, unfinished = (unfinished + received).split(b"\n")
            yield from lines
    finally:
        connection.close()


def sse(gateway: GatewayProcess, cursor: str | None) -> Generator[bytes]:
    headers = {"Last-Event-ID": cursor} if cursor else {}
    for line in over_http(gateway, "text/event-stream", headers):
        if line.startswith(b"data: {"):
            yield line[6:]


def ndjson(gateway: GatewayProcess, cursor: str | None) -> Generator[bytes]:
    headers = {"Last-Event-ID": cursor} if cursor else {}
    for line in over_http(gateway, "application/x-ndjson", headers):
        if not line.startswith(b'{"type"'):
            yield line


def websocket(gateway: GatewayProcess, cursor: str | None) -> Generator[bytes]:
    begin = f"after={cursor}" if cursor else "from=start"
    url = gateway.url.replace("http", "ws") + f"/v1/stream?{begin}"
    headers = {"Authorization": f"Bearer {gateway.first_key}"}
    with connect(url, additional_headers=headers, proxy=None, compression=None) as connection:
        try:
            while True:
                frame = connection.recv(timeout=patience(20), decode=False)
                assert isinstance(frame, bytes)
                yield frame
        finally:
            connection.socket.shutdown(socket.SHUT_RDWR)


def receive_all(transport: Transport, gateway: GatewayProcess) -> tuple[list[int], list[int]]:
    """The offsets and checksums of everything received over one stream and its resumptions."""
    offsets: list[int] = []
    checksums: list[int] = []
    cursor: str | None = None
    kills = sorted(random.sample(range(1, _EVENTS), _KILLS))
    for until in [*kills, _EVENTS]:
        with closing(transport(gateway, cursor)) as stream:
            for event in islice(stream, until - len(offsets)):
                match = _CURSOR.match(event)
                assert match, event[:200]
                cursor = match[1].decode()
                offsets.append(int(match[2]))
                checksums.append(zlib.crc32(event))
    return offsets, checksums


@pytest.mark.slow
def test_many_events_survive_twenty_kills_on_every_transport(tmp_path: Path) -> None:
    data = tmp_path / "data"
    try:
        import_into(data)
        with GatewayProcess(data, shows_key=True) as gateway, ThreadPoolExecutor() as pool:
            transports: list[Transport] = [sse, ndjson, websocket]
            received = list(pool.map(lambda one: receive_all(one, gateway), transports))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    for offsets, _ in received:
        assert offsets == list(range(1, _EVENTS + 1))
    [checksums] = {tuple(checksums) for _, checksums in received}
    assert len(checksums) == _EVENTS
