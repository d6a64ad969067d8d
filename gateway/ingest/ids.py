"""Ids for events that came without one: UUID version 7 (RFC 9562, section 5.7).

They begin with the time, so that neighbours in time are neighbours in the
index of ids, which is what keeps a durable append cheap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

# The first digit behind the second part says that it is such a UUID, in two of its bits.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_ids(now: Callable[[], float]) -> Iterator[str]:
    """Fresh ids, for ever. `now` gives seconds since 1970."""
    begun_at, begin = -1, ""
    while True:
        milliseconds = int(now() * 1000)
        if milliseconds != begun_at:
            begun_at, begin = milliseconds, _begin(milliseconds)
        # Unique, not secret: the generator that was seeded by the system is enough.
        yield _together(begin, random.randbytes(10).hex())


def uuid7(milliseconds: int, random: int) -> str:
    """The UUID of a time and 74 random bits."""
    return _together(_begin(milliseconds), f"{random >> 62:03x}{random & 0x3FFFFFFFFFFFFFFF:016x}0")


def _begin(milliseconds: int) -> str:
    digits = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


def _together(begin: str, digits: str) -> str:
    """The UUID of these random digits, of which the last is one too many."""
    return f"{begin}{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"
