"""UUID version 7 (RFC 9562, section 5.7) as ids of events that were sent without one.

They begin with the time: ids made one after the other are neighbours in the
index of ids, which keeps a durable append cheap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

# The first hexadecimal digit of the fourth group: two of its bits are the variant, 0b10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_ids(now: Callable[[], float]) -> Iterator[str]:
    """Endless iterator of fresh ids. `now` returns seconds since 1970."""
    begun_at, begin = -1, ""
    while True:
        milliseconds = int(now() * 1000)
        if milliseconds != begun_at:
            begun_at, begin = milliseconds, _begin(milliseconds)
        # Ids are unique, not secret: a generator seeded by the system is enough.
        yield _together(begin, random.randbytes(10).hex())


def uuid7(milliseconds: int, random: int) -> str:
    """UUID version 7 of a time in milliseconds since 1970 and 74 random bits."""
    return _together(_begin(milliseconds), f"{random >> 62:03x}{random & 0x3FFFFFFFFFFFFFFF:016x}0")


def _begin(milliseconds: int) -> str:
    digits = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


def _together(begin: str, digits: str) -> str:
    """The UUID of these random digits, of which the last is one too many."""
    return f"{begin}{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"


class Occurrences:
    """Ids, within one request, of records that have neither an id nor a time of their own.

    The first of identical records has the digest of them as its id, the others their number behind
    it: so each is an event of its own, and the same again when the request is repeated.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def id_of(self, name: str) -> str:
        """Id of the next of the records with this digest."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        # Parts of a record have their place behind a hyphen.
        return name if count == 1 else f"{name}~{count}"
