"""Log records of OpenTelemetry as objects of JSON, which sources map to events. Pure.

A record has the names of the protocol's JSON, with what OTLP spells out at length made plain:
attributes are objects, values are what they hold, ids are hexadecimal.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gateway.errors import InvalidRequest
from gateway.ingest.strict_json import Refused

# Most bytes of a resource or a scope, as it was sent: each record has a copy.
MOST_ORIGIN_BYTES = 64 * 1024
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


class Origin(NamedTuple):
    """What records that were sent together share. `size` is about that of its JSON.

    `refused` says why none of its records can be taken; None if they can.
    """

    resource: dict[str, Any]
    scope: dict[str, Any]
    size: int
    refused: Refused | None = None


class SentRecord(NamedTuple):
    """A record as it was sent. None stands for a turn of others, between records."""

    origin: Origin
    raw: bytes


class LogEncoding(NamedTuple):
    """Encoding of requests and answers.

    `split` takes a request apart, record by record, at most so many. It raises `InvalidRequest` for
    one that cannot be taken apart, and `PayloadTooLarge`. `record` makes an object of a record; it
    raises `Refused`, and can be called in another process. `answer` tells how many records were
    refused, and why; `status` is an error, with its code of gRPC.
    """

    content_type: str
    split: Callable[[bytes, int], Iterator[SentRecord | None]]
    record: Callable[[bytes], dict[str, Any]]
    answer: Callable[[int, str], bytes]
    status: Callable[[int, str], bytes]


def malformed(reason: str) -> InvalidRequest:
    """Error for a request that can never be taken."""
    return InvalidRequest(
        f"the body is no ExportLogsServiceRequest: {reason}", code="malformed_otlp"
    )


def joined(record: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """The whole record, with its resource and scope."""
    return {"resource": origin.resource, "scope": origin.scope, **record}


def attempted(make: Callable[[], dict[str, Any]], size: int) -> dict[str, Any] | Refused:
    """A resource or a scope of so many bytes, or why none of its records can be taken."""
    if size > MOST_ORIGIN_BYTES:
        return Refused("resource", f"its resource or scope has more than {MOST_ORIGIN_BYTES} bytes")
    try:
        return make()
    except Refused as refused:
        return refused


def made_origin(
    resource: dict[str, Any] | Refused, scope: dict[str, Any] | Refused, size: int
) -> Origin:
    """Origin of what has `size` bytes as it was sent."""
    for part in (resource, scope):
        if isinstance(part, Refused):
            return Origin({}, {}, 0, part)
    assert isinstance(resource, dict)
    assert isinstance(scope, dict)
    return Origin(resource, scope, size)


def repeated(name: str, where: str) -> Refused:
    """Refusal of a name that is there twice: the one that is left out might be the true one."""
    return Refused(f"{where}.{name}"[:256], "the attribute appears twice")


def number(value: float) -> float | str:
    """A double; JSON has neither infinity nor NaN, which become the texts of the protocol."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def whole_number(value: Any, name: str) -> int:
    """A whole number, also in text. Raises `Refused`."""
    try:
        found = int(value) if isinstance(value, str) and len(value) <= 20 else value
    except ValueError:
        found = None
    if type(found) is not int or not _LEAST <= found <= _MOST:
        raise Refused(name, f"no whole number of 64 bits: {str(value)[:40]!r}")
    return found


def base64_text(value: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(value).decode()
