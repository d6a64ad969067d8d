"""All that one party can do, against a gateway with live streams that others use.

`python -m tests.benchmarks.attack [--seconds 20] [--small] [--only KIND] [--source DIR] [--rounds]`
prints, for a quiet time and for the attack: the longest rounds and the delays of the event loop,
how long deliveries and health checks took, how soon a revocation ended a stream, and what memory
the gateway held and gave back. With `--source`, a gateway of another checkout is attacked; with
`--each`, each kind alone and then all at once. The attackers are a process of their own, which the
others go before: in truth it is on another machine. `--first` goes before all other programs, so
that a busy machine is as a quiet one; it needs the right to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.benchmarks.attackers import KINDS, Plan
from tests.benchmarks.machine import FIRST, go_first, raise_file_limit

ROOT = Path(__file__).parents[2]
CALM = 3.0
QUIET = 10.0
SMALL = {"heads": 60, "idle": 300, "bodies": 8, "pages": 6}
_EVENTS = 2000
_SMALL_EVENTS = 300
_HZ = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What somebody sees who has nothing to do with it, in seconds and bytes."""

    delivery: list[float] = field(default_factory=list)
    ingest: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    revoked: float = 0.0
    rss: int = 0
    cpu: float = 0.0
    delay: str = "not measured"
    round_ms: float = 0.0
    round_cpu_ms: float = 0.0

    def said(self) -> dict[str, Any]:
        def at(values: list[float], share: float) -> float:
            return round(sorted(values)[int(share * (len(values) - 1))] * 1000, 1)

        return {
            "deliveries": len(self.delivery),
            "delivery_p50_ms": at(self.delivery, 0.5),
            "delivery_p99_ms": at(self.delivery, 0.99),
            "delivery_p100_ms": at(self.delivery, 1),
            "ingest_p50_ms": at(self.ingest, 0.5),
            "health_p99_ms": at(self.health, 0.99),
            "health_p100_ms": at(self.health, 1),
            "revoked_after_ms": round(self.revoked * 1000, 1),
            "loop_delay_below_s": self.delay,
            "longest_round_ms": self.round_ms,
            "longest_round_cpu_ms": self.round_cpu_ms,
            "cpu_share": round(self.cpu, 2),
            "peak_mib": self.rss >> 20,
        }


class Attacked:
    """A gateway as a process of its own, and who uses it."""

    def __init__(self, url: str, admin: str, folder: Path, pid: int) -> None:
        self.url, self.folder, self.pid = url, folder, pid
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

    def cpu(self) -> float:
        """Seconds that the process has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / _HZ

    async def delays(self) -> dict[str, float]:
        """The histogram of the loop's delays; empty where there is none."""
        async with self.session.get(self.url + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {
            line.split('"')[1]: float(line.rsplit(" ", 1)[1])
            for line in lines
            if "loop_delay_seconds_bucket" in line
        }

    def rounds(self, since: float, until: float) -> tuple[float, float]:
        """The longest round of the loop in that time, and the longest time computed in one."""
        lines = (self.folder / "rounds").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        found = [one for one in found if since < one["at"] < until + 0.3]
        return max(one["ms"] for one in found), max(one["cpu_ms"] for one in found)


@asynccontextmanager
async def attacked(source: Path) -> AsyncIterator[Attacked]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "tests/benchmarks/rounds.py"), str(folder / "rounds"),
            "serve", "--data", str(folder / "data"), "--port", "0",
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
        found = Attacked(url.rstrip("/,;"), key, folder, process.pid)
        try:
            yield found
        finally:
            await found.session.close()
            process.kill()
            await process.wait()


async def watch(gateway: Attacked, key: str, seconds: float) -> Figures:
    """Deliver events to a live stream, ask for health and revoke a key, for so long."""
    figures = Figures()
    began, computed, before = time.monotonic(), gateway.cpu(), await gateway.delays()
    until = began + seconds

    async def read(answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            if b'"sent"' in line:
                sent = json.loads(line)["data"]["sent"]
                figures.delivery.append(time.monotonic() - sent)

    async def produce() -> None:
        while time.monotonic() < until:
            event = {"category": "live", "action": "x", "data": {"sent": time.monotonic()}}
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                began = time.monotonic()
                await gateway.call("POST", "/v1/events", key, json=event)
                figures.ingest.append(time.monotonic() - began)
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

    async def revoke() -> None:
        await asyncio.sleep(seconds / 2)
        figures.revoked = await revocation(gateway)

    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    timeout = aiohttp.ClientTimeout(total=None)
    stream = gateway.url + "/v1/stream?category=live"
    async with gateway.session.get(stream, headers=headers, timeout=timeout) as answer:
        reading = asyncio.create_task(read(answer))
        await asyncio.gather(produce(), ask(), revoke())
        await asyncio.sleep(0.2)
        reading.cancel()
    ended = time.monotonic()
    figures.cpu = (gateway.cpu() - computed) / (ended - began)
    after = await gateway.delays()
    grown = {bound: after[bound] - before[bound] for bound in after}
    if grown:
        figures.delay = next(bound for bound in grown if grown[bound] == grown["+Inf"])
    await asyncio.sleep(0.4)
    figures.round_ms, figures.round_cpu_ms = gateway.rounds(began, ended)
    return figures


async def revocation(gateway: Attacked) -> float:
    """How long after it was asked for a revocation ends the stream of its key."""
    kid, key = await gateway.mint("stream")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    stream = gateway.url + "/v1/stream?category=quiet"
    async with gateway.session.get(stream, headers=headers) as answer:
        ended = asyncio.create_task(answer.content.read())
        began = time.monotonic()
        path = f"/v1/keys/{kid}/revoke"
        asked = asyncio.create_task(
            gateway.call("POST", path, gateway.admin, json={"reason": "lost"})
        )
        await asyncio.wait_for(ended, 60)
        took = time.monotonic() - began
        await asked
        return took


async def measure(
    *, small: bool, seconds: float, source: Path = ROOT, only: str = "", rounds: str = ""
) -> dict[str, Any]:
    """The figures of a quiet time, of an attack and of what is left behind it."""
    async with attacked(source) as gateway:
        _, user = await gateway.mint("stream", "pull", "ingest")
        _, attacker = await gateway.mint("stream", "pull", "ingest")
        _, reviewer = await gateway.mint("keys.admin", "usage.read", "pull")
        victim, _ = await gateway.mint("pull")
        many = [{"category": "b", "action": "x", "data": _members()}] * 100
        for _ in range((_SMALL_EVENTS if small else _EVENTS) // 100):
            await gateway.call("POST", "/v1/events", user, json=many)
        quiet = await watch(gateway, user, min(QUIET, seconds))
        plan = Plan(
            gateway.url, attacker, reviewer, victim, str(gateway.folder / "data"), only,
            **(SMALL if small else {}),
        )  # fmt: skip
        process = await plan.start(gateway.folder)
        try:
            await asyncio.sleep(0.7)
            busy = await watch(gateway, user, seconds)
        finally:
            process.kill()
            await process.wait()
        await asyncio.sleep(CALM)
        after = gateway.rss() >> 20
        if rounds and (found := gateway.folder / "rounds.rounds").exists():
            Path(rounds).write_text(found.read_text(encoding="utf-8"), encoding="utf-8")
        return {"quiet": quiet.said(), "attacked": busy.said(), "memory_after_mib": after}


def _members() -> dict[str, str]:
    return {f"m{n}": "y" * 150 for n in range(50)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--source", type=Path, default=ROOT)
    parser.add_argument("--only", default="", help="some kinds, with commas between")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--rounds", help="a file for the stacks of long rounds")
    parser.add_argument("--first", action="store_true", help=FIRST)
    options = parser.parse_args()
    if options.first:
        go_first()
    raise_file_limit(min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for only in (*KINDS, "") if options.each else (options.only,):
        result = asyncio.run(
            measure(
                small=options.small, seconds=options.seconds, source=options.source,
                only=only, rounds=options.rounds or "",
            )
        )  # fmt: skip
        sys.stdout.write(json.dumps({"attack": only or "all", **result}, indent=2) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
