"""Gateways as tests see them: within the process, or as a program of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import aiohttp
import orjson
from gateway_client import Event, GatewayClient

from gateway.clock import SystemClock, parse_rfc3339
from gateway.http.request.context import Context
from gateway.ingest.decode import decode_events
from gateway.ingest.gateway_event import new_gateway_event
from gateway.ingest.ids import new_ids
from tests.support import gateway_process
from tests.support.log_secrets import assert_no_secrets
from tests.support.machine_time import eventually, patience
from tests.support.shifted_clock import ShiftedClock as ShiftedClock


class StoppedClock(SystemClock):
    """The machine's clock, but that rates stand as they are until a test lets seconds pass: a busy
    machine lets nothing more through."""

    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


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
        draft = new_gateway_event(id=event_id, category=category, action="test")
        await self.context.writer.append([draft])

    async def tail_reaches(self, offset: int) -> None:
        """Return when everything up to an offset has been handed to the live streams."""
        await eventually(lambda: self.context.hub.position >= offset, f"the tail is at {offset}")


class Program(GatewayClient):
    """A client of a gateway that runs as a process of its own."""

    process: ProgramProcess
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
            errors = await self.process.end()
        assert self.process.returncode is not None
        return self.process.returncode, errors


Start = Callable[..., Awaitable[Gateway]]
StartProgram = Callable[..., Awaitable[Program]]


class ProgramProcess:
    """A process of the program, to be waited for without holding up the event loop."""

    def __init__(
        self, arguments: Sequence[str], settings: Mapping[str, str], executed: bool
    ) -> None:
        self._errors = TemporaryFile()  # noqa: SIM115
        self._process = gateway_process.start(
            arguments, variables(settings), executed=executed,
            stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.pid = self._process.pid
        self.returncode: int | None = None

    async def line(self) -> str:
        """The next one of its standard output; "" at the end."""
        assert self._process.stdout is not None
        return await asyncio.to_thread(self._process.stdout.readline)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self) -> str:
        """Wait for its end; what it wrote to standard error."""
        self.returncode = await asyncio.to_thread(self._process.wait)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.seek(0)
        with self._errors as errors:
            said = errors.read().decode()
        assert_no_secrets(said)
        return said


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings in the environment: `server__port="1"`, say."""
    return {f"AUDIT_GATEWAY_{name.upper()}": value for name, value in settings.items()}


async def finish_program(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a run to the end."""
    done = await asyncio.to_thread(
        gateway_process.run_program, *arguments, settings=variables(settings)
    )
    return done.returncode, done.stdout, done.stderr
