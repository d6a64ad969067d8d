"""Commands over keys and roles, as the watch for unusual activity sees them.

They are seen when they are written into the log, whether or not a gateway ran when they were
given; every process may see the same command, which counts once.
"""

from __future__ import annotations

import logging
from collections import deque

import msgspec

from gateway.access.keys.key_store import Notes
from gateway.oversight.detection.operator_profile import Command, Habits, evaluate_command
from gateway.oversight.detection.signals import Signal

KIND = "operators"
_NAME = "all"
_MOST_WAITING = 10_000
_LOGGER = logging.getLogger(__name__)
_DECODER = msgspec.json.Decoder(Habits)
_ENCODE = msgspec.json.Encoder().encode


class Operators:
    """Commands of operators against their habits, which all processes keep in the key store."""

    def __init__(self, store: Notes) -> None:
        self._store = store
        self._waiting: deque[Command] = deque(maxlen=_MOST_WAITING)

    def see(self, command: Command) -> None:
        """Take in one command."""
        self._waiting.append(command)

    async def flush(self) -> list[Signal]:
        """Evaluate new commands, and return signals; what cannot be kept stays for later."""
        if not self._waiting:
            return []
        commands = sorted(self._waiting, key=lambda command: command.at)
        found: list[Signal] = []

        def noting(document: bytes | None) -> bytes | None:
            found.clear()
            habits = _habits(document)
            for command in commands:
                habits, signals = evaluate_command(habits, command)
                found.extend(signals)
            return _ENCODE(habits)

        await self._store.update_notes(KIND, {_NAME: noting})
        for _ in commands:
            self._waiting.popleft()
        return found


def _habits(document: bytes | None) -> Habits:
    if document is None:
        return Habits()
    try:
        return _DECODER.decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        _LOGGER.warning("what is usual at the command line cannot be read, begun anew: %s", error)
        return Habits()
