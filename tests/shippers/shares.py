"""How fast destinations catch up, as a share of what the receiver takes from its own loader.

    python tests/shippers/shares.py [TYPES [EVENTS [ROUNDS]]]

The log is there before the destination is. All send batches of one size over one connection, in
turns. Some loaders do the same work as the gateway: they encode and compress what they send. Others
have their bodies ready, and show what the receiver takes. What is printed are medians. The loader
of `elasticsearch` needs opensearch-py, that of `s3` needs botocore; the receivers are those of
`soak.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import receivers  # noqa: E402
from receivers import Receiver  # noqa: E402
from scene import MissingProgram, Scene, content, found  # noqa: E402

from gateway.clock import SystemClock  # noqa: E402
from gateway.delivery.connect.transport import HttpRequest, HttpTransport, RemoteAnswer  # noqa: E402
from gateway.delivery.outlets.elasticsearch import ELASTICSEARCH  # noqa: E402
from gateway.delivery.outlets.http import HTTP  # noqa: E402
from gateway.delivery.outlets.loki import LOKI  # noqa: E402
from gateway.delivery.outlets.otlp import OTLP  # noqa: E402
from gateway.delivery.outlets.outlet import EncodedEvent, OutboundEvent, Outlet  # noqa: E402
from gateway.delivery.outlets.outlet_plan import NativeFormat, OutletKind  # noqa: E402
from gateway.delivery.outlets.splunk_hec import SPLUNK_HEC  # noqa: E402
from gateway.formats.ecs import ecs_encoder  # noqa: E402
from gateway.formats.format import FormatOptions  # noqa: E402
from tests.support.bucket import SECRET_KEY  # noqa: E402
from tests.support.loaded_program import end_loader  # noqa: E402
from tests.support.outlets import new_outlet  # noqa: E402

EVENTS, ROUNDS = 120_000, 3
TYPES = ("http", "file", "elasticsearch", "s3", "loki", "splunk_hec", "otlp", "syslog")
_FILLING = 5_000
_GIVE_UP = 120.0
# How many times as much a loader sends whose receiver is slow to tell.
_LONGER = 3
Load = Callable[[], float]


class Recording:
    """Transport of an outlet that keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        self.requests.append(request)
        return RemoteAnswer(503, {}, b"", SystemClock().now(), True)

    def pack(self, body: bytes) -> None:
        return None

    async def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    kinds = sys.argv[1].split(",") if len(sys.argv) > 1 else TYPES
    events = int(sys.argv[2]) if len(sys.argv) > 2 else EVENTS
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else ROUNDS
    with TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        path = scene.folder / "gateway.toml"
        path.write_text('[destinations]\nallow_networks = ["127.0.0.0/8"]\n')
        scene.options = ["--config", str(path)]
        scene.kill_gateway()
        lines = _filled(scene, events)
        print("| type | receiver | gateway | loader | events/s | share |")
        print("| --- | --- | --- | --- | --- | --- |")
        for kind in kinds:
            try:
                _measure(scene, kind, lines, rounds)
            except (MissingProgram, ImportError) as missing:
                print(f"| `{kind}` | {missing} |")
    end_loader()


def _filled(scene: Scene, count: int) -> list[bytes]:
    """Fill the log, and return its lines."""
    for first in range(0, count, _FILLING):
        body = b"\n".join(_posted(number) for number in range(first, first + _FILLING))
        status, said = scene.gateway.ask(
            "POST", "/v1/events", scene.key, body, "application/x-ndjson"
        )
        assert status == 201, said
    url = f"{scene.gateway.url}/v1/stream?from=start&follow=false"
    command = ["curl", "-sS", "-H", f"@{scene.header}", "-H", "Accept: application/x-ndjson", url]
    done = subprocess.run(command, check=True, capture_output=True)
    lines = [one for one in done.stdout.split(b"\n") if one.startswith(b'{"cursor"')]
    assert len(lines) == count, done.stdout[-500:]
    return lines


def _posted(number: int) -> bytes:
    user = f"u-{number % 977}"
    return json.dumps({
        "id": f"e-{number:012}", "tenant": "acme", "category": "auth", "action": "user.login",
        "outcome": "success", "severity": 2,
        "actor": {"type": "user", "id": user, "name": f"{user}@example.org"},
        "source": {"ip": f"203.0.113.{number % 250}", "service": "sso"},
        "targets": [{"urn": "app:portal", "name": "Portal"}],
        "request": {"id": f"r-{number}"}, "data": {"n": number, "session": "x" * 40},
    }).encode()  # fmt: skip


def _measure(scene: Scene, kind: str, lines: Sequence[bytes], rounds: int) -> None:
    [start] = [one for one in receivers.ALONE if one.__name__ == _RECEIVERS[kind]]
    made: Receiver = next(one for one in start(scene) if one.destination["type"] == kind)
    loaders = [one(scene, made, lines) for one in _LOADERS[kind]]
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name, _ in loaders}
    for number in range(rounds):
        for name, load in loaders:
            theirs[name].append(load())
        ours.append(_caught_up(scene, f"{kind.replace('_', '-')}{number}", made, len(lines)))
    pace = statistics.median(ours)
    for name, measured in theirs.items():
        there = statistics.median(measured)
        print(
            f"| `{kind}` | {made.name.partition(',')[0]} | {pace:,.0f} | {name} | {there:,.0f} "
            f"| {pace / there:.2f} |", flush=True,
        )  # fmt: skip
    if made.program is not None:
        made.program.end()


def _caught_up(scene: Scene, name: str, receiver: Receiver, count: int) -> float:
    """Events per second of a new destination that begins at the start of the log."""
    definition = {**receiver.destination, "name": name, "key": scene.key.split("_")[1],
                  "from": "start"}  # fmt: skip
    settings = dict(definition["settings"])
    if definition["type"] == "file":
        # Of the size that they have by themselves.
        del settings["max_bytes"]
    for member, value in (("folder", name), ("prefix", name), ("index", name + "-{yyyy}")):
        if member in settings or (member, definition["type"]) == ("index", "elasticsearch"):
            settings[member] = value
    if definition["type"] == "s3":
        definition["batch"] = {"max_wait": "1s", "max_events": _OBJECT}
    definition["settings"] = settings
    before = _arrived(scene, receiver)
    scene.ask("POST", "/v1/destinations", definition)
    begin, first = 0.0, 0
    deadline = time.monotonic() + _GIVE_UP
    while time.monotonic() < deadline:
        if definition["type"] == "syslog":
            done = _arrived(scene, receiver) - before
        else:
            shown = scene.ask("GET", f"/v1/destinations/{name}")
            done = shown["delivered"]["events"]
        now = time.monotonic()
        if done and not begin:
            begin, first = now, done
        if done >= count:
            scene.ask("POST", f"/v1/destinations/{name}/pause", {"reason": "measured"})
            return (done - first) / (now - begin)
        # Not so often that the looking would be what is measured.
        time.sleep(0.1)
    raise AssertionError(scene.ask("GET", f"/v1/destinations/{name}"))


def _arrived(scene: Scene, receiver: Receiver) -> int:
    if receiver.destination["type"] != "syslog":
        return 0
    return content(scene.folder / "rsyslog-tls" / "received.ndjson").count(b"\n")


# Loaders: events per second of prepared bodies


async def _record(
    kind: OutletKind, receiver: Receiver, lines: Sequence[bytes], transport: HttpTransport
) -> None:
    """Make the requests that the gateway makes, by batches of the type, one after the other."""
    secrets = {name: [value] for name, value in receiver.destination.get("secrets", {}).items()}
    options = {}
    if kind is ELASTICSEARCH:
        options["format"] = NativeFormat("ecs", True, ecs_encoder(FormatOptions()))
    outlet: Outlet = new_outlet(
        kind, receiver.destination["settings"], secrets, transport=transport, **options
    )

    most, size = outlet.limits.max_events, 0
    batch: list[EncodedEvent] = []
    for line in lines:
        body = outlet.encode(OutboundEvent(line))
        if len(batch) == most or size + len(body) > outlet.limits.max_bytes:
            await outlet.send(batch)
            batch, size = [], 0
        batch.append(EncodedEvent(line, body))
        size += len(body)
    await outlet.send(batch)


def _requests(kind: OutletKind, receiver: Receiver, lines: Sequence[bytes]) -> list[HttpRequest]:
    """The requests that the gateway makes, not compressed yet."""
    transport = Recording()
    asyncio.run(_record(kind, receiver, lines, transport))
    return transport.requests


class Posting:
    """Transport of an outlet that compresses and sends over one connection, as a script would."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def pack(self, body: bytes) -> None:
        return None

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        path, headers = _path_of(request.url), {**request.headers, "Content-Encoding": "gzip"}
        self._connection.request("POST", path, gzip.compress(request.body, 1), headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said
        return RemoteAnswer(answer.status, {}, said, 0.0, True)

    async def close(self) -> None:
        """It is closed by who opened it."""


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _serial(kind: OutletKind) -> Callable[[Scene, Receiver, Sequence[bytes]], tuple[str, Load]]:
    """A loop that encodes, compresses and sends one batch after the other."""

    def made(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
        parts = urlsplit(receiver.destination["settings"]["url"])

        def load() -> float:
            _await_port(parts.port or 0)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            began = time.monotonic()
            asyncio.run(_record(kind, receiver, lines, Posting(connection)))
            seconds = time.monotonic() - began
            connection.close()
            return len(lines) / seconds

        return "a loop that encodes, compresses and sends", load

    return made


def _posting(kind: OutletKind) -> Callable[[Scene, Receiver, Sequence[bytes]], tuple[str, Load]]:
    """Prepared and compressed bodies over one connection."""

    def made(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
        requests = _requests(kind, receiver, lines)
        bodies = [gzip.compress(one.body, 1) for one in requests]
        first = requests[0]
        parts, path = urlsplit(first.url), _path_of(first.url)
        headers = {**first.headers, "Content-Encoding": "gzip"}

        def load() -> float:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            _await_port(parts.port or 0)
            began = time.monotonic()
            for body in bodies:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = answer.read()
                assert answer.status < 300, said
            seconds = time.monotonic() - began
            connection.close()
            return len(lines) / seconds

        return "prepared bodies", load

    return made


def _curl(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    """One curl with a request for each prepared body."""
    folder, parts = scene.folder / "bodies", []
    folder.mkdir()
    for at, one in enumerate(_requests(HTTP, receiver, lines)):
        path = folder / f"{at}.gz"
        path.write_bytes(gzip.compress(one.body, 1))
        parts.append(
            f'url="{one.url}"\ndata-binary="@{path}"\nheader="Content-Encoding: gzip"\nfail\nsilent'
        )
    (folder / "config").write_text("\nnext\n".join(parts) + "\n")

    def load() -> float:
        _await_port(urlsplit(receiver.destination["settings"]["url"]).port or 0)
        began = time.monotonic()
        subprocess.run(["curl", "-K", str(folder / "config")], check=True)
        return len(lines) / (time.monotonic() - began)

    return "curl of prepared bodies", load


def _cat(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    """`cat` of prepared parts of the size of a batch, and `sync` of the file after each."""
    folder = scene.folder / "parts"
    folder.mkdir()
    for first in range(0, len(lines), _FILLING):
        part = b"\n".join([*lines[first : first + _FILLING], b""])
        (folder / f"{first:09}").write_bytes(part)
    script = 'for one in "$1"/*; do cat "$one" >> "$2"; sync "$2"; done'

    def load() -> float:
        began = time.monotonic()
        target = scene.folder / f"cat-{began}"
        subprocess.run(["sh", "-c", script, "-", str(folder), str(target)], check=True)
        return len(lines) / (time.monotonic() - began)

    return "`cat` and `sync`", load


def _streaming_bulk(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    from opensearchpy import OpenSearch
    from opensearchpy.helpers import streaming_bulk

    encode = ecs_encoder(FormatOptions())
    documents = [json.loads(encode(line)) for line in lines]
    client = OpenSearch(receiver.destination["settings"]["url"], http_compress=True, timeout=60)
    runs = [0]

    def load() -> float:
        runs[0] += 1
        actions = (
            {"_op_type": "create", "_index": f"loader{runs[0]}", "_id": one["event"]["id"], **one}
            for one in documents
        )
        began = time.monotonic()
        assert all(ok for ok, _ in streaming_bulk(client, actions, chunk_size=1000))
        return len(lines) / (time.monotonic() - began)

    return "opensearch-py `streaming_bulk`", load


_OBJECT = 10_000


def _botocore(
    prepared: bool, scene: Scene, receiver: Receiver, lines: Sequence[bytes]
) -> tuple[str, Load]:
    import botocore.session
    from botocore.config import Config

    settings = receiver.destination["settings"]
    client = botocore.session.get_session().create_client(
        "s3", "us-east-1", endpoint_url=settings["url"],
        aws_access_key_id=settings["access_key"], aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip

    def packed() -> Iterator[bytes]:
        for first in range(0, len(lines), _OBJECT):
            content = b"\n".join([*lines[first : first + _OBJECT], b""])
            # Its digest stands in the name or beside, as who lists objects has to check them.
            hashlib.sha256(content).digest()
            yield gzip.compress(content, 1)

    ready = list(packed()) if prepared else []
    runs = [0]

    def load() -> float:
        runs[0] += 1
        _await_port(urlsplit(settings["url"]).port or 0)
        began = time.monotonic()
        for at, body in enumerate(ready or packed()):
            name = f"loader{prepared}{runs[0]}/{at}.ndjson.gz"
            client.put_object(Bucket="audit", Key=name, Body=body)
        return len(lines) / (time.monotonic() - began)

    return "botocore, " + ("prepared objects" if prepared else "compressing objects"), load


def _over_tls(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    """A sender of prepared frames that reads nothing."""
    import ssl

    from gateway.formats.rfc5424 import rfc5424_encoder

    encode = rfc5424_encoder(FormatOptions())
    frames = []
    for line in lines:
        message = encode(line)
        frames.append(b"%d %b" % (len(message), message))
    parts = [b"".join(frames[at : at + 1000]) for at in range(0, len(frames), 1000)]
    url = urlsplit(receiver.destination["settings"]["url"])
    context = ssl.create_default_context(cadata=receiver.destination["tls"]["ca"])

    def load() -> float:
        _await_port(url.port or 0)
        before = _arrived(scene, receiver)
        raw = socket.create_connection(("127.0.0.1", url.port or 0))
        with context.wrap_socket(raw, server_hostname="localhost") as stream:
            began = time.monotonic()
            for part in parts:
                stream.sendall(part)
            while _arrived(scene, receiver) - before < len(lines):
                time.sleep(0.02)
            return len(lines) / (time.monotonic() - began)

    return "prepared frames, TLS", load


def _loggen(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    """loggen of syslog-ng, with the messages in a file."""
    from gateway.formats.rfc5424 import rfc5424_encoder

    path, settings = found("loggen")
    file, encode = scene.folder / "messages", rfc5424_encoder(FormatOptions())
    file.write_bytes(b"".join([encode(line) + b"\n" for line in lines]))
    url = urlsplit(receiver.destination["settings"]["url"])
    # Where its parts are, if it was unpacked.
    settings = {**settings, "SYSLOGNG_PREFIX": str(path.parents[1])}
    command = [
        str(path), "--use-ssl", "--rate", "10000000", "--interval", "60", "--read-file", str(file),
        "--dont-parse", "localhost", str(url.port),
    ]  # fmt: skip

    def load() -> float:
        _await_port(url.port or 0)
        before = _arrived(scene, receiver)
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            # It drops the connection when it has sent all, and the last of it with that.
            return _pace(lambda: _arrived(scene, receiver) - before, len(lines) * 9 // 10)
        finally:
            process.kill()
            process.wait()

    return "loggen", load


def _collector(scene: Scene, receiver: Receiver, lines: Sequence[bytes]) -> tuple[str, Load]:
    """An OpenTelemetry Collector that reads the events from a file."""
    path, settings = found("otelcol")
    file, config = scene.folder / "events.ndjson", scene.folder / "exporter.yaml"
    # The receiver tells once a second how many it has.
    file.write_bytes(b"\n".join([*lines, b""]) * _LONGER)
    url = receiver.destination["settings"]["url"]
    config.write_text(f"""
receivers:
  file_log: {{include: ["{file}"], start_at: beginning, poll_interval: 10ms}}
exporters:
  otlp_http:
    endpoint: "{url}"
    compression: gzip
    max_conns_per_host: 1
    sending_queue:
      {{num_consumers: 1, sizer: items, queue_size: 20000, block_on_overflow: true,
        batch: {{min_size: 1000, max_size: 1000, flush_timeout: 200ms}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [file_log], exporters: [otlp_http]}}}}
""")
    metrics = urlsplit(url)._replace(path="/metrics").geturl()

    def stored() -> int:
        rows = re.findall(rb'vl_rows_ingested_total\{[^}]*opentelemetry[^}]*\} (\d+)',
                          receivers.fetched(metrics))  # fmt: skip
        return sum(map(int, rows))

    def load() -> float:
        _await_port(urlsplit(url).port or 0)
        before = stored()
        process = subprocess.Popen(
            [str(path), "--config", str(config)], env={**os.environ, **settings},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return _pace(lambda: stored() - before, len(lines) * _LONGER)
        finally:
            process.kill()
            process.wait()

    return "the Collector's `otlp_http` exporter", load


def _pace(arrived: Callable[[], int], count: int) -> float:
    """Events per second, from the first that are seen to have arrived to the last change before all
    have, as some receivers tell of what they have once a second."""
    seen: list[tuple[float, int]] = []
    deadline = time.monotonic() + _GIVE_UP
    while (done := arrived()) < count:
        if done and (not seen or done > seen[-1][1]):
            seen.append((time.monotonic(), done))
        assert time.monotonic() < deadline, f"{done} of {count} have arrived"
        time.sleep(0.02)
    (begin, first), (end, last) = seen[0], seen[-1]
    assert last > first, "too few to measure"
    return (last - first) / (end - begin)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)


_RECEIVERS = {
    "http": "http_sink", "file": "files", "elasticsearch": "opensearch", "s3": "object_store",
    "loki": "victoria_logs", "splunk_hec": "victoria_logs", "otlp": "victoria_logs",
    "syslog": "rsyslog",
}  # fmt: skip
Making = Callable[[Scene, Receiver, Sequence[bytes]], tuple[str, Load]]
_LOADERS: dict[str, Sequence[Making]] = {
    "http": (_serial(HTTP), _curl),
    "file": (_cat,),
    "elasticsearch": (_streaming_bulk,),
    "s3": (partial(_botocore, False), partial(_botocore, True)),
    "loki": (_serial(LOKI), _posting(LOKI)),
    "splunk_hec": (_serial(SPLUNK_HEC), _posting(SPLUNK_HEC)),
    "otlp": (_collector, _serial(OTLP), _posting(OTLP)),
    "syslog": (_loggen, _over_tls),
}

if __name__ == "__main__":
    main()
