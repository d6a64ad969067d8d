"""Steps of an exchange with the gateway, which whoever has a connection takes.

A protocol is a generator of steps. It is sent the result of each, and its failures are thrown into
it: `TryAgain` where another try may help, else the error that ends it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import msgspec

from gateway import errors

Emitted = TypeVar("Emitted")
Returned = TypeVar("Returned")
Parameters = Mapping[str, Any]

MAX_TRIES = 8
MAX_PAUSE_SECONDS = 60.0
# Longest silence of the gateway within an answer.
QUIET_SECONDS = 60.0
NDJSON = "application/x-ndjson"
# Types of lines: those of formats that are not JSON are text.
LINES = (NDJSON, "text/plain")
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
# The gateway bounds what it holds for a key, and so its pages, far below.
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


class TryAgain(Exception):
    """Failure that a retry may fix, after `seconds` if the gateway named them."""

    def __init__(self, cause: str, seconds: float | None = None) -> None:
        super().__init__(cause)
        self._seconds = seconds

    def pause(self, usual: float, most: float) -> float:
        """Seconds to wait: those named by the gateway, bounded and spread out, or else `usual`."""
        named = self._seconds
        return usual if named is None else min(most, named) + random.uniform(0, 1)


class GatewayCall(msgspec.Struct, frozen=True):
    """Request to the gateway. `json` or `content` is its body; `quiet` as `QUIET_SECONDS`;
    `headers` are sent beside those of every request."""

    method: str
    path: str
    params: Parameters | None = None
    json: Any = None
    content: bytes | None = None
    accept: str = "application/json"
    quiet: float = QUIET_SECONDS
    headers: Mapping[str, str] = {}


class Head(msgspec.Struct, frozen=True):
    """Head of an answer; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]


class Open(msgspec.Struct, frozen=True):
    """Step: send a request, and let go of the former one. The result is the head of the answer."""

    call: GatewayCall


class Receive(msgspec.Struct, frozen=True):
    """Step: take the next bytes of the answer; b"" at its end."""


class Pause(msgspec.Struct, frozen=True):
    """Step: let go of the answer, and wait for so many seconds."""

    seconds: float


class Emit(msgspec.Struct, Generic[Emitted], frozen=True):
    """Step: hand something to the caller."""

    value: Emitted


Step = Open | Receive | Pause | Emit[Emitted]
# A protocol that hands out what is emitted, and returns something at its end.
Steps = Generator[Step[Emitted], Any, Returned]


class WholeAnswer(msgspec.Struct, frozen=True):
    """Whole answer that needs no retry."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def members(self) -> dict[str, Any]:
        """JSON object of the answer; empty if it holds none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}


def exchange(url: str, call: GatewayCall) -> Steps[Any, WholeAnswer]:
    """Send a request, and read the answer. Raises `TryAgain`."""
    head: Head = yield Open(call)
    return (yield from read_answer(url, head))


def read_answer(url: str, head: Head) -> Steps[Any, WholeAnswer]:
    """Read an answer to its end. Raises `TryAgain` where its status says so."""
    answer = yield from read_once(url, head)
    after = head.headers.get("retry-after", "")
    # A conflict that passes, as with another reader of a consumer, says when.
    if head.status in _TRY_AGAIN or (head.status == 409 and after):
        raise TryAgain(
            str(answer.members.get("detail") or f"{url} answered {head.status}"),
            _seconds_until(after, head.headers.get("date", "")),
        )
    return answer


def read_once(url: str, head: Head) -> Steps[Any, WholeAnswer]:
    """Read an answer to its end, whatever its status."""
    body = bytearray()
    while data := (yield Receive()):
        body += data
        if len(body) > _MAX_ANSWER_BYTES:
            raise errors.InvalidRequest(f"{url} sent an answer of more than 256 MiB")
    return WholeAnswer(head.status, head.headers, bytes(body))


def _seconds_until(after: str, date: str) -> float | None:
    """Seconds of `Retry-After`, which what stands between writes as a time, too: then they count
    from the `Date` of the answer, by the same clock."""
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        seconds = (parsedate_to_datetime(after) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds)


def persist(url: str, call: GatewayCall, notice: Callable[[str], None]) -> Steps[Any, WholeAnswer]:
    """Exchange that is tried up to eight times, after the time that the gateway names or a growing,
    jittered pause. `notice` is told of every wait. Raises `Unavailable`."""
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return (yield from exchange(url, call))
        except TryAgain as failure:
            if attempt == MAX_TRIES:
                raise errors.Unavailable(f"gave up after {MAX_TRIES} tries: {failure}") from None
            usual = min(MAX_PAUSE_SECONDS, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)
            seconds = failure.pause(usual, MAX_PAUSE_SECONDS)
            notice(f"{failure}; trying again in {seconds:.1f} s")
        yield Pause(seconds)
    raise AssertionError("unreachable")


def told(message: Mapping[str, Any]) -> str:
    """What a `gap` or a `notice` of the gateway says, on one line."""
    said = [f"{name} {message[name]}" for name in message if name not in ("type", "cursor")]
    return f"{message['type']}: {', '.join(said)}"


def error_of(url: str, answer: WholeAnswer) -> errors.GatewayError:
    """Error for an answer that a retry would not change."""
    status, problem = answer.status, answer.members
    detail = problem.get("detail") or problem.get("title")
    said = str(detail) if detail else f"status {status}, no reason given"
    if status == 401:
        return errors.Unauthorized(f"{url} does not accept the key: {said}")
    if status == 403:
        return errors.Forbidden(f"the key does not allow this at {url}: {said}")
    if status == 410:
        places = f"earliest {problem.get('earliest')}, latest {problem.get('latest')}"
        return errors.CursorGone(f"{said} ({places})")
    return errors.InvalidRequest(f"{url} answered {status}: {said}")
