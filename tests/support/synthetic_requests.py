"""Requests, refusals and commands of the labelled month, and what the watch finds of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.oversight.detection.baseline import Baseline
from gateway.oversight.detection.operator_profile import Command, OperatorProfile, evaluate_command
from tests.support.synthetic_month import (
    DAY,
    DAYS,
    FIRST_MINUTE,
    NOW,
    WARM_UP,
    Bursts,
    Rate,
    VolumeResult,
    batch,
    diurnal,
    office,
    poisson,
    result_of,
    steady,
)

SPIKE = 1_400


def sometimes(every: int, number: float) -> Rate:
    return lambda rng, minute: number if minute % every == 0 else 0


REQUESTS: dict[str, Callable[[], Rate]] = {
    "12 a minute": lambda: steady(12),
    "a page every 15 minutes": lambda: sometimes(15, 1),
    "a console, working hours only": lambda: lambda rng, minute: office(rng, minute) / 20,
    "a shipper, more by day": lambda: diurnal,
    "a job of 20 times, each night": lambda: batch(DAY, 20, 20),
    "three streams a day": lambda: steady(3 / DAY),
    "a stream that is down twice a month": lambda: Bursts(3 / DAY, 12, 1 / 15),
}


def request_month(name: str, seed: int, days: int = DAYS) -> VolumeResult:
    """A key's month, with half an hour of 1,400 requests a minute every six days."""
    rng = random.Random(f"requests {name} {seed}")
    rate = REQUESTS[name]()
    spikes = [day * DAY + rng.randrange(DAY - 60) for day in range(9, days - 1, 6)]
    spiking = {minute for begin in spikes for minute in range(begin, begin + 30)}
    baseline = Baseline()
    alarms = []
    for minute in range(days * DAY):
        count = poisson(rng, SPIKE if minute in spiking else rate(rng, minute))
        if baseline.observe(FIRST_MINUTE + minute, count, WARM_UP) is not None:
            alarms.append(minute)
    return result_of(spikes, alarms)


def request_table(seeds: int) -> list[str]:
    lines = [
        f"Requests, {DAYS} days, {seeds} keys of each kind, half an hour of {SPIKE:,} a minute "
        "every 6 days after the warm-up, without any events.",
        "",
        "| requests | found | within 5 min | median | false alarms a key and month |",
        "| --- | --- | --- | --- | --- |",
    ]
    return lines + [request_row(name, seeds) for name in REQUESTS]


def request_row(name: str, seeds: int) -> str:
    months = [request_month(name, seed) for seed in range(seeds)]
    delays = sorted(delay for one in months for delay in one.delays)
    of = f"of {sum(one.spikes for one in months)}"
    median = f"{delays[len(delays) // 2]} min" if delays else "-"
    within = sum(one.within_five for one in months)
    false = sum(one.false for one in months) / seeds
    return f"| {name} | {len(delays)} {of} | {within} {of} | {median} | {false:.1f} |"


# The command line: people with their hours


TEAMS: dict[str, list[tuple[str, int, int, float]]] = {
    # Who, from which hour to which on working days, and how often a day.
    "one administrator": [("cli:ada", 7, 16, 2.0)],
    "three administrators": [
        ("cli:ada", 7, 16, 2.0), ("cli:bob", 8, 18, 1.0), ("cli:eve", 6, 14, 0.5),
    ],
    "a nightly job beside them": [("cli:ada", 7, 16, 2.0), ("cli:backup", 2, 3, 1.0)],
    "on call around the clock": [("cli:ada", 0, 24, 3.0), ("cli:bob", 0, 24, 3.0)],
}  # fmt: skip
STORIES = ("new_operator", "odd_hour")


def team_month(team: str, seed: int, wanted: str | None = None) -> dict[str, int]:
    """How often each signal was given; with an incident, only of what it was given for."""
    rng = random.Random(f"{team} {seed} {wanted}")
    commands = []
    for person, first, last, a_day in TEAMS[team]:
        for day in range(DAYS):
            if day % 7 in (2, 3) and person != "cli:backup":
                continue
            for _ in range(max(1, poisson(rng, a_day)) if a_day >= 1 else poisson(rng, a_day)):
                at = NOW + 86400 * day + 3600 * rng.uniform(first, last)
                commands.append(Command(person, at))
    incident: list[Command] = []
    if wanted is not None:
        person = "cli:mallory" if wanted == "new_operator" else TEAMS[team][0][0]
        hour = 10.0 if wanted == "new_operator" else 23.5
        incident = [Command(person, NOW + 86400 * 24 + 3600 * hour)]
    profile = OperatorProfile()
    given: dict[str, int] = {}
    for command in sorted([*commands, *incident], key=lambda one: one.at):
        profile, signals = evaluate_command(profile, command)
        for one in signals:
            if wanted is None or command in incident:
                given[one.name] = given.get(one.name, 0) + 1
    return given


def operator_table(seeds: int = 4) -> list[str]:
    lines = [
        f"The command line, {DAYS} days, {seeds} teams of each of {len(TEAMS)} kinds: a command by "
        "somebody who never gave one, and one at half past eleven at night.",
        "",
        "| signal | found | not found | false alarms a team and month |",
        "| --- | --- | --- | --- |",
    ]
    for signal in STORIES:
        found = {
            team: sum(bool(team_month(team, seed, signal).get(signal)) for seed in range(seeds))
            for team in TEAMS
        }
        false = {
            team: sum(team_month(team, seed).get(signal, 0) for seed in range(seeds)) / seeds
            for team in TEAMS
        }
        missed = ", ".join(f"{seeds - n} ({team})" for team, n in found.items() if n < seeds)
        shown = ", ".join(f"{n:g} ({team})" for team, n in false.items() if n)
        total = f"{sum(found.values())} of {seeds * len(TEAMS)}"
        lines.append(f"| `{signal}` | {total} | {missed or '0'} | {shown or '0'} |")
    return lines


def tables(seeds: int) -> list[str]:
    return [*request_table(seeds), "", *operator_table()]
