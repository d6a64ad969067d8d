"""The formats that can be imported, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.ingest.sources import cloudtrail, github, kubernetes, okta

ToEvent = Callable[[dict[str, Any]], dict[str, Any]]


def native(record: dict[str, Any]) -> dict[str, Any]:
    """Return an event in the gateway's own form unchanged."""
    return record


FORMATS: dict[str, ToEvent] = {
    "native": native,
    "cloudtrail": cloudtrail.to_event,
    "kubernetes": kubernetes.to_event,
    "github": github.to_event,
    "okta": okta.to_event,
}
