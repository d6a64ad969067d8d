"""Which grants of a key are of use: counted over recorded uses and events. Pure.

A grant is used when the key has performed one of its actions and, where that
action reads events, the grant lets through at least one of the events that
were looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.clock import parse_rfc3339
from gateway.event import Event
from gateway.keys.named_grant import NamedGrant
from gateway.keys.use import CLOSED
from gateway.match.scope import Test

READING = ("stream", "pull")


class PastUse(msgspec.Struct, frozen=True):
    """Uses of a key as its record tells of them. `count` of them, from `at` to `until` (seconds
    since 1970), all of the `attempted` action and from one address."""

    attempted: str
    at: float
    until: float
    count: int = 1
    address: str | None = None
    allowed: bool = True
    reason: str = ""
    route: str = ""


class GrantUse:
    """Counts for one grant."""

    __slots__ = ("_test", "events", "named", "uses")

    def __init__(self, named: NamedGrant) -> None:
        self.named = named
        self.uses = 0
        self.events = 0
        self._test: Test = named.grant.scope().compile()

    def count_use(self, use: PastUse) -> None:
        """The key performed an action; it counts if the grant has a part in it."""
        grant = self.named.grant
        counts = grant.when is None or grant.when.holds(use.at, use.address) is None
        if use.allowed and use.attempted in grant.actions and counts:
            self.uses += use.count

    def count_event(self, event: Event) -> None:
        """An event went by."""
        self.events += self._test(event)

    @property
    def used(self) -> bool:
        """A denial is of use when there was something to deny."""
        grant = self.named.grant
        reads = not set(grant.actions).isdisjoint(READING)
        if grant.effect == "deny":
            return self.events > 0
        return self.uses > 0 and (self.events > 0 or not reads)

    def public(self) -> dict[str, Any]:
        """`{"name", "role", "effect", "grant", "uses", "events"}`."""
        return {**self.named.public(), "uses": self.uses, "events": self.events}


def past_uses(record: Event, key_id: str) -> list[PastUse]:
    """The uses of one key that an event of the category `gateway.access` tells of."""
    members = record.members()
    data = members.get("data", {})
    if members["action"] == CLOSED or "attempted" not in data:
        # How a stream ended is not another use of it.
        return []
    several = data.get("whose")
    if several is None and record.actor != key_id:
        return []
    source = members.get("source", {}) if several is None else {}
    addresses = (
        [source.get("ip")]
        if several is None
        else [one["address"] for one in several if one["key"] == key_id]
    )
    at = _seconds(members["time"])
    return [
        PastUse(
            attempted=data["attempted"],
            at=at,
            until=_seconds(data["until"]) if "until" in data else at,
            # Of what was merged over several keys, nobody knows how much was whose.
            count=data["count"] if several is None else 1,
            address=address,
            allowed=members["outcome"] != "denied",
            reason=members.get("reason", ""),
            route=data.get("route", ""),
        )
        for address in addresses
    ]


def _seconds(moment: str) -> float:
    return parse_rfc3339(moment) / 1_000_000
