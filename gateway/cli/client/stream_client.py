"""Reads a live stream as NDJSON and comes back by cursor when the connection is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import msgspec

from gateway.cli.client.connection import error_of, split_url
from gateway.errors import CursorGone, Forbidden, GatewayError, InvalidRequest, Unavailable

# The gateway says something several times a minute, if only a bookmark.
QUIET_SECONDS = 60
MAX_PAUSE_SECONDS = 30.0
MAX_FIRST_TRIES = 5
MAX_LINE_BYTES = 4 * 1024 * 1024
# Proxies take addresses of 8 KiB; what is longer goes into a body.
MAX_QUERY = 4096
_REMEMBERED = 1024
_COMPLETE = 1000

Parameters = dict[str, str | int | bool | list[str]]


class _Head(msgspec.Struct):
    """The members that tell a control message from an event: only the former has a `type`."""

    type: str | None = None
    cursor: str | None = None


class _Lost(Exception):
    """Loss of a connection that another follows, after `seconds` if the gateway named them."""

    def __init__(self, cause: str, seconds: float | None = None) -> None:
        super().__init__(cause)
        self.seconds = seconds


class StreamClient:
    """Reader of one stream that reconnects by cursor.

    `parameters` are those of `/v1/stream`; lists stand for repeated ones.
    `cursor` is behind the last event that was handed out, or further where the
    gateway said that nothing in between is for us. `notice` is told what
    happens beside the events; `pause` takes seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        parameters: Parameters,
        *,
        notice: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        split_url(url)
        self.cursor: str | None = None
        self._url = url
        self._address = url.rstrip("/") + "/v1/stream"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/x-ndjson",
            "Accept-Encoding": "identity",
        }
        self._parameters = parameters
        self._notice = notice
        self._pause = pause
        self._handed_out = 0
        self._recent: dict[str, None] = {}
        self._opened = False
        self._caught_up = False
        self._tries = 0

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The native JSON of each event, once, in order.

        Ends when the stream is complete. Raises `Unauthorized`, `Forbidden`,
        `CursorGone`, `InvalidRequest`, and `Unavailable` if there was no
        gateway to begin with.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=QUIET_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            while True:
                try:
                    async with aclosing(self._connection(session)) as events:
                        async for event in events:
                            yield event
                    return
                except aiohttp.ClientSSLError as error:
                    raise Unavailable(f"no secure connection to {self._url}: {error}") from None
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    reason = str(error) or type(error).__name__
                    if not self._opened:
                        raise Unavailable(
                            f"{self._url} cannot be reached: {reason}; is the gateway running?"
                        ) from None
                    await self._wait(_Lost(f"connection lost: {reason}"))
                except _Lost as lost:
                    await self._wait(lost)

    async def _connection(self, session: aiohttp.ClientSession) -> AsyncGenerator[bytes, None]:
        """The events of one connection; returns when the stream is complete."""
        async with self._request(session) as response:
            await self._check(response)
            if self._opened and self.cursor is None and not self._says_where_to_begin():
                self._notice("no position was known yet: events of the pause may be missing")
            self._opened = True
            if self.cursor is None:
                # Where the stream began, for as long as no event says more.
                self.cursor = response.headers.get("Audit-Cursor")
            unfinished = b""
            async for received in response.content.iter_any():
                *lines, unfinished = (unfinished + received).split(b"\n")
                if len(unfinished) > MAX_LINE_BYTES:
                    raise InvalidRequest(f"{self._url} sent a line of more than 4 MiB")
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
        # What stands behind the last line break was cut off, and comes again.
        if not (self._caught_up and self._parameters.get("follow") is False):
            raise _Lost("connection closed")

    def _request(self, session: aiohttp.ClientSession) -> Any:
        parameters = dict(self._parameters)
        if self.cursor is not None:
            parameters.pop("since", None)
            parameters.pop("from", None)
            parameters["after"] = self.cursor
        if isinstance(limit := parameters.get("limit"), int):
            parameters["limit"] = limit - self._handed_out
        query = [
            (name, str(item).lower() if isinstance(item, bool) else str(item))
            for name, value in parameters.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        if sum(len(name) + len(value) for name, value in query) > MAX_QUERY:
            return session.post(self._address, json=parameters, allow_redirects=False)
        return session.get(self._address, params=query, allow_redirects=False)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise unless this is the stream."""
        if response.status == 200:
            if response.content_type != "application/x-ndjson":
                kind = response.content_type
                raise InvalidRequest(f"{self._url} sent {kind}; is it an audit gateway?")
            return
        try:
            problem = msgspec.json.decode(await response.read(), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = {}
        if response.status in (429, 500, 502, 503, 504):
            said = str(problem.get("detail") or f"{self._url} answered {response.status}")
            if not self._opened and self._tries + 1 >= MAX_FIRST_TRIES:
                raise Unavailable(f"gave up after {MAX_FIRST_TRIES} tries: {said}")
            after = response.headers.get("Retry-After", "")
            raise _Lost(said, float(after) if after.isascii() and after.isdigit() else None)
        if response.status == 410:
            raise CursorGone(
                f"{problem.get('detail') or 'the events behind this cursor are gone'} "
                f"(earliest {problem.get('earliest')}, latest {problem.get('latest')})"
            )
        raise error_of(response.status, problem, self._url)

    def _remember(self, cursor: str) -> None:
        self._recent[cursor] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _decoded(self, line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{self._url} sent what is no event: {error}") from None

    def _is_end(self, kind: str, message: dict[str, Any]) -> bool:
        """Take in a control message; whether the stream is complete with it."""
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
            raise _Lost(said)
        raise Forbidden(said) if is_terminal else GatewayError(said)

    def _says_where_to_begin(self) -> bool:
        """Whether the parameters name a position that does not move with the clock."""
        since = self._parameters.get("since")
        return (
            "after" in self._parameters
            or self._parameters.get("from") == "start"
            or (isinstance(since, str) and "-" in since)
        )

    async def _wait(self, lost: _Lost) -> None:
        if lost.seconds is None:
            # Spread out: a thousand clients must not come back at once after a restart.
            seconds = random.uniform(0.1, min(MAX_PAUSE_SECONDS, 0.5 * 2**self._tries))
        else:
            seconds = min(MAX_PAUSE_SECONDS, lost.seconds) + random.uniform(0, 1)
        self._tries = min(self._tries + 1, 16)
        self._notice(f"{lost}; trying again in {seconds:.1f} s")
        await self._pause(seconds)
