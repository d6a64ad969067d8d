"""Baseline of a key: its usual volume per minute, and when it moves far more. Pure.

The rate of a minute is the mean of the last five minutes' counts, and all arithmetic is done on its
logarithm, so that "ten times as much" means the same for a small key and a large one. The expected
value is an exponentially weighted mean (half-life a day) blended with that of the same hour of the
week; the deviation is exponentially weighted, too. A single value moves either only so far.

The peak guard keeps for each hour of the last week how far its highest rate was above the expected.
A height reached on two days, or a week ago in the same hour, is usual: an hourly batch job raises
no alarm, though it is far above the mean.
"""

from __future__ import annotations

from array import array
from math import expm1, log, log1p, sqrt
from typing import Any

import msgspec

WEEK_HOURS = 168
_MINUTES = 5
# A day's half-life for the mean and the deviation, four weeks of minutes for an hour of the week.
_ALPHA = 1 - 0.5 ** (1 / 1440)
_HOUR_MINUTES = 240
# Minutes of the same hour of the week until they count as much as the mean of all.
_TRUST_MINUTES = 15
# An alarm is at least 4 times what is expected, and 1.5 times what the guard knows; and it is
# either 4 deviations away, or 4 times what the guard knows. Fewer events are never one.
_LEAST_RATIO = log(4)
_DEVIATIONS = 4.0
_LEAST_DEVIATION = 0.25
_ABOVE_GUARD = log(1.5)
_FAR_ABOVE_GUARD = log(4)
LEAST_EVENTS = 100
# One value moves the mean and the deviation at most like so many deviations.
_PULL = 3.0
# At first nothing is known: every value counts fully, and none is a peak.
_FIRST_MINUTES = 60
_MOST_IDLE = 1440
# Keys that are active in less than this part of all minutes are sparse.
_SPARSE = 0.2
# What was exceeded in so many hours of the last week is usual at any hour.
_OFTEN = 10


class Alarm(msgspec.Struct, frozen=True):
    """Rate of a minute, and the expected rate: events per minute."""

    rate: float
    expected: float


class Baseline(msgspec.Struct, array_like=True):
    """Baseline learned of one key. `hours` and `weights` are means and minutes by hour of the week,
    `peaks` the highest excess of each hour, in logarithms; as bytes of C floats."""

    minutes: int = 0
    mean: float = 0.0
    variance: float = 0.0
    recent: tuple[int, ...] = ()
    hour: int = -1
    peak: float = 0.0
    guard: float = 0.0
    active: float = 0.0
    hours: bytes = bytes(4 * WEEK_HOURS)
    weights: bytes = bytes(4 * WEEK_HOURS)
    peaks: bytes = array("f", [-1.0] * WEEK_HOURS).tobytes()

    def observe(self, minute: int, count: int, warm_up: int) -> Alarm | None:
        """Take in the count of a minute (since 1970), in order. Raises no alarm before `warm_up`
        minutes."""
        hour = minute // 60
        if hour != self.hour:
            self._turn(hour)
        self.recent = (*self.recent[1 - _MINUTES :], count)
        rate = sum(self.recent) / len(self.recent)
        slot = hour % WEEK_HOURS
        hours, weights = array("f", self.hours), array("f", self.weights)
        trust = weights[slot] / (weights[slot] + _TRUST_MINUTES)
        expected = trust * hours[slot] + (1 - trust) * self.mean
        value = log1p(rate)
        excess = value - expected
        deviation = max(_LEAST_DEVIATION, sqrt(self.variance))
        alarm = None
        if self.minutes >= warm_up and sum(self.recent) >= LEAST_EVENTS:
            far = excess > self.guard + _FAR_ABOVE_GUARD or excess > _DEVIATIONS * deviation
            if far and excess > max(_LEAST_RATIO, self.guard + _ABOVE_GUARD):
                alarm = Alarm(rate, expm1(expected))
        if self.minutes >= _FIRST_MINUTES:
            self.peak = max(self.peak, excess)
        self._learn(value, expected, deviation)
        weights[slot] = min(weights[slot] + 1, _HOUR_MINUTES)
        pulled = min(value, expected + _PULL * deviation)
        hours[slot] += (pulled - hours[slot]) / weights[slot]
        self.hours, self.weights = hours.tobytes(), weights.tobytes()
        return alarm

    def idle(self, first: int, minutes: int, warm_up: int) -> None:
        """Add minutes without any volume, from `first` on; more than a day counts as a day."""
        skipped = max(0, minutes - _MOST_IDLE)
        self.minutes += skipped
        for minute in range(first + skipped, first + minutes):
            self.observe(minute, 0, warm_up)

    def _learn(self, value: float, expected: float, deviation: float) -> None:
        alpha = max(_ALPHA, 1 / (self.minutes + 1))
        excess = value - expected
        if self.minutes >= _FIRST_MINUTES:
            excess = max(-_PULL * deviation, min(_PULL * deviation, excess))
        self.mean += alpha * (excess + expected - self.mean)
        self.active += alpha * ((self.recent[-1] > 0) - self.active)
        self.variance = (1 - alpha) * (self.variance + alpha * excess * excess)
        self.minutes += 1

    def _turn(self, hour: int) -> None:
        """End an hour: keep its peak, and compute the guard of the next one."""
        peaks = array("f", self.peaks)
        if self.hour >= 0:
            peaks[self.hour % WEEK_HOURS] = max(0.0, self.peak)
            for passed in range(self.hour + 1, min(hour, self.hour + WEEK_HOURS)):
                peaks[passed % WEEK_HOURS] = 0.0
        self.hour, self.peak = hour, 0.0
        self.peaks = peaks.tobytes()
        self.guard = _guard(peaks, hour % WEEK_HOURS, self.active)


def _guard(peaks: array[float], slot: int, active: float) -> float:
    """Usual excess over the expected volume in an hour of the week."""
    # On one day it may have been an alarm; on two days it is usual.
    if active < _SPARSE:
        days = sorted(max(peaks[day : day + 24]) for day in range(0, WEEK_HOURS, 24))
        habit = days[-2]
    else:
        habit = max(sorted(peaks[(slot + shift) % 24 :: 24])[-2] for shift in (-1, 0, 1))
    return max(habit, sorted(peaks)[-_OFTEN], peaks[slot], 0.0)


class Volume(msgspec.Struct, array_like=True):
    """Baseline of a key, and its newest minute with the count, to which other processes may add."""

    minute: int = -1
    count: int = 0
    closed: bool = True
    baseline: Baseline = msgspec.field(default_factory=Baseline)

    def add(self, minute: int, count: int, warm_up: int) -> Alarm | None:
        """Add the volume of a minute in one process."""
        if minute <= self.minute and not self.closed:
            self.count += count
            return None
        alarm = self.close(self.minute, warm_up)
        # Late counts belong to the next minute.
        minute = max(minute, self.minute + 1)
        if self.minute >= 0:
            self.baseline.idle(self.minute + 1, minute - self.minute - 1, warm_up)
        self.minute, self.count, self.closed = minute, count, False
        return alarm

    def close(self, minute: int, warm_up: int) -> Alarm | None:
        """Close a minute that has ended in all processes."""
        if self.closed or minute < self.minute:
            return None
        self.closed = True
        return self.baseline.observe(self.minute, self.count, warm_up)


_DECODER = msgspec.msgpack.Decoder(Volume)
_ENCODER = msgspec.msgpack.Encoder()


def decode_volume(document: bytes | None) -> Volume:
    """Volume from its note; a new one if there is none."""
    return Volume() if document is None else _DECODER.decode(document)


def inherited_volume(volume: Volume) -> Volume:
    """Volume for a successor, which inherits the baseline but no counts."""
    return msgspec.structs.replace(volume, count=0, closed=True)


def encode_volume(volume: Volume) -> bytes:
    return _ENCODER.encode(volume)


def volume_data(alarm: Alarm) -> dict[str, Any]:
    """Members of a finding for an alarm."""
    return {
        "per_minute": round(alarm.rate, 1),
        "expected_per_minute": round(alarm.expected, 1),
        "times": round(alarm.rate / max(alarm.expected, 1.0), 1),
    }
