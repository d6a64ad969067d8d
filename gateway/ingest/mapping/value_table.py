"""Tables of values: what a source writes, and what events say. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Any

from gateway.ingest.mapping import values
from gateway.ingest.mapping.definition import Value

# Hears of each value that a table does not know, with the member.
Listener = Callable[[str, str], None]
# Members with a list of values: what a table does not know is none of them, elsewhere it stays.
_LISTED = ("outcome", "severity")
# Values that are remembered, and their longest.
_MOST_KNOWN, _LONGEST_KNOWN = 1000, 128
# Most characters of a value that patterns look at.
_MOST_SEEN = 16 * 1024


class ValueTable:
    """Look-up of a value's text in a table, with patterns and what stands for the rest."""

    __slots__ = (
        "_keeps", "_member", "_patterns", "_unknown", "_value", "absent", "is_whole", "known"
    )  # fmt: skip

    def __init__(self, member: str, value: Value, unknown: Listener | None) -> None:
        entries = value.table or {}
        self._member = member
        self._value = value
        # Of a missing value; and what is known of others, by their text.
        self.absent = value.absent
        self._unknown = unknown
        self._keeps = value.present is None and (member not in _LISTED or not value.table)
        self.known: dict[str, Any] = {key: to for key, to in entries.items() if "*" not in key}
        self._patterns = [
            (re.compile(translate(re.sub(r"[\[?]", r"[\g<0>]", key)), re.IGNORECASE), to)
            for key, to in entries.items()
            if "*" in key
        ]
        # Whether what is not known makes None, and nobody is told.
        self.is_whole = not (self._patterns or self._keeps or unknown) and value.present is None

    def __call__(self, value: Any) -> Any:
        key = value if type(value) is str else values.plain_text(value)
        if not key:
            return self.absent
        found = self.known.get(key)
        return self._rare(key) if found is None else found

    def _rare(self, key: str) -> Any:
        seen = key[:_MOST_SEEN]
        found = next((to for pattern, to in self._patterns if pattern.match(seen)), None)
        if found is None:
            if self._keeps:
                return key
            if self._value.present is None:
                if self._value.table and self._unknown is not None:
                    self._unknown(self._member, key[: values.SHORT])
                return None
            found = self._value.present
        if len(self.known) < _MOST_KNOWN and len(key) <= _LONGEST_KNOWN:
            self.known[key] = found
        return found
