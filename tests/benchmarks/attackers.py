"""Everything that one party can do to the others: a process of its own beside what is measured.

`python -m tests.benchmarks.attackers PLAN.json` goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import apsw

from tests.benchmarks.machine import raise_file_limit

_PAUSE_SECONDS = 0.05
_FOR_EVER = 3600.0


@dataclass
class Plan:
    """What is attacked, by whom, and how much of each attack there is."""

    url: str
    key: str
    reviewer: str
    victim: str
    data: str
    only: str = ""
    heads: int = 200
    idle: int = 3000
    bodies: int = 30
    pages: int = 25

    def start(self, folder: Path) -> Awaitable[asyncio.subprocess.Process]:
        """Begin. The machine of the attackers is another one, so this one goes first."""
        file = folder / "plan.json"
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.attackers", str(file),
            cwd=Path(__file__).parents[2],
        )  # fmt: skip


class Attackers:
    """One method for each attack."""

    def __init__(self, plan: Plan, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._session = session
        self._auth = b"Authorization: Bearer %b\r\n" % plan.key.encode()

    async def heads(self) -> None:
        """Heads of requests that go on and on."""
        lines = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 15_900) for n in range(120))
        await self._hold(self._plan.heads, b"GET /v1/events HTTP/1.1\r\nHost: a\r\n" + lines)

    async def idle(self) -> None:
        """Connections that say nothing."""
        await self._hold(self._plan.idle, b"")

    async def bodies(self) -> None:
        """Large bodies that never end."""
        head = (
            b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%b"
            b"Content-Length: 8388608\r\n\r\n" % self._auth
        )
        await self._hold(self._plan.bodies, head + b" " * 8_000_000)

    async def pages(self) -> None:
        """Large pages that nobody reads."""
        head = b"GET /v1/events?from=start&limit=10000 HTTP/1.1\r\nHost: a\r\n%b\r\n" % self._auth
        await self._hold(self._plan.pages, head, 4096)

    async def numbers(self) -> None:
        """Millions of items in some kilobytes."""
        body = gzip.compress(b"[" + b"1," * 3_999_999 + b"1]")
        await self._send(body, **{"Content-Encoding": "gzip"})

    async def objects(self) -> None:
        """Millions of objects in some kilobytes."""
        body = gzip.compress(b"[" + b"{}," * 2_700_000 + b"{}]")
        await self._send(body, **{"Content-Encoding": "gzip"})

    async def large(self) -> None:
        """Few events with as much in them as there may be."""
        event = b'{"category":"b","action":"x","data":{"a":[%b]}}' % b",".join([b"1.50"] * 50_000)
        await self._send(b"[" + b",".join([event] * 4) + b"]")

    async def filters(self) -> None:
        """A filter that compares everything with everything."""
        inner = "data.exists(e, e == 'none')"
        for name in "dcba":
            inner = f"data.exists({name}, {inner})"
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(
                    self._ask(self._plan.key, "GET", "/v1/events", params={"filter": inner})
                )

    async def reviews(self) -> None:
        """Looks back over the whole log, and comparisons of many grants."""
        victim = self._plan.victim
        grants = [
            {"actions": ["pull"], "categories": [f"a{n}.{m}.*" for m in range(20)]}
            for n in range(50)
        ]
        proposal = {"key": victim, "grants": grants, "since": "30d"}
        question = {"key": victim, "action": "pull", "category": "b.c"}
        document = f"/v1/keys/{victim}/document"
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                by = self._plan.reviewer
                group.create_task(self._ask(by, "POST", "/v1/authz/simulate", json=proposal))
                group.create_task(self._ask(by, "POST", "/v1/authz/explain", json=question))
                group.create_task(self._ask(by, "GET", document))

    async def lock(self) -> None:
        """The keys, locked by another process: for no longer than a revocation may take."""
        while True:
            holder = apsw.Connection(str(Path(self._plan.data) / "keys.db"))
            holder.set_busy_timeout(0)
            with contextlib.suppress(apsw.Error):
                holder.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(0.7)
            holder.close()
            await asyncio.sleep(0.3)

    async def _hold(self, count: int, data: bytes, receive_buffer: int = 1 << 16) -> None:
        host, _, port = self._plan.url.removeprefix("http://").partition(":")
        opened = []
        for n in range(count):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port), limit=receive_buffer)
                writer.write(data)
                opened.append(writer)
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(_FOR_EVER)

    async def _send(self, body: bytes, **headers: str) -> None:
        headers["Content-Type"] = "application/json"
        await self._ask(self._plan.key, "POST", "/v1/events", data=body, headers=headers)

    async def _ask(
        self,
        key: str,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        **options: object,
    ) -> None:
        """Again and again."""
        headers = {**(headers or {}), "Authorization": f"Bearer {key}"}
        while True:
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with self._session.request(
                    method, self._plan.url + path, headers=headers, **options
                ) as answer:  # type: ignore[arg-type]
                    await answer.read()
            await asyncio.sleep(_PAUSE_SECONDS)


KINDS = (
    "heads", "idle", "bodies", "pages", "numbers", "objects", "large", "filters", "reviews", "lock",
)  # fmt: skip


async def attack(plan: Plan) -> None:
    """All of them at once, or the one that is wanted."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        attackers = Attackers(plan, session)
        kinds = plan.only.split(",") if plan.only else KINDS
        methods: list[Callable[[], Awaitable[None]]] = [getattr(attackers, kind) for kind in kinds]
        await asyncio.gather(*(method() for method in methods))


def give_way() -> None:
    """Let the gateway and who measures go first, as if this were another machine."""
    if os.sched_getscheduler(0) == os.SCHED_RR:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    else:
        os.nice(10)


if __name__ == "__main__":
    give_way()
    raise_file_limit(min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    asyncio.run(attack(Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
