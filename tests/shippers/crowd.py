"""What destinations cost: many of them, idle ones, dead ones, and beside live streams.

    python tests/shippers/crowd.py [idle,live,latency,cost,failover]

Whatever is compared is measured in turns. Processor time is that of the gateway.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from scene import Scene  # noqa: E402

from gateway.adapters.postgres.database import SCHEMA  # noqa: E402
from tests.benchmarks.machine import cpu_seconds  # noqa: E402
from tests.support.gateway_process import GatewayProcess  # noqa: E402
from tests.support.loaded_program import end_loader  # noqa: E402
from tests.support.machine_time import eventually, patience  # noqa: E402
from tests.support.services.ports import free_port  # noqa: E402
from tests.support.services.postgres import PostgresServer, installations  # noqa: E402

DESTINATIONS, DOWN, IDLE = 50, 10, 100
_ROUNDS, _SECONDS, _RATE = 16, 1.0, 100
_EVENTS = 50_000
_KILLS = 5
_PAGE = 1000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Sink

    def do_POST(self) -> None:
        self.server.at_once += 1
        self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self._take()
        finally:
            self.server.at_once -= 1

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip" and self.server.times is not None:
            now = time.monotonic()
            for line in gzip.decompress(body).splitlines():
                name = json.loads(line)["id"]
                self.server.times[name] = now
                self.server.counts[name] += 1
        # Without a body it is a success of `otlp`, too.
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""


class _Sink(ThreadingHTTPServer):
    daemon_threads = True
    # When each event arrived, by its id, if that is wanted.
    times: dict[str, float] | None = None

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.counts: Counter[str] = Counter()
        # Requests under way, and most that there were.
        self.at_once = self.most_at_once = 0


@contextmanager
def sink() -> Iterator[_Sink]:
    """A receiver of `http` in this process."""
    with _Sink(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def sink_apart() -> Iterator[int]:
    """The port of a receiver of `http` in a process of its own, so that what is measured here does
    not wait for the interpreter that answers."""
    port = free_port()
    with TemporaryDirectory() as folder:
        program = [sys.executable, str(ROOT / "tests/shippers/sink.py"), str(port), f"{folder}/out"]
        with subprocess.Popen(program) as process:
            try:
                while not answers(port):
                    time.sleep(0.01)
                yield port
            finally:
                process.kill()


def answers(port: int) -> bool:
    """Whether something listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def scene() -> Iterator[Scene]:
    """A gateway whose destinations may reach the machine itself."""
    with TemporaryDirectory() as folder, Scene(Path(folder)) as made:
        path = made.folder / "gateway.toml"
        path.write_text('[destinations]\nallow_networks = ["127.0.0.0/8"]\n')
        made.options = ["--config", str(path)]
        made.kill_gateway()
        yield made


def make(one: Scene, name: str, port: int, **members: Any) -> None:
    """Make a destination of the type `http`."""
    one.ask("POST", "/v1/destinations", {
        "name": name, "type": "http", "key": one.key.split("_")[1], "from": "start",
        "settings": {"url": f"http://127.0.0.1:{port}/"}, **members,
    })  # fmt: skip


def share_of_core(one: Scene, seconds: float = 5.0) -> float:
    """Share of a core that the gateway takes."""
    pids, began = [one.gateway.pid], time.monotonic()
    before = cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - before) / (time.monotonic() - began)


def idle() -> None:
    """Destinations that have nothing to do, and one whose receiver is dead."""
    with scene() as none, scene() as many, scene() as dead, sink() as server:
        for number in range(IDLE):
            make(many, f"d{number}", server.server_address[1])
        post(dead, 0, 100)
        make(dead, "dead", free_port())
        time.sleep(5)
        shares = [[share_of_core(one) for one in (none, many, dead)] for _ in range(2)]
        columns = zip(*shares, strict=True)
        for name, column in zip(("none", f"{IDLE} idle", "one dead"), columns, strict=True):
            print(f"{name}: {100 * statistics.median(column):.2f} % of a core")


def post(one: Scene, first: int, count: int, data: str = "") -> None:
    """Send events in requests of at most 5,000."""
    for begin in range(first, first + count, 5000):
        numbers = range(begin, min(begin + 5000, first + count))
        events = [
            {"id": f"e{number}", "category": "auth", "action": "user.login", "outcome": "success",
             "actor": {"type": "user", "id": f"u-{number % 977}", "name": "ann@example.org"},
             "source": {"ip": "203.0.113.7", "service": "sso"},
             "targets": [{"urn": "app:portal"}], "data": {"session": data or "x" * 60}}
            for number in numbers
        ]  # fmt: skip
        status, said = one.gateway.ask("POST", "/v1/events", one.key, events)
        assert status in (200, 201), said


class Watched:
    """A live stream of a gateway, and a producer beside it."""

    def __init__(self, one: Scene) -> None:
        self.scene = one
        self.latencies: list[float] = []
        self._arrived: dict[str, float] = {}
        self._number = 0
        self._name = f"live-{id(self)}-"
        self._producer = http.client.HTTPConnection(one.gateway.host, one.gateway.port)
        self._stream = http.client.HTTPConnection(one.gateway.host, one.gateway.port)
        self._stream.request(
            "GET", "/v1/stream?category=auth",
            headers={"Authorization": f"Bearer {one.key}", "Accept": "application/x-ndjson"},
        )  # fmt: skip
        self._answer = self._stream.getresponse()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while line := self._answer.readline():
            if line.startswith(b'{"cursor"'):
                self._arrived[json.loads(line)["id"]] = time.monotonic()

    def produce(self, seconds: float, rate: int) -> dict[str, float]:
        """Send single events, and note how long each took to the stream. Returns when each was
        sent, by its id."""
        sent, began = {}, time.monotonic()
        due = began
        while due < began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            self._number += 1
            name = f"{self._name}{self._number}"
            body = json.dumps({"id": name, "category": "auth", "action": "login"})
            sent[name] = time.monotonic()
            self._producer.request(
                "POST", "/v1/events", body,
                {"Authorization": f"Bearer {self.scene.key}", "Content-Type": "application/json"},
            )  # fmt: skip
            self._producer.getresponse().read()
            due += 1 / rate
        self.latencies += self.latencies_of(sent)
        return sent

    def latencies_of(self, sent: dict[str, float]) -> list[float]:
        """How long events took to this stream; they are forgotten."""
        self.scene.until(lambda: sent.keys() <= self._arrived.keys(), "the stream")
        return [self._arrived.pop(name) - at for name, at in sent.items()]


def live() -> None:
    """The live path beside many destinations, some of which are down."""
    with scene() as none, scene() as many, sink_apart() as receiver:
        down = free_port()
        for number in range(DESTINATIONS):
            make(many, f"d{number}", down if number < DOWN else receiver)
        time.sleep(3)
        watched = [Watched(none), Watched(many)]
        before = [resident(one) for one in (none, many)]
        for _ in range(_ROUNDS):
            for one in watched:
                one.produce(_SECONDS, _RATE)
        for name, one in zip(("none", f"{DESTINATIONS}, {DOWN} down"), watched, strict=True):
            cuts = statistics.quantiles(one.latencies, n=100)
            print(f"{name}: p50 {1000 * cuts[49]:.2f} ms, p99 {1000 * cuts[98]:.2f} ms")
        # What the dead ones have not got is in the log, and in no memory.
        post(many, 0, _EVENTS)
        names = [f"d{number}" for number in range(DOWN, DESTINATIONS)]
        many.until(lambda: all(level(many, name) for name in names), "those that are up")
        after = [resident(one) for one in (none, many)]
        print(f"resident MiB before {before}, and behind {_EVENTS} events: {after}")


def level(one: Scene, name: str) -> bool:
    """Whether a destination has nothing left to deliver."""
    return bool(one.ask("GET", f"/v1/destinations/{name}")["lag"]["events"] == 0)


def resident(one: Scene) -> int:
    """Resident memory of the gateway in MiB."""
    text = Path(f"/proc/{one.gateway.pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) >> 10


def latency() -> None:
    """From the post of an event to the receiver's answer, at 1,000 a second."""
    with scene() as one, sink() as server:
        server.times = {}
        make(one, "d", server.server_address[1], batch={"max_wait": "100ms"})
        connection = http.client.HTTPConnection(one.gateway.host, one.gateway.port)
        sent: dict[str, float] = {}
        began = due = time.monotonic()
        number = 0
        while due < began + 20:
            time.sleep(max(0.0, due - time.monotonic()))
            events = [{"id": f"e{number + at}", "category": "auth", "action": "login"}
                      for at in range(10)]  # fmt: skip
            number += 10
            now = time.monotonic()
            sent.update((event["id"], now) for event in events)
            connection.request(
                "POST", "/v1/events", json.dumps(events),
                {"Authorization": f"Bearer {one.key}", "Content-Type": "application/json"},
            )  # fmt: skip
            connection.getresponse().read()
            due += 0.01
        times = server.times
        one.until(lambda: sent.keys() <= times.keys(), "all arrived")
        cuts = statistics.quantiles((times[name] - at for name, at in sent.items()), n=100)
        print(
            f"{number / (time.monotonic() - began):.0f} events/s, max_wait 100 ms: "
            f"p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms"
        )


def cost() -> None:
    """Processor time for each event: read as NDJSON by pages, and delivered."""
    with scene() as one, sink() as server:
        post(one, 0, _EVENTS)
        port = server.server_address[1]
        ways: dict[str, Callable[[int], None]] = {
            "pages": lambda _: pages(one),
            "http, native": lambda n: deliver(one, f"native{n}", port, {}),
            "http, ocsf": lambda n: deliver(one, f"ocsf{n}", port, {"format": "ocsf"}),
            "otlp": lambda n: deliver(one, f"otlp{n}", port, {"type": "otlp"}),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(3):
            for name, way in ways.items():
                before = cpu_seconds([one.gateway.pid])
                way(number)
                used = cpu_seconds([one.gateway.pid]) - before
                found[name].append(used * 1e6 / _EVENTS)
        base = statistics.median(found["pages"])
        for name, costs in found.items():
            middle = statistics.median(costs)
            print(f"{name}: {middle:.1f} us per event, {middle / base:.1f} times")


def pages(one: Scene) -> None:
    """Read the log by pages."""
    connection = http.client.HTTPConnection(one.gateway.host, one.gateway.port)
    after = "from=start"
    for _ in range(_EVENTS // _PAGE):
        connection.request(
            "GET", f"/v1/events?limit={_PAGE}&category=auth&{after}",
            headers={"Authorization": f"Bearer {one.key}", "Accept": "application/x-ndjson"},
        )  # fmt: skip
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        after = f"after={answer.getheader('Audit-Cursor')}"


def deliver(one: Scene, name: str, port: int, members: dict[str, Any]) -> None:
    """Deliver the log."""
    make(one, name, port, **members)
    deadline = time.monotonic() + patience(60)
    while time.monotonic() < deadline:
        shown = one.ask("GET", f"/v1/destinations/{name}")
        if shown["delivered"]["events"] >= _EVENTS:
            break
        time.sleep(0.1)
    else:
        raise AssertionError(shown)
    one.ask("POST", f"/v1/destinations/{name}/pause", {"reason": "measured"})


def failover() -> None:
    """Two gateways on one PostgreSQL: the one that delivers is killed at random moments."""
    asyncio.run(_failover(random.Random(), random.randrange(2**32)))


async def _failover(chance: random.Random, seed: int) -> None:
    chance.seed(seed)
    print(f"seed {seed}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(sink())
        server.times = {}
        postgres = stack.enter_context(PostgresServer(installations()[max(installations())]))
        async with postgres.database(SCHEMA) as url:
            settings = {
                "AUDIT_GATEWAY_STORE__URL": url,
                "AUDIT_GATEWAY_DESTINATIONS__ALLOW_NETWORKS": "127.0.0.0/8",
            }

            def start(*, shows_key: bool = False) -> GatewayProcess:
                made = GatewayProcess(folder, settings=settings, shows_key=shows_key)
                stack.callback(made.kill)
                return made

            gateways = [start(shows_key=True), start()]
            key = gateways[0].first_key
            status, said = gateways[0].ask("POST", "/v1/destinations", key, {
                "name": "d", "type": "http", "key": key.split("_")[1],
                "select": {"category": "auth"},
                "settings": {"url": f"http://127.0.0.1:{server.server_address[1]}/"},
                "batch": {"max_wait": "50ms"},
            })  # fmt: skip
            assert status == 201, said
            sent: set[str] = set()
            pauses = [_killed(gateways, key, start, server, sent, chance) for _ in range(_KILLS)]
            await eventually(lambda: server.times.keys() >= sent, "all arrived")
            lost = len(sent - server.times.keys())
            print(
                f"{_KILLS} kills, sent {len(sent)}, lost {lost}, "
                f"repeated {server.counts.total() - len(server.counts)}, "
                f"at once {server.most_at_once}, goes on after at most {max(pauses):.1f} s"
            )


def _killed(
    gateways: list[GatewayProcess],
    key: str,
    start: Callable[[], GatewayProcess],
    server: _Sink,
    sent: set[str],
    chance: random.Random,
) -> float:
    """Kill the holder while events come; seconds until another delivers."""
    assert server.times is not None

    def send(gateway: GatewayProcess) -> None:
        ids = [f"f{len(sent) + number}" for number in range(5)]
        events = [{"id": one, "category": "auth", "action": "login"} for one in ids]
        status, said = gateway.ask("POST", "/v1/events", key, events)
        assert status == 201, said
        sent.update(ids)

    deadline = time.monotonic() + chance.uniform(0.5, 3)
    while time.monotonic() < deadline:
        send(chance.choice(gateways))
        time.sleep(0.02)
    replica = ""
    while not replica:
        replica = gateways[0].ask("GET", "/v1/destinations/d", key)[1].get("replica", "")
    [holder] = [one for one in gateways if replica.endswith(f"-{one.pid}")]
    [other] = [one for one in gateways if one is not holder]
    holder.kill()
    began = time.monotonic()
    while not any(at > began + 0.2 for at in list(server.times.values())[-5:]):
        send(other)
        time.sleep(0.05)
        assert time.monotonic() < began + patience(60)
    seconds = time.monotonic() - began
    gateways[:] = [other, start()]
    return seconds


PARTS = {"idle": idle, "live": live, "latency": latency, "cost": cost, "failover": failover}

if __name__ == "__main__":
    for part in sys.argv[1].split(",") if len(sys.argv) > 1 else PARTS:
        PARTS[part]()
    end_loader()
