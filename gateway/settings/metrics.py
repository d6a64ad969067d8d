"""Settings of the metrics and of traces."""

from __future__ import annotations

import re
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


def check_endpoint(url: str) -> str:
    """Empty, or a URL of HTTP without credentials."""
    if url and not re.fullmatch(r"https?://[^\s/?#@]+(/[!-~]*)?", url):
        raise ValueError(
            "is no URL of a receiver; write http://127.0.0.1:4318/v1/traces, or https://.., "
            "without credentials"
        )
    return url


@dataclass(frozen=True)
class TraceSettings:
    """Traces by OpenTelemetry; they need the package audit-gateway[otel]."""

    endpoint: str = setting(
        "",
        TEXT,
        "Where spans are sent to: a receiver of OTLP over HTTP, such as an OpenTelemetry Collector "
        "at http://127.0.0.1:4318/v1/traces. Empty: nothing is traced.",
        check=check_endpoint,
    )
    sample: int = setting(
        100,
        INTEGER,
        "Percent of the requests and deliveries that are traced, where the caller has not decided "
        "it by a traceparent header.",
        least=(0, "there are no fewer"),
        most=(100, "there are no more"),
    )
