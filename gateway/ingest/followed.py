"""The port to tables of somebody else, whose rows are brought into the log."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.errors import GatewayError


class Horizon(msgspec.Struct, frozen=True):
    """What new rows of a followed table wait for: since how many seconds, and for the transaction
    of which process and program, open for how long, where that is known."""

    seconds: float
    pid: int | None
    user: str | None
    application: str | None
    open_seconds: float | None


class Followed(Protocol):
    """A table of somebody else, whose rows are brought into the log in the background."""

    @property
    def name(self) -> str:
        """As SQL writes it."""

    @property
    def rows(self) -> int:
        """Rows that this process has brought in."""

    @property
    def marked(self) -> int:
        """How many of them made no event but one that says so."""

    @property
    def prefix(self) -> str:
        """What the ids of its rows begin with, unless a column holds them."""

    @property
    def degraded_reason(self) -> GatewayError | None:
        """Why it cannot be followed now."""

    @property
    def waits(self) -> Horizon | None:
        """What its newest rows wait for, as of about a second ago."""
