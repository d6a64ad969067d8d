"""Import over HTTP: `POST /v1/events` of a running gateway."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.client.protocol.publishing import send_lines
from gateway.client.sync import Client
from gateway.ingest.sink import SendResult


class HttpSink:
    """Sink that posts batches over one open connection.

    A busy or absent gateway is asked up to eight times, after the time it names or a growing,
    jittered pause. `notice` is told of every wait; `sleep` takes seconds. `mapped`: the events were
    made from the records under their `data`, by which alone duplicates are recognised.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        mapped: bool = False,
        notice: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = Client(url, key, notice=notice, pause=sleep)
        self._mapped = mapped
        self._notice = notice

    def send(self, lines: list[bytes]) -> SendResult:
        """See `gateway.ingest.sink.Sink`. Raises `Unavailable`, `Unauthorized`, `Forbidden`."""
        steps = send_lines(self._client.url, lines, self._notice, mapped=self._mapped)
        return self._client.run(steps)

    def close(self) -> None:
        self._client.close()
