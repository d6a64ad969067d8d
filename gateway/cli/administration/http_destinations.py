"""Administration of destinations over the HTTP interface of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.client.calls import GatewayCalls, path_of

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members


class DestinationsOverHttp:
    """Implements `gateway.cli.administration.ports.DestinationCommands`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def create(self, body: Members, reason: str) -> Members:
        return self._calls.send("POST", path_of("destinations"), body, reason=reason)

    def all(self) -> list[Members]:
        found: list[Members] = self._calls.get(path_of("destinations"))["destinations"]
        return found

    def show(self, name: str) -> Members:
        return self._calls.get(path_of("destinations", name))

    def test(self, name: str) -> Members:
        return self._calls.send("POST", path_of("destinations", name, "test"))

    def pause(self, name: str, reason: str) -> None:
        self._calls.send("POST", path_of("destinations", name, "pause"), {"reason": reason})

    def resume(self, name: str, reason: str) -> None:
        self._calls.send("POST", path_of("destinations", name, "resume"), {"reason": reason})

    def replay(self, name: str, body: Members) -> None:
        self._calls.send("POST", path_of("destinations", name, "replay"), body)

    def cancel_replay(self, name: str, reason: str) -> None:
        self._calls.send("DELETE", path_of("destinations", name, "replay"), reason=reason)

    def dead_letters(self, name: str, after: str, limit: int) -> list[Members]:
        asked = {"limit": str(limit), **({"after": after} if after else {})}
        path = path_of("destinations", name, "dead-letters")
        found: list[Members] = self._calls.get(path, asked)["dead_letters"]
        return found

    def set_secret(self, name: str, secret: str, body: Members, reason: str) -> None:
        path = path_of("destinations", name, "secrets", secret)
        self._calls.send("PUT", path, body, reason=reason)

    def delete(self, name: str, reason: str) -> None:
        self._calls.send("DELETE", path_of("destinations", name), reason=reason)
