"""One access with a key: a request or the end of a stream, for the access log and for detection.

An access without a key is one of somebody who showed none that is known.
"""

from __future__ import annotations

import msgspec

from gateway.access.keys.change import REQUESTED
from gateway.access.keys.key import Key

OPENED = "stream.opened"
CLOSED = "stream.closed"
PULLED = "events.pulled"
READ = "event.read"
INGESTED = "events.ingested"
DENIED = "request.denied"
FAILED = "request.failed"


class Access(msgspec.Struct, kw_only=True):
    """Access to the gateway: the `action`, the key, the address, and how much came of it.

    `at` is in seconds since 1970; `begin` and `end` are offsets of the log: what lies behind
    `begin` and not behind `end` was gone through (-1: nothing was), and `events` of it were
    delivered or stored. `parameters` is JSON. `attempted` is the action of a grant that was
    needed. `claimed` is the id in a key that was refused as unknown.
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
    transport: str = ""
    parameters: str = ""
    begin: int = -1
    end: int = -1
    events: int = 0
    # So many of them the detector has counted while the stream was open.
    counted: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    # The event that was read by its id, or the key or role that was administered, as a urn.
    about: str = ""
    claimed: str = ""
    # Categories that were asked for and that the key may not see or write.
    forbidden: tuple[str, ...] = ()
    # Tenants and resources likewise, as `tenant:acme`.
    probed: tuple[str, ...] = ()
    # What was selected where nothing of it can be seen by the key, as `tenant=acme`.
    out_of_scope: tuple[str, ...] = ()
    # How many events before the head it began, where it began somewhere.
    behind: int = -1

    @property
    def key_id(self) -> str:
        return "" if self.key is None else self.key.id

    def refused(self, action: str, outcome: str, reason: str) -> None:
        """Nothing came of it."""
        self.action, self.outcome, self.reason = action, outcome, reason
        self.begin = self.end = self.behind = -1
        self.events = self.duplicates = 0
