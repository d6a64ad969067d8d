"""The client without asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
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


class Client:
    """Client of one gateway, for one thread. Close it, or use it in a `with`.

    `notice` is told of what happens besides, such as waits; `pause` takes seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        ca: str | None = None,
        notice: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = GatewayAddress(url, key, ca)
        self._http = httpx.Client(**self._address.options())
        self._notice = notice
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        return self._address.url

    def stream(
        self,
        *,
        max_pause: float = 30.0,
        patient: bool = False,
        **selection: Unpack[StreamSelection],
    ) -> Stream:
        """Live stream, taken up again by cursor where a connection breaks.

        Waits at most `max_pause` seconds between tries. `patient`: also waits for a gateway that
        was never reached, and that has been busy from the start.
        """
        reading = StreamReading(
            self.url,
            parameters_of(selection),
            self._notice,
            max_pause=max_pause,
            patient=patient,
        )
        return Stream(self, reading)

    def consume(
        self, name: str, *, max_pause: float = 30.0, **selection: Unpack[StreamSelection]
    ) -> Generator[Batch]:
        """Batches of a durable consumer, from its position on, which the gateway remembers.

        A batch is acknowledged when the next one is asked for, and so not if dealing with it has
        failed. What was not acknowledged comes again in the next stream: at least once. Where to
        begin counts for the first use of the name.
        """
        check_text("name", name)
        selection["consumer"] = name
        stream = self.stream(max_pause=max_pause, patient=True, **selection)
        with closing(stream.batches()) as batches:
            for batch in batches:
                yield batch
                stream.acknowledge(batch)

    def acknowledge(self, name: str, cursor: str) -> bool:
        """Acknowledge all up to a cursor for a consumer; whether the gateway has it durably."""
        return self.run(acknowledge(self.url, name, cursor, self._notice))

    def counts(self, **selection: Unpack[CountSelection]) -> dict[str, Any]:
        """Numbers of events by time and, with `by`, by members: the answer as it is. Where it is
        not `complete`, its `next` is sent as `before` for the rest."""
        return self.run(counts(self.url, parameters_of(selection), self._notice))

    def pages(
        self, *, follow: bool = False, wait: int = 30, **selection: Unpack[PageSelection]
    ) -> Iterator[EventPage]:
        """Pages up to the newest event, or from it down; with `follow` each that comes, for which
        the gateway is asked to wait up to `wait` seconds. `limit` is that of a page."""
        steps = pages(self.url, parameters_of(selection), self._notice, follow=follow, wait=wait)
        return self.take(steps)

    def publish(self, events: Iterable[Mapping[str, Any]]) -> SendResult:
        """Publish events in batches; returns when all that are not refused are durable.

        An event without `id` gets one before it is sent, so that a repeat is a duplicate.
        """
        return self.run(publish(self.url, events, self._notice))

    def run(self, steps: Steps[Any, Returned]) -> Returned:
        """Take the steps of a protocol that emits nothing."""
        taking = self.take(steps)
        try:
            while True:
                next(taking)
        except StopIteration as end:
            returned: Returned = end.value
            return returned

    def take(self, steps: Steps[Emitted, Returned]) -> Generator[Emitted, None, Returned]:
        """Take the steps of a protocol; yields what it emits, and returns what it returns."""
        result: Any = None
        failure: Exception | None = None
        with closing(steps), ExitStack() as answer:
            while True:
                try:
                    step = steps.send(result) if failure is None else steps.throw(failure)
                except StopIteration as end:
                    returned: Returned = end.value
                    return returned
                result, failure = None, None
                try:
                    if isinstance(step, Open):
                        answer.close()
                        response = answer.enter_context(
                            self._http.stream(**self._address.arguments(step.call))
                        )
                        parts = response.iter_bytes()
                        result = self._address.head_of(response)
                    elif isinstance(step, Receive):
                        result = next(parts, b"")
                    elif isinstance(step, Pause):
                        answer.close()
                        self._pause(step.seconds)
                except httpx.HTTPError as error:
                    failure = self._address.failure_of(error)
                if isinstance(step, Emit):
                    yield step.value


class Stream:
    """Stream of events, to be read once. `cursor` is behind the last one that was dealt with, or
    where it began: go on there."""

    def __init__(self, client: Client, reading: StreamReading) -> None:
        self.cursor: str | None = None
        self._acknowledged: str | None = None
        self._client = client
        self._reading = reading

    def acknowledge(self, batch: Batch) -> None:
        """Acknowledge everything up to a batch, if this is the stream of a consumer."""
        name = self._reading.consumer
        if name is None or batch.cursor is None or batch.cursor == self._acknowledged:
            return
        if self._client.acknowledge(name, batch.cursor):
            self._acknowledged = batch.cursor
            self._reading.acknowledged(batch.total)

    def batches(self) -> Generator[Batch]:
        """Events as they come, several at once, and positions without events."""
        for batch in self._client.take(self._reading.steps()):
            self.cursor = self.cursor or self._reading.begin
            yield batch
            self.cursor = batch.cursor

    def __iter__(self) -> Generator[ReceivedEvent]:
        """Each event once, in order."""
        with closing(self.batches()) as batches:
            for batch in batches:
                for event in batch.events:
                    yield event
                    self.cursor = event.cursor or self.cursor
