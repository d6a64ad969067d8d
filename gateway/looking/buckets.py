"""Buckets of time: aligned to UTC, of a few lengths. Pure."""

from __future__ import annotations

from gateway.errors import InvalidRequest

STEPS = {
    "1s": 1, "10s": 10, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "6h": 21_600, "1d": 86_400,
}  # fmt: skip
AUTO = "auto"
# Buckets that `auto` gives at most, and that may be asked for.
AUTO_BUCKETS = 300
MOST_BUCKETS = 3000
_MICROS = 1_000_000


def choose_step(step: str, since: int, to: int) -> str:
    """Name of the step for a range (microseconds since 1970): the given one or, for `auto`, the
    smallest that gives few buckets. Raises `InvalidRequest` if it gives too many."""
    chosen = step
    if step == AUTO:
        fitting = (name for name in STEPS if _number(name, since, to) <= AUTO_BUCKETS)
        chosen = next(fitting, "1d")
    if _number(chosen, since, to) > MOST_BUCKETS:
        raise InvalidRequest(
            f"step: {chosen} makes more than {MOST_BUCKETS} buckets of this range; choose a longer "
            "step, or a later `since`",
            parameter="since" if step == AUTO else "step",
        )
    return chosen


def micros_of(step: str) -> int:
    """Microseconds of a step."""
    return STEPS[step] * _MICROS


def buckets_between(since: int, to: int, micros: int) -> range:
    """Numbers since 1970 of the buckets that hold moments with `since <= moment < to`."""
    return range(since // micros, (to - 1) // micros + 1) if since < to else range(0)


def _number(step: str, since: int, to: int) -> int:
    return len(buckets_between(since, to, micros_of(step)))
