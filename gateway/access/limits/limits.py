"""Limits and decisions about them. Pure.

A `Rate` is the generic cell rate algorithm as a leaky bucket that is measured, not queued (ITU-T
I.371; both decide the same): a level rises by the cost of what is let through and sinks at the rate
of the limit; what would raise it above the burst is refused and costs nothing. A `Daily` counts up
within one day of UTC.

A `BucketState` is how full the bucket of a subject (a key, an address) is under one limit. For
replicas that share it, the Redis scripts repeat this arithmetic.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.clock import Clock
from gateway.network import parse_address

# Sums of fractions such as 1/3 must not refuse the last of a burst.
SLACK = 1e-6
_DAY = 86400
_CLOSED_SECONDS = 1.0

# While the replicas cannot reach each other, each decides by what it knows alone, or
# everything is refused.
WhenDown = Literal["local", "closed"]
# Who decided: the replicas together, this one alone, or the policy to refuse.
Source = Literal["shared", "local", "closed"]


class Decision(msgspec.Struct, frozen=True):
    """Decision of a limit, and the state of its subject.

    limit        most that fits at once (`Rate`: the burst) or in a day
    window       seconds in which that much comes back
    remaining    what may still be taken now, as far as this replica knows
    reset        seconds until all of `limit` may be taken again
    retry_after  seconds until the same request is let through; 0.0 if it was
    source       `closed`: refused because the replicas cannot be reached, which
                 is 503 to a client; every other refusal is 429
    """

    allowed: bool
    limit: int
    window: int
    remaining: int
    reset: float
    retry_after: float = 0.0
    source: Source = "shared"

    def headers(self) -> dict[str, str]:
        """`RateLimit-*` (draft-ietf-httpapi-ratelimit-headers-07) and, for a refusal,
        `Retry-After`, in seconds rounded up, so that a client who waits as long is let through."""
        headers = {
            "RateLimit-Policy": f"{self.limit};w={self.window}",
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.reset)),
        }
        if not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


@dataclass(slots=True)
class BucketState:
    """State of a subject in a limit: `level` was used, seen at `at` (the limit's own time)."""

    level: float = 0.0
    at: float = 0.0


@dataclass(frozen=True)
class Rate:
    """At most `count` in `seconds` on average, and at most `burst` at once (0: `count`).

    Limits of one `name` and subject are the same limit. A cost above the burst is let through when
    nothing of the burst is used, and paid off afterwards.
    """

    name: str
    count: float
    seconds: float = 1.0
    burst: float = 0
    when_down: WhenDown = "local"
    per_second: float = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.count > 0 and self.seconds > 0):
            raise ValueError(f"{self.name}: a rate is above 0")
        object.__setattr__(self, "per_second", self.count / self.seconds)
        if not self.burst:
            object.__setattr__(self, "burst", max(1, self.count))
        if self.burst < 1:
            raise ValueError(f"{self.name}: a burst is at least 1")

    @property
    def capacity(self) -> int:
        """Amount that may be taken at once."""
        return int(self.burst)

    @property
    def window(self) -> int:
        """Seconds in which all of the capacity comes back."""
        return max(1, math.ceil(self.burst / self.per_second))

    def time(self, clock: Clock) -> float:
        """Time of the limit's states."""
        return clock.monotonic()

    def settle(self, state: BucketState, now: float) -> None:
        """Lower the level to that of `now`. Time that goes back changes nothing."""
        elapsed = now - state.at
        state.at = now
        if elapsed > 0:
            state.level = max(0.0, state.level - elapsed * self.per_second)

    def take(self, state: BucketState, cost: int, now: float) -> bool:
        """Take `cost` if it fits; a cost of 0 asks whether 1 would fit."""
        self.settle(state, now)
        if state.level + (cost or 1) > self.burst + SLACK and not (
            cost > self.burst and state.level <= SLACK
        ):
            return False
        state.level += cost
        return True

    def charge(self, state: BucketState, amount: float, now: float) -> None:
        """Take what was used already, even if it does not fit."""
        self.settle(state, now)
        state.level += amount

    def seconds_over(self, state: BucketState) -> float:
        """Seconds until the level, as settled last, has sunk to the burst."""
        over = state.level - self.burst
        return over / self.per_second if over > 0 else 0.0

    def idle_at(self, state: BucketState) -> float:
        """Time from which the state equals that of a new subject."""
        return state.at + state.level / self.per_second

    def room(self, state: BucketState) -> int:
        """Amount that fits now."""
        return max(0, int(self.burst - state.level + SLACK))

    def decision(
        self, state: BucketState, allowed: bool, cost: int, *, spare: int = 0, source: Source
    ) -> Decision:
        """Decision for a state settled just now; `spare` is taken but not yet used."""
        wait = 0.0
        if not allowed:
            above = state.level + (cost or 1) - self.burst
            wait = state.level if cost > self.burst else above
        return Decision(
            allowed,
            self.capacity,
            self.window,
            self.room(state) + spare,
            state.level / self.per_second,
            wait / self.per_second,
            source,
        )


@dataclass(frozen=True)
class Daily:
    """At most `most` in a day of UTC."""

    name: str
    most: int
    when_down: WhenDown = "local"

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"{self.name}: a daily quota is at least 1")

    @property
    def capacity(self) -> int:
        """Amount that may be taken in a day."""
        return self.most

    @property
    def window(self) -> int:
        """Seconds of a day."""
        return _DAY

    def time(self, clock: Clock) -> float:
        """Time of the limit's states."""
        return clock.now()

    def settle(self, state: BucketState, now: float) -> None:
        """Reset the level if a new day has begun."""
        if day_of(now) != day_of(state.at):
            state.level = 0.0
        state.at = now

    def take(self, state: BucketState, cost: int, now: float) -> bool:
        """Take `cost` if it fits; a cost of 0 asks whether 1 would fit."""
        self.settle(state, now)
        if state.level + (cost or 1) > self.most:
            return False
        state.level += cost
        return True

    def charge(self, state: BucketState, amount: float, now: float) -> None:
        """Take what was used already, even if it does not fit."""
        self.settle(state, now)
        state.level += amount

    def seconds_over(self, state: BucketState) -> float:
        """Seconds until something is left: 0.0, or until midnight."""
        return _until_midnight(state.at) if state.level >= self.most else 0.0

    def idle_at(self, state: BucketState) -> float:
        """Time from which the state equals that of a new subject."""
        return state.at + (_until_midnight(state.at) if state.level else 0.0)

    def room(self, state: BucketState) -> int:
        """Amount that fits now."""
        return max(0, self.most - int(state.level))

    def decision(
        self, state: BucketState, allowed: bool, cost: int, *, spare: int = 0, source: Source
    ) -> Decision:
        """Decision for a state settled just now; `spare` is taken but not yet used."""
        left = _until_midnight(state.at)
        remaining = self.room(state) + spare
        retry_after = 0.0 if allowed else left
        return Decision(allowed, self.most, _DAY, remaining, left, retry_after, source)


Limit = Rate | Daily


@dataclass(frozen=True)
class Concurrency:
    """At most `most` held at the same time."""

    name: str
    most: int
    when_down: WhenDown = "local"

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"{self.name}: at least 1 must be possible")

    def refusal(self, held: int, source: Source) -> Decision:
        """Refusal while all are taken; when one is given back is unknown."""
        room = max(0, self.most - held)
        return Decision(False, self.most, 1, room, _CLOSED_SECONDS, _CLOSED_SECONDS, source)


def closed(limit: Limit) -> Decision:
    """Refusal of a `closed` limit while the replicas cannot reach each other."""
    wait = _CLOSED_SECONDS
    return Decision(False, limit.capacity, limit.window, 0, wait, wait, "closed")


def day_of(now: float) -> int:
    """Day of UTC, counted from 1970-01-01."""
    return int(now // _DAY)


def _until_midnight(now: float) -> float:
    return _DAY - now % _DAY


@lru_cache(4096)
def address_subject(address: str) -> str:
    """Subject of an IP address: IPv4 the address, IPv6 its /64, which is what one subscriber has;
    anything else (a Unix socket) as it is."""
    ip = parse_address(address)
    if ip is None:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)).network_address) + "/64"
