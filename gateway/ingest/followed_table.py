"""Port to followed tables: tables of other applications whose rows are brought into the log."""

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


class FollowedTable(Protocol):
    """Table of another application whose rows are brought into the log in the background."""

    @property
    def name(self) -> str:
        """Name of the table as SQL writes it."""

    @property
    def rows(self) -> int:
        """Number of rows that this process has brought in."""

    @property
    def marked(self) -> int:
        """Number of those rows that became marked events."""

    @property
    def prefix(self) -> str:
        """Prefix of the ids of its rows, unless a column holds them."""

    @property
    def degraded_reason(self) -> GatewayError | None:
        """Reason why the table cannot be followed now; None if it can."""

    @property
    def waits(self) -> Horizon | None:
        """What its newest rows wait for, as of about a second ago; None if they do not wait."""
