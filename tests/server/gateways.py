"""Gateways as tests see them: within the process, or as a program of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import orjson
from gateway_client import Event, GatewayClient

from gateway.clock import SystemClock, parse_rfc3339
from gateway.ingest.decode import decode_events
from gateway.ingest.ids import new_ids
from gateway.ingest.own import own_event
from gateway.server.context import Context
from tests.machine_time import eventually, patience

ROOT = Path(__file__).parents[2]


class ShiftedClock(SystemClock):
    """The machine's clock, as if `shift` seconds more had passed, and its wall clock had been set
    by `step` seconds."""

    shift = 0.0
    step = 0.0

    def now(self) -> float:
        return super().now() + self.shift + self.step

    def boottime(self) -> float:
        return super().boottime() + self.shift


class Gateway(GatewayClient):
    """A client of a gateway in this process, whose parts can be looked at."""

    def __init__(
        self, url: str, admin: str, session: aiohttp.ClientSession, context: Context
    ) -> None:
        super().__init__(url, admin, session)
        self.context = context

    async def forget_before(self, event: Event) -> None:
        """Let retention delete what was recorded before an event."""
        before = parse_rfc3339(event["recorded_at"])
        while await self.context.log.trim(before, None):
            pass

    async def append(self, *events: Event) -> None:
        """Append events without a request, of which there would be a record."""
        items = [orjson.dumps(one) for one in events]
        await self.context.writer.append(decode_events(items, new_ids(self.context.clock.now)))

    async def record(self, event_id: str, category: str) -> None:
        """Append one of the gateway's own records."""
        draft = own_event(id=event_id, category=category, action="test")
        await self.context.writer.append([draft])

    async def tail_reaches(self, offset: int) -> None:
        """Return when everything up to an offset has been handed to the live streams."""
        await eventually(lambda: self.context.hub.position >= offset, f"the tail is at {offset}")


class Program(GatewayClient):
    """A client of a gateway that runs as a process of its own."""

    process: asyncio.subprocess.Process
    data: Path

    @property
    def rss(self) -> int:
        """Resident bytes, without pages of files."""
        return self._memory("RssAnon")

    @property
    def peak_rss(self) -> int:
        """The most resident bytes that there ever were."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit code and what it wrote to standard error."""
        self.process.send_signal(number)
        async with asyncio.timeout(patience()):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


Start = Callable[..., Awaitable[Gateway]]
StartProgram = Callable[..., Awaitable[Program]]


async def run_program(*arguments: str, **settings: str) -> asyncio.subprocess.Process:
    """The program with these arguments; `server__port="1"` becomes an environment variable."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **{f"AUDIT_GATEWAY_{name.upper()}": value for name, value in settings.items()},
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def finish_program(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a run to the end."""
    process = await run_program(*arguments, **settings)
    async with asyncio.timeout(patience()):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()
