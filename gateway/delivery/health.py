"""Health of one destination, as its holder counts it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from gateway.clock import Moment
from gateway.delivery.destination import Destination, State
from gateway.delivery.outlets.outlet import Confirmation
from gateway.histogram import SECONDS, Histogram, width
from gateway.json_members import about
from gateway.sanitize import clean

MOST_MESSAGE = 200
_SPACE = re.compile(r"[\x00-\x1f\x7f]+")


class DestinationError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last attempt that failed."""

    at: Moment
    kind: Annotated[str, about("Such as `timeout`, `http`, `config`.")]
    status: int | None = None
    message: Annotated[str, about("The receiver's own words.")] = ""


class DeliveredTotals(msgspec.Struct):
    """What receivers have confirmed."""

    events: int = 0
    bytes: Annotated[int, about("Of requests, before compression.")] = 0
    requests: int = 0


class DestinationCounters(msgspec.Struct):
    """Counters of a destination since it was made, as far as its holders could keep them."""

    delivered: DeliveredTotals = msgspec.field(default_factory=DeliveredTotals)
    duplicates: int = 0
    retries: int = 0
    rejected: int = 0
    reduced: int = 0


class Status(msgspec.Struct):
    """Last status of a destination, which its holder keeps in the store.

    Times are in seconds since 1970; `failing_since` is 0 while nothing fails, and `down_since`
    while the log has no record of an outage that lasts.
    """

    counters: DestinationCounters = msgspec.field(default_factory=DestinationCounters)
    last_success: float = 0.0
    last_error: DestinationError | None = None
    failing_since: float = 0.0
    down_since: float = 0.0
    next_attempt: float = 0.0
    in_flight: int = 0
    replica: str = ""
    confirmation: Confirmation | Literal[""] = ""
    # For metrics: requests by their result, and the cells of a histogram of how long they took.
    results: dict[str, int] = {}
    seconds: list[float] = msgspec.field(default_factory=lambda: Histogram().cells)

    def answered(self, result: str, seconds: float, duplicates: int) -> None:
        """Count a request by its result."""
        self.counters.delivered.requests += 1
        self.counters.duplicates += duplicates
        self.results[result] = self.results.get(result, 0) + 1
        Histogram(cells=self.seconds).observe(seconds)

    def succeeded(self, now: float, events: int, size: int) -> None:
        """Count a request by which so many events were delivered."""
        delivered = self.counters.delivered
        delivered.events += events
        delivered.bytes += size
        self.last_success = now
        self.failing_since = self.next_attempt = 0.0

    def recovered(self) -> None:
        """Note that nothing fails any more, although nothing was delivered since."""
        self.failing_since = self.next_attempt = 0.0

    def failed(self, now: float, error: DestinationError, next_attempt: float) -> None:
        """Note a failed attempt."""
        self.last_error = error
        self.failing_since = self.failing_since or now
        self.next_attempt = next_attempt


def state_of(destination: Destination, status: Status) -> State | Literal["failing"]:
    """State as it is shown: one that is active fails while its last attempts do."""
    failing = destination.state == "active" and status.failing_since > 0
    return "failing" if failing else destination.state


def public_words(text: str, secrets: Iterable[str]) -> str:
    """A receiver's words, short, on one line, and without secrets that it may have repeated."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return clean(_SPACE.sub(" ", text).strip(), MOST_MESSAGE)


_decode = msgspec.json.Decoder(Status).decode
encode_status = msgspec.json.Encoder().encode


def decode_status(document: bytes | None) -> Status:
    """Status from its document; an empty one if there is none, or another version wrote it."""
    if document is None:
        return Status()
    try:
        status = _decode(document)
    except msgspec.DecodeError:
        return Status()
    if len(status.seconds) != width(SECONDS):
        status.seconds = Histogram().cells
    return status
