"""Import over HTTP: `POST /v1/events` of a running gateway."""

from __future__ import annotations

import http.client
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.cli.client.connection import error_of, split_url
from gateway.errors import Unavailable
from gateway.ingest.sink import Refusal, SendResult

TIMEOUT_SECONDS = 60
MAX_TRIES = 8
MAX_WAIT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class HttpSink:
    """Posts batches over one connection that is kept open.

    A gateway that is busy or away is asked again, at most eight times, after
    the time it names or a growing, jittered one. `notice` is told of every
    wait; `sleep` takes seconds. `mapped`: the events are made from the records under their
    `data`, which alone tell a repeat.
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
        parts = split_url(url)
        self._url = url
        self._path = parts.path.rstrip("/") + "/v1/events" + ("?content=data" if mapped else "")
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/x-ndjson",
            "Accept": "application/json",
        }
        host = parts.hostname or ""
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                host, parts.port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_SECONDS)
        self._notice = notice
        self._sleep = sleep
        self._was_reached = False

    def send(self, lines: list[bytes]) -> SendResult:
        """See `gateway.ingest.sink.Sink`. Raises `Unavailable`, `Unauthorized`, `Forbidden`."""
        result = SendResult()
        waiting = [list(range(len(lines)))]
        while waiting:
            part = waiting.pop()
            status, answer = self._post([lines[index] for index in part])
            if status in (200, 201):
                result.accepted += int(answer.get("accepted", 0))
                result.duplicates += int(answer.get("duplicates", 0))
            elif status == 413 and len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            elif status == 413:
                reason = str(answer.get("detail") or "larger than the gateway takes")
                result.refused.append(Refusal(part[0], "", reason))
            elif status == 422 and (refused := _refused(answer, part)):
                result.refused += refused
                gone = {refusal.index for refusal in refused}
                # The answer may stop at a thousand reasons: what is left is posted again.
                if rest := [index for index in part if index not in gone]:
                    waiting.append(rest)
            else:
                raise error_of(status, answer, self._url)
        return result

    def close(self) -> None:
        self._connection.close()

    def _post(self, lines: list[bytes]) -> tuple[int, dict[str, Any]]:
        """Status and body of the first answer whose status is not one to retry."""
        body = b"\n".join(lines) + b"\n"
        for attempt in range(1, MAX_TRIES + 1):
            try:
                try:
                    self._connection.request("POST", self._path, body, self._headers)
                except BrokenPipeError:
                    pass  # A body that is refused need not be read to its end: see the answer.
                response = self._connection.getresponse()
                answer = _decoded(response.read(_MAX_ANSWER_BYTES))
            except ssl.SSLError as error:
                self._connection.close()
                raise Unavailable(f"no secure connection to {self._url}: {error}") from None
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                cause = f"{self._url} cannot be reached: {str(error) or type(error).__name__}"
                # Nobody there from the start is a wrong address rather than a restart.
                if not self._was_reached or attempt == MAX_TRIES:
                    raise Unavailable(f"{cause}; is the gateway running?") from None
                self._pause(cause, None, attempt)
                continue
            self._was_reached = True
            if response.status not in _TRY_AGAIN:
                return response.status, answer
            cause = str(answer.get("detail") or f"{self._url} answered {response.status}")
            if attempt < MAX_TRIES:
                self._pause(cause, response.getheader("Retry-After"), attempt)
        raise Unavailable(f"gave up after {MAX_TRIES} tries: {cause}")

    def _pause(self, cause: str, retry_after: str | None, attempt: int) -> None:
        if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
            seconds = min(MAX_WAIT_SECONDS, float(retry_after)) + random.uniform(0, 0.5)
        else:
            seconds = min(MAX_WAIT_SECONDS, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)
        self._notice(f"{cause}; trying again in {seconds:.1f} s")
        self._sleep(seconds)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _refused(answer: dict[str, Any], part: list[int]) -> list[Refusal]:
    """The refusals of a 422 by their index in all lines; the first reason of each."""
    refusals: dict[int, Refusal] = {}
    errors = answer.get("errors")
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < len(part):
            path, reason = str(error.get("path", "")), str(error.get("reason", ""))
            refusals.setdefault(part[index], Refusal(part[index], path, reason))
    return list(refusals.values())
