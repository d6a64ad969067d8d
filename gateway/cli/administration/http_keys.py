"""Administration of keys and roles over the HTTP interface of a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.cli.client.calls import GatewayCalls, path_of
from gateway.errors import Forbidden

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members

_DOCUMENTS = {"markdown": "text/markdown", "html": "text/html", "json": "application/json"}
_SIMULATED = ("uses", "events", "grants", "unused", "not_known")
_MOST_EVENTS = 100_000


class _HistoryPage(msgspec.Struct):
    events: list[msgspec.Raw]
    cursor: str
    has_more: bool
    notice: dict[str, Any] | None = None


class KeysOverHttp:
    """Implements `gateway.cli.administration.ports.KeyAdministration`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def create(self, body: Members, reason: str) -> Members:
        return self._calls.send("POST", path_of("keys"), body, reason=reason)

    def all(self) -> list[Members]:
        return [_as_stored(key) for key in self._calls.get(path_of("keys"))["keys"]]

    def show(self, key_id: str) -> Members:
        shown = self._calls.get(path_of("keys", key_id))
        return {**_as_stored(shown), "last_used": shown["last_used"]}

    def change(self, key_id: str, patch: Members, reason: str) -> Members:
        return self._calls.send(
            "PATCH", path_of("keys", key_id), patch, reason=reason, headers={"If-Match": "*"}
        )

    def rotate(
        self, key_id: str, overlap: str | None, reason: str, *, hold: bool = False
    ) -> Members:
        path = path_of("keys", key_id, "rotate")
        body = {} if overlap is None else {"overlap": overlap}
        return self._calls.send("POST", path, {**body, "hold": hold}, reason=reason)

    def confirm(self, key_id: str, reason: str) -> Members:
        return self._calls.send("POST", path_of("keys", key_id, "confirm"), reason=reason)

    def suspend(self, key_id: str, reason: str) -> Members:
        return self._calls.send("POST", path_of("keys", key_id, "suspend"), {"reason": reason})

    def resume(self, key_id: str, reason: str) -> Members:
        return self._calls.send("POST", path_of("keys", key_id, "resume"), reason=reason)

    def revoke(self, key_id: str, reason: str, *, with_descendants: bool) -> Members:
        body = {"reason": reason, "with_descendants": with_descendants}
        return self._calls.send("POST", path_of("keys", key_id, "revoke"), body)

    def document(self, key_id: str, kind: str) -> str:
        path = path_of("keys", key_id, "document")
        return self._calls.get_bytes(path, accept=_DOCUMENTS[kind]).decode()

    def explain(self, key_id: str, question: Members) -> Members:
        found = self._calls.send("POST", path_of("authz", "explain"), {**question, "key": key_id})
        return {name: found[name] for name in found if name not in ("key", "action", "at")}

    def simulate(self, key_id: str, proposal: Members) -> Members:
        body = {**proposal, "key": key_id, "max_events": _MOST_EVENTS}
        found = self._calls.send("POST", path_of("authz", "simulate"), body)
        if found["uses"] is None:
            raise Forbidden(
                "what a key was used for is shown to keys that have usage.read, too; use another "
                "key",
                code="action_not_granted",
            )
        complete = found["window"]["complete"]
        return {"key": key_id, "complete": complete, **{name: found[name] for name in _SIMULATED}}

    def history(self, key_id: str, since: str | None) -> Iterator[bytes]:
        from gateway.clock import SystemClock, parse_duration, parse_rfc3339

        begin = 0.0 if since is None else SystemClock().now() - parse_duration(since)
        path, asked = path_of("keys", key_id, "history"), {"limit": "1000"}
        while True:
            page = msgspec.json.decode(self._calls.get_bytes(path, asked), type=_HistoryPage)
            if page.notice is not None:
                raise Forbidden(str(page.notice["detail"]), code=str(page.notice["code"]))
            for line in page.events:
                event: Members = msgspec.json.decode(line)
                if parse_rfc3339(event["recorded_at"]) >= begin:
                    yield bytes(line)
            if not page.has_more:
                return
            asked["after"] = page.cursor

    def usage(self, key_id: str, window: str, step: str) -> Members:
        return self._calls.get(path_of("keys", key_id, "usage"), {"window": window, "step": step})

    def stored(self) -> tuple[list[Members], list[Members]]:
        roles = self._calls.get(path_of("roles"))["roles"]
        return self.all(), [role for role in roles if not role["builtin"]]


class RolesOverHttp:
    """Implements `gateway.cli.administration.ports.RoleAdministration`."""

    def __init__(self, calls: GatewayCalls) -> None:
        self._calls = calls

    def all(self) -> list[Members]:
        roles: list[Members] = self._calls.get(path_of("roles"))["roles"]
        return roles

    def show(self, name: str) -> Members:
        return self._calls.get(path_of("roles", name))

    def put(self, name: str, body: Members, reason: str) -> Members:
        return self._calls.send("PUT", path_of("roles", name), body, reason=reason)

    def delete(self, name: str, reason: str) -> list[str]:
        deleted = self._calls.send("DELETE", path_of("roles", name), reason=reason)
        having: list[str] = deleted.get("keys", [])
        return having


def _as_stored(key: Members) -> Members:
    """Members of a key itself: a list has more, which a folder alone does not know."""
    from gateway.access.keys.key import KeyAnswer

    return {name: key[name] for name in KeyAnswer.__struct_fields__ if name in key}
