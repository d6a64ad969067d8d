"""Profile of the operators who administer keys by the command line, and its signals. Pure.

Whoever can read the data folder may do everything there, so unusual commands are signals:

| signal | when |
| --- | --- |
| `new_operator` | an operator uses the command line over keys for the first time, as others have |
| `odd_hour` | it is used at an hour of the day (UTC) 3 hours away from any of the last 30 days |
"""

from __future__ import annotations

import msgspec

from gateway.clock import format_time
from gateway.oversight.detection.signals import Signal

NEW_OPERATOR = "new_operator"
ODD_HOUR = "odd_hour"
MOST_PEOPLE = 256
# With fewer days nothing is usual yet.
LEAST_DAYS = 5
_REMEMBERED_DAYS = 30
_DAY = 86400


class Command(msgspec.Struct, frozen=True):
    """Command of an operator at a time (seconds since 1970)."""

    person: str
    at: float


class OperatorProfile(msgspec.Struct, omit_defaults=True):
    """Times at which each operator, each hour of the day and each day was seen last."""

    people: dict[str, float] = {}
    hours: dict[int, float] = {}
    days: list[int] = []


def evaluate_command(
    before: OperatorProfile, command: Command
) -> tuple[OperatorProfile, list[Signal]]:
    """Profile after a command, and the signals of it; the same command again gives none."""
    at, day = command.at, int(command.at // _DAY)
    hour = int(at % _DAY // 3600)
    signals = []
    data = {"operator": command.person, "at": format_time(at)}
    if before.people and command.person not in before.people:
        signals.append(Signal(NEW_OPERATOR, at, 1, data, command.person))
    near = [before.hours.get((hour + shift) % 24, 0.0) for shift in range(-2, 3)]
    usual = any(at - seen <= _REMEMBERED_DAYS * _DAY for seen in near)
    if len([one for one in before.days if one < day]) >= LEAST_DAYS and not usual:
        signals.append(Signal(ODD_HOUR, at, 1, data, command.person))
    people = {**before.people, command.person: max(at, before.people.get(command.person, at))}
    if len(people) > MOST_PEOPLE:
        people = dict(sorted(people.items(), key=lambda item: item[1])[-MOST_PEOPLE:])
    hours = {**before.hours, hour: max(at, before.hours.get(hour, at))}
    days = sorted({*before.days, day})[-_REMEMBERED_DAYS:]
    return OperatorProfile(people, hours, days), signals
