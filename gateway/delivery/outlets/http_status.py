"""Verdict of what HTTP says, for all types of destinations that speak it; and of no answer.

A type has its own table for the answers that its protocol describes, and this one for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from gateway.delivery.connect.transport import NoAnswer, RemoteAnswer
from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict

Said = TypeVar("Said")

TRANSIENT_STATUSES = (408, 425, 429)
# The content may be at fault: the batch is halved, and a single event reduced.
OF_CONTENT = (400, 413)


def result_of_status(status: int, of_content: tuple[int, ...] = OF_CONTENT) -> DeliveryResult:
    """Result of an answer whose body does not matter."""
    if 200 <= status < 300:
        return DeliveryResult.SUCCESS
    if status in TRANSIENT_STATUSES or status >= 500:
        return DeliveryResult.TRANSIENT
    if status in of_content:
        return DeliveryResult.PERMANENT
    # Redirects, which are never followed, and what is forbidden or not there.
    return DeliveryResult.CONFIG


def verdict_of(
    answer: RemoteAnswer, result: DeliveryResult, message: str | None = None
) -> DeliveryVerdict:
    """Verdict with what an answer says for people."""
    if result is DeliveryResult.SUCCESS:
        return DeliveryVerdict(result, status=answer.status)
    return DeliveryVerdict(
        result,
        retry_after=answer.retry_after(),
        kind="http",
        status=answer.status,
        message=answer.message() if message is None else message,
    )


def read_answer(answer: RemoteAnswer, decode: Callable[[bytes], Said]) -> Said | None:
    """What the body of an answer says, by a decoder of its protocol; None for one that is not as
    prescribed, whatever it is: cut short, no text, or nested without end."""
    if not answer.whole:
        return None
    try:
        return decode(answer.body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def not_as_prescribed(answer: RemoteAnswer) -> DeliveryVerdict:
    """Verdict of a 2xx that does not say what its protocol prescribes: nobody knows what became of
    the batch."""
    message = f"not an answer of this protocol: {answer.message() or 'nothing'}"
    return DeliveryVerdict(
        DeliveryResult.TRANSIENT, kind="protocol", status=answer.status, message=message[:200]
    )


def verdict_of_failure(failure: NoAnswer) -> DeliveryVerdict:
    """Verdict of an attempt that had no whole answer."""
    result = DeliveryResult.CONFIG if failure.config else DeliveryResult.TRANSIENT
    return DeliveryVerdict(result, kind=failure.kind, message=failure.message)
