"""Usage profile of one key: its last use, and what is usual for it. Pure.

A `UsageProfile` is stored in the key store, one for all processes; a `ProfileDelta` is what one
process has seen since its last merge. Merging deltas twice, or in another order, gives the same
profile, but for the counts in `limited`.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network
from typing import Any

import msgspec

from gateway.access.usage.access import DENIED, Access
from gateway.clock import format_time
from gateway.network import parse_address

MOST_NETWORKS = 64
MOST_REMEMBERED = 16
DEEP_EVENTS = 10_000
DEEP_TIMES = 4
LIMITED_MINUTES = 10
# So many requests above a limit are merged at once, fewer with the rest.
_URGENT_LIMITED = 20
# Denials for the state of the key, which are no use of it.
_NOT_USED = frozenset({"key_revoked", "key_expired", "key_suspended"})


class LastUse(msgspec.Struct, omit_defaults=True):
    """When and from where a key was used last: the first members of its profile."""

    used_at: float = 0.0
    address: str = ""
    client: str = ""

    def last_use(self) -> dict[str, Any] | None:
        """Last use, as the interface shows it; None if the key was never used."""
        if not self.used_at:
            return None
        return {"at": format_time(self.used_at), "address": self.address, "client": self.client}


class UsageProfile(LastUse, omit_defaults=True):
    """Profile of one key; times are seconds since 1970. `networks`, `forbidden`, `probed`,
    `out_of_scope` say when each was seen last; `deepest` is the furthest that a read began behind
    the head, in events (-1: none); `limited` are counts of requests above a limit for the last
    minutes; `claims` are the times at which its id was presented with a wrong secret."""

    networks: dict[str, float] = {}
    deepest: int = -1
    denials: list[float] = []
    forbidden: dict[str, float] = {}
    probed: dict[str, float] = {}
    out_of_scope: dict[str, float] = {}
    limited: dict[int, int] = {}
    claims: list[float] = []


class ProfileDelta(msgspec.Struct, eq=False):
    """Change of one usage profile: accesses of a key, or refusals of an address, since the last
    merge."""

    first_at: float = 0.0
    used_at: float = 0.0
    address: str = ""
    client: str = ""
    created_at: float = 0.0
    # Predecessor of the key.
    predecessor: str = ""
    networks: dict[str, float] = {}
    # Network of its first use.
    home: str = ""
    deepest: int = -1
    # All of them are counted, the last ones remembered.
    refusals: int = 0
    denials: list[float] = []
    forbidden: dict[str, float] = {}
    probed: dict[str, float] = {}
    out_of_scope: dict[str, float] = {}
    limited: dict[int, int] = {}
    # All of them are counted, the last ones remembered, and from where the very last came.
    wrong: int = 0
    claims: list[float] = []
    claimed_from: str = ""
    # Signals that need no history: how often, and what there is to say of the last time.
    certain: dict[str, tuple[int, float, dict[str, Any]]] = {}
    urgent: bool = False

    def add(self, access: Access, known: UsageProfile | None) -> None:
        """Take in an access. What is new to the `known` profile is urgent."""
        key = access.key
        if access.outcome == "denied":
            self._add_denial(access)
        elif access.action == DENIED and access.reason != "key_throttled":
            # Such requests would prolong what the key was throttled for.
            self._add_limited(access)
        if key is not None:
            self.predecessor = key.predecessor
        if key is not None and access.reason not in _NOT_USED:
            self.created_at = key.created_at
            self.touch(access.at, access.address, access.client)
            self.deepest = max(self.deepest, access.behind)
            self.urgent = self.urgent or known is None or is_deep(self.deepest, known.deepest)
            if access.address:
                network = network_of(access.address)
                self.home = self.home or network
                if len(self.networks) < MOST_NETWORKS or network in self.networks:
                    self.networks[network] = max(access.at, self.networks.get(network, access.at))
                self.urgent = self.urgent or known is None or network not in known.networks
        for category in access.forbidden:
            self._remember(self.forbidden, category, access.at)
        for value in access.probed:
            self._remember(self.probed, value, access.at)
        for value in access.out_of_scope:
            self._remember(self.out_of_scope, value, access.at)

    def claim(self, access: Access) -> None:
        """Note that a client presented the id of the key with a wrong secret."""
        self.wrong += 1
        self.claims = [*self.claims, access.at][-MOST_REMEMBERED:]
        self.claimed_from = access.address
        self.urgent = True

    def touch(self, at: float, address: str = "", client: str = "") -> None:
        """Note that the key is in use."""
        self.first_at = min(self.first_at or at, at)
        self.used_at = max(self.used_at, at)
        self.address, self.client = address or self.address, client or self.client

    def add_signal(self, signal: str, at: float, data: dict[str, Any], times: int = 1) -> None:
        """Add a signal that needs no history."""
        count = self.certain[signal][0] if signal in self.certain else 0
        self.certain[signal] = (count + times, at, data)
        self.urgent = True

    def followed_by(self, later: ProfileDelta) -> ProfileDelta:
        """This delta and a later one, merged."""
        later.first_at = min(self.first_at or later.first_at, later.first_at or self.first_at)
        later.used_at = max(self.used_at, later.used_at)
        later.address, later.client = later.address or self.address, later.client or self.client
        later.created_at = self.created_at or later.created_at
        later.predecessor = self.predecessor or later.predecessor
        later.networks = _newest(_latest(self.networks, later.networks), MOST_NETWORKS)
        later.home = self.home or later.home
        later.deepest = max(self.deepest, later.deepest)
        later.refusals += self.refusals
        later.denials = [*self.denials, *later.denials][-MOST_REMEMBERED:]
        for name in ("forbidden", "probed", "out_of_scope"):
            times = _latest(getattr(self, name), getattr(later, name))
            setattr(later, name, _newest(times, MOST_REMEMBERED))
        later.limited = _last_minutes(_added(self.limited, later.limited))
        later.wrong += self.wrong
        later.claims = [*self.claims, *later.claims][-MOST_REMEMBERED:]
        later.claimed_from = later.claimed_from or self.claimed_from
        for signal, (count, at, data) in self.certain.items():
            known = later.certain.get(signal)
            later.certain[signal] = (
                (count, at, data) if known is None else (count + known[0], *known[1:])
            )
        later.urgent = self.urgent or later.urgent
        return later

    def replace_invalid_text(self) -> None:
        """Replace invalid text: halves of surrogate pairs."""
        for member in ("address", "client", "home", "claimed_from"):
            setattr(self, member, _plain(getattr(self, member)))
        for member in ("networks", "forbidden", "probed", "out_of_scope"):
            times = getattr(self, member)
            setattr(self, member, {_plain(name): at for name, at in times.items()})
        for signal, (count, at, data) in self.certain.items():
            texts = {name: _plain(one) for name, one in data.items() if isinstance(one, str)}
            self.certain[signal] = (count, at, {**data, **texts})

    def _add_denial(self, access: Access) -> None:
        self.urgent = True
        self.address = access.address or self.address
        data = {"address": access.address, "client": access.client}
        if access.reason == "key_suspended":
            # Such requests would prolong what the key was suspended for.
            return
        if access.reason == "key_revoked":
            self.add_signal("revoked_presented", access.at, data)
        elif access.reason == "key_expired" and access.key is not None and access.key.successor:
            self.add_signal(
                "drained_presented", access.at, {**data, "successor": access.key.successor}
            )
        else:
            self.refusals += 1
            self.denials.append(access.at)
            del self.denials[:-MOST_REMEMBERED]
            if access.reason == "action_not_granted" and access.attempted:
                self._remember(self.probed, f"action:{access.attempted}", access.at)

    def _add_limited(self, access: Access) -> None:
        """Count a request above a limit of the key or address."""
        self.address = access.address or self.address
        minute = int(access.at // 60)
        self.limited[minute] = self.limited.get(minute, 0) + 1
        if len(self.limited) > LIMITED_MINUTES:
            del self.limited[min(self.limited)]
        self.urgent = self.urgent or self.limited.get(minute, 0) % _URGENT_LIMITED == 0

    def _remember(self, times: dict[str, float], name: str, at: float) -> None:
        self.urgent = True
        if len(times) < MOST_REMEMBERED or name in times:
            times[name] = max(at, times.get(name, at))


def is_deep(behind: int, known: int) -> bool:
    """Whether a read begins far further back than ever before."""
    return behind >= max(DEEP_EVENTS, DEEP_TIMES * known)


def merged(before: UsageProfile, delta: ProfileDelta) -> UsageProfile:
    """The profile with a delta merged into it."""
    later = delta.used_at >= before.used_at
    return UsageProfile(
        used_at=max(before.used_at, delta.used_at),
        address=delta.address if later and delta.address else before.address,
        client=delta.client if later and delta.client else before.client,
        networks=_newest(_latest(before.networks, delta.networks), MOST_NETWORKS),
        deepest=max(before.deepest, delta.deepest),
        denials=sorted({*before.denials, *delta.denials})[-MOST_REMEMBERED:],
        forbidden=_newest(_latest(before.forbidden, delta.forbidden), MOST_REMEMBERED),
        probed=_newest(_latest(before.probed, delta.probed), MOST_REMEMBERED),
        out_of_scope=_newest(_latest(before.out_of_scope, delta.out_of_scope), MOST_REMEMBERED),
        limited=_last_minutes(_added(before.limited, delta.limited)),
        claims=sorted({*before.claims, *delta.claims})[-MOST_REMEMBERED:],
    )


def inherited_profile(profile: UsageProfile) -> UsageProfile:
    """Profile for a successor, without the last use."""
    return msgspec.structs.replace(profile, used_at=0.0, address="", client="")


@lru_cache(4096)
def network_of(address: str) -> str:
    """Network of an address: IPv4 /24 (private ones /16), IPv6 /48; else the text itself."""
    found = parse_address(address)
    if found is None:
        return address
    bits = 48 if found.version == 6 else 16 if found.is_private else 24
    return str(ip_network(f"{found}/{bits}", strict=False))


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _latest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {**one, **{name: max(at, one.get(name, at)) for name, at in other.items()}}


def _added(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {minute: one.get(minute, 0) + other.get(minute, 0) for minute in {**one, **other}}


def _last_minutes(counts: dict[int, int]) -> dict[int, int]:
    newest = max(counts, default=0)
    return {minute: n for minute, n in counts.items() if newest - minute < LIMITED_MINUTES}


def _newest(times: dict[str, float], most: int) -> dict[str, float]:
    if len(times) <= most:
        return times
    return dict(sorted(times.items(), key=lambda item: item[1])[-most:])
