"""Replacement of values in one event by pseudonyms, and the search for what they replace. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.access.grants.pseudonym import Pseudonyms, space_of

MASK = msgspec.Raw(b'"***"')
# Members of events in which values may be replaced.
REPLACEABLE = frozenset(("actor", "source", "targets", "request", "reason", "data"))
# Values of one path in an event: each takes microseconds, and is longer than most that it replaces.
MOST_VALUES = 1000
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw] | str).decode
_STRUCTURED, _NUMBERS = b'"{[', b"-0123456789"


class _TooManyValues(Exception):
    """More than `MOST_VALUES` at one path."""


class Pseudonymizer:
    """Replaces strings and numbers of one event. `declared` are the paths of grants at which
    something was replaced, `masked` those at which it was too much."""

    __slots__ = ("_counts", "_pseudonyms", "_tenant", "declared", "masked")

    def __init__(self, pseudonyms: Pseudonyms, tenant: str) -> None:
        self._pseudonyms = pseudonyms
        self._tenant = tenant
        self._counts: dict[str, int] = {}
        self.declared: dict[str, None] = {}
        self.masked: dict[str, None] = {}

    def replace(self, value: Any, granted: str) -> Any:
        """The value at the path of a grant with all strings and numbers in it replaced, but for
        masks; itself if there is none; masked as a whole with more than `MOST_VALUES`, or behind
        as many at its path."""
        known = granted in self.declared
        try:
            return self._below(value, granted, granted)
        except _TooManyValues:
            if not known:
                self.declared.pop(granted, None)
            self.masked[granted] = None
            return MASK

    def _below(self, value: Any, path: str, granted: str) -> Any:
        if value is MASK:
            return value
        if isinstance(value, msgspec.Raw):
            first = memoryview(value)[0]
            if first in _NUMBERS:
                return self._replaced(bytes(value).decode(), path, granted)
            if first not in _STRUCTURED:
                return value
            value = _decode(value)
        if isinstance(value, str):
            return self._replaced(value, path, granted)
        if isinstance(value, list):
            return [self._below(item, path, granted) for item in value]
        return {
            # A NUL ends the space in what is digested.
            name: self._below(item, path if "\0" in name else f"{path}.{name}", granted)
            for name, item in value.items()
        }

    def _replaced(self, value: str, path: str, granted: str) -> msgspec.Raw:
        count = self._counts.get(granted, 0)
        if count == MOST_VALUES:
            raise _TooManyValues
        self._counts[granted] = count + 1
        self.declared[granted] = None
        pseudonym = self._pseudonyms.of(space_of(path), self._tenant, value)
        return msgspec.Raw(f'"{pseudonym}"'.encode())


class _Finder(Pseudonymizer):
    """Looks for the values whose pseudonym is `wanted`."""

    __slots__ = ("_wanted", "found")

    def __init__(self, pseudonyms: Pseudonyms, tenant: str, wanted: str) -> None:
        super().__init__(pseudonyms, tenant)
        self._wanted = wanted
        self.found: list[tuple[str, str]] = []

    def _replaced(self, value: str, path: str, granted: str) -> msgspec.Raw:
        if self._pseudonyms.made(space_of(path), self._tenant, value) == self._wanted:
            self.found.append((path, value))
        return MASK


def find_values(
    events: Sequence[tuple[str, bytes]], pseudonyms: Pseudonyms, wanted: str
) -> list[tuple[int, str, str]]:
    """Values in events, each given by its tenant and native JSON, whose pseudonym is `wanted`: the
    number of the event, the path and the value."""
    found: list[tuple[int, str, str]] = []
    for number, (tenant, native) in enumerate(events):
        finder = _Finder(pseudonyms, tenant, wanted)
        for name, member in _members(native).items():
            if name in REPLACEABLE:
                finder.replace(member, name)
        found += [(number, path, value) for path, value in finder.found]
    return found
