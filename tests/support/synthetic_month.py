"""A labelled month of made-up activity, and what the watch finds of it.

Seeded: the same month each time. `python -m tests.support.synthetic_month` writes the tables
of `deploy/unusual-activity.md` anew.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.access.keys.key import Key
from gateway.access.usage.access import DENIED, PULLED, Access
from gateway.oversight.detection.baseline import Baseline
from gateway.oversight.detection.signals import evaluate
from gateway.oversight.detection.usage_profile import ProfileDelta, UsageProfile

DOCUMENT = Path(__file__).parents[2] / "deploy" / "unusual-activity.md"
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
DAY = 1440
DAYS = 30
WARM_UP = 7 * DAY
# A Thursday, as 1970 began with one.
FIRST_MINUTE = 28_333_440

Rate = Callable[[random.Random, int], float]


# Volume: a rate per minute for each kind of key


def steady(rate: float) -> Rate:
    return lambda rng, minute: rate


def office(rng: random.Random, minute: int) -> float:
    """Busy from about 10 to 16 on working days, nearly nothing else."""
    if (minute // DAY) % 7 in (2, 3):
        return 4
    return 4 + 400 * math.exp(-((((minute % DAY) / 60 - 13) / 3.2) ** 4))


def diurnal(rng: random.Random, minute: int) -> float:
    """Ten times as much in the afternoon as at night."""
    return 300 * math.exp(1.15 * math.sin(((minute % DAY) / 60 - 9) / 24 * 2 * math.pi))


def batch(every: int, times: float, lasts: int) -> Rate:
    return lambda rng, minute: 100 * times if minute % every < lasts else 100


def poller(rng: random.Random, minute: int) -> float:
    return 600 if minute % 15 == 0 else 0


def noisy(rng: random.Random, minute: int) -> float:
    return 100 * math.exp(rng.gauss(0, 0.7))


def growing(rng: random.Random, minute: int) -> float:
    return float(50 * 1.05 ** (minute / DAY))


class Bursts:
    """Now and then some minutes of much more, at no particular time."""

    def __init__(self, low: float, high: float, a_day: float) -> None:
        self._low, self._high, self._a_day = low, high, a_day
        self._until = 0

    def __call__(self, rng: random.Random, minute: int) -> float:
        if minute >= self._until and rng.random() < self._a_day / DAY:
            self._until = minute + rng.randint(2, 15)
        return self._high if minute < self._until else self._low


VOLUMES: dict[str, Callable[[], Rate]] = {
    "steady, 5 a minute": lambda: steady(5),
    "steady, 100 a minute": lambda: steady(100),
    "steady, 20,000 a minute": lambda: steady(20_000),
    "ten times as much by day": lambda: diurnal,
    "working hours only": lambda: office,
    "grows 5 % a day": lambda: growing,
    "very uneven": lambda: noisy,
    "bursts of 6 times, 3 a day": lambda: Bursts(100, 600, 3),
    "batch of 8 times, each hour": lambda: batch(60, 8, 5),
    "batch of 20 times, each night": lambda: batch(DAY, 20, 20),
    "batch of 30 times, each week": lambda: batch(7 * DAY, 30, 30),
    "a page every 15 minutes": lambda: poller,
    "used twice a day": lambda: Bursts(0, 80, 2),
}


@dataclass
class VolumeResult:
    """`delays` of the spikes that were found, in minutes; `false` hours with a false alarm."""

    spikes: int = 0
    delays: list[int] = field(default_factory=list)
    false: int = 0

    @property
    def within_five(self) -> int:
        return sum(delay <= 5 for delay in self.delays)


def volume_month(
    name: str, seed: int, *, times: float, days: int = DAYS, warm_up: int = WARM_UP
) -> VolumeResult:
    """A key's month, with a spike of half an hour every six days once it is warmed up."""
    rng = random.Random(f"{name} {seed}")
    rate = VOLUMES[name]()
    spikes = [day * DAY + rng.randrange(DAY - 60) for day in range(9, days - 1, 6)]
    baseline = Baseline()
    alarms = []
    spiking = {minute for begin in spikes for minute in range(begin, begin + 30)}
    for minute in range(days * DAY):
        count = poisson(rng, rate(rng, minute) * (times if minute in spiking else 1))
        if baseline.observe(FIRST_MINUTE + minute, count, warm_up) is not None:
            alarms.append(minute)
    return result_of(spikes, alarms)


def result_of(spikes: list[int], alarms: list[int]) -> VolumeResult:
    """What the alarms found of the spikes, each of half an hour."""
    result = VolumeResult(spikes=len(spikes))
    for begin in spikes:
        found = [minute - begin + 1 for minute in alarms if begin <= minute < begin + 35]
        result.delays += found[:1]
    strayed = {
        minute // 60
        for minute in alarms
        if not any(begin <= minute < begin + 40 for begin in spikes)
    }
    result.false = len(strayed)
    return result


def poisson(rng: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


# Signals: uses of some kinds of keys, and what a thief does with them


NOW = 60.0 * FIRST_MINUTE
KEY = Key(id="A" * 12, digest=b"", name="n", purpose="p", created_at=NOW - 86400, expires_at=9e12)
HOME, OFFICE, FOREIGN = "9.9.9.9", "8.8.8.8", "45.155.205.17"
KINDS = (
    "streams", "pages every 5 minutes", "a person", "a person who travels", "weekly report",
    "a shipper at its limit",
)  # fmt: skip
INCIDENTS = (
    "denials", "forbidden_categories", "new_network", "revoked_presented", "drained_presented",
    "deep_replay", "dormant_woke", "probing by tenant", "probing by resource", "probing by action",
    "out_of_scope", "rate_limited", "wrong_secret",
)  # fmt: skip


def ordinary(kind: str, rng: random.Random) -> Iterator[Access]:
    """A month without anything wrong, mistakes and outages included."""

    def use(day: float, **members: object) -> Access:
        made = {"key": KEY, "action": PULLED, "address": HOME, "at": NOW + 86400 * day}
        return Access(**{**made, **members})  # type: ignore[arg-type]

    for day in range(DAYS):
        if kind == "streams":
            for _ in range(rng.randint(1, 4)):
                yield use(day + rng.random(), behind=rng.randint(0, 300))
            if day % 10 == 9:
                # An outage of the consumer, of some hours.
                yield use(day + rng.random(), behind=rng.randint(2_000, 9_000))
        elif kind == "pages every 5 minutes":
            for step in range(288):
                yield use(day + step / 288, behind=rng.randint(0, 500))
        elif kind.startswith("a person"):
            travels = kind.endswith("travels") and day % 6 == 5
            address = f"77.{day}.3.4" if travels else rng.choice([HOME, OFFICE])
            for _ in range(rng.randint(2, 12)):
                yield use(
                    day + rng.uniform(0.3, 0.8),
                    address=address,
                    behind=rng.choice([50, 2_000, 15_000]),
                    forbidden=("typo",) if rng.random() < 0.05 else (),
                    probed=("tenant:typo",) if rng.random() < 0.05 else (),
                    out_of_scope=("tenant=typo",) if rng.random() < 0.05 else (),
                )
            for _ in range(rng.choice([0, 0, 0, 1, 2])):
                yield use(
                    day + rng.uniform(0.3, 0.8),
                    address=address, action=DENIED, outcome="denied", reason="action_not_granted",
                    attempted=rng.choice(["keys.admin", "usage.read"]),
                )  # fmt: skip
        elif kind == "a shipper at its limit":
            yield use(day + 0.1, behind=rng.randint(0, 300))
            # Twice a day it has more than it may send, and waits as `Retry-After` says.
            for begin in (day + rng.uniform(0.3, 0.5), day + rng.uniform(0.5, 0.8)):
                for step in range(rng.randint(300, 900)):
                    at = begin + step / 86400
                    yield use(at, action=DENIED, outcome="failure", reason="too_many_requests")
        elif day % 7 == 0:
            yield use(day + 0.2, behind=rng.randint(60_000, 80_000))


def incident(signal: str, at: float, rng: random.Random) -> list[Access]:
    """What a thief does."""
    thief = {"key": KEY, "action": PULLED, "address": HOME}
    replaced = msgspec.structs.replace(KEY, successor="B" * 12)
    refused = {"action": DENIED, "outcome": "denied"}
    if signal == "denials":
        return [
            Access(**{**thief, **refused}, at=at + 30 * n, reason="action_not_granted")
            for n in range(8)
        ]
    if signal == "forbidden_categories":
        return [Access(**thief, at=at + 240 * n, forbidden=(f"secret.{n}",)) for n in range(5)]
    if signal == "new_network":
        return [Access(**{**thief, "address": FOREIGN}, at=at)]
    if signal == "revoked_presented":
        return [Access(**{**thief, **refused}, at=at, reason="key_revoked")]
    if signal == "drained_presented":
        return [Access(**{**thief, **refused, "key": replaced}, at=at, reason="key_expired")]
    if signal == "deep_replay":
        return [Access(**thief, at=at, behind=rng.randint(400_000, 4_000_000))]
    if signal == "out_of_scope":
        return [
            Access(**thief, at=at + 240 * n, out_of_scope=(f"tenant=foreign-{n}",))
            for n in range(5)
        ]
    if signal == "probing by action":
        actions = ("ingest", "keys.admin", "usage.read", "stream")
        return [
            Access(
                **{**thief, **refused}, at=at + 240 * n, reason="action_not_granted", attempted=one
            )
            for n, one in enumerate(actions)
        ]
    if signal.startswith("probing"):
        member = signal.rpartition(" ")[2]
        return [
            Access(**thief, at=at + 240 * n, probed=(f"{member}:foreign-{n}",)) for n in range(5)
        ]
    if signal == "rate_limited":
        refused = {"action": DENIED, "outcome": "failure", "reason": "too_many_requests"}
        return [Access(**{**thief, **refused}, at=at + 0.1 * n) for n in range(2_000)]
    if signal == "wrong_secret":
        refused |= {"reason": "invalid_key", "key": None, "claimed": KEY.id}
        return [Access(**{**thief, **refused}, at=at + 30 * n) for n in range(8)]
    return [Access(**thief, at=at + 86400 * 40)]


def signal_month(kind: str, seed: int, wanted: str | None = None) -> tuple[dict[str, int], float]:
    """How often each signal was given in a month; with an incident, only in what follows of it,
    and the seconds until the one that is `wanted`."""
    rng = random.Random(f"{kind} {seed} {wanted}")
    uses = sorted(ordinary(kind, rng), key=lambda use: use.at)
    begins = NOW + 86400 * (DAYS if wanted == "dormant_woke" else rng.uniform(20, 29))
    uses = [use for use in uses if wanted is None or use.at < begins]
    if wanted is not None:
        uses += incident(wanted, begins, rng)
    profile = UsageProfile()
    given: dict[str, int] = {}
    found_after = math.inf
    signal = wanted and wanted.partition(" ")[0]
    for use in uses:
        delta = ProfileDelta()
        if use.claimed:
            delta.claim(use)
        else:
            delta.add(use, profile)
        profile, signals = evaluate(profile, delta)
        for one in signals:
            given[one.name] = given.get(one.name, 0) + 1
            if one.name == signal and use.at >= begins:
                begun = begins + (86400 * 40 if wanted == "dormant_woke" else 0)
                found_after = min(found_after, use.at - begun)
    return given, found_after


# The tables


SEEDS = 2


def evaluation() -> str:
    from tests.support.synthetic_requests import tables

    return "\n".join([*volume_table(SEEDS), "", *tables(SEEDS), "", *signal_table()])


def volume_table(seeds: int) -> list[str]:
    lines = [
        f"Volume, {DAYS} days, {seeds} keys of each kind, half an hour of spike every 6 days after "
        "the warm-up of 7 days. The batches of the keys that have some are not spikes.",
        "",
        "| key | 10-fold: found | within 5 min | median | 20-fold: found | within 5 min "
        "| false alarms a key and month |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [volume_row(name, seeds) for name in VOLUMES]


def volume_row(name: str, seeds: int) -> str:
    ten = [volume_month(name, seed, times=10) for seed in range(seeds)]
    twenty = [volume_month(name, seed, times=20) for seed in range(seeds)]
    delays = sorted(delay for one in ten for delay in one.delays)
    median = f"{delays[len(delays) // 2]} min" if delays else "-"
    false = sum(one.false for one in ten) / seeds
    cells = [
        name, _of(ten, lambda one: len(one.delays)), _of(ten, lambda one: one.within_five),
        median, _of(twenty, lambda one: len(one.delays)),
        _of(twenty, lambda one: one.within_five), f"{false:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _of(results: list[VolumeResult], count: Callable[[VolumeResult], int]) -> str:
    return f"{sum(map(count, results))} of {sum(one.spikes for one in results)}"


def signal_table(seeds: int = 4) -> list[str]:
    lines = [
        f"Certain signals, {DAYS} days, {seeds} keys of each of {len(KINDS)} kinds: one theft each "
        "per signal, and a month without any.",
        "",
        "| signal | found | longest time | false alarms a key and month |",
        "| --- | --- | --- | --- |",
    ]
    quiet = {(kind, seed): signal_month(kind, seed)[0] for kind in KINDS for seed in range(seeds)}
    for signal in INCIDENTS:
        times = [signal_month(kind, seed, signal)[1] for kind in KINDS for seed in range(seeds)]
        found = [seconds for seconds in times if seconds < math.inf]
        false = {
            kind: sum(quiet[kind, seed].get(signal.partition(" ")[0], 0) for seed in range(seeds))
            / seeds
            for kind in KINDS
        }
        shown = ", ".join(f"{count:g} ({kind})" for kind, count in false.items() if count)
        longest = f"{max(found):.0f} s" if found else "-"
        name, _, rest = signal.partition(" ")
        label = f"`{name}` {rest}".strip()
        lines.append(f"| {label} | {len(found)} of {len(times)} | {longest} | {shown or '0'} |")
    return lines


def written(document: str, tables: str) -> str:
    """The document with these tables."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(text, evaluation()), encoding="utf-8")
