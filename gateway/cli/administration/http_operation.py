"""Health, findings and live streams over the HTTP interface of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.client.calls import GatewayCalls, path_of

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members


class FindingsOverHttp:
    """Implements `gateway.cli.administration.ports.FindingCommands`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def all(self, wanted: dict[str, str], limit: int) -> list[Members]:
        asked = {**wanted, "limit": str(limit)}
        found: list[Members] = self._calls.get(path_of("findings"), asked)["findings"]
        return found

    def mark(self, finding_id: str, reason: str, *, expected: bool) -> Members:
        path = path_of("findings", finding_id, "expected")
        return self._calls.send("POST" if expected else "DELETE", path, {"reason": reason})


class StreamsOverHttp:
    """Implements `gateway.cli.administration.ports.StreamCommands`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def all(self, query: dict[str, str]) -> Members:
        return self._calls.get(path_of("streams"), query)

    def end(self, stream_id: str, reason: str) -> Members:
        return self._calls.send("POST", path_of("streams", stream_id, "end"), {"reason": reason})


class HealthOverHttp:
    """Implements `gateway.cli.administration.ports.HealthCommands`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def status(self) -> Members:
        return self._calls.get(path_of("status"))

    def doctor(self) -> Members:
        return self._calls.get(path_of("doctor"))
