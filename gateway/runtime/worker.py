"""A worker process, as it knows itself and its supervisor."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from gateway.adapters.files.folder import WriterLock
from gateway.http.metrics.metrics import Metrics


class Worker:
    """Place of a worker process among the others. Worker 0 writes the log."""

    def __init__(
        self,
        number: int,
        sockets: list[socket.socket],
        control: socket.socket,
        lock: WriterLock | None,
        metrics: Metrics,
        greets: bool,
    ) -> None:
        self.number = number
        self.sockets = sockets
        self.lock = lock
        self.metrics = metrics
        # Whether this is the one process that says where the gateway listens.
        self.greets = greets
        self._control = control
        self._all_ready = False
        self._told = asyncio.Event()

    @property
    def writes(self) -> bool:
        return self.number == 0

    def say_ready(self, stop: asyncio.Event) -> None:
        """Tell the supervisor; from here on `stop` is set when it wants an end, or is gone."""
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._listen, stop)
        with suppress(OSError):
            self._control.send(b"ready\n")

    async def all_ready(self) -> bool:
        """Return True when all workers have started, False when an end is wanted before."""
        await self._told.wait()
        return self._all_ready

    def _listen(self, stop: asyncio.Event) -> None:
        try:
            data = self._control.recv(64)
        except OSError:
            data = b""
        if data:
            self._all_ready = True
        else:
            asyncio.get_running_loop().remove_reader(self._control)
            stop.set()
        self._told.set()
