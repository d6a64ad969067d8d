"""Accesses with keys, for the access log and for detection: a request, or the end of a stream.

An access without a key presented none that is known.
"""

from __future__ import annotations

import msgspec

from gateway.access.keys.change import REQUESTED
from gateway.access.keys.key import Key

OPENED = "stream.opened"
CLOSED = "stream.closed"
EXPORTED = "events.exported"
PULLED = "events.pulled"
COUNTED = "events.counted"
READ = "event.read"
REVIEWED = "access.reviewed"
SIGNED_IN = "session.opened"
SIGNED_OUT = "session.closed"
VIEWER_OPENED = "viewer.opened"
INGESTED = "events.ingested"
DENIED = "request.denied"
FAILED = "request.failed"


class ExportedFile(msgspec.Struct, frozen=True):
    """File that an export has sent: offsets of its first and last event (0: it has none), bytes and
    SHA-256 of its content, and whether it is whole."""

    first: int
    last: int
    size: int
    sha256: str
    complete: bool


class Access(msgspec.Struct, kw_only=True):
    """One access: the `action`, the key, the address, and how much was delivered or stored.

    `at` is in seconds since 1970. `begin` and `end` are offsets of the log: events behind `begin`
    up to `end` were scanned (-1: none), and `events` of them delivered or stored. `parameters` is
    JSON. `attempted` is the action of a grant that was needed. `claimed` is the id in a key that
    was refused as unknown.
    """

    at: float
    action: str = REQUESTED
    outcome: str = "success"
    reason: str = ""
    key: Key | None = None
    attempted: str = ""
    route: str = ""
    address: str = ""
    client: str = ""
    request_id: str = ""
    # Of the console: the session, and the page that has asked.
    session: str = ""
    page: str = ""
    # Whom a ticket was made for, as the server that made it says.
    subject: str = ""
    transport: str = ""
    parameters: str = ""
    begin: int = -1
    end: int = -1
    events: int = 0
    # Requests alike that it stands for.
    times: int = 1
    # Those of the events that the detector counted while the stream was open.
    counted: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    # URN of the event read by its id, or of the key or role that was administered.
    about: str = ""
    claimed: str = ""
    # Categories asked for that the key may not see or write.
    forbidden: tuple[str, ...] = ()
    # Tenants and resources asked for that it may not see or write, as `tenant:acme`.
    probed: tuple[str, ...] = ()
    # Selectors that can match nothing the key may see, as `tenant=acme`.
    out_of_scope: tuple[str, ...] = ()
    # Events between its begin and the head; -1 if it read none.
    behind: int = -1
    export: ExportedFile | None = None

    @property
    def key_id(self) -> str:
        return "" if self.key is None else self.key.id

    def refused(self, action: str, outcome: str, reason: str) -> None:
        """Mark the access as refused or failed."""
        self.action, self.outcome, self.reason = action, outcome, reason
        self.begin = self.end = self.behind = -1
        self.events = self.duplicates = 0
