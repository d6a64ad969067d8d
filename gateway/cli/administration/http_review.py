"""Review of access over the HTTP interface of a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.cli.client.calls import path_of

if TYPE_CHECKING:
    from gateway.cli.client.calls import GatewayCalls


class ReviewOverHttp:
    """Implements `gateway.cli.administration.ports.AccessReviews`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def report(self, kind: str, conditions: Sequence[tuple[str, str]]) -> bytes:
        params: dict[str, list[str]] = {"format": [kind]}
        for name, value in conditions:
            params.setdefault(name, []).append(value)
        return self._calls.get_bytes(path_of("review"), params)
