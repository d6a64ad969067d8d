"""Pauses between attempts that fail: exponential, with full jitter. Pure."""

from __future__ import annotations

LEAST_SECONDS = 0.1
# More than this a receiver cannot ask for.
MOST_RETRY_AFTER = 900.0
# The first attempt after a failure carries no more: the receiver may just have come back.
MOST_AFTER_FAILURE = 50
_MOST_DOUBLINGS = 30


def pause(failures: int, least: float, most: float, retry_after: float, fraction: float) -> float:
    """Seconds before the next attempt after so many failures in a row. `fraction` is random in
    [0, 1); `retry_after` is what the receiver asks for at least."""
    ceiling = min(most, least * float(2 ** min(failures, _MOST_DOUBLINGS)))
    asked = min(retry_after, MOST_RETRY_AFTER)
    return max(LEAST_SECONDS, fraction * ceiling, asked)
