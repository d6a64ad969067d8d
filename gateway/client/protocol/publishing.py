"""Publishing of events in batches: `POST /v1/events`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from gateway.client.protocol.exchange import GatewayCall, Steps, WholeAnswer, error_of, persist
from gateway.errors import InvalidRequest
from gateway.ingest.sink import Refusal, SendResult

MAX_BATCH_EVENTS = 1000
MAX_BATCH_BYTES = 1024 * 1024
_PATH = "/v1/events"


def publish(
    url: str, events: Iterable[Mapping[str, Any]], notice: Callable[[str], None]
) -> Steps[Any, SendResult]:
    """Publish events in batches. The index of a refusal counts over all of them.

    Whatever has no `id` gets one, so that what is sent again is a duplicate.
    """
    total = SendResult()
    sent = 0
    if not isinstance(events, Iterable) or isinstance(events, Mapping | str | bytes):
        raise InvalidRequest(
            f"a list of events is needed, not {type(events).__name__}; put a single event in a list"
        )
    for lines in batches_of(_line(index, event) for index, event in enumerate(events)):
        result = yield from send_lines(url, lines, notice)
        total.accepted += result.accepted
        total.duplicates += result.duplicates
        total.refused += [replace(one, index=sent + one.index) for one in result.refused]
        sent += len(lines)
    return total


def _line(index: int, event: Mapping[str, Any]) -> bytes:
    """An event on one line. Raises `InvalidRequest`; batches before it may have been sent."""
    if not isinstance(event, Mapping):
        raise InvalidRequest(
            f"event {index}: a mapping of members is needed, not {type(event).__name__}"
        )
    try:
        line = msgspec.json.encode(event if event.get("id") else {**event, "id": str(uuid.uuid4())})
        # What JSON has no number for is written as null.
        lost = b"null" in line and _not_finite(msgspec.to_builtins(event), "")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"event {index} cannot be written as JSON: {error}") from None
    if lost:
        raise InvalidRequest(
            f"event {index} cannot be written as JSON: {lost}, which is no number there; leave it "
            "out, or send it as text"
        )
    return line


def _not_finite(value: Any, path: str) -> str:
    """The first number that JSON has not, with its path; an empty text without any."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}"
    inner: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    found = (_not_finite(one, f"{path}.{name}".lstrip(".")) for name, one in inner)
    return next(filter(None, found), "")


def batches_of(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines in batches, each bounded in number and bytes."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == MAX_BATCH_EVENTS or size + len(line) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 1
    if batch:
        yield batch


def send_lines(
    url: str, lines: list[bytes], notice: Callable[[str], None], *, mapped: bool = False
) -> Steps[Any, SendResult]:
    """Send events, each one JSON object on one line, until each is accepted, a duplicate or
    refused: a batch that is too large is halved, and refused events keep no others out.

    `mapped`: the events were made from the records under their `data`, by which alone duplicates
    are recognised. Raises `Unavailable`, `Unauthorized`, `Forbidden`, `InvalidRequest`.
    """
    result = SendResult()
    waiting = [list(range(len(lines)))] if lines else []
    while waiting:
        part = waiting.pop()
        answer = yield from persist(url, _call([lines[index] for index in part], mapped), notice)
        if answer.status in (200, 201):
            accepted, duplicates = _counts(url, answer, len(part))
            result.accepted += accepted
            result.duplicates += duplicates
        elif answer.status == 413 and len(part) > 1:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
        elif answer.status == 413:
            reason = str(answer.members.get("detail") or "larger than the gateway takes")
            result.refused.append(Refusal(part[0], "", reason))
        elif answer.status == 422 and (refused := _refused(answer, part)):
            result.refused += refused
            gone = {refusal.index for refusal in refused}
            # The answer lists at most a thousand reasons: post the rest again.
            if rest := [index for index in part if index not in gone]:
                waiting.append(rest)
        else:
            raise error_of(url, answer)
    return result


def _call(lines: list[bytes], mapped: bool) -> GatewayCall:
    params = {"content": "data"} if mapped else None
    return GatewayCall("POST", _PATH, params=params, content=b"\n".join(lines) + b"\n")


def _counts(url: str, answer: WholeAnswer, sent: int) -> tuple[int, int]:
    """Numbers of accepted events and of duplicates, which are all that were sent."""
    accepted, duplicates = (answer.members.get(name) for name in ("accepted", "duplicates"))
    if isinstance(accepted, int) and isinstance(duplicates, int) and accepted + duplicates == sent:
        return accepted, duplicates
    raise InvalidRequest(
        f"{url} answered {answer.status}, but does not say that it has all {sent} events; is it an "
        "audit gateway?"
    )


def _refused(answer: WholeAnswer, part: list[int]) -> list[Refusal]:
    """Refusals of a 422 by their index in all lines; the first reason of each."""
    refusals: dict[int, Refusal] = {}
    errors = answer.members.get("errors")
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < len(part):
            path, reason = str(error.get("path", "")), str(error.get("reason", ""))
            refusals.setdefault(part[index], Refusal(part[index], path, reason))
    return list(refusals.values())
