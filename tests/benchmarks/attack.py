"""Everything that one party can do to the others, at once, against a gateway with live streams.

`python -m tests.benchmarks.attack [--seconds 20] [--small] [--source DIR]` prints, for a quiet time
and for the attack: the event loop's longest delay as a client sees it, how long deliveries took,
how soon a revocation ended a stream, and what memory the gateway held and gave back. With
`--source`, a gateway of another checkout is attacked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import apsw

from tests.benchmarks.machine import raise_file_limit

ROOT = Path(__file__).parents[2]
CALM = 3.0


@dataclass
class Size:
    """How much of each attack there is."""

    heads: int = 200
    idle: int = 3000
    bodies: int = 30
    pages: int = 25
    events: int = 2000


SMALL = Size(heads=60, idle=300, bodies=8, pages=6, events=300)


@dataclass
class Figures:
    """What somebody sees who has nothing to do with it, in seconds and bytes."""

    delivery: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    rss: int = 0

    def said(self) -> dict[str, float]:
        def at(values: list[float], share: float) -> float:
            return round(sorted(values)[int(share * (len(values) - 1))] * 1000, 1)

        return {
            "deliveries": len(self.delivery),
            "delivery_p50_ms": at(self.delivery, 0.5),
            "delivery_p99_ms": at(self.delivery, 0.99),
            "delivery_p100_ms": at(self.delivery, 1),
            "health_p99_ms": at(self.health, 0.99),
            "health_p100_ms": at(self.health, 1),
            "peak_mib": self.rss >> 20,
        }


class Attacked:
    """A gateway as a process of its own, and who uses it."""

    def __init__(self, url: str, admin: str, data: Path, pid: int) -> None:
        self.url, self.data, self.pid = url, data, pid
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.admin = admin
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def mint(self, *actions: str) -> tuple[str, str]:
        body = {
            "name": "a", "purpose": "b", "owner": "c",
            "grants": [{"actions": actions, "categories": ["**"]}],
        }  # fmt: skip
        made = await self.call("POST", "/v1/keys", self.admin, json=body)
        return made["id"], made["key"]

    async def call(self, method: str, path: str, key: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.request(
            method, self.url + path, headers=headers, **options
        ) as answer:
            return await answer.json(content_type=None)

    def rss(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        return 0

    async def raw(self, data: bytes, receive_buffer: int = 0) -> asyncio.StreamWriter:
        limit = receive_buffer or 1 << 16
        _, writer = await asyncio.open_connection(self.host, self.port, limit=limit)
        writer.write(data)
        return writer

    async def longest_delay(self) -> tuple[float, str]:
        """The highest bucket of the loop's delays that has something in it."""
        async with self.session.get(self.url + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = [line for line in lines if "loop_delay_seconds_bucket" in line]
        total = found[-1].rsplit(" ", 1)[1] if found else ""
        for line in found:
            if line.rsplit(" ", 1)[1] == total:
                return float(total), line.split('"')[1]
        return 0, "not measured"


@asynccontextmanager
async def attacked(source: Path) -> AsyncIterator[Attacked]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "--data", str(data), "--port", "0",
            cwd=source, env={**os.environ, "PYTHONPATH": str(source)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        url = key = ""
        while not (url and key):
            line = (await process.stdout.readline()).decode()
            assert line, "the gateway has ended"
            for word in line.split():
                url = word if word.startswith("http://") else url
                key = word if word.startswith("alpk_") else key
        found = Attacked(url.rstrip("/,;"), key, data, process.pid)
        try:
            yield found
        finally:
            await found.session.close()
            process.kill()
            await process.wait()


async def watch(gateway: Attacked, key: str, figures: Figures, seconds: float) -> None:
    """Deliver events to a live stream, and ask for health, for so long."""
    until = time.monotonic() + seconds

    async def read(answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            if b'"sent"' in line:
                sent = json.loads(line)["data"]["sent"]
                figures.delivery.append(time.monotonic() - sent)

    async def produce() -> None:
        while time.monotonic() < until:
            event = {"category": "live", "action": "x", "data": {"sent": time.monotonic()}}
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                await gateway.call("POST", "/v1/events", key, json=event)
            await asyncio.sleep(0.02)

    async def ask() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with gateway.session.get(gateway.url + "/healthz") as answer:
                    await answer.read()
                figures.health.append(time.monotonic() - began)
            figures.rss = max(figures.rss, gateway.rss())
            await asyncio.sleep(0.05)

    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    timeout = aiohttp.ClientTimeout(total=None)
    stream = gateway.url + "/v1/stream?category=live"
    async with gateway.session.get(stream, headers=headers, timeout=timeout) as answer:
        reading = asyncio.create_task(read(answer))
        await asyncio.gather(produce(), ask())
        await asyncio.sleep(0.2)
        reading.cancel()


def attacks(gateway: Attacked, key: str, size: Size) -> Iterator[Coroutine[Any, Any, None]]:
    """Each goes on until it is cancelled."""
    auth = b"Authorization: Bearer %b\r\n" % key.encode()
    head = b"GET /v1/events HTTP/1.1\r\nHost: a\r\n"
    lines = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 15_900) for n in range(120))
    numbers = gzip.compress(b"[" + b"1," * 3_999_999 + b"1]")
    large = b'{"category":"b","action":"x","data":{"a":[%b]}}' % b",".join([b"1.50"] * 50_000)

    async def hold(count: int, data: bytes, receive_buffer: int = 0) -> None:
        opened = []
        for n in range(count):
            with contextlib.suppress(OSError):
                opened.append(await gateway.raw(data, receive_buffer))
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        try:
            await asyncio.sleep(3600)
        finally:
            for writer in opened:
                writer.transport.abort()

    async def send(body: bytes, **headers: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with gateway.session.post(
                    gateway.url + "/v1/events", data=body,
                    headers={
                        "Authorization": f"Bearer {key}",
                        "Content-Type": "application/json", **headers,
                    },
                ) as answer:  # fmt: skip
                    await answer.read()
            await asyncio.sleep(0.1)

    async def lock() -> None:
        while True:
            holder = apsw.Connection(str(gateway.data / "keys.db"))
            holder.set_busy_timeout(0)
            with contextlib.suppress(apsw.Error):
                holder.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(1.5)
            holder.close()
            await asyncio.sleep(0.5)

    yield hold(size.heads, head + lines)
    yield hold(size.idle, b"")
    yield hold(
        size.bodies,
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%b"
        b"Content-Length: 8388608\r\n\r\n" % auth + b" " * 8_000_000,
    )
    yield hold(
        size.pages,
        b"GET /v1/events?from=start&limit=10000 HTTP/1.1\r\nHost: a\r\n%b\r\n" % auth,
        4096,
    )
    yield send(numbers, **{"Content-Encoding": "gzip"})
    yield send(b"[" + b",".join([large] * 4) + b"]")
    yield lock()


async def revocation(gateway: Attacked) -> float:
    """How long after its revocation a key's stream ends."""
    kid, key = await gateway.mint("stream")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    async with gateway.session.get(
        gateway.url + "/v1/stream?category=quiet", headers=headers
    ) as answer:
        path = f"/v1/keys/{kid}/revoke"
        await gateway.call("POST", path, gateway.admin, json={"reason": "lost"})
        began = time.monotonic()
        await asyncio.wait_for(answer.content.read(), 60)
        return time.monotonic() - began


async def measure(
    size: Size, seconds: float, source: Path = ROOT, only: int | None = None
) -> dict[str, Any]:
    async with attacked(source) as gateway:
        _, user = await gateway.mint("stream", "pull", "ingest")
        _, attacker = await gateway.mint("stream", "pull", "ingest")
        many = [{"category": "b", "action": "x", "data": {"t": "y" * 8_000}}] * 100
        for _ in range(size.events // 100):
            await gateway.call("POST", "/v1/events", user, json=many)
        quiet, busy = Figures(), Figures()
        await watch(gateway, user, quiet, CALM)
        running = [
            asyncio.create_task(one)
            for number, one in enumerate(attacks(gateway, attacker, size))
            if only in (None, number)
        ]
        watching = asyncio.create_task(watch(gateway, user, busy, seconds))
        await asyncio.sleep(seconds / 2)
        revoked = await revocation(gateway)
        await watching
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(CALM)
        return {
            "quiet": quiet.said(),
            "attacked": busy.said(),
            "revoked_after_s": round(revoked, 2),
            "memory_after_mib": gateway.rss() >> 20,
            "loop_delay_below_s": (await gateway.longest_delay())[1],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--source", type=Path, default=ROOT)
    parser.add_argument("--only", type=int, help="one of the attacks alone, from 0")
    options = parser.parse_args()
    raise_file_limit(min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    size = SMALL if options.small else Size()
    result = asyncio.run(measure(size, options.seconds, options.source, options.only))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
