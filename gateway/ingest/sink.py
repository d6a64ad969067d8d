"""Port for the destination of an import: a running gateway or a data folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not taken. `index` counts from 0 within the lines that were sent."""

    index: int
    path: str
    reason: str


@dataclass(slots=True)
class SendResult:
    """What became of the lines: each is accepted, a duplicate or refused."""

    accepted: int = 0
    duplicates: int = 0
    refused: list[Refusal] = field(default_factory=list)


class Sink(Protocol):
    """Destination that stores events."""

    def send(self, lines: list[bytes]) -> SendResult:
        """Store these events, each one native JSON object on one line.

        Returns when all that are not refused are durable; one that is refused
        keeps no other out. Sending a line again does no harm: it is then a
        duplicate. Raises `GatewayError` if the sink cannot take events at all.
        """

    def close(self) -> None:
        """Release the connection or the folder."""
