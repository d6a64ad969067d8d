"""What is measured beside the gateway: Nchan, Centrifugo, and a C program that only sends."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmarks import machine, payload
from tests.benchmarks.programs import BenchmarkError, Program, Server, compile_program

NCHAN_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_nchan_module.so"),
)
NCHAN_CONFIGURATION = """
load_module {module};
daemon off;
master_process off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    nchan_shared_memory_size 1024M;
    nchan_message_buffer_length 20000;
    nchan_message_timeout 60s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{ nchan_publisher http; nchan_channel_id bench; }}
        location = /subscribe {{
            nchan_subscriber websocket eventsource http-raw-stream;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
        location = /up {{ return 204; }}
    }}
}}
"""
CENTRIFUGO = "AUDIT_BENCH_CENTRIFUGO"
API_KEY = "benchmark"
CENTRIFUGO_CONFIGURATION = {
    "log": {"level": "error"},
    "health": {"enabled": True},
    "http_api": {"key": API_KEY},
    "uni_websocket": {"enabled": True},
    "uni_sse": {"enabled": True},
    "client": {"allow_anonymous_connect_without_token": True, "allowed_origins": ["*"]},
    "channel": {
        "without_namespace": {
            "allow_subscribe_for_client": True,
            "allow_subscribe_for_anonymous": True,
        }
    },
}


@dataclass(frozen=True, slots=True)
class Way:
    """How events come in: so many producers, each with so many requests in flight, and so many
    events at most in a request. What falls due in a tick is posted at its end."""

    name: str
    text: str
    producers: int = 1
    in_flight: int = 1
    batch: int = 1
    tick_us: int = 500
    streamed: bool = False  # all in the body of one request, which is answered while it is sent


SINGLE = Way("single", "16 producers, one per request", producers=16)
PIPELINED = Way("pipelined", "1 pipelining, one per request", in_flight=256)
STREAMED = Way("streamed", "1 streaming, 1,000 in flight", in_flight=1000, streamed=True)
JOINED = Way("joined", "1 producer, 5 ms per request", batch=1000, tick_us=5000)
# A delivery costs the less, the more events are written together: here they always are.
BURSTS = Way("bursts", "1 producer, 100 per request", batch=100, tick_us=100_000)
OWN = Way("own", "made there")


class Target(Protocol):
    """One server that events are published to and received from.

    `start` begins from nothing, `close` ends every process of it and may be called twice.
    """

    name: str
    port: int
    ways: tuple[Way, ...]  # the first is its best
    first_guess: int  # deliveries per second that it should reach; only saves steps

    def start(self) -> None: ...

    def pids(self) -> list[int]: ...

    def publisher(self, way: Way) -> Program:
        """A program that obeys `run` (producer.c)."""

    def requests(self, mode: str) -> list[str]:
        """Requests that subscribe; subscriber i sends number i modulo their count."""

    def close(self) -> None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with a 2xx status."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return link.recv(64).split(b" ")[1][:1] == b"2"
    except (OSError, IndexError):
        return False


def producer(folder: Path, port: int, head: str, events: Sequence[str], way: Way) -> Program:
    """A started producer.c that is connected to `port`."""
    number = len(list(folder.glob("head*")))
    head_file, event_file = folder / f"head{number}", folder / f"events{number}"
    head_file.write_text(head)
    event_file.write_text("".join(f"{line}\n" for line in events))
    program = Program(
        compile_program("producer", folder),
        *("--port", port, "--head", head_file, "--events", event_file),
        *("--connections", way.producers, "--window", way.in_flight, "--tick-us", way.tick_us),
        *("--streamed", int(way.streamed)),
    )
    program.answer()
    return program


class Nchan:
    """nginx as one process with the Nchan module. A request publishes one event.

    It leaves Nagle's algorithm on, so at higher rates the kernel joins its messages.
    """

    name = "nchan"
    ways = (PIPELINED, SINGLE)
    first_guess = 40_000

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "nchan"
        self._programs = folder
        self._server: Server | None = None
        self.port = 0

    @staticmethod
    def missing() -> str:
        """Empty, or what to install."""
        if _nginx() and _module():
            return ""
        return "Nchan not found; install it (Debian: apt install nginx libnginx-mod-nchan)"

    def start(self) -> None:
        nginx, module = _nginx(), _module()
        if nginx is None or module is None:
            raise BenchmarkError(self.missing())
        self._folder.mkdir(exist_ok=True)
        self.port = free_port()
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            NCHAN_CONFIGURATION.format(
                module=module,
                folder=self._folder,
                port=self.port,
                connections=machine.raise_file_limit(0),
            )
        )
        command = [nginx, "-p", str(self._folder), "-c", str(configuration)]
        self._server = Server(
            [*command, "-e", str(self._folder / "error.log")], self._folder / "output.log"
        )
        self._server.wait_until(lambda: answers(self.port, "/up"))

    def pids(self) -> list[int]:
        return self._server.pids if self._server else []

    def publisher(self, way: Way) -> Program:
        head = payload.post_head("/publish", "application/json")
        return producer(self._programs, self.port, head, [payload.event()], way)

    def requests(self, mode: str) -> list[str]:
        return [payload.subscription(mode, "/subscribe")]

    def close(self) -> None:
        if self._server:
            self._server.close()
        self._server = None


class Centrifugo:
    """Centrifugo 6, the program that `CENTRIFUGO` names. A request publishes one event."""

    name = "centrifugo"
    ways = (PIPELINED, SINGLE)
    first_guess = 40_000

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self.port = 0

    @staticmethod
    def missing() -> str:
        """Empty, or how to have it measured."""
        program = os.environ.get(CENTRIFUGO, "")
        if shutil.which(program):
            return ""
        return f"{CENTRIFUGO} names no program of Centrifugo {program}".rstrip()

    def start(self) -> None:
        if self.missing():
            raise BenchmarkError(self.missing())
        self.port = free_port()
        configuration = self._folder / "centrifugo.json"
        configuration.write_text(json.dumps(CENTRIFUGO_CONFIGURATION))
        # It takes this, as all settings, from the environment as well.
        listening = {
            "CENTRIFUGO_HTTP_SERVER_ADDRESS": "127.0.0.1",
            "CENTRIFUGO_HTTP_SERVER_PORT": str(self.port),
        }
        self._server = Server(
            [os.environ[CENTRIFUGO], "--config", str(configuration)],
            self._folder / "centrifugo.log",
            listening,
        )
        self._server.wait_until(lambda: answers(self.port, "/health"))

    def pids(self) -> list[int]:
        return self._server.pids if self._server else []

    def publisher(self, way: Way) -> Program:
        head = payload.post_head("/api/publish", "application/json", api_key=API_KEY)
        event = f'{{"channel":"bench","data":{payload.event()}}}'
        return producer(self._folder, self.port, head, [event], way)

    def requests(self, mode: str) -> list[str]:
        place = {"ws": "/connection/uni_websocket", "sse": "/connection/uni_sse"}[mode]
        wanted = (("cf_connect", '{"subs":{"bench":{}}}'),)
        return [payload.subscription(mode, place, parameters=wanted)]

    def close(self) -> None:
        if self._server:
            self._server.close()
        self._server = None


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _module() -> Path | None:
    return next((path for path in NCHAN_MODULES if path.exists()), None)


class Ceiling:
    """ceiling.c: the same bytes, once per event or once per flush, and nothing else."""

    ways = (OWN,)

    def __init__(self, folder: Path, flush_ms: int) -> None:
        self.name = "c-joined" if flush_ms else "c-per-event"
        self.first_guess = 600_000 if flush_ms else 60_000
        self._folder = folder
        self._flush_ms = flush_ms
        self._program: Program | None = None
        self.port = 0

    def start(self) -> None:
        self.port = free_port()
        events = self._folder / f"{self.name}.events"
        events.write_text(payload.event() + "\n")
        self._program = Program(
            compile_program("ceiling", self._folder),
            *("--port", self.port, "--events", events, "--flush-ms", self._flush_ms),
            core=machine.cores()[0],
        )
        self._program.answer()

    def pids(self) -> list[int]:
        return self._program.pids if self._program else []

    def publisher(self, way: Way) -> Program:
        assert self._program is not None
        return self._program

    def requests(self, mode: str) -> list[str]:
        return [payload.subscription(mode, "/")]

    def close(self) -> None:
        if self._program:
            self._program.close()
        self._program = None


class Joining:
    """joining.c: events come in one per request, are durable before they are answered, and go out
    joined; nothing else is done."""

    name = "c-durable"
    ways = (SINGLE,)
    first_guess = 600_000

    def __init__(self, folder: Path, flush_ms: int) -> None:
        self._folder = folder
        self._flush_ms = flush_ms
        self._program: Program | None = None
        self.port = 0

    def start(self) -> None:
        self.port = free_port()
        self._program = Program(
            compile_program("joining", self._folder),
            *("--port", self.port, "--journal", self._folder / f"{self.name}.journal"),
            *("--flush-ms", self._flush_ms),
            core=machine.cores()[0],
        )
        self._program.answer()

    def pids(self) -> list[int]:
        return self._program.pids if self._program else []

    def publisher(self, way: Way) -> Program:
        head = payload.post_head("/", "application/json")
        return producer(self._folder, self.port, head, [payload.event()], way)

    def requests(self, mode: str) -> list[str]:
        return [payload.subscription(mode, "/")]

    def close(self) -> None:
        if self._program:
            self._program.close()
        self._program = None
        (self._folder / f"{self.name}.journal").unlink(missing_ok=True)
