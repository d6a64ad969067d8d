"""The gate in front of everything that is delivered: open while it is known what keys may see."""

from __future__ import annotations

from typing import Protocol

from gateway.notifier import Notifier


class Gate(Protocol):
    """Nothing is written to a stream on what was known of its key more than a second ago."""

    # Beats when more may be known than before.
    renewed: Notifier

    @property
    def open(self) -> bool:
        """Whether every stream may be written to. Asked before each flush: one comparison."""

    @property
    def keys_known(self) -> bool:
        """Whether the keys were looked at; single ones may be held back all the same."""

    def admits(self, key_id: str) -> bool:
        """Whether the streams of that key may be written to."""


class OpenGate:
    """For parts that are used without keys that change."""

    open = keys_known = True

    def __init__(self) -> None:
        self.renewed = Notifier()

    def admits(self, key_id: str) -> bool:
        return True
