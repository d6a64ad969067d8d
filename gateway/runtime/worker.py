"""A worker process and its connection to the supervisor."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from gateway.adapters.files.folder import WriterLock
from gateway.http.metrics.metrics import Metrics


class Worker:
    """One worker process among the others. Worker 0 writes the log."""

    def __init__(
        self,
        number: int,
        sockets: list[socket.socket],
        control: socket.socket,
        lock: WriterLock | None,
        metrics: Metrics,
        greets: bool,
        metrics_sockets: list[socket.socket] | None = None,
    ) -> None:
        self.number = number
        self.sockets = sockets
        # They listen on `metrics.port`, which worker 0 answers.
        self.metrics_sockets = metrics_sockets
        self.lock = lock
        self.metrics = metrics
        # Whether this process prints where the gateway listens.
        self.greets = greets
        self._control = control
        self._all_ready = False
        self._told = asyncio.Event()

    @property
    def writes(self) -> bool:
        return self.number == 0

    def say_ready(self, stop: asyncio.Event) -> None:
        """Report readiness; from then on the supervisor's stop request, or its end, sets `stop`."""
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._listen, stop)
        with suppress(OSError):
            self._control.send(b"ready\n")

    async def all_ready(self) -> bool:
        """Wait until all workers have started; False if the gateway is to end before."""
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
