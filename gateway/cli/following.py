"""Following of a stream into an output, with a position that is kept."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.event_file import EventFile
from gateway.client.aio import AsyncStream
from gateway.client.protocol.reading import Batch

# How long what is written waits for its sync, for the cursor, and for the acknowledgement.
_SETTLE_SECONDS = 1.0
_ACKNOWLEDGE_SECONDS = 5.0


class Output(Protocol):
    """Output of events. Methods raise `OSError`."""

    def write(self, events: list[bytes]) -> None:
        """Write events, each native JSON."""

    def sync(self) -> None:
        """Return when what was written is where it belongs."""


class StreamFollower:
    """Writes what a stream brings. At most a second later, and at the end, the output is synced,
    then the cursor behind it is kept, and then it is acknowledged for a consumer."""

    def __init__(
        self, stream: AsyncStream, output: Output, kept: CursorFile | None, *, ends_well: bool
    ) -> None:
        self._stream = stream
        self._output = output
        self._kept = kept
        # Whether SIGTERM is an end like others.
        self._ends_well = ends_well
        self._written: Batch | None = None
        self._unsettled = asyncio.Event()
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Follow the stream to its end. Raises as the stream and the output do."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._task = task
        if isinstance(self._output, EventFile):
            loop.add_signal_handler(signal.SIGHUP, self._try, self._output.reopen)
        if self._ends_well:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await asyncio.gather(self._write(), self._settle_in_time())
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            if self._failure is None:
                self._settle()
                await self._acknowledge()

    async def _write(self) -> None:
        try:
            async for batch in self._stream.batches():
                if batch.events:
                    self._write_events([event.json for event in batch.events])
                self._written = batch
                self._unsettled.set()
        finally:
            self._ended.set()
            self._unsettled.set()

    def _write_events(self, events: list[bytes]) -> None:
        try:
            self._output.write(events)
        except Exception as error:
            # Some may be in a file that was rotated since. It says where to go on as long as no
            # older cursor is kept after it.
            self._failure = error
            raise

    async def _settle_in_time(self) -> None:
        while not self._ended.is_set():
            await self._unsettled.wait()
            try:
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                self._unsettled.clear()
                self._try(self._settle)
                await self._acknowledge()

    def _try(self, act: Callable[[], None]) -> None:
        """Do something beside the stream; a failure ends the following of it."""
        try:
            act()
        except Exception as error:
            self._failure = error
            assert self._task is not None
            self._task.cancel()

    def _settle(self) -> None:
        self._output.sync()
        if self._kept is not None and self._written is not None and self._written.cursor:
            self._kept.write(self._written.cursor)

    async def _acknowledge(self) -> None:
        if self._written is None or self._failure is not None:
            return
        try:
            async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                await self._stream.acknowledge(self._written)
        except TimeoutError:
            # The next one says it, too.
            pass
