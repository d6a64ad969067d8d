"""Import over HTTP: `POST /v1/events` of a running gateway."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from gateway.cli.client.connection import GatewayConnection, TryAgain, answer_of
from gateway.errors import Unavailable
from gateway.ingest.sink import Refusal, SendResult

TIMEOUT_SECONDS = 60
MAX_TRIES = 8
MAX_WAIT_SECONDS = 60.0


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
        self._connection = GatewayConnection(url, key, "application/json", TIMEOUT_SECONDS)
        self._path = "/v1/events?content=data" if mapped else "/v1/events"
        self._notice = notice
        self._sleep = sleep

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
                # The answer lists at most a thousand reasons: post the rest again.
                if rest := [index for index in part if index not in gone]:
                    waiting.append(rest)
            else:
                raise self._connection.error_of(status, answer)
        return result

    def close(self) -> None:
        self._connection.close()

    def _post(self, lines: list[bytes]) -> tuple[int, dict[str, Any]]:
        """Status and body of the first answer that needs no retry."""
        body = b"\n".join(lines) + b"\n"
        headers = {"Content-Type": "application/x-ndjson"}
        attempt = 1
        while True:
            try:
                with self._connection.send(
                    "POST", self._path, content=body, headers=headers
                ) as response:
                    return response.status_code, answer_of(response)
            except TryAgain as failure:
                if attempt == MAX_TRIES:
                    raise Unavailable(f"gave up after {MAX_TRIES} tries: {failure}") from None
                self._pause(failure, attempt)
            attempt += 1

    def _pause(self, failure: TryAgain, attempt: int) -> None:
        usual = min(MAX_WAIT_SECONDS, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)
        seconds = failure.pause(usual, MAX_WAIT_SECONDS)
        self._notice(f"{failure}; trying again in {seconds:.1f} s")
        self._sleep(seconds)


def _refused(answer: dict[str, Any], part: list[int]) -> list[Refusal]:
    """Refusals of a 422 by their index in all lines; the first reason of each."""
    refusals: dict[int, Refusal] = {}
    errors = answer.get("errors")
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < len(part):
            path, reason = str(error.get("path", "")), str(error.get("reason", ""))
            refusals.setdefault(part[index], Refusal(part[index], path, reason))
    return list(refusals.values())
