"""Queue of spans that have ended, and their way to a receiver of OTLP, beside everything else."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import aiohttp

from gateway.clock import Clock

_MOST_WAITING = 4096
_AT_ONCE = 512
# Spans that are encoded before others have a turn of the event loop.
_SLICE = 32
_SEND_SECONDS = 1.0
_REQUEST_SECONDS = 10.0
_MOST_PAUSE_SECONDS = 30.0
# What stopping waits for the last spans.
_END_SECONDS = 1.0
_AGAIN = (408, 429, 500, 502, 503, 504)
_HEADERS = {"Content-Type": "application/x-protobuf"}
_LOGGER = logging.getLogger(__name__)

S = TypeVar("S")


class SpanSender(Generic[S]):
    """Sender of one process. What does not fit into the queue is dropped and counted: a receiver
    that is slow or away costs nothing but spans."""

    def __init__(self, endpoint: str, encode: Callable[[list[S]], bytes], clock: Clock) -> None:
        self.dropped = 0
        self._endpoint = endpoint
        self._encode = encode
        self._clock = clock
        self._waiting: deque[S] = deque()
        self._session: aiohttp.ClientSession | None = None
        self._failures = 0

    def put(self, span: S) -> None:
        """Queue a span that has ended."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(span)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._clock.sleep(min(_SEND_SECONDS * 2**self._failures, _MOST_PAUSE_SECONDS))
            while self._waiting and await self.send():
                pass

    async def send(self) -> bool:
        """Send some spans; whether they are off the queue. They stay there if the receiver may take
        them later."""
        count = min(_AT_ONCE, len(self._waiting))
        batch = [self._waiting[place] for place in range(count)]
        body = b""
        for start in range(0, count, _SLICE):
            body += self._encode(batch[start : start + _SLICE])
            await asyncio.sleep(0)
        problem, again = await self._post(body)
        if problem and not self._failures:
            _LOGGER.warning(
                "spans are not taken by traces.endpoint%s: %s",
                ", trying again" if again else "", problem,
            )  # fmt: skip
        if problem:
            self._failures = min(self._failures + 1, 10)
        elif self._failures:
            _LOGGER.warning("spans are taken again; %d were dropped so far", self.dropped)
            self._failures = 0
        if problem and again:
            return False
        for _ in range(count):
            self._waiting.popleft()
        if problem:
            self.dropped += count
        return not problem

    async def close(self) -> None:
        """Send the rest, as far as that takes no longer than a moment."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                while self._waiting and await self.send():
                    pass
        except TimeoutError:
            _LOGGER.warning("%d spans were not sent", len(self._waiting))
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> tuple[str, bool]:
        """Why a request was not taken, and whether it may be later; "" if it was."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.post(
                self._endpoint, data=body, headers=_HEADERS, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__, True
        return ("", False) if status < 300 else (f"status {status}", status in _AGAIN)
