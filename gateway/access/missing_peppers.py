"""Peppers that this gateway lacks, and the keys made with them, which it has to refuse."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.access.keyring import Changes, Keyring
from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import living_by_pepper
from gateway.clock import Clock


class MissingPeppers:
    """Missing peppers of living keys; none at the start. `take` is told of each change."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        self._without: dict[str, Key] = {}

    def take(self, changes: Changes) -> None:
        """Take in changes of keys; a listener of enforcement."""
        if not changes.keys:
            return
        known = self._keyring.peppers.by_id()
        for key in changes.keys:
            if key.pepper in known:
                self._without.pop(key.id, None)
            else:
                self._without[key.id] = key

    def lines(self) -> Iterator[str]:
        """One line for each missing pepper, with what to do."""
        if gone := self._keyring.missing_pepper:
            yield (
                f"living keys need the pepper {gone}, which is no longer where the peppers are: "
                "put it back; the peppers stay as they were until then, or until a restart"
            )
        if not self._without:
            return
        known = self._keyring.peppers.by_id()
        found = living_by_pepper(self._without.values(), self._clock.now())
        for pepper, keys in sorted(found.items()):
            if pepper not in known:
                yield (
                    f"{len(keys)} living keys need the pepper {pepper}, which is not here: copy "
                    "the file pepper from the gateway that has it; until then they are refused"
                )
