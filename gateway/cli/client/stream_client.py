"""Client of a live stream as NDJSON; reconnects by cursor."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import httpx
import msgspec

from gateway.cli.client.connection import GatewayConnection, TryAgain, answer_of
from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unavailable

# The gateway sends something several times a minute, if only a bookmark.
QUIET_SECONDS = 60
MAX_PAUSE_SECONDS = 30.0
MAX_FIRST_TRIES = 5
MAX_LINE_BYTES = 4 * 1024 * 1024
# Proxies accept URLs of 8 KiB; longer queries go into a body.
MAX_QUERY = 4096
CONTENT_TYPE = "application/x-ndjson"
_PATH = "/v1/stream"
_REMEMBERED = 1024
_COMPLETE = 1000

Parameters = dict[str, str | int | bool | list[str] | tuple[str, ...]]


class _Head(msgspec.Struct):
    """Members that distinguish a control message from an event: only the former has a `type`."""

    type: str | None = None
    cursor: str | None = None


class StreamClient:
    """Reader of one stream that reconnects by cursor.

    `parameters` are those of `/v1/stream`; lists stand for repeated ones. `cursor` is after the
    last event handed out, or further if the gateway sent a later bookmark. `notice` is told what
    happens besides events; `pause` takes seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        parameters: Parameters,
        *,
        notice: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cursor: str | None = None
        self._connection = GatewayConnection(url, key, CONTENT_TYPE, QUIET_SECONDS)
        self._parameters = parameters
        self._notice = notice
        self._pause = pause
        self._handed_out = 0
        self._recent: dict[str, None] = {}
        self._opened = False
        self._caught_up = False
        self._tries = 0

    def events(self) -> Generator[bytes]:
        """Native JSON of each event, once, in order.

        Ends when the stream is complete. Raises `Unauthorized`, `Forbidden`, `CursorGone`,
        `InvalidRequest`, and `Unavailable` if no gateway was ever reached.
        """
        with closing(self._connection):
            while True:
                try:
                    with self._connection.send(**self._request()) as response:
                        self._begin(response)
                        yield from self._events_in(response.iter_bytes())
                    return
                except TryAgain as failure:
                    self._wait(failure)

    def _events_in(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """Events of one connection; returns when the stream is complete."""
        unfinished = b""
        for received in body:
            *lines, unfinished = (unfinished + received).split(b"\n")
            if len(unfinished) > MAX_LINE_BYTES:
                raise InvalidRequest(f"{self._connection.url} sent a line of more than 4 MiB")
            for line in filter(None, lines):
                head = self._decoded(line, _Head)
                self._tries = 0
                if head.type is not None:
                    if self._is_end(head.type, self._decoded(line, dict[str, Any])):
                        return
                elif head.cursor is None or head.cursor not in self._recent:
                    yield line
                    self._handed_out += 1
                    if head.cursor is not None:
                        self.cursor = head.cursor
                        self._remember(head.cursor)
                    if self._handed_out == self._parameters.get("limit"):
                        return
        # A line without its end was cut off, and is sent again.
        if not (self._caught_up and self._parameters.get("follow") is False):
            raise TryAgain("connection closed")

    def _request(self) -> dict[str, Any]:
        """Request for the rest of the stream, as arguments of httpx."""
        parameters = dict(self._parameters)
        if self.cursor is not None:
            parameters.pop("since", None)
            parameters.pop("from", None)
            parameters["after"] = self.cursor
        if isinstance(limit := parameters.get("limit"), int):
            parameters["limit"] = limit - self._handed_out
        query = httpx.QueryParams(parameters)
        if len(str(query)) > MAX_QUERY:
            return {"method": "POST", "path": _PATH, "json": parameters}
        return {"method": "GET", "path": _PATH, "params": query}

    def _begin(self, response: httpx.Response) -> None:
        """Process the head of an answer. Raises unless the answer is a stream."""
        if response.status_code != 200:
            raise self._connection.error_of(response.status_code, answer_of(response))
        kind = response.headers.get("Content-Type", "nothing").partition(";")[0].strip()
        if kind != CONTENT_TYPE:
            raise InvalidRequest(f"{self._connection.url} sent {kind}; is it an audit gateway?")
        if self._opened and self.cursor is None and not self._says_where_to_begin():
            self._notice("no position was known yet: events of the pause may be missing")
        self._opened = True
        if self.cursor is None:
            # Begin of the stream, until an event tells more.
            self.cursor = response.headers.get("Audit-Cursor")

    def _remember(self, cursor: str) -> None:
        self._recent[cursor] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _decoded(self, line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{self._connection.url} sent what is no event: {error}") from None

    def _is_end(self, kind: str, message: dict[str, Any]) -> bool:
        """Process a control message; return whether the stream is complete."""
        if isinstance(message.get("cursor"), str):
            self.cursor = message["cursor"]
        if kind == "caught-up":
            self._caught_up = True
        elif kind in ("gap", "notice"):
            told = [f"{name} {message[name]}" for name in message if name not in ("type", "cursor")]
            self._notice(f"{kind}: {', '.join(told)}")
        elif kind == "end":
            self._end(message)
            return True
        return False

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

    def _wait(self, failure: TryAgain) -> None:
        if not self._opened and self._tries + 1 >= MAX_FIRST_TRIES:
            raise Unavailable(f"gave up after {MAX_FIRST_TRIES} tries: {failure}")
        # Spread out: a thousand clients must not return at once after a restart.
        usual = random.uniform(0.1, min(MAX_PAUSE_SECONDS, 0.5 * 2**self._tries))
        seconds = failure.pause(usual, MAX_PAUSE_SECONDS)
        self._tries = min(self._tries + 1, 16)
        self._notice(f"{failure}; trying again in {seconds:.1f} s")
        self._pause(seconds)
