"""Words of a receiver without what they quote of the events that it was sent. Pure.

Health is shown to people who see no events, and some receivers repeat a request in what they say of
it, whatever it was that failed. What is quoted short, and changed, is not known again.
"""

from __future__ import annotations

import re

# Characters in a row that no event and message share by chance, or hardly ever.
_RUN = 8
# Shorter words that are quoted for themselves: with a digit, as numbers and codes have.
_NUMBER = re.compile(r"(?<!\w)(?=\w*\d)\w{3,7}(?!\w)")
_HIDDEN = "***"


class Unquoted:
    """Message from which is taken what events have that are compared with it."""

    def __init__(self, message: str) -> None:
        self._message, self._lowered = message, message.lower()
        if len(self._lowered) != len(message):
            # Of a few letters the small one is two characters.
            self._lowered = message
        starts = range(len(message) - _RUN + 1)
        self._runs = [(at, self._lowered[at : at + _RUN]) for at in starts]
        self._numbers = [
            (found.start(), len(found[0]), re.compile(rf"(?<!\w){re.escape(found[0])}(?!\w)"))
            for found in _NUMBER.finditer(self._lowered)
        ]
        self._hidden = bytearray(len(message))

    def compare(self, event: bytes) -> None:
        """Take out what the message has of an event, given as its JSON."""
        text = event.decode(errors="replace").lower()
        for at, run in self._runs:
            if run in text:
                self._hide(at, _RUN)
        for at, length, number in self._numbers:
            if not self._hidden[at] and number.search(text):
                self._hide(at, length)

    def _hide(self, at: int, length: int) -> None:
        self._hidden[at : at + length] = b"\1" * length

    @property
    def text(self) -> str:
        """What is left of the message."""
        parts, before = [], 0
        for letter, hidden in zip(self._message, self._hidden, strict=True):
            if not hidden:
                parts.append(letter)
            elif not before:
                parts.append(_HIDDEN)
            before = hidden
        return "".join(parts)
