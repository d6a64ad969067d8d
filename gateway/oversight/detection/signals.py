"""Signals of unusual activity that need no statistics: what is known for certain. Pure.

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

Two more never have consequences for a key: `wrong_secret`, when its id is shown 5 times within 10
minutes with a secret that is not its own; and `id_conflict`, when an event was sent under an id
that another event of its tenant has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.access.usage.access import Access
from gateway.oversight.detection.usage_profile import ProfileDelta, UsageProfile, is_deep, merged

DENIALS = 5
DENIALS_SECONDS = 600
FORBIDDEN = 3
FORBIDDEN_SECONDS = 3600
# Who waits for as long as `Retry-After` says, a second at least, has half as many.
LIMITED = 120
DORMANT_SECONDS = 30 * 86400
SILENT_SECONDS = 300


class Signal(msgspec.Struct, frozen=True):
    """A signal for a key: `count` things more that speak for it, the last of them at `at`.

    `operator` is who it is about instead, if it is about the command line.
    """

    name: str
    at: float
    count: int = 1
    data: dict[str, Any] = {}
    operator: str = ""


def id_conflict(access: Access, count: int) -> Signal:
    """Signal that events of a request had ids that other events had."""
    return Signal(
        "id_conflict", access.at, count, {"address": access.address, "client": access.client}
    )


def evaluate(before: UsageProfile, delta: ProfileDelta) -> tuple[UsageProfile, list[Signal]]:
    """The profile after the delta, and what signals they give."""
    after = merged(before, delta)
    signals = [Signal(name, at, count, data) for name, (count, at, data) in delta.certain.items()]
    for rule in _RULES:
        signals += rule(before, delta, after)
    return after, signals


def _denials(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    if not delta.refusals:
        return
    newest = after.denials[-1]
    if sum(newest - at <= DENIALS_SECONDS for at in after.denials) >= DENIALS:
        known = sum(newest - at <= DENIALS_SECONDS for at in before.denials)
        # Those before the fifth are counted together with it.
        count = delta.refusals + (known if known < DENIALS else 0)
        yield Signal("denials", newest, count, {"address": delta.address})


def _forbidden(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    if not delta.forbidden:
        return
    newest = max(delta.forbidden.values())
    recent = [name for name, at in after.forbidden.items() if newest - at <= FORBIDDEN_SECONDS]
    if len(recent) >= FORBIDDEN:
        yield Signal(
            "forbidden_categories",
            newest,
            len(delta.forbidden) if _asked(before, newest) >= FORBIDDEN else len(recent),
            {"categories": sorted(recent), "address": delta.address},
        )


def _asked(profile: UsageProfile, newest: float) -> int:
    return sum(newest - at <= FORBIDDEN_SECONDS for at in profile.forbidden.values())


def _probing(before: UsageProfile, delta: ProfileDelta, after: UsageProfile) -> Iterator[Signal]:
    if not delta.probed:
        return
    newest = max(delta.probed.values())
    recent = [name for name, at in after.probed.items() if newest - at <= FORBIDDEN_SECONDS]
    if len(recent) >= FORBIDDEN:
        known = sum(newest - at <= FORBIDDEN_SECONDS for at in before.probed.values())
        data: dict[str, Any] = {"address": delta.address}
        for member in ("tenant", "resource", "action"):
            found = [name.partition(":")[2] for name in recent if name.startswith(f"{member}:")]
            if found:
                data[f"{member}s"] = sorted(found)
        count = len(delta.probed) if known >= FORBIDDEN else len(recent)
        yield Signal("probing", newest, count, data)


def _out_of_scope(
    before: UsageProfile, delta: ProfileDelta, after: UsageProfile
) -> Iterator[Signal]:
    if not delta.out_of_scope:
        return
    newest = max(delta.out_of_scope.values())

    def recent(profile: UsageProfile) -> list[str]:
        return [
            name for name, at in profile.out_of_scope.items() if newest - at <= FORBIDDEN_SECONDS
        ]

    found = recent(after)
    if len(found) >= FORBIDDEN:
        count = len(delta.out_of_scope) if len(recent(before)) >= FORBIDDEN else len(found)
        data = {"selected": sorted(found), "address": delta.address}
        yield Signal("out_of_scope", newest, count, data)


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


def _wrong_secret(
    before: UsageProfile, delta: ProfileDelta, after: UsageProfile
) -> Iterator[Signal]:
    if not delta.wrong:
        return
    newest = after.claims[-1]
    if sum(newest - at <= DENIALS_SECONDS for at in after.claims) >= DENIALS:
        known = sum(newest - at <= DENIALS_SECONDS for at in before.claims)
        count = delta.wrong + (known if known < DENIALS else 0)
        yield Signal("wrong_secret", newest, count, {"address": delta.claimed_from})


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


_Rule = Callable[[UsageProfile, ProfileDelta, UsageProfile], Iterator[Signal]]
_RULES: tuple[_Rule, ...] = (
    _denials, _forbidden, _probing, _out_of_scope, _limited, _wrong_secret, _dormant,
    _new_network, _deep_replay,
)  # fmt: skip
