"""Counts of events: `GET /v1/counts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from gateway.client.protocol.events import Patterns
from gateway.client.protocol.exchange import GatewayCall, Steps, error_of, persist

_PATH = "/v1/counts"


class CountSelection(TypedDict, total=False):
    """What is counted, and by what: the parameters of `GET /v1/counts`."""

    tenant: Patterns
    category: Patterns
    action: Patterns
    outcome: Patterns
    actor: Patterns
    resource: Patterns
    min_severity: int
    filter: str
    text: str
    text_in: str
    since: str
    until: str
    before: str
    step: Literal["auto", "1s", "10s", "1m", "5m", "15m", "1h", "6h", "1d"]
    by: str | Sequence[str]
    top: int


def counts(
    url: str, parameters: dict[str, Any], notice: Callable[[str], None]
) -> Steps[Any, dict[str, Any]]:
    """Count events; return the members of the answer."""
    answer = yield from persist(url, GatewayCall("GET", _PATH, params=parameters), notice)
    if answer.status != 200:
        raise error_of(url, answer)
    return answer.members
