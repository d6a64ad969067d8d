"""Ids for events that came without one: UUID version 7 (RFC 9562, section 5.7).

They begin with the time, so that neighbours in time are neighbours in the
index of ids, which is what keeps a durable append cheap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator


def new_ids(now: Callable[[], float]) -> Iterator[str]:
    """Fresh ids, for ever. `now` gives seconds since 1970."""
    while True:
        # Unique, not secret: the generator that was seeded by the system is enough.
        yield uuid7(int(now() * 1000), random.getrandbits(74))


def uuid7(milliseconds: int, random: int) -> str:
    """The UUID of a time and 74 random bits."""
    high = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | random >> 62
    text = f"{high << 64 | 0x8 << 60 | random & 0x3FFFFFFFFFFFFFFF:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
