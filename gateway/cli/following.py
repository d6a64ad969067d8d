"""Following of a stream into an output, with a position that is kept."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol

from gateway.cli.cursor_file import CursorFile
from gateway.cli.event_file import EventFile
from gateway.client.aio import AsyncStream

# How long what is written waits for its sync and for the cursor.
_SETTLE_SECONDS = 1.0


class Output(Protocol):
    """Output of events. Methods raise `OSError`."""

    def write(self, events: list[bytes]) -> None:
        """Write events, each native JSON."""

    def sync(self) -> None:
        """Return when what was written is where it belongs."""


class StreamFollower:
    """Writes what a stream brings. At most a second later, and at the end, the output is synced,
    and then the cursor behind it is kept."""

    def __init__(self, stream: AsyncStream, output: Output, kept: CursorFile | None) -> None:
        self._stream = stream
        self._output = output
        self._kept = kept
        self._cursor: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Follow the stream to its end. Raises as the stream and the output do."""
        task = self._task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        if isinstance(self._output, EventFile):
            loop.add_signal_handler(signal.SIGHUP, self._act, self._output.reopen)
        if self._kept is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            async for batch in self._stream.batches():
                if batch.events:
                    self._output.write([event.json for event in batch.events])
                self._cursor = batch.cursor
                if self._timer is None:
                    self._timer = loop.call_later(_SETTLE_SECONDS, self._act, self._settle)
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            raise self._failure from None
        finally:
            self._settle()

    def _act(self, act: Callable[[], None]) -> None:
        """Do something between two batches; a failure ends the following."""
        try:
            act()
        except Exception as error:
            self._failure = error
            assert self._task is not None
            self._task.cancel()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._output.sync()
        if self._kept is not None and self._cursor is not None:
            self._kept.write(self._cursor)
