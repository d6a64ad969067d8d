"""Settings of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import INTEGER, TEXT, check_host, setting


@dataclass(frozen=True)
class MetricsSettings:
    """Where `/metrics` is answered, and to whom."""

    host: str = setting(
        "127.0.0.1",
        TEXT,
        "Address of the listener for metrics, if metrics.port is set.",
        check=check_host,
    )
    port: int = setting(
        0,
        INTEGER,
        "Port of a listener for metrics alone: then /metrics is answered there, and no longer on "
        "server.port. 0 is none.",
        least=(0, "0 is no listener of its own"),
        most=(65535, "it is the highest port"),
    )
    require: str = setting(
        "none",
        TEXT,
        "What a scrape needs: none, or ops.read, a key with a grant of this action.",
        choices=("none", "ops.read"),
    )
