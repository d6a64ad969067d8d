"""Gate before each delivery: open while the rights of the keys are known."""

from __future__ import annotations

from typing import Protocol

from gateway.notifier import Notifier


class DeliveryGate(Protocol):
    """Permission to write to streams, by knowledge of their keys that is at most a second old."""

    # Notified when the gate may have opened for more keys.
    renewed: Notifier

    @property
    def open(self) -> bool:
        """Whether every stream may be written to. Cheap, as each flush asks."""

    @property
    def keys_known(self) -> bool:
        """Whether the keys were polled in time; single keys may still be held back."""

    def admits(self, key_id: str) -> bool:
        """Whether the streams of that key may be written to."""
