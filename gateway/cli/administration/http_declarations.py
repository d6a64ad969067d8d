"""Declared sets over the HTTP interface of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gateway.cli.client.calls import path_of

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members
    from gateway.cli.client.calls import GatewayCalls


class DeclarationsOverHttp:
    """Implements `gateway.cli.administration.ports.DeclarationCommands`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def plan(self, body: Members, *, prune: bool, make: bool = False) -> Members:
        return self._send(body, {"dry_run": "true"}, prune, "")

    def apply(self, body: Members, *, prune: bool, expect: str, reason: str) -> Members:
        asked = {"hold": "true", **({"expect": expect} if expect else {})}
        return self._send(body, asked, prune, reason)

    def _send(self, body: Members, asked: dict[str, str], prune: bool, reason: str) -> Members:
        if prune:
            asked["prune"] = "true"
        query = f"?{urlencode(asked)}" if asked else ""
        path = path_of("declarations", str(body["set"])) + query
        return self._calls.send("POST", path, body, reason=reason)
