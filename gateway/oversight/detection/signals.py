"""Certain signals of unusual activity, which need no statistics. Pure.

| signal | when |
| --- | --- |
| `denials` | 5 denials within 10 minutes, of a key or of an address without one |
| `forbidden_categories` | 3 different categories within an hour, out of the reach of the key |
| `probing` | 3 different tenants, resources or actions within an hour, out of the key's reach |
| `out_of_scope` | 3 different selections within an hour of which the key can see nothing |
| `rate_limited` | 120 requests above the limits of a key, or of an address, within a minute |
| `dormant_woke` | a key is used that was not for 30 days |
| `new_network` | a key is used from a network that it never came from |
| `revoked_presented` | a revoked key is presented |
| `drained_presented` | a key is presented that its successor has replaced |
| `deep_replay` | a read begins 4 times as far back as ever before, and 10,000 events at least |
| `silent_consumer` | a stream is open, and what waits for its peer was not taken for 5 minutes |

Two more never have consequences for a key: `wrong_secret`, when its id is presented 5 times within
10 minutes with a wrong secret; and `id_conflict`, when an event was sent under an id that another
event of its tenant has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from gateway.access.usage.access import Access
from gateway.oversight.detection.usage_profile import ProfileDelta, UsageProfile, is_deep, merged

DENIALS = 5
DENIALS_SECONDS = 600
FORBIDDEN = 3
FORBIDDEN_SECONDS = 3600
# Clients that wait as long as `Retry-After` says, at least a second, have half as many.
LIMITED = 120
DORMANT_SECONDS = 30 * 86400
SILENT_SECONDS = 300


class Signal(msgspec.Struct, frozen=True):
    """Signal of a key: `count` more occurrences, the last of them at `at`. `operator` is set
    instead for one of the command line."""

    name: str
    at: float
    count: int = 1
    data: dict[str, Any] = {}
    operator: str = ""


def id_conflict(access: Access, count: int) -> Signal:
    """Signal that events of a request had ids that other events have."""
    return Signal(
        "id_conflict", access.at, count, {"address": access.address, "client": access.client}
    )


def evaluate(before: UsageProfile, delta: ProfileDelta) -> tuple[UsageProfile, list[Signal]]:
    """Merge a delta into a profile; return the profile after it, and the signals."""
    after = merged(before, delta)
    signals = [Signal(name, at, count, data) for name, (count, at, data) in delta.certain.items()]
    for rule in _RULES:
        signals += rule(before, delta, after)
    return after, signals


_Rule = Callable[[UsageProfile, ProfileDelta, UsageProfile], Iterator[Signal]]


def _within(times: Iterable[float], newest: float, seconds: float) -> int:
    return sum(newest - at <= seconds for at in times)


def _repeated(
    name: str, new: int, before: list[float], after: list[float], address: str
) -> Iterator[Signal]:
    """Signal of refusals, if those of the last minutes are enough together with the `new` ones."""
    if new and _within(after, after[-1], DENIALS_SECONDS) >= DENIALS:
        known = _within(before, after[-1], DENIALS_SECONDS)
        # The fifth counts together with those before it.
        count = new + (known if known < DENIALS else 0)
        yield Signal(name, after[-1], count, {"address": address})


def _denials(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    return _repeated("denials", delta.refusals, before.denials, after.denials, delta.address)


def _wrong_secret(
    before: UsageProfile, delta: ProfileDelta, after: UsageProfile
) -> Iterator[Signal]:
    return _repeated("wrong_secret", delta.wrong, before.claims, after.claims, delta.claimed_from)


def _various(name: str, member: str, show: Callable[[list[str]], dict[str, Any]]) -> _Rule:
    """Rule of a signal for different values of one `member` of profiles within an hour."""

    def rule(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
        new: dict[str, float] = getattr(delta, member)
        newest = max(new.values(), default=0.0)
        seen: dict[str, float] = getattr(after, member)
        recent = [value for value, at in seen.items() if newest - at <= FORBIDDEN_SECONDS]
        if new and len(recent) >= FORBIDDEN:
            known = _within(getattr(before, member).values(), newest, FORBIDDEN_SECONDS)
            count = len(new) if known >= FORBIDDEN else len(recent)
            yield Signal(name, newest, count, {**show(sorted(recent)), "address": delta.address})

    return rule


def _by_member(probed: list[str]) -> dict[str, Any]:
    """Values such as `tenant:acme` by the plural of their member."""
    found: dict[str, list[str]] = {}
    for one in probed:
        member, _, value = one.partition(":")
        found.setdefault(f"{member}s", []).append(value)
    return found


def _limited(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    for minute, count in delta.limited.items():
        of_all = after.limited.get(minute, count)
        if of_all >= LIMITED:
            known = before.limited.get(minute, 0)
            yield Signal(
                "rate_limited",
                minute * 60.0,
                count if known >= LIMITED else of_all,
                {"in_a_minute": of_all, "address": delta.address},
            )


def _dormant(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    idle_since = before.used_at or delta.created_at
    if delta.first_at and idle_since and delta.first_at - idle_since >= DORMANT_SECONDS:
        days = int((delta.first_at - idle_since) // 86400)
        data = {"days": days, "address": delta.address, "client": delta.client}
        yield Signal("dormant_woke", delta.first_at, 1, data)


def _new_network(
    before: UsageProfile, delta: ProfileDelta, after: UsageProfile
) -> Iterator[Signal]:
    known = before.networks or {delta.home: 0.0}
    unknown = [network for network in delta.networks if network not in known]
    if unknown:
        at = max(delta.networks[network] for network in unknown)
        data = {"networks": sorted(unknown), "address": delta.address, "client": delta.client}
        yield Signal("new_network", at, len(unknown), data)


def _deep_replay(
    before: UsageProfile, delta: ProfileDelta, after: UsageProfile
) -> Iterator[Signal]:
    known = before.deepest
    if known >= 0 and is_deep(delta.deepest, known):
        data = {"events": delta.deepest, "before": known, "address": delta.address}
        yield Signal("deep_replay", delta.used_at, 1, data)


_RULES: tuple[_Rule, ...] = (
    _denials,
    _various("forbidden_categories", "forbidden", lambda found: {"categories": found}),
    _various("probing", "probed", _by_member),
    _various("out_of_scope", "out_of_scope", lambda found: {"selected": found}),
    _limited,
    _wrong_secret,
    _dormant,
    _new_network,
    _deep_replay,
)
