"""Settings of durable consumers."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import DURATION, setting


@dataclass(frozen=True)
class ConsumerSettings:
    """Durable consumers, whose positions the gateway keeps."""

    expire_after: int = setting(
        "30d",
        DURATION,
        "Time without a reader after which a consumer is deleted.",
        least=("1h", "a reader that is being upgraded would come back to the newest event"),
        most=("3650d", "nobody comes back after ten years"),
    )
