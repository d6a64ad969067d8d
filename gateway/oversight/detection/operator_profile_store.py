"""Operator profile in the key store, merged from what every process observes.

Commands are observed when they are written into the log, whether or not a gateway ran when they
were given. Several processes may observe the same command, which counts once.
"""

from __future__ import annotations

import logging
from collections import deque

import msgspec

from gateway.access.keys.key_store import Notes
from gateway.oversight.detection.operator_profile import Command, OperatorProfile, evaluate_command
from gateway.oversight.detection.signals import Signal

KIND = "operators"
_NAME = "all"
_MOST_WAITING = 10_000
_LOGGER = logging.getLogger(__name__)
_DECODER = msgspec.json.Decoder(OperatorProfile)
_ENCODE = msgspec.json.Encoder().encode


class OperatorProfileStore:
    """Evaluates commands against the operator profile that all processes share."""

    def __init__(self, store: Notes) -> None:
        self._store = store
        self._waiting: deque[Command] = deque(maxlen=_MOST_WAITING)

    def observe(self, command: Command) -> None:
        """Take in one command."""
        self._waiting.append(command)

    async def flush(self) -> list[Signal]:
        """Evaluate new commands and return their signals; they stay if the store fails."""
        if not self._waiting:
            return []
        commands = sorted(self._waiting, key=lambda command: command.at)
        found: list[Signal] = []

        def noting(document: bytes | None) -> bytes | None:
            found.clear()
            profile = _profile(document)
            for command in commands:
                profile, signals = evaluate_command(profile, command)
                found.extend(signals)
            return _ENCODE(profile)

        await self._store.update_notes(KIND, {_NAME: noting})
        for _ in commands:
            self._waiting.popleft()
        return found


def _profile(document: bytes | None) -> OperatorProfile:
    if document is None:
        return OperatorProfile()
    try:
        return _DECODER.decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        _LOGGER.warning("the operator profile cannot be read and is begun anew: %s", error)
        return OperatorProfile()
