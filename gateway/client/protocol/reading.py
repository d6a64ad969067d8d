"""Reading of a live stream as NDJSON over as many connections as it takes, by cursor."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec

from gateway.client.protocol.events import ReceivedEvent
from gateway.client.protocol.exchange import (
    LINES,
    NDJSON,
    QUIET_SECONDS,
    Emit,
    GatewayCall,
    Head,
    Open,
    Pause,
    Receive,
    Steps,
    TryAgain,
    error_of,
    read_answer,
    told,
)
from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unavailable
from gateway.formats.cursors import BEGINS, cursor_in

MAX_PAUSE_SECONDS = 30.0
MAX_FIRST_TRIES = 5
MAX_LINE_BYTES = 4 * 1024 * 1024
# Proxies accept URLs of 8 KiB; longer queries go into a body.
MAX_QUERY = 4096
_PATH = "/v1/stream"
_REMEMBERED = 1024
_COMPLETE = 1000


class _Line(msgspec.Struct):
    """Members that distinguish a control message from an event: only the former has a `type`."""

    type: str | None = None
    cursor: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """Events that came at once; none where only the position has moved, to behind `cursor`.

    `total`: number of all events of the stream up to here.
    """

    events: list[ReceivedEvent]
    cursor: str | None
    total: int = 0


class StreamReading:
    """State of one stream. `cursor` is behind all that was emitted, or further if the gateway has
    said so.

    `parameters` are those of `/v1/stream`; lists stand for repeated ones. `notice` is told what
    happens besides events. `patient`: also waits for a gateway that was never reached.

    A stream of a consumer is taken up at what the gateway remembers, which is told by
    `acknowledged`; what comes again is dropped.
    """

    def __init__(
        self,
        url: str,
        parameters: dict[str, Any],
        notice: Callable[[str], None],
        *,
        max_pause: float = MAX_PAUSE_SECONDS,
        patient: bool = False,
    ) -> None:
        if not isinstance(max_pause, int | float) or not max_pause > 0:
            raise InvalidRequest(f"max_pause: seconds are needed, not {max_pause!r:.64}")
        self.cursor: str | None = None
        # Where it began, if the gateway has said so.
        self.begin: str | None = None
        self._url = url
        self._parameters = parameters
        self._format: str = parameters.get("format", "native")
        self._notice = notice
        self._max_pause = max_pause
        self._patient = patient
        self.consumer: str | None = parameters.get("consumer")
        self._emitted = 0
        self._acknowledged = 0
        self._recent: dict[str, None] = {}
        self._opened = False
        self._caught_up = False
        self._tries = 0
        self._unfinished = b""
        self._complete = False
        self._failure: Exception | None = None

    def steps(self) -> Steps[Batch, None]:
        """Emits each event once, in order. Ends when the stream is complete. To be taken once:
        a caller who left in the middle of a batch would miss the rest of it.

        Raises `Unauthorized`, `Forbidden`, `CursorGone`, `InvalidRequest`, and `Unavailable` if no
        gateway was ever reached.
        """
        if self._opened:
            raise InvalidRequest(
                "a stream is read once; go on with another one, after=stream.cursor",
                code="stream_was_read",
            )
        while not self._complete:
            try:
                yield from self._connection()
            except TryAgain as failure:
                seconds = self._pause_after(failure)
            except Unavailable as error:
                if not self._patient or error.code != "unreachable":
                    raise
                seconds = self._pause_after(TryAgain(error.detail))
            else:
                return
            yield Pause(seconds)

    def _connection(self) -> Steps[Batch, None]:
        """Steps of one connection; returns when the stream is complete."""
        head: Head = yield Open(self._call())
        if head.status != 200:
            raise error_of(self._url, (yield from read_answer(self._url, head)))
        self._begin(head)
        while data := (yield Receive()):
            before = self.cursor
            events = self._events_in(data)
            if events or self.cursor != before:
                yield Emit(Batch(events, self.cursor, self._emitted))
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return
        # A line without its end was cut off, and is sent again.
        if not (self._caught_up and self._parameters.get("follow") is False):
            raise TryAgain("connection closed")

    def _call(self) -> GatewayCall:
        """Request for the rest of the stream."""
        parameters = dict(self._parameters)
        if self._opened:
            # Two readers with different selections would take the consumer from each other.
            parameters.pop("selection", None)
        if self.cursor is not None:
            for begin in ("since", "from", "after"):
                parameters.pop(begin, None)
            if self.consumer is None:
                # Of a consumer it would acknowledge what is not dealt with, or undo a rewind.
                parameters["after"] = self.cursor
        if isinstance(limit := parameters.get("limit"), int):
            parameters["limit"] = limit - self._emitted
        if len(urlencode(parameters, doseq=True)) > MAX_QUERY:
            return GatewayCall("POST", _PATH, json=parameters, accept=NDJSON, quiet=QUIET_SECONDS)
        return GatewayCall("GET", _PATH, params=parameters, accept=NDJSON, quiet=QUIET_SECONDS)

    def _begin(self, head: Head) -> None:
        """Process the head of a stream. Raises if it is something else."""
        self._failure, self._unfinished = None, b""
        kind = head.headers.get("content-type", "nothing").partition(";")[0].strip()
        if kind not in LINES:
            raise InvalidRequest(f"{self._url} sent {kind}; is it an audit gateway?")
        if self._opened and self.cursor is None and not self._says_where_to_begin():
            self._notice("no position was known yet: events of the pause may be missing")
        self._opened = True
        if self.cursor is None:
            # Until an event tells more.
            self.cursor = self.begin = head.headers.get("audit-cursor")

    def _events_in(self, data: bytes) -> list[ReceivedEvent]:
        """Events of some bytes, up to where the stream ends or fails."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        events: list[ReceivedEvent] = []
        try:
            for line in filter(None, lines):
                self._take(line, events)
                if self._complete:
                    break
            else:
                if len(self._unfinished) > MAX_LINE_BYTES:
                    raise InvalidRequest(f"{self._url} sent a line of more than 4 MiB")
        except (GatewayError, TryAgain) as failure:
            # What came before it is handed out first.
            self._failure = failure
        return events

    def _take(self, line: bytes, events: list[ReceivedEvent]) -> None:
        """Process one line, which may be an event."""
        head = self._head(line)
        self._tries = 0
        if head.type is not None:
            self._control(head.type, self._decoded(line, dict[str, Any]))
        elif head.cursor is None or head.cursor not in self._recent:
            events.append(ReceivedEvent(line, head.cursor))
            self._emitted += 1
            if head.cursor is not None:
                self.cursor = head.cursor
                self._remember(head.cursor)
            self._complete = self._emitted == self._parameters.get("limit")

    def _head(self, line: bytes) -> _Line:
        if self._format == "native":
            head: _Line = self._decoded(line, _Line)
            return head
        if line.startswith(BEGINS[self._format]):
            return _Line(cursor=cursor_in(self._format, line))
        said: _Line = self._decoded(line, _Line)
        if said.type is None:
            raise InvalidRequest(f"{self._url} sent what is no event in the format {self._format}")
        return said

    def _remember(self, cursor: str) -> None:
        self._recent[cursor] = None
        if len(self._recent) > _REMEMBERED and self.consumer is None:
            del self._recent[next(iter(self._recent))]

    def acknowledged(self, total: int) -> None:
        """The gateway has taken the acknowledgement of so many events: they come no more, but if
        somebody rewinds the consumer."""
        while self._acknowledged < total and self._recent:
            self._acknowledged += 1
            del self._recent[next(iter(self._recent))]

    def _decoded(self, line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{self._url} sent what is no event: {error}") from None

    def _control(self, kind: str, message: dict[str, Any]) -> None:
        if isinstance(message.get("cursor"), str):
            self.cursor = message["cursor"]
        if kind == "caught-up":
            self._caught_up = True
        elif kind in ("gap", "notice"):
            self._notice(told(message))
        elif kind == "end":
            self._end(message)
            self._complete = True

    def _end(self, message: dict[str, Any]) -> None:
        """Raise unless the stream ended because it is complete."""
        code = message.get("code")
        if code == _COMPLETE:
            return
        said = f"the gateway ended the stream: {message.get('reason')} ({code})"
        is_terminal = isinstance(code, int) and 4500 <= code <= 4999
        if message.get("reconnect", not is_terminal):
            raise TryAgain(said)
        raise Forbidden(said) if is_terminal else GatewayError(said)

    def _says_where_to_begin(self) -> bool:
        """Whether the parameters name a position that does not move with the clock."""
        since = self._parameters.get("since")
        return (
            "after" in self._parameters
            or self._parameters.get("from") == "start"
            or (isinstance(since, str) and "-" in since)
        )

    def _pause_after(self, failure: TryAgain) -> float:
        """Seconds to wait after a failure. Raises `Unavailable` if that would be in vain."""
        if not self._opened and not self._patient and self._tries + 1 >= MAX_FIRST_TRIES:
            raise Unavailable(f"gave up after {MAX_FIRST_TRIES} tries: {failure}")
        # Spread out: a thousand clients must not return at once after a restart.
        usual = random.uniform(0.1, min(self._max_pause, 0.5 * 2**self._tries))
        seconds = failure.pause(usual, self._max_pause)
        self._tries = min(self._tries + 1, 16)
        self._notice(f"{failure}; trying again in {seconds:.1f} s")
        return seconds
