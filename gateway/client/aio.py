"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, closing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from gateway.client.connection import GatewayAddress
from gateway.client.protocol.consuming import acknowledge
from gateway.client.protocol.counting import CountSelection, counts
from gateway.client.protocol.events import (
    PageSelection,
    ReceivedEvent,
    StreamSelection,
    check_text,
    parameters_of,
)
from gateway.client.protocol.exchange import Emit, Open, Pause, Receive, Steps
from gateway.client.protocol.paging import EventPage, pages
from gateway.client.protocol.publishing import publish
from gateway.client.protocol.reading import Batch, StreamReading
from gateway.ingest.sink import SendResult

Emitted = TypeVar("Emitted")
Returned = TypeVar("Returned")
SLEEP: Callable[[float], Awaitable[None]] = asyncio.sleep


class AsyncClient:
    """Client of one gateway, for one event loop. Close it, or use it in an `async with`.

    Its methods are those of `gateway.client.sync.Client`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        ca: str | None = None,
        notice: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._address = GatewayAddress(url, key, ca)
        self._http = httpx.AsyncClient(**self._address.options())
        self._notice = notice
        self._pause = pause or SLEEP

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    @property
    def url(self) -> str:
        return self._address.url

    def stream(
        self,
        *,
        max_pause: float = 30.0,
        patient: bool = False,
        **selection: Unpack[StreamSelection],
    ) -> AsyncStream:
        """Live stream, taken up again by cursor where a connection breaks; see `Client.stream`."""
        reading = StreamReading(
            self.url,
            parameters_of(selection),
            self._notice,
            max_pause=max_pause,
            patient=patient,
        )
        return AsyncStream(self, reading)

    async def consume(
        self, name: str, *, max_pause: float = 30.0, **selection: Unpack[StreamSelection]
    ) -> AsyncGenerator[Batch]:
        """Batches of a durable consumer, from its position on; see `Client.consume`."""
        check_text("name", name)
        selection["consumer"] = name
        stream = self.stream(max_pause=max_pause, patient=True, **selection)
        async with aclosing(stream.batches()) as batches:
            async for batch in batches:
                yield batch
                await stream.acknowledge(batch)

    async def acknowledge(self, name: str, cursor: str) -> bool:
        """Acknowledge all up to a cursor for a consumer; whether the gateway has it durably."""
        return await self.run(acknowledge(self.url, name, cursor, self._notice))

    async def counts(self, **selection: Unpack[CountSelection]) -> dict[str, Any]:
        """Numbers of events by time and by members; see `Client.counts`."""
        return await self.run(counts(self.url, parameters_of(selection), self._notice))

    def pages(
        self, *, follow: bool = False, wait: int = 30, **selection: Unpack[PageSelection]
    ) -> AsyncGenerator[EventPage]:
        """Pages up to the newest event, or with `follow` each that comes; see `Client.pages`."""
        return self.take(
            pages(self.url, parameters_of(selection), self._notice, follow=follow, wait=wait)
        )

    async def publish(self, events: Iterable[Mapping[str, Any]]) -> SendResult:
        """Publish events in batches; see `Client.publish`."""
        return await self.run(publish(self.url, events, self._notice))

    async def run(self, steps: Steps[Any, Returned]) -> Returned:
        """Take the steps of a protocol that emits nothing."""
        returned: list[Returned] = []
        async for _ in self.take(steps, returned):
            pass
        return returned[0]

    async def take(
        self, steps: Steps[Emitted, Returned], returned: list[Returned] | None = None
    ) -> AsyncGenerator[Emitted]:
        """Take the steps of a protocol; yields what it emits. What it returns is put into a
        list."""
        result: Any = None
        failure: Exception | None = None
        with closing(steps):
            async with AsyncExitStack() as answer:
                while True:
                    try:
                        step = steps.send(result) if failure is None else steps.throw(failure)
                    except StopIteration as end:
                        if returned is not None:
                            returned.append(end.value)
                        return
                    result, failure = None, None
                    try:
                        if isinstance(step, Open):
                            await answer.aclose()
                            response = await answer.enter_async_context(
                                self._http.stream(**self._address.arguments(step.call))
                            )
                            parts = response.aiter_bytes()
                            result = self._address.head_of(response)
                        elif isinstance(step, Receive):
                            result = await anext(parts, b"")
                        elif isinstance(step, Pause):
                            await answer.aclose()
                            await self._pause(step.seconds)
                    except httpx.HTTPError as error:
                        failure = self._address.failure_of(error)
                    if isinstance(step, Emit):
                        yield step.value


class AsyncStream:
    """Stream of events, to be read once. `cursor` is behind the last one that was dealt with, or
    where it began: go on there."""

    def __init__(self, client: AsyncClient, reading: StreamReading) -> None:
        self.cursor: str | None = None
        self._acknowledged: str | None = None
        self._client = client
        self._reading = reading

    async def acknowledge(self, batch: Batch) -> None:
        """Acknowledge everything up to a batch, if this is the stream of a consumer."""
        name = self._reading.consumer
        if name is None or batch.cursor is None or batch.cursor == self._acknowledged:
            return
        if await self._client.acknowledge(name, batch.cursor):
            self._acknowledged = batch.cursor
            self._reading.acknowledged(batch.total)

    async def batches(self) -> AsyncGenerator[Batch]:
        """Events as they come, several at once, and positions without events."""
        async with aclosing(self._client.take(self._reading.steps())) as batches:
            async for batch in batches:
                self.cursor = self.cursor or self._reading.begin
                yield batch
                self.cursor = batch.cursor

    async def __aiter__(self) -> AsyncGenerator[ReceivedEvent]:
        """Each event once, in order."""
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for event in batch.events:
                    yield event
                    self.cursor = event.cursor or self.cursor
