"""Port for the destination of an import: a running gateway or a data folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refusal of one event. `index` counts from 0 within the lines that were sent."""

    index: int
    path: str
    reason: str


@dataclass(slots=True)
class SendResult:
    """Result of a `send`: each line is accepted, a duplicate or refused."""

    accepted: int = 0
    duplicates: int = 0
    refused: list[Refusal] = field(default_factory=list)


class Sink(Protocol):
    """Destination that stores events."""

    def send(self, lines: list[bytes]) -> SendResult:
        """Store these events, each one native JSON object on one line.

        Returns when all events that are not refused are durable; a refused event
        does not keep others out. A line that is sent again is a duplicate.
        Raises `GatewayError` if the sink cannot take events at all.
        """

    def close(self) -> None:
        """Release the connection or the folder."""
